// The whole attack on a tile of rows, from first step to last.
//
// One worker takes rows (a job and one of its restarts) off a shared counter into the slots of its tile.  The live
// slots are evaluated together; then each ends or steps by itself, and goes on alone while that needs no shared
// product. Slots of rows that have ended lie behind the live ones until several can be handed over and filled again
// together. Rows of a tile may so stand at different steps, and nothing about a row depends on the others.  The rules
// are those of pyfirstorder/backends/reference/attack.py, where they are numbered.
#pragma once

#include "evaluator.hpp"
#include "outcome.hpp"
#include "stepper.hpp"
#include "trace.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
class AttackWorker {
 public:
  AttackWorker(const Task<T>& task, Shared& shared, Arena& arena)
      : task_(task),
        shared_(shared),
        capacity_(Evaluator<T>::rows(task)),
        tile_(make_tile(arena, *task.network, capacity_ + kSpare)),
        evaluator_(task, arena, capacity_),
        stepper_(task, arena, capacity_),
        trace_(task, arena, capacity_ + kSpare) {
    const int64_t d = task.network->in_features, k = task.network->out_features;
    has_box_ = task.ball.lower != nullptr;
    const int64_t count = capacity_ + kSpare;
    output_ = arena.take_rows<T>(count, k);
    previous_output_ = arena.take_rows<T>(count, k);
    const auto rows = [&](bool wanted) { return wanted ? arena.take_rows<T>(count, d) : Rows<T>{nullptr, 0}; };
    x0_ = rows(true);
    previous_ = rows(!stepper_.has_memory());
    lowest_ = rows(has_box_ || task.ball.norm == Norm::linf);
    highest_ = rows(has_box_ || task.ball.norm == Norm::linf);
    x_best_ = rows(task.result.x_best != nullptr);
    if (task.result.x_best) best_output_ = arena.take_rows<T>(count, k);
    lower_ = has_box_ ? arena.take<T>(padded<T>(d)) : nullptr;
    upper_ = has_box_ ? arena.take<T>(padded<T>(d)) : nullptr;
    scratch_ = arena.take<T>(5 * padded<T>(d));
    slots_ = arena.take<Slot<T>>(count);
  }

  void run() {
    const Network<T>& network = *task_.network;
    if (has_box_) {
      copy_row(task_.ball.lower, network.in_features, lower_);
      copy_row(task_.ball.upper, network.in_features, upper_);
    }
    while (!stopped()) {
      if (live_ == 0 || ended_ >= evaluator_.refill()) {
        finish();
        while (live_ < capacity_ && take_row(live_)) ++live_;
        if (live_ == 0) return;
      }
      evaluate({0, live_});
      // from the last slot: the one that takes the place of an ended one has been seen
      for (int64_t i = live_ - 1; i >= 0 && !stopped(); --i)
        if (run_ahead(i)) set_aside(i);
    }
  }

 private:
  bool stopped() const { return __atomic_load_n(&shared_.stop, __ATOMIC_RELAXED) != 0; }

  // Loads the next row into slot i; false if there is none.
  bool take_row(int64_t i) {
    Slot<T>& slot = slots_[i];
    if (!take_next_row(task_, shared_, slot)) return false;
    const int64_t d = task_.network->in_features;
    copy_row(task_.x + slot.sample * d, d, row_of(x0_, i));
    slot.ball = row_ball(task_.ball, task_.ball.eps[slot.job], lower_, upper_, d);
    aim_ball(i);
    if (task_.ball.norm == Norm::linf) find_limits(slot.ball);
    else if (has_box_) find_room(slot.ball);
    place_start(task_, slot, scratch_, row_of(tile_.x, i));
    stepper_.begin(i, slot);
    trace_.begin(i);
    return true;
  }

  // Points the ball of a slot at the arrays of that slot.
  void aim_ball(int64_t i) {
    RowBall<T>& ball = slots_[i].ball;
    ball.x0 = row_of(x0_, i);
    ball.lowest = lowest_.data ? row_of(lowest_, i) : nullptr;
    ball.highest = highest_.data ? row_of(highest_, i) : nullptr;
  }

  // What is recorded of a row.
  void move_end(int64_t from, int64_t to) {
    const Rows<T> all[] = {tile_.x, output_, x_best_, best_output_};
    for (const Rows<T>& rows : all) copy_between_rows(rows, from, to);
    trace_.move(from, to);
    slots_[to] = slots_[from];
  }

  void move_slot(int64_t from, int64_t to) {
    move_end(from, to);
    const Rows<T> all[] = {previous_output_, x0_, previous_, lowest_, highest_};
    for (const Rows<T>& rows : all) copy_between_rows(rows, from, to);
    evaluator_.move(from, to);
    stepper_.move(from, to);
    aim_ball(to);
  }

  // Takes the row of slot i, which has ended, out of the live ones, behind them.
  void set_aside(int64_t i) {
    const int64_t last = --live_;
    ++ended_;
    if (i == last) return;
    move_end(i, capacity_);
    move_slot(last, i);
    move_end(capacity_, last);
  }

  // Takes what was evaluated of slot i, and goes on alone as long as that is cheap; true if the row has ended.
  bool run_ahead(int64_t i) {
    while (!take_iterate(i)) {
      ++slots_[i].t;
      if (stopped() || !evaluator_.is_cheap(i, slots_[i])) return false;
      evaluate({i, i + 1});
    }
    return true;
  }

  // Outputs, losses and gradients of some slots.
  void evaluate(RowRange range) {
    const int64_t k = task_.network->out_features;
    for (int64_t i = range.first; i < range.end; ++i)
      memcpy(row_of(previous_output_, i), row_of(output_, i), sizeof(T) * size_t(k));
    evaluator_.forward(tile_, slots_, range, output_, shared_);
    bool wants_gradient = trace_.wanted();
    for (int64_t i = range.first; i < range.end; ++i) {
      T* const output = row_of(output_, i);
      if (take_value(slots_[i], loss_at(slots_[i], output, row_of(tile_.residual, i))) && x_best_.data) {
        memcpy(row_of(x_best_, i), row_of(tile_.x, i), sizeof(T) * slots_[i].ball.features);
        memcpy(row_of(best_output_, i), output, sizeof(T) * k);
      }
      wants_gradient |= slots_[i].t < task_.options.steps;
    }
    if (wants_gradient) evaluator_.backward(tile_, slots_, range, shared_);
  }

  // What follows the evaluation of an iterate; true if the row has ended.
  bool take_iterate(int64_t i) {
    Slot<T>& slot = slots_[i];
    const AttackOptions& options = task_.options;
    const T* const g = row_of(tile_.gradient, i);
    const bool last = slot.t == options.steps;
    trace_.observe(i, slot, row_of(tile_.x, i), g);
    if (!(slot.now.value - slot.now.value == 0) || (!last && !all_finite(g, slot.ball.features)))
      return end(i, Status::not_finite, slot.t);
    if (slot.now.success && options.early_stop) return end(i, Status::success, slot.t);
    if (last) return end(i, Status::steps_used_up, slot.t);
    if (largest_magnitude(g, slot.ball.features) == 0 && !stepper_.remembers(i, slot)) {
      trace_.repeat(i, slot.t, 1);
      return end(i, Status::zero_gradient, slot.t);
    }
    return step(i);
  }

  bool step(int64_t i) {
    Slot<T>& slot = slots_[i];
    const int64_t n = slot.ball.features;
    T* const x = row_of(tile_.x, i);
    if (!stepper_.step(i, slot, task_.options.step_size[slot.job], x, row_of(tile_.gradient, i)))
      return end(i, Status::not_finite, slot.t + 1);
    const T* const moved = stepper_.moved();
    if (previous_.data) {
      if (task_.options.retire && equal_rows(moved, x, n)) {
        trace_.repeat(i, slot.t, 1);
        return end(i, Status::fixed_point, slot.t + 1);
      }
      if (task_.options.retire && slot.t > 0 && equal_rows(moved, row_of(previous_, i), n)) {
        trace_.repeat(i, slot.t, 2);
        if ((task_.options.steps - slot.t) % 2) step_back(i);  // this step included, the last one is on the other point
        return end(i, Status::period_two, slot.t + 1);
      }
      memcpy(row_of(previous_, i), x, sizeof(T) * n);
    }
    evaluator_.step(i, x, moved, n);
    memcpy(x, moved, sizeof(T) * n);
    return false;
  }

  static bool equal_rows(const T* a, const T* b, int64_t n) {
    for (int64_t j = 0; j < n; j += lanes<T>())
      if (any(load(a + j) != load(b + j))) return false;
    return true;
  }

  // The row ends on the iterate before.
  void step_back(int64_t i) {
    slots_[i].now = slots_[i].before;
    memcpy(row_of(tile_.x, i), row_of(previous_, i), sizeof(T) * slots_[i].ball.features);
    memcpy(row_of(output_, i), row_of(previous_output_, i), sizeof(T) * size_t(task_.network->out_features));
  }

  // Always true.
  bool end(int64_t i, Status status, int64_t steps) {
    slots_[i].status = status;
    slots_[i].steps = steps;
    return true;
  }

  // Hands the rows that have ended over to the result.
  void finish() {
    const RowRange range = {live_, live_ + ended_};
    ended_ = 0;
    if (evaluator_.needs_settling() && range.first < range.end) {
      settle(range, tile_.x, output_, false);
      if (x_best_.data) settle(range, x_best_, best_output_, true);
      if (stopped()) return;
    }
    for (int64_t i = range.first; i < range.end; ++i) {
      if (slots_[i].status == Status::success && !slots_[i].now.success) defer_row(task_, slots_[i].row);
      else record(i);
    }
  }

  // Evaluates the points of rows that have ended by themselves, so that the result holds what the network says of them.
  void settle(RowRange range, Rows<T> points, Rows<T> output, bool best) {
    const Tile<T> part = from_row(tile_, range.first);
    evaluator_.evaluate(part, range.end - range.first, from_row(points, range.first), from_row(output, range.first),
                        shared_);
    for (int64_t i = range.first; i < range.end; ++i) {
      const LossValue<T> value = loss_at(slots_[i], row_of(output, i), row_of(tile_.residual, i));
      if (best) settle_best(slots_[i], value);
      else settle_last(slots_[i], value);
    }
  }

  LossValue<T> loss_at(const Slot<T>& slot, T* output, T* residual) const {
    const int64_t k = task_.network->out_features;
    return loss_of<T>(task_.objective.loss)(output, residual, target_of(task_.objective, slot.sample, k), k);
  }

  void record(int64_t i) {
    const Slot<T>& slot = slots_[i];
    Outcome<T> outcome{};
    outcome.at_slot(slot);
    outcome.x = row_of(tile_.x, i);
    outcome.output = row_of(output_, i);
    if (x_best_.data) {
      const bool is_last = is_better(slot.now, slot.best);
      if (is_last) outcome.best = slot.now;
      outcome.x_best = is_last ? outcome.x : row_of(x_best_, i);
      outcome.x_best_output = is_last ? outcome.output : row_of(best_output_, i);
    }
    outcome.trace = trace_.of(i);
    record_outcome(task_, shared_, outcome);
  }

  static constexpr int64_t kSpare = 1;  // a row through which two others are exchanged

  const Task<T>& task_;
  Shared& shared_;
  const int64_t capacity_;
  Tile<T> tile_;
  Evaluator<T> evaluator_;
  Stepper<T> stepper_;
  Trace<T> trace_;
  Rows<T> output_{}, previous_output_{};  // logits of this iterate and of the one before
  Rows<T> x0_{}, previous_{}, lowest_{}, highest_{}, x_best_{}, best_output_{};
  T *lower_ = nullptr, *upper_ = nullptr, *scratch_ = nullptr;
  Slot<T>* slots_ = nullptr;
  int64_t live_ = 0, ended_ = 0;  // slots in use, and those behind them whose rows have ended
  bool has_box_ = false;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
