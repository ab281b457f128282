// What an attack does with one row between two evaluations: take the value, then end or step.
//
// The rules are those of pyfirstorder/backends/reference/attack.py, where they are numbered.  Rows have slots, and keep
// all that they need there; points, residuals and gradients belong to whoever evaluates them.
#pragma once

#include "outcome.hpp"
#include "stepper.hpp"
#include "trace.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// What evaluation and steps hand to each other.
template <class T>
struct Evaluated {
  Rows<T> x;         // iterates
  Rows<T> residual;  // ∂L/∂z up to scale
  Rows<T> gradient;  // ∂L/∂x up to the same scale
};

template <class T>
class RowLoop {
 public:
  // Of `count` slots, `capacity` are in use at once.
  PYFIRSTORDER_INLINE RowLoop(const Task<T>& task, Arena& arena, const Evaluated<T>& rows, int64_t capacity,
                              int64_t count, Worker worker)
      : task_(task), rows_(rows), stepper_(task, arena, capacity, worker), trace_(task, arena, count, worker) {
    const int64_t d = task.network->in_features, k = task.network->out_features;
    has_box_ = task.ball.lower != nullptr;
    output_ = arena.take_rows<T>(count, k);
    previous_output_ = arena.take_rows<T>(count, k);
    const bool retires = !stepper_.has_memory(), limits = has_box_ || task.ball.norm == Norm::linf;
    const bool best = task.result.x_best != nullptr || task.options.precision == Precision::fast;
    x0_ = arena.take_rows<T>(count, d);
    if (retires) previous_ = arena.take_rows<T>(count, d);
    if (limits) lowest_ = arena.take_rows<T>(count, d);
    if (limits) highest_ = arena.take_rows<T>(count, d);
    if (best) x_best_ = arena.take_rows<T>(count, d);
    if (best) best_output_ = arena.take_rows<T>(count, k);
    lower_ = has_box_ ? arena.take<T>(padded<T>(d)) : nullptr;
    upper_ = has_box_ ? arena.take<T>(padded<T>(d)) : nullptr;
    scratch_ = worker.own(arena.take<T>(5 * padded<T>(d) * worker.count), 5 * padded<T>(d));
    slots_ = arena.take<Slot<T>>(count);
  }

  PYFIRSTORDER_INLINE Slot<T>* slots() const { return slots_; }
  PYFIRSTORDER_INLINE Slot<T>& slot(int64_t i) const { return slots_[i * slot_stride_]; }

  // From now on every slot is this one: a copy of the one that is worked on.
  PYFIRSTORDER_INLINE void work_on(Slot<T>* one) {
    slots_ = one;
    slot_stride_ = 0;
  }

  PYFIRSTORDER_INLINE Rows<T> output() const { return output_; }
  PYFIRSTORDER_INLINE Rows<T> x0() const { return x0_; }
  PYFIRSTORDER_INLINE Rows<T> x_best() const { return x_best_; }
  PYFIRSTORDER_INLINE Rows<T> best_output() const { return best_output_; }
  PYFIRSTORDER_INLINE bool traces() const { return trace_.wanted(); }
  PYFIRSTORDER_INLINE Trace<T>& trace() { return trace_; }
  PYFIRSTORDER_INLINE T* scratch() const { return scratch_; }  // five rows

  // Fills the padded copies of the box; once, before any row begins.
  PYFIRSTORDER_INLINE void load_box() {
    if (!has_box_) return;
    copy_row(task_.ball.lower, task_.network->in_features, lower_);
    copy_row(task_.ball.upper, task_.network->in_features, upper_);
  }

  // Loads the row that begin_row made slot i that of.
  PYFIRSTORDER_INLINE void begin(int64_t i) {
    Slot<T>& slot = this->slot(i);
    const int64_t d = task_.network->in_features;
    copy_row(task_.x + slot.sample * d, d, row_of(x0_, i));
    sync_warp();
    slot.ball = row_ball(task_.ball, task_.ball.eps[slot.job], lower_, upper_, d);
    aim_ball(i);
    if (task_.ball.norm == Norm::linf) find_limits(slot.ball);
    else if (has_box_) find_room(slot.ball);
    place_start(task_, slot, scratch_, row_of(rows_.x, i));
    stepper_.begin(i, slot);
    trace_.begin(i);
  }

  // What is recorded of a row.
  PYFIRSTORDER_INLINE void move_end(int64_t from, int64_t to) {
    copy_between_rows(rows_.x, from, to);
    copy_between_rows(output_, from, to);
    copy_between_rows(x_best_, from, to);
    copy_between_rows(best_output_, from, to);
    trace_.move(from, to);
    slot(to) = slot(from);
  }

  PYFIRSTORDER_INLINE void move_slot(int64_t from, int64_t to) {
    move_end(from, to);
    copy_between_rows(previous_output_, from, to);
    copy_between_rows(x0_, from, to);
    copy_between_rows(previous_, from, to);
    copy_between_rows(lowest_, from, to);
    copy_between_rows(highest_, from, to);
    stepper_.move(from, to);
    aim_ball(to);
  }

  // Before the output of slot i is computed anew.
  PYFIRSTORDER_INLINE void keep_output(int64_t i) {
    if (slot(i).t == 0) return;  // there is none yet
    copy(row_of(previous_output_, i), row_of(output_, i), task_.network->out_features);
  }

  PYFIRSTORDER_INLINE void take_loss(int64_t i, const LossValue<T>& value) {
    if (!take_value(slot(i), value) || !x_best_.data) return;
    copy(row_of(x_best_, i), row_of(rows_.x, i), slot(i).ball.features);
    copy(row_of(best_output_, i), row_of(output_, i), task_.network->out_features);
  }

  // What follows the evaluation of an iterate; true if the row has ended.  `follow(i, x, moved, n)` hears of a step.
  template <class Follow>
  PYFIRSTORDER_INLINE bool take_iterate(int64_t i, Follow follow) {
    Slot<T>& slot = this->slot(i);
    const AttackOptions& options = task_.options;
    const T* const g = row_of(rows_.gradient, i);
    const bool last = slot.t == options.steps;
    trace_.observe(i, slot, row_of(rows_.x, i), g);
    if (!(slot.now.value - slot.now.value == 0) || (!last && !all_finite(g, slot.ball.features)))
      return end(i, Status::not_finite, slot.t);
    if (slot.now.success && options.early_stop) return end(i, Status::success, slot.t);
    if (last) return end(i, Status::steps_used_up, slot.t);
    if (largest_magnitude(g, slot.ball.features) == 0 && !stepper_.remembers(i, slot)) {
      trace_.repeat(i, slot, 1);
      return end(i, Status::zero_gradient, slot.t);
    }
    return step(i, follow);
  }

  // The row as it stands.
  PYFIRSTORDER_INLINE Outcome<T> outcome(int64_t i) const {
    const Slot<T>& slot = this->slot(i);
    Outcome<T> outcome{};
    outcome.at_slot(slot);
    outcome.x = row_of(rows_.x, i);
    outcome.output = row_of(output_, i);
    if (x_best_.data) {
      const bool is_last = is_better(slot.now, slot.best);
      if (is_last) outcome.best = slot.now;
      outcome.x_best = is_last ? outcome.x : row_of(x_best_, i);
      outcome.x_best_output = is_last ? outcome.output : row_of(best_output_, i);
    }
    outcome.trace = trace_.of(i);
    return outcome;
  }

 private:
  // Points the ball of a slot at the arrays of that slot.
  PYFIRSTORDER_INLINE void aim_ball(int64_t i) {
    RowBall<T>& ball = slot(i).ball;
    ball.x0 = row_of(x0_, i);
    ball.lowest = lowest_.data ? row_of(lowest_, i) : nullptr;
    ball.highest = highest_.data ? row_of(highest_, i) : nullptr;
  }

  template <class Follow>
  PYFIRSTORDER_INLINE bool step(int64_t i, Follow follow) {
    Slot<T>& slot = this->slot(i);
    const int64_t n = slot.ball.features;
    T* const x = row_of(rows_.x, i);
    if (!stepper_.step(i, slot, task_.options.step_size[slot.job], x, row_of(rows_.gradient, i)))
      return end(i, Status::not_finite, slot.t + 1);
    const T* const moved = stepper_.moved();
    if (previous_.data) {
      if (task_.options.retire && equal_rows(moved, x, n)) {
        trace_.repeat(i, slot, 1);
        return end(i, Status::fixed_point, slot.t + 1);
      }
      if (task_.options.retire && slot.t > 0 && equal_rows(moved, row_of(previous_, i), n)) {
        trace_.repeat(i, slot, 2);
        if ((task_.options.steps - slot.t) % 2) step_back(i);  // this step included, the last one is on the other point
        return end(i, Status::period_two, slot.t + 1);
      }
      copy(row_of(previous_, i), x, n);
    }
    follow(i, x, moved, n);
    copy(x, moved, n);
    return false;
  }

  static PYFIRSTORDER_INLINE bool equal_rows(const T* a, const T* b, int64_t n) {
    for (int64_t j = 0; j < n; j += lanes<T>())
      if (any(load(a + j) != load(b + j))) return false;
    return true;
  }

  // The row ends on the iterate before.
  PYFIRSTORDER_INLINE void step_back(int64_t i) {
    slot(i).now = slot(i).before;
    copy(row_of(rows_.x, i), row_of(previous_, i), slot(i).ball.features);
    copy(row_of(output_, i), row_of(previous_output_, i), task_.network->out_features);
  }

  // Always true.
  PYFIRSTORDER_INLINE bool end(int64_t i, Status status, int64_t steps) {
    slot(i).status = status;
    slot(i).steps = steps;
    if (status == Status::success || status == Status::not_finite) trace_.leave(slot(i));
    return true;
  }

  const Task<T>& task_;
  const Evaluated<T> rows_;
  Stepper<T> stepper_;
  Trace<T> trace_;
  Rows<T> output_{}, previous_output_{};  // logits of this iterate and of the one before
  Rows<T> x0_{}, previous_{}, lowest_{}, highest_{}, x_best_{}, best_output_{};
  T *lower_ = nullptr, *upper_ = nullptr, *scratch_ = nullptr;
  Slot<T>* slots_ = nullptr;
  int64_t slot_stride_ = 1;
  bool has_box_ = false;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
