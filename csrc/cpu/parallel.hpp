// The workers of one call: threads that are started and joined inside it, so that a fork or another library's thread
// pool can never be in the way.
#pragma once

#include <stddef.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <new>

#include "engine.hpp"

namespace pyfirstorder {

constexpr size_t kAlignment = 64;

struct FreeAligned {
  void operator()(void* memory) const { std::free(memory); }
};
using AlignedMemory = std::unique_ptr<void, FreeAligned>;

inline AlignedMemory allocate_aligned(size_t bytes) {
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  AlignedMemory memory(std::aligned_alloc(kAlignment, rounded ? rounded : kAlignment));
  if (!memory) throw std::bad_alloc();
  return memory;
}

// What the calling thread does while workers run: called now and then, returns true to stop them.  It throws nothing,
// because threads are at work on what would be gone.
class Supervisor {
 public:
  virtual ~Supervisor() = default;
  virtual bool wants_stop(double finished_share) noexcept = 0;
};

// Runs an operation on up to `threads` workers, or on one that the other threads help (crew.hpp).  A short task runs on
// the calling thread as one of them; for a long one
// (`is_long`) the calling thread only watches, so that it can answer signals at once.
template <class T>
void run_operation(const Operation<T>& operation, Task<T> task, int threads, bool is_long, Supervisor& supervisor);

// Runs long work, which throws nothing, on a thread of its own while the calling thread watches; it ends early where
// `stop` becomes other than 0.  Where there is no thread to be had it runs unwatched.
void run_watched(const std::function<void(const int* stop)>& work, Supervisor& supervisor);

}  // namespace pyfirstorder
