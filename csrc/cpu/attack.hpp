// The whole attack on a tile of rows, from first step to last.
//
// One worker takes rows (a job and one of its restarts) off a shared counter into the slots of its tile.  All slots are
// evaluated together; then each ends or steps by itself, and the slot of a row that ended takes the next row.  Rows of
// a tile may so stand at different steps, and nothing about a row depends on the others.  The rules are those of
// pyfirstorder/backends/reference/attack.py, where they are numbered.
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
        tile_(make_tile(arena, *task.network, capacity_)),
        evaluator_(task, arena, capacity_),
        stepper_(task, arena, capacity_),
        trace_(task, arena, capacity_) {
    const int64_t d = task.network->in_features, k = task.network->out_features;
    has_box_ = task.ball.lower != nullptr;
    output_[0] = arena.take_rows<T>(capacity_, k);
    output_[1] = arena.take_rows<T>(capacity_, k);
    const auto rows = [&](bool wanted) { return wanted ? arena.take_rows<T>(capacity_, d) : Rows<T>{nullptr, 0}; };
    x0_ = rows(true);
    previous_ = rows(!stepper_.has_memory());
    lowest_ = rows(has_box_ || task.ball.norm == Norm::linf);
    highest_ = rows(has_box_ || task.ball.norm == Norm::linf);
    x_best_ = rows(task.result.x_best != nullptr);
    if (task.result.x_best) best_output_ = arena.take_rows<T>(capacity_, k);
    lower_ = has_box_ ? arena.take<T>(padded<T>(d)) : nullptr;
    upper_ = has_box_ ? arena.take<T>(padded<T>(d)) : nullptr;
    scratch_ = arena.take<T>(5 * padded<T>(d));
    slots_ = arena.take<Slot<T>>(capacity_);
    ended_ = arena.take<int64_t>(capacity_);
    if (evaluator_.needs_settling()) settled_ = arena.take_rows<T>(capacity_, k);
  }

  void run() {
    const Network<T>& network = *task_.network;
    if (has_box_) {
      copy_row(task_.ball.lower, network.in_features, lower_);
      copy_row(task_.ball.upper, network.in_features, upper_);
    }
    while (!stopped()) {
      if (live_ == 0 || live_ + evaluator_.refill() <= capacity_)
        while (live_ < capacity_ && take_row(live_)) ++live_;
      if (live_ == 0) return;
      evaluate();
      if (stopped()) return;
      int64_t count = 0;
      for (int64_t i = 0; i < live_; ++i) {
        if (take_iterate(i)) ended_[count++] = i;
        else ++slots_[i].t;
      }
      if (count > 0) finish(count);
      for (int64_t n = count - 1; n >= 0; --n)  // from the last, so that the slot that moves is live
        if (--live_ != ended_[n]) move_slot(live_, ended_[n]);
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

  void move_slot(int64_t from, int64_t to) {
    const Rows<T> all[] = {tile_.x,   tile_.gradient, tile_.residual, output_[0], output_[1],  x0_,
                           previous_, lowest_,        highest_,       x_best_,    best_output_};
    for (const Rows<T>& rows : all) copy_between_rows(rows, from, to);
    evaluator_.move(from, to);
    stepper_.move(from, to);
    trace_.move(from, to);
    slots_[to] = slots_[from];
    aim_ball(to);
  }

  // Outputs, losses and gradients of all slots.
  void evaluate() {
    const int64_t k = task_.network->out_features;
    parity_ ^= 1;
    evaluator_.forward(tile_, slots_, live_, output_[parity_], &shared_.stop);
    bool wants_gradient = trace_.wanted();
    for (int64_t i = 0; i < live_; ++i) {
      T* const output = row_of(output_[parity_], i);
      if (take_value(slots_[i], loss_at(slots_[i], output, row_of(tile_.residual, i))) && x_best_.data) {
        memcpy(row_of(x_best_, i), row_of(tile_.x, i), sizeof(T) * slots_[i].ball.features);
        memcpy(row_of(best_output_, i), output, sizeof(T) * k);
      }
      wants_gradient |= slots_[i].t < task_.options.steps;
    }
    if (wants_gradient) evaluator_.backward(tile_, slots_, live_, &shared_.stop);
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
    memcpy(row_of(output_[parity_], i), row_of(output_[parity_ ^ 1], i), sizeof(T) * task_.network->out_features);
  }

  // Always true.
  bool end(int64_t i, Status status, int64_t steps) {
    slots_[i].status = status;
    slots_[i].steps = steps;
    return true;
  }

  // Hands the rows in ended_ over to the result.
  void finish(int64_t count) {
    if (evaluator_.needs_settling()) {
      settle(count, tile_.x, output_[parity_], false);
      if (x_best_.data) settle(count, x_best_, best_output_, true);
      if (stopped()) return;
    }
    for (int64_t n = 0; n < count; ++n) {
      const int64_t i = ended_[n];
      if (slots_[i].status == Status::success && !slots_[i].now.success) defer_row(task_, slots_[i].row);
      else record(i);
    }
  }

  // Evaluates the points of the ended rows by themselves, so that the result holds what the network says of them.
  void settle(int64_t count, Rows<T> points, Rows<T> output, bool best) {
    const int64_t k = task_.network->out_features;
    evaluator_.evaluate(tile_, ended_, count, points, settled_, &shared_.stop);
    for (int64_t n = 0; n < count; ++n) {
      Slot<T>& slot = slots_[ended_[n]];
      const LossValue<T> value = loss_at(slot, row_of(settled_, n), row_of(tile_.residual, n));
      memcpy(row_of(output, ended_[n]), row_of(settled_, n), sizeof(T) * k);
      if (best) settle_best(slot, value);
      else settle_last(slot, value);
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
    outcome.output = row_of(output_[parity_], i);
    if (x_best_.data) {
      const bool is_last = is_better(slot.now, slot.best);
      if (is_last) outcome.best = slot.now;
      outcome.x_best = is_last ? outcome.x : row_of(x_best_, i);
      outcome.x_best_output = is_last ? outcome.output : row_of(best_output_, i);
    }
    outcome.trace = trace_.of(i);
    record_outcome(task_, shared_, outcome);
  }

  const Task<T>& task_;
  Shared& shared_;
  const int64_t capacity_;
  Tile<T> tile_;
  Evaluator<T> evaluator_;
  Stepper<T> stepper_;
  Trace<T> trace_;
  Rows<T> output_[2]{};  // logits of this iterate and of the one before, in turn
  Rows<T> x0_{}, previous_{}, lowest_{}, highest_{}, x_best_{}, best_output_{}, settled_{};
  T *lower_ = nullptr, *upper_ = nullptr, *scratch_ = nullptr;
  Slot<T>* slots_ = nullptr;
  int64_t* ended_ = nullptr;
  int64_t live_ = 0;
  int parity_ = 0;
  bool has_box_ = false;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
