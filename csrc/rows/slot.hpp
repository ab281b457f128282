// What an attack knows of one row beside its arrays; the place of a row in a tile.
#pragma once

#include "apgd.hpp"
#include "arena.hpp"
#include "names.hpp"
#include "projection.hpp"
#include "random_start.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// What changes while a row takes its steps.
template <class T>
struct SlotState {
  int64_t t;
  LossValue<T> now, before;  // at x and at the iterate before
  LossValue<T> best;         // at x_best
  T best_loss;
  int64_t first_success;
  ApgdState<T> apgd;
  bool has_best;
  Status status;  // why the row ended
  int64_t steps;  // after so many steps
};

// What a slot knows of its row, beside the arrays.
template <class T>
struct Slot : SlotState<T> {
  int64_t row, job, sample;
  RowBall<T> ball;
  int32_t restart;
};

// Makes a slot that of a row: a job and one of its restarts.
template <class T>
PYFIRSTORDER_INLINE void begin_row(const Task<T>& task, int64_t row, Slot<T>& slot) {
  slot = Slot<T>{};
  slot.row = row;
  slot.job = slot.row / task.options.restarts;
  slot.restart = int32_t(slot.row % task.options.restarts);
  slot.sample = slot.job % task.samples;
  slot.first_success = -1;
  slot.best_loss = T(__builtin_nan(""));
}

// Writes the first iterate of a slot's row.  scratch holds five rows.
template <class T>
PYFIRSTORDER_INLINE void place_start(const Task<T>& task, const Slot<T>& slot, T* scratch, T* x) {
  const AttackOptions& options = task.options;
  const int64_t d = task.network->in_features;
  if (options.random_start != Start::none) {
    const RandomKey key{options.seed, uint32_t(slot.restart), uint64_t(slot.sample + options.sample_offset)};
    random_start_row(slot.ball, d, options.random_start == Start::sphere, key, scratch, x);
  } else if (task.x_init) {
    T* const given = scratch + 4 * slot.ball.features;
    copy_row(task.x_init + slot.sample * d, d, given);
    admit_row(given, slot.ball, scratch, x);
  } else {
    copy(x, slot.ball.x0, slot.ball.features);
  }
}

// Success first, then the larger loss; a loss that is not a number is worse than any other.
template <class T>
PYFIRSTORDER_INLINE bool is_better(bool success, T loss, bool than_success, T than_loss) {
  if (success != than_success) return success;
  return loss > than_loss || (than_loss != than_loss && loss == loss);
}

template <class T>
PYFIRSTORDER_INLINE bool is_better(const LossValue<T>& value, const LossValue<T>& than) {
  return is_better(value.success, value.value, than.success, than.value);
}

// A value as it was found, which is no success if its loss is not finite.
template <class T>
PYFIRSTORDER_INLINE LossValue<T> finite_or_failed(LossValue<T> value) {
  value.success &= value.value - value.value == 0;
  return value;
}

// Takes the loss of an iterate into account; whether it is the best so far.
template <class T>
PYFIRSTORDER_INLINE bool take_value(Slot<T>& slot, const LossValue<T>& value) {
  slot.before = slot.now;
  slot.now = finite_or_failed(value);
  if (slot.now.success && slot.first_success < 0) slot.first_success = slot.t;
  if (!(slot.best_loss >= slot.now.value) && slot.now.value == slot.now.value) slot.best_loss = slot.now.value;
  if (slot.has_best && !is_better(slot.now, slot.best)) return false;
  slot.has_best = true;
  slot.best = slot.now;
  return true;
}

// What the ways of evaluation that only follow an iterate, or round it, take from an evaluation of the end point
// itself.
template <class T>
PYFIRSTORDER_INLINE void settle_last(Slot<T>& slot, const LossValue<T>& value) {
  slot.now = finite_or_failed(value);
  if (!(value.value - value.value == 0)) slot.status = Status::not_finite;
  if (slot.now.success && slot.first_success < 0) slot.first_success = slot.t;
  if (value.value > slot.best_loss) slot.best_loss = value.value;
}

template <class T>
PYFIRSTORDER_INLINE void settle_best(Slot<T>& slot, const LossValue<T>& value) {
  slot.best = finite_or_failed(value);
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
