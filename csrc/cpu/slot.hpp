// One place of an attack's tile, which rows take one after another.
#pragma once

#include "apgd.hpp"
#include "plan.hpp"
#include "projection.hpp"
#include "random_start.hpp"
#include "tile.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// What a slot knows of its row, beside the arrays.
template <class T>
struct Slot {
  int64_t row, job, sample, t;
  RowBall<T> ball;
  LossValue<T> now, before;  // at x and at the iterate before
  LossValue<T> best;         // at x_best
  T best_loss;
  int64_t first_success;
  ApgdState<T> apgd;
  int32_t restart;
  bool has_best;
  Status status;  // why the row ended
  int64_t steps;  // after so many steps
};

// Gives the next row to a slot; false if there is none.
template <class T>
inline bool take_next_row(const Task<T>& task, Shared& shared, Slot<T>& slot) {
  const int64_t index = __atomic_fetch_add(&shared.next_row, 1, __ATOMIC_RELAXED);
  if (index >= task.rows) return false;
  slot = Slot<T>{};
  slot.row = task.row_list ? task.row_list[index] : index;
  slot.job = slot.row / task.options.restarts;
  slot.restart = int32_t(slot.row % task.options.restarts);
  slot.sample = slot.job % task.samples;
  slot.first_success = -1;
  slot.best_loss = T(__builtin_nan(""));
  return true;
}

// Writes the first iterate of a slot's row.  scratch holds five rows.
template <class T>
inline void place_start(const Task<T>& task, const Slot<T>& slot, T* scratch, T* x) {
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
    memcpy(x, slot.ball.x0, sizeof(T) * slot.ball.features);
  }
}

// Success first, then the larger loss; a loss that is not a number is worse than any other.
template <class T>
inline bool is_better(bool success, T loss, bool than_success, T than_loss) {
  if (success != than_success) return success;
  return loss > than_loss || (than_loss != than_loss && loss == loss);
}

template <class T>
inline bool is_better(const LossValue<T>& value, const LossValue<T>& than) {
  return is_better(value.success, value.value, than.success, than.value);
}

// Takes the loss of an iterate into account; whether it is the best so far.
template <class T>
inline bool take_value(Slot<T>& slot, const LossValue<T>& value) {
  slot.before = slot.now;
  slot.now = value;
  slot.now.success &= value.value - value.value == 0;
  if (slot.now.success && slot.first_success < 0) slot.first_success = slot.t;
  if (!(slot.best_loss >= slot.now.value) && slot.now.value == slot.now.value) slot.best_loss = slot.now.value;
  if (slot.has_best && !is_better(slot.now, slot.best)) return false;
  slot.has_best = true;
  slot.best = slot.now;
  return true;
}

// What the ways of evaluation that only follow an iterate take from an evaluation of the end point itself.
template <class T>
inline void settle_last(Slot<T>& slot, const LossValue<T>& value) {
  slot.now = value;
  if (value.success && slot.first_success < 0) slot.first_success = slot.t;
  if (value.value > slot.best_loss) slot.best_loss = value.value;
}

template <class T>
inline void settle_best(Slot<T>& slot, const LossValue<T>& value) {
  slot.best = value;
}

// Leaves a row to the dense loop.
template <class T>
inline void defer_row(const Task<T>& task, int64_t row) {
  task.deferred[1 + __atomic_fetch_add(task.deferred, 1, __ATOMIC_RELAXED)] = row;
}

// How many rows a worker holds at once, of which each needs so many numbers: enough that reading the weights costs
// little, few enough that their state stays within a few caches.
template <class T>
inline int64_t tile_rows(const Task<T>& task, int64_t numbers_per_row) {
  constexpr int64_t kGroups = 8;
  int64_t groups = kMostTileBytes / (kTileRows * int64_t(sizeof(T)) * numbers_per_row);
  groups = groups > kGroups ? kGroups : groups < 1 ? 1 : groups;
  const int64_t rows = groups * kTileRows, share = task.rows_per_worker > 0 ? task.rows_per_worker : 1;
  const int64_t tiles = (share + rows - 1) / rows;  // as even as can be, so that workers end together
  return (share + tiles - 1) / tiles;
}

template <class T>
inline T* row_of(Rows<T> rows, int64_t i) {
  return rows.data + i * rows.stride;
}

template <class T>
inline void copy_between_rows(Rows<T> rows, int64_t from, int64_t to) {
  if (rows.data) memcpy(row_of(rows, to), row_of(rows, from), sizeof(T) * rows.stride);
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
