// How rows come to workers: off one counter, into tiles of a size that suits the caches; and back to the result.
#pragma once

#include "plan.hpp"
#include "simd.hpp"
// after the words that they are written in
#include "../rows/outcome.hpp"
#include "../rows/slot.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// Gives the next row to a slot; false if there is none.
template <class T>
inline bool take_next_row(const Task<T>& task, Shared& shared, Slot<T>& slot) {
  const int64_t index = __atomic_fetch_add(&shared.next_row, 1, __ATOMIC_RELAXED);
  if (index >= task.rows) return false;
  begin_row(task, task.row_list ? task.row_list[index] : index, slot);
  return true;
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

// Restarts of a job may end on several workers at once: the job is locked while its result changes.
class JobLock {
 public:
  explicit JobLock(int* lock) : lock_(lock) {
    while (lock_ && __atomic_exchange_n(lock_, 1, __ATOMIC_ACQUIRE)) {
    }
  }
  ~JobLock() {
    if (lock_) __atomic_store_n(lock_, 0, __ATOMIC_RELEASE);
  }

 private:
  int* lock_;
};

template <class T>
inline void record_outcome(const Task<T>& task, Shared& shared, const Outcome<T>& outcome) {
  {
    const JobLock lock(task.options.restarts > 1 ? &shared.locks[outcome.job % kLocks] : nullptr);
    merge_outcome(task, outcome);
  }
  __atomic_fetch_add(&shared.finished, 1, __ATOMIC_RELAXED);
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
