// The ℓ2 attack without a box, on hidden units instead of input coordinates.
//
// Gradients are combinations of the rows of W, and so is what they add to the start: δ = c δ₀ + Wᵀ u.  With K = W Wᵀ,
// s = σ'(h) ⊙ Aᵀ r (so that g = Wᵀ s) and p = W δ, a step needs only hidden vectors:
//
//   W g = K s,   ‖g‖² = sᵀ K s,   h = h₀ + p,   ‖δ‖² = c² ‖δ₀‖² + c uᵀ W δ₀ + uᵀ p,
//   u ← f (u + α s),   p ← f (p + α K s),   c ← f c,   f = min(1, ε / ‖δ + α g‖).
//
// u and p are kept in double, so that many steps add no more rounding than one.  At the end δ is formed, projected
// exactly, and evaluated like any point: the result holds what the network says of x_adv itself.  Rows for which the
// formulas could lose digits (a norm that is small beside what cancels in it), or that are not finite, are left to the
// dense loop; that is decided per row.
//
// What is recorded of an iterate follows from the same vectors: ⟨g, δ⟩ = sᵀ p, and for the residual w = f (δ + g) - δ
//
//   y = (f - 1) u + f s,   W w = (f - 1) p + f K s,   ‖w‖² = e² ‖δ₀‖² + e yᵀ W δ₀ + yᵀ W w,   e = (f - 1) c.
#pragma once

#include "../rows/trace.hpp"
#include "schedule.hpp"
#include "tile.hpp"

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
    states_ = arena.take<State>(capacity_);
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
        if (take_iterate(i)) ended_[count++] = i;
        else ++slots_[i].t;
      }
      if (count > 0) finish(count);
      if (stopped()) return;
      for (int64_t n = count - 1; n >= 0; --n)  // from the last, so that the slot that moves is live
        if (--live_ != ended_[n]) move_slot(live_, ended_[n]);
    }
  }

 private:
  // What a slot knows beside its vectors; `deferred` leaves the row to the dense loop.
  struct State {
    double start_share, best_start_share, start_square;  // c, its value at the best iterate, ‖δ₀‖²
    double square;                                       // ‖δ‖²
    bool deferred;
  };

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
      states_[live_] = State{};
      states_[live_].deferred = !(slot.ball.radius.target > kSmallestRadius);
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
    const double norm = l2_norm(delta, slots_[i].ball.features);
    states_[i].start_share = 1;
    states_[i].start_square = states_[i].square = norm * norm;
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

  // Steps; true if the row has ended.
  bool take_iterate(int64_t i) {
    const Slot<T>& slot = slots_[i];
    State& state = states_[i];
    state.deferred |= !(slot.now.value - slot.now.value == 0);
    if (!state.deferred && trace_.wanted()) state.deferred = !observe(i);
    if (state.deferred) return true;
    if (slot.now.success && task_.options.early_stop) return end(i, Status::success);
    if (slot.t == task_.options.steps) return end(i, Status::steps_used_up);
    if (largest_magnitude(row_of(tile_.hidden, i), hidden_numbers()) == 0) return end(i, Status::zero_gradient);
    state.deferred = !step(i);
    return state.deferred;
  }

  bool end(int64_t i, Status status) {
    slots_[i].status = status;
    slots_[i].steps = slots_[i].t;
    return true;
  }

  // Records the iterate; false if the norm of the gradient has lost its digits.
  bool observe(int64_t i) {
    const Slot<T>& slot = slots_[i];
    const State& state = states_[i];
    const T *const s = row_of(tile_.hidden, i), *const image = row_of(image_, i);
    const double *const p = row_of(moved_, i), *const u = row_of(weights_, i);
    const int64_t n = hidden_numbers();
    const double square = inner_product(s, image, n), length = inner_product(s, s, n);
    if (length > 0 && !(square > kLostDigits * network_.gram_norm * length)) return false;
    const double by = double(slot.now.scale), delta_norm = ::sqrt(state.square);
    Wide s_p{};
    for (int64_t j = 0; j < n; j += kWideLanes) s_p = fma(load_wide(s + j), load(p + j), s_p);
    const double along = sum(s_p), reached = ::sqrt(state.square + 2 * by * along + by * by * square);
    const double shrink = reached > slot.ball.radius.accept ? slot.ball.radius.target / reached : 1;
    Wide y_image{}, y_start{};
    for (int64_t j = 0; j < n; j += kWideLanes) {
      const Wide back = broadcast<Wide>(shrink - 1), ahead = broadcast<Wide>(shrink * by);
      const Wide y = fma(ahead, load_wide(s + j), back * load(u + j));
      y_image = fma(y, fma(ahead, load_wide(image + j), back * load(p + j)), y_image);
      if (starts_) y_start = fma(y, load_wide(row_of(image0_, i) + j), y_start);
    }
    const double e = (shrink - 1) * state.start_share;
    const double residual = e * e * state.start_square + e * sum(y_start) + sum(y_image);
    trace_.put(i, slot, ::sqrt(square), delta_norm, along, ::sqrt(residual > 0 ? residual : 0));
    return true;
  }

  // False if a norm has lost its digits.
  bool step(int64_t i) {
    const Slot<T>& slot = slots_[i];
    State& state = states_[i];
    const T *const s = row_of(tile_.hidden, i), *const image = row_of(image_, i);
    double *const p = row_of(moved_, i), *const u = row_of(weights_, i);
    const int64_t n = hidden_numbers();
    double factor = double(T(task_.options.step_size[slot.job]));
    if (task_.options.direction == Direction::normalized) {
      const double square = inner_product(s, image, n);
      if (!(square > kLostDigits * network_.gram_norm * inner_product(s, s, n))) return false;
      factor /= ::sqrt(square);
    } else {
      factor *= double(slot.now.scale);
    }
    Wide u_p{}, u_u{}, p_p{}, u_start{};
    for (int64_t j = 0; j < n; j += kWideLanes) {
      const Wide by = broadcast<Wide>(factor);
      const Wide next_u = fma(by, load_wide(s + j), load(u + j)), next_p = fma(by, load_wide(image + j), load(p + j));
      store(u + j, next_u);
      store(p + j, next_p);
      u_p = fma(next_u, next_p, u_p);
      u_u = fma(next_u, next_u, u_u);
      p_p = fma(next_p, next_p, p_p);
      if (starts_) u_start = fma(next_u, load_wide(row_of(image0_, i) + j), u_start);
    }
    const double c = state.start_share, scale = ::sqrt(sum(u_u)) * ::sqrt(sum(p_p));
    const double square = c * c * state.start_square + c * sum(u_start) + sum(u_p);
    if (!(square - square == 0) || (scale > 0 && square < kLostDigits * scale)) return false;
    state.square = square;
    if (square <= slot.ball.radius.accept * slot.ball.radius.accept) return true;
    const double shrink = slot.ball.radius.target / ::sqrt(square);
    for (int64_t j = 0; j < n; j += kWideLanes) {
      store(u + j, broadcast<Wide>(shrink) * load(u + j));
      store(p + j, broadcast<Wide>(shrink) * load(p + j));
    }
    state.start_share *= shrink;
    state.square = slot.ball.radius.target * slot.ball.radius.target;
    return true;
  }

  // Forms the end points of the rows in ended_, evaluates and records them.
  void finish(int64_t count) {
    form_ends(ends_[0], weights_, count, false);
    if (keeps_best_) form_ends(ends_[1], best_weights_, count, true);
    for (int64_t e = 0; e < count && !stopped(); ++e) {
      const int64_t i = ended_[e];
      // what the hidden vectors called a success has to be one at the point itself
      states_[i].deferred |= slots_[i].status == Status::success && !ends_[0].value[e].success;
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
      const State& state = states_[ended_[e]];
      place_end(ended_[e], best ? state.best_start_share : state.start_share, row_of(end.x, e));
    }
    const Tile<T> tile = {end.x, tile_.hidden, tile_.slope, tile_.residual, {}};
    forward_tile(network_, tile, count, end.output, shared_);
    for (int64_t e = 0; e < count; ++e) end.value[e] = loss_at(ended_[e], row_of(end.output, e));
  }

  // Turns Wᵀ u into the point x0 + δ.
  void place_end(int64_t i, double share, T* x) {
    const int64_t n = slots_[i].ball.features;
    for (int64_t j = 0; starts_ && j < n; j += kWideLanes)
      store_narrow(x + j, fma(broadcast<Wide>(share), load_wide(row_of(delta0_, i) + j), load_wide(x + j)));
    states_[i].deferred |= !project_row(x, slots_[i].ball, scratch_);
    place_row(x, slots_[i].ball, scratch_);
    memcpy(x, scratch_, sizeof(T) * n);
  }

  void record(int64_t i, int64_t e) {
    Slot<T>& slot = slots_[i];
    settle_last(slot, ends_[0].value[e]);
    Outcome<T> outcome{};
    if (trace_.wanted()) {
      trace_.settle(i, slot);
      if (slot.status == Status::zero_gradient) trace_.repeat(i, slot, 1);
    }
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

  // A value below this share of what cancels in it has lost too many digits.
  static constexpr double kLostDigits = 256.0 / double(int64_t(1) << (mantissa_bits<T>() + 1));
  // Squares of smaller radii are among the denormal numbers.
  static constexpr double kSmallestRadius = sizeof(T) == 4 ? 1e-30 : 1e-140;

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
  State* states_ = nullptr;
  int64_t* ended_ = nullptr;
  int64_t live_ = 0;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
