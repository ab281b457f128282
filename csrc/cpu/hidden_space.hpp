// The ℓ2 attack without a box, on hidden units instead of input coordinates.
//
// rows/hidden_row.hpp has the equations and what a row does between two evaluations.  Here rows come to slots, share
// products and are recorded; rows that the hidden vectors cannot decide are left to the dense loop.
#pragma once

#include "schedule.hpp"
#include "tile.hpp"
// after the words that it is written in
#include "../rows/hidden_row.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
class HiddenSpaceWorker {
 public:
  HiddenSpaceWorker(const Task<T>& task, Shared& shared, Arena& arena)
      : task_(task),
        network_(*task.network),
        shared_(shared),
        keeps_best_(task.result.x_best != nullptr),
        capacity_(tile_rows(task, numbers_of_row(task))),
        trace_(task, arena, capacity_, Worker{}) {
    const int64_t d = network_.in_features, m = network_.hidden_features, k = network_.out_features;
    starts_ = task.options.random_start != Start::none || task.x_init;
    tile_.hidden = arena.take_rows<T>(capacity_, m);
    tile_.slope = arena.take_rows<T>(capacity_, m);
    tile_.residual = arena.take_rows<T>(capacity_, k);
    image_ = arena.take_rows<T>(capacity_, m);
    h0_ = arena.take_rows<T>(capacity_, m);
    x0_ = arena.take_rows<T>(capacity_, d);
    output_ = arena.take_rows<T>(capacity_, k);
    if (starts_) {
      delta0_ = arena.take_rows<T>(capacity_, d);
      image0_ = arena.take_rows<T>(capacity_, m);
    }
    moved_ = arena.take_rows<double>(capacity_, padded<T>(m));
    weights_ = arena.take_rows<double>(capacity_, padded<T>(m));
    if (keeps_best_) best_weights_ = arena.take_rows<double>(capacity_, padded<T>(m));
    for (End& end : ends_) {
      end.x = arena.take_rows<T>(capacity_, d);
      end.output = arena.take_rows<T>(capacity_, k);
      end.value = arena.take<LossValue<T>>(capacity_);
      if (!keeps_best_) break;
    }
    combination_ = arena.take_rows<T>(capacity_, m);
    scratch_ = arena.take<T>(5 * padded<T>(d));
    slots_ = arena.take<Slot<T>>(capacity_);
    states_ = arena.take<HiddenState>(capacity_);
    ended_ = arena.take<int64_t>(capacity_);
  }

  void run() {
    while (!stopped()) {
      if (live_ == 0 || live_ + 2 * kTileRows <= capacity_) take_rows();
      if (live_ == 0) return;
      evaluate();
      if (stopped()) return;
      int64_t count = 0;
      for (int64_t i = 0; i < live_; ++i) {
        if (row(i).take_iterate()) ended_[count++] = i;
        else ++slots_[i].t;
      }
      if (count > 0) finish(count);
      if (stopped()) return;
      for (int64_t n = count - 1; n >= 0; --n)  // from the last, so that the slot that moves is live
        if (--live_ != ended_[n]) move_slot(live_, ended_[n]);
    }
  }

 private:
  // Where the rows that end are formed: at their last and at their best iterate.
  struct End {
    Rows<T> x, output;
    LossValue<T>* value;
  };

  static int64_t numbers_of_row(const Task<T>& task) {
    const Network<T>& network = *task.network;
    return 4 * network.in_features + 3 * network.out_features +
           (6 + 6 * int64_t(sizeof(double) / sizeof(T))) * network.hidden_features;
  }

  bool stopped() const { return __atomic_load_n(&shared_.stop, __ATOMIC_RELAXED) != 0; }
  int64_t hidden_numbers() const { return padded<T>(network_.hidden_features); }

  void take_rows() {
    const int64_t d = network_.in_features, first = live_;
    while (live_ < capacity_ && take_next_row(task_, shared_, slots_[live_])) {
      Slot<T>& slot = slots_[live_];
      copy_row(task_.x + slot.sample * d, d, row_of(x0_, live_));
      slot.ball = row_ball<T>(task_.ball, task_.ball.eps[slot.job], nullptr, nullptr, d);
      slot.ball.x0 = row_of(x0_, live_);
      states_[live_] = HiddenRow<T>::begin(slot.ball);
      memset(row_of(moved_, live_), 0, sizeof(double) * moved_.stride);
      memset(row_of(weights_, live_), 0, sizeof(double) * weights_.stride);
      if (starts_) begin_away(live_);
      trace_.begin(live_);
      ++live_;
    }
    if (live_ == first) return;
    const auto from = [&](Rows<T> rows) { return Rows<T>{row_of(rows, first), rows.stride}; };
    product<T>(read_only(from(x0_)), live_ - first, network_.hidden, network_.hidden_bias, from(h0_), shared_);
    if (!starts_) return;
    product<T>(read_only(from(delta0_)), live_ - first, network_.hidden, nullptr, from(image0_), shared_);
    for (int64_t i = first; i < live_; ++i)
      for (int64_t j = 0; j < hidden_numbers(); j += kWideLanes)
        store(row_of(moved_, i) + j, load_wide(row_of(image0_, i) + j));
  }

  void begin_away(int64_t i) {
    T* const delta = row_of(delta0_, i);
    const T* const x0 = slots_[i].ball.x0;
    place_start(task_, slots_[i], scratch_, delta);
    for (int64_t j = 0; j < slots_[i].ball.features; j += lanes<T>()) store(delta + j, load(delta + j) - load(x0 + j));
    states_[i] = HiddenRow<T>::begin(slots_[i].ball, delta);
  }

  void move_slot(int64_t from, int64_t to) {
    const Rows<T> numbers[] = {h0_, x0_, delta0_, image0_};
    const Rows<double> doubles[] = {moved_, weights_, best_weights_};
    for (const Rows<T>& rows : numbers) copy_between_rows(rows, from, to);
    for (const Rows<double>& rows : doubles) copy_between_rows(rows, from, to);
    slots_[to] = slots_[from];
    slots_[to].ball.x0 = row_of(x0_, to);
    states_[to] = states_[from];
    trace_.move(from, to);
  }

  // Outputs and losses of all slots, s in tile_.hidden and K s in image_.
  void evaluate() {
    for (int64_t i = 0; i < live_; ++i)
      for (int64_t j = 0; j < hidden_numbers(); j += kWideLanes)
        store_narrow(row_of(tile_.hidden, i) + j, load_wide(row_of(h0_, i) + j) + load(row_of(moved_, i) + j));
    activate(network_, tile_, live_, output_, shared_);
    bool wants_gradient = trace_.wanted();
    for (int64_t i = 0; i < live_; ++i) {
      if (take_value(slots_[i], loss_at(i, row_of(output_, i))) && keeps_best_) {
        memcpy(row_of(best_weights_, i), row_of(weights_, i), sizeof(double) * hidden_numbers());
        states_[i].best_start_share = states_[i].start_share;
      }
      wants_gradient |= slots_[i].t < task_.options.steps;
    }
    if (!wants_gradient) return;
    residual_to_hidden(network_, tile_, live_, shared_);
    product<T>(read_only(tile_.hidden), live_, network_.gram, nullptr, image_, shared_);
  }

  LossValue<T> loss_at(int64_t i, T* output) {
    const int64_t k = network_.out_features;
    return loss_of<T>(task_.objective.loss)(output, row_of(tile_.residual, i),
                                            target_of(task_.objective, slots_[i].sample, k), k);
  }

  HiddenRow<T> row(int64_t i) {
    const T* const start = starts_ ? row_of(image0_, i) : nullptr;
    return HiddenRow<T>(
        task_, trace_, i, slots_[i], states_[i],
        {row_of(tile_.hidden, i), row_of(image_, i), row_of(moved_, i), row_of(weights_, i), start, hidden_numbers()});
  }

  // Forms the end points of the rows in ended_, evaluates and records them.
  void finish(int64_t count) {
    form_ends(ends_[0], weights_, count, false);
    if (keeps_best_) form_ends(ends_[1], best_weights_, count, true);
    for (int64_t e = 0; e < count && !stopped(); ++e) {
      const int64_t i = ended_[e];
      row(i).settle(ends_[0].value[e]);
      if (states_[i].deferred) defer_row(task_, slots_[i].row);
      else record(i, e);
    }
  }

  void form_ends(const End& end, Rows<double> weights, int64_t count, bool best) {
    for (int64_t e = 0; e < count; ++e)
      for (int64_t j = 0; j < hidden_numbers(); j += kWideLanes)
        store_narrow(row_of(combination_, e) + j, load(row_of(weights, ended_[e]) + j));
    product<T>(read_only(combination_), count, network_.hidden_backward, nullptr, end.x, shared_);
    for (int64_t e = 0; e < count; ++e) {
      const int64_t i = ended_[e];
      const double share = best ? states_[i].best_start_share : states_[i].start_share;
      HiddenRow<T>::place_end(slots_[i].ball, starts_ ? row_of(delta0_, i) : nullptr, share, states_[i], scratch_,
                              row_of(end.x, e));
    }
    const Tile<T> tile = {end.x, tile_.hidden, tile_.slope, tile_.residual, {}};
    forward_tile(network_, tile, count, end.output, shared_);
    for (int64_t e = 0; e < count; ++e) end.value[e] = loss_at(ended_[e], row_of(end.output, e));
  }

  void record(int64_t i, int64_t e) {
    Slot<T>& slot = slots_[i];
    Outcome<T> outcome{};
    outcome.trace = trace_.of(i);
    outcome.x = row_of(ends_[0].x, e);
    outcome.output = row_of(ends_[0].output, e);
    if (keeps_best_) {
      const bool is_last = is_better(slot.now, ends_[1].value[e]);
      settle_best(slot, is_last ? slot.now : ends_[1].value[e]);
      outcome.x_best = is_last ? outcome.x : row_of(ends_[1].x, e);
      outcome.x_best_output = is_last ? outcome.output : row_of(ends_[1].output, e);
    }
    outcome.at_slot(slot);
    record_outcome(task_, shared_, outcome);
  }

  const Task<T>& task_;
  const Network<T>& network_;
  Shared& shared_;
  const bool keeps_best_;
  const int64_t capacity_;
  Trace<T> trace_;
  bool starts_ = false;
  Tile<T> tile_{};
  Rows<T> image_{};                                    // K s
  Rows<T> h0_{}, x0_{}, output_{};                     // h at x0, x0, logits
  Rows<T> delta0_{}, image0_{};                        // δ₀ and W δ₀, where the start is not x0
  Rows<double> moved_{}, weights_{}, best_weights_{};  // p, u, and u at the best iterate
  Rows<T> combination_{};                              // u of the rows that end
  End ends_[2]{};
  T* scratch_ = nullptr;
  Slot<T>* slots_ = nullptr;
  HiddenState* states_ = nullptr;
  int64_t* ended_ = nullptr;
  int64_t live_ = 0;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
