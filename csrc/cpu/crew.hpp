// How the only worker of a call shares a product with other threads.
//
// With many samples each thread works on samples of its own.  With few of them and large weights, which are read anew
// for every product, one worker leads and the others take a share of the columns of each product: of the hidden units
// in one direction, of the coordinates in the other.  An element is summed by one thread, so the bits are the same.
//
// Functions are static: each instruction set compiles its own.
#pragma once

#include "../core/types.hpp"

namespace pyfirstorder {

constexpr int kSpins = 1000;  // looks before a waiting thread lets others run

// Tells the processor that this thread waits.
static inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

static inline void wait_until(const Shared& shared, const int64_t& value, int64_t wanted) {
  for (int spins = 0; __atomic_load_n(&value, __ATOMIC_ACQUIRE) != wanted; ++spins)
    if (spins >= kSpins) shared.yield();
    else pause();
}

// Calls work(what, part, parts) once for each part, on this thread and on the helpers.
static inline void share_out(Shared& shared, void (*work)(void* what, int part, int parts), void* what) {
  shared.work = work;
  shared.what = what;
  __atomic_store_n(&shared.done, 0, __ATOMIC_RELAXED);
  __atomic_add_fetch(&shared.posted, 1, __ATOMIC_RELEASE);
  work(what, 0, shared.helpers + 1);
  wait_until(shared, shared.done, shared.helpers);
}

// Takes part `part` of everything that is shared out, until dismiss_helpers().
static inline void help(Shared& shared, int part) {
  for (int64_t posted = 1;; ++posted) {
    wait_until(shared, shared.posted, posted);
    if (!shared.work) return;
    shared.work(shared.what, part, shared.helpers + 1);
    __atomic_add_fetch(&shared.done, 1, __ATOMIC_RELEASE);
  }
}

static inline void dismiss_helpers(Shared& shared) {
  shared.work = nullptr;
  __atomic_add_fetch(&shared.posted, 1, __ATOMIC_RELEASE);
}

}  // namespace pyfirstorder
