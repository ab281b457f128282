// What a kernel asks of the machine: where a thread stands, and what the threads of a warp or a block do together.
//
// On a GPU these are its instructions.  Compiled by a plain compiler, they are fibres (fibres.hpp): every thread of a
// block runs on its own stack and waits for the others where a GPU's would, so that kernels run, and their mistakes
// show, on a processor.
#pragma once

#include <stdint.h>

#include "../core/target.hpp"

#if !defined(__CUDACC__)
#include "fibres.hpp"
#endif

namespace pyfirstorder::PYFIRSTORDER_TARGET {

constexpr int kWarp = 32;  // threads of a warp

#if defined(__CUDACC__)

constexpr int kBlockThreads = 256;

#define PYFIRSTORDER_SHARED __shared__
#define PYFIRSTORDER_KERNEL __device__ inline
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// The host passes of the compiler see these functions, too, and never call them.
#if defined(__CUDA_ARCH__)
#define PYFIRSTORDER_ON_DEVICE(...) __VA_ARGS__
#else
#define PYFIRSTORDER_ON_DEVICE(...)
#endif

PYFIRSTORDER_INLINE int thread_index() {
  PYFIRSTORDER_ON_DEVICE(return int(threadIdx.x);)
  return 0;
}
PYFIRSTORDER_INLINE int64_t block_index() {
  PYFIRSTORDER_ON_DEVICE(return int64_t(blockIdx.x);)
  return 0;
}
PYFIRSTORDER_INLINE int64_t block_count() {
  PYFIRSTORDER_ON_DEVICE(return int64_t(gridDim.x);)
  return 1;
}
PYFIRSTORDER_INLINE void sync_block() {
  PYFIRSTORDER_ON_DEVICE(__syncthreads();)
}
PYFIRSTORDER_INLINE void sync_warp() {
  PYFIRSTORDER_ON_DEVICE(__syncwarp();)
}
template <class T>
PYFIRSTORDER_INLINE T from_lane_across(T value, int distance) {
  PYFIRSTORDER_ON_DEVICE(return __shfl_xor_sync(kAllLanes, value, distance);)
  return value;
}
PYFIRSTORDER_INLINE uint32_t lanes_with(bool flag) {
  PYFIRSTORDER_ON_DEVICE(return __ballot_sync(kAllLanes, flag);)
  return flag;
}
PYFIRSTORDER_INLINE int count_bits(uint32_t bits) {
  PYFIRSTORDER_ON_DEVICE(return __popc(bits);)
  return int(bits & 1);
}

#else

constexpr int kBlockThreads = 64;  // as few as show how warps wait for each other

#define PYFIRSTORDER_SHARED static thread_local
#define PYFIRSTORDER_KERNEL inline

inline int thread_index() {
  return fibres::current()->thread;
}
inline int64_t block_index() {
  return fibres::current()->block->index;
}
inline int64_t block_count() {
  return fibres::current()->block->count;
}
inline void sync_block() {
  fibres::wait_for_block();
}
inline void sync_warp() {
  fibres::wait_for_warp();
}
template <class T>
inline T from_lane_across(T value, int distance) {
  return fibres::exchange(value, distance);
}
inline uint32_t lanes_with(bool flag) {
  return fibres::ballot(flag);
}
inline int count_bits(uint32_t bits) {
  return __builtin_popcount(bits);
}

#endif

constexpr int kBlockWarps = kBlockThreads / kWarp;

PYFIRSTORDER_INLINE int lane() {
  return thread_index() % kWarp;
}
PYFIRSTORDER_INLINE int warp_of_block() {
  return thread_index() / kWarp;
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
