// What a kernel asks of the machine: where a thread stands, and what the threads of a warp or a block do together.
//
// On a GPU these are its instructions.  Compiled by a plain compiler, they are fibres (fibres.hpp): every thread of a
// block runs on its own stack and waits for the others where a GPU's would, so that kernels run, and their mistakes
// show, on a processor.
#pragma once

#include <stdint.h>
#include <string.h>

#include "../core/target.hpp"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#else
#include "fibres.hpp"
#endif

namespace pyfirstorder::PYFIRSTORDER_TARGET {

constexpr int kWarp = 32;  // threads of a warp

#if defined(__CUDACC__)

constexpr int kBlockThreads = 256;

#define PYFIRSTORDER_SHARED __shared__
#define PYFIRSTORDER_UNROLLED _Pragma("unroll")  // for loops over arrays that are to be registers
#define PYFIRSTORDER_ROLLED _Pragma("unroll 1")
#define PYFIRSTORDER_KERNEL __device__ inline
// Part of its caller however long it is: a function of its own would want the caller's variables in memory.
#define PYFIRSTORDER_INLINED __device__ __forceinline__
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
// The blocks of a cluster, on machines that have no such thing a block alone.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define PYFIRSTORDER_ON_CLUSTERS(...) __VA_ARGS__
#else
#define PYFIRSTORDER_ON_CLUSTERS(...)
#endif
PYFIRSTORDER_INLINE int cluster_rank() {
  PYFIRSTORDER_ON_CLUSTERS(unsigned rank; asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
                           return int(rank);)
  return 0;
}
PYFIRSTORDER_INLINE int cluster_size() {
  PYFIRSTORDER_ON_CLUSTERS(unsigned size; asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
                           return int(size);)
  return 1;
}
PYFIRSTORDER_INLINE void sync_cluster() {
  PYFIRSTORDER_ON_CLUSTERS(
      asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" :: : "memory"); return;)
  sync_block();
}
PYFIRSTORDER_KERNEL char* launched_shared() {
  PYFIRSTORDER_ON_DEVICE(extern __shared__ uint4 launched_memory[]; return reinterpret_cast<char*>(launched_memory);)
  return nullptr;
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
PYFIRSTORDER_INLINE uint16_t half_bits(float value) {
  PYFIRSTORDER_ON_DEVICE(return __half_as_ushort(__float2half_rn(value));)
  return uint16_t(value);
}
PYFIRSTORDER_INLINE float of_half_bits(uint16_t bits) {
  PYFIRSTORDER_ON_DEVICE(return __half2float(__ushort_as_half(bits));)
  return float(bits);
}
PYFIRSTORDER_INLINE void multiply_tile(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]) {
  PYFIRSTORDER_ON_DEVICE(asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                                      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" : "+f"(sums[0]),
                                      "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]) : "r"(left[0]), "r"(left[1]),
                                      "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));)
}
// Four tiles of 8 x 8 halves, whose rows lanes 0 to 7, 8 to 15, 16 to 23 and 24 to 31 point at.
PYFIRSTORDER_INLINE void load_matrices(uint32_t (&to)[4], const uint16_t* row) {
  PYFIRSTORDER_ON_DEVICE(asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(to[0]),
                                      "=r"(to[1]), "=r"(to[2]),
                                      "=r"(to[3]) : "r"(unsigned(__cvta_generic_to_shared(row))) : "memory");)
}
PYFIRSTORDER_INLINE void load_left(uint32_t (&to)[4], const uint16_t* tile, int stride) {
  const int lane = thread_index() % kWarp;
  load_matrices(to, tile + lane % 16 * stride + lane / 16 * 8);
}
PYFIRSTORDER_INLINE void load_right(uint32_t (&to)[4], const uint16_t* tiles, int stride) {
  const int lane = thread_index() % kWarp;
  load_matrices(to, tiles + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8);
}
PYFIRSTORDER_INLINE void copy_ahead(void* shared, const void* global, bool inside) {
  PYFIRSTORDER_ON_DEVICE(
      const unsigned to = unsigned(__cvta_generic_to_shared(shared));
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(inside ? 16 : 0));)
}
PYFIRSTORDER_INLINE void end_copies() {
  PYFIRSTORDER_ON_DEVICE(asm volatile("cp.async.commit_group;");)
}
template <int kLater>
PYFIRSTORDER_INLINE void wait_for_copies() {
  PYFIRSTORDER_ON_DEVICE(asm volatile("cp.async.wait_group %0;" ::"n"(kLater));)
}

// Of a node of the graph that this kernel is in.
PYFIRSTORDER_KERNEL void set_condition(uint64_t condition, bool holds) {
#if CUDART_VERSION >= 12040
  PYFIRSTORDER_ON_DEVICE(cudaGraphSetConditional(condition, holds);)
#endif
}

#else

constexpr int kBlockThreads = 64;  // as few as show how warps wait for each other

#define PYFIRSTORDER_SHARED static thread_local
#define PYFIRSTORDER_UNROLLED
#define PYFIRSTORDER_ROLLED
#define PYFIRSTORDER_KERNEL inline
#define PYFIRSTORDER_INLINED inline

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

// A cluster of blocks, and a barrier for all its threads, behind which each sees what the others wrote.
inline int cluster_rank() {
  return fibres::current()->block->rank;
}
inline int cluster_size() {
  return fibres::current()->block->cluster_size;
}
inline void sync_cluster() {
  fibres::wait_for_cluster();
}

// Shared memory beside what a kernel declares, as much as its launch asks for.
inline char* launched_shared() {
  return fibres::current()->block->shared;
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

// The nearest half-precision number, and back.
inline uint16_t half_bits(float value) {
  return fibres::half_bits(value);
}
inline float of_half_bits(uint16_t bits) {
  return fibres::of_half_bits(bits);
}

// sums (16 x 8) += left (16 x 16) · rightᵀ (8 x 16), of halves, by the 32 lanes of a warp, whose shares are those of
// PTX's mma.m16n8k16.
inline void multiply_tile(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]) {
  fibres::multiply_tile(sums, left, right);
}

// A factor of multiply_tile from shared memory, whose rows are so many halves apart and begin on 16 bytes: the left
// one, 16 x 16, or the right ones of two tiles beside each other, two numbers each.
inline void load_left(uint32_t (&to)[4], const uint16_t* tile, int stride) {
  const uint16_t* const row = tile + (thread_index() % kWarp) / 4 * stride + (thread_index() % kWarp) % 4 * 2;
  for (int r = 0; r < 4; ++r) memcpy(&to[r], row + r % 2 * 8 * stride + r / 2 * 8, sizeof to[r]);
}
inline void load_right(uint32_t (&to)[4], const uint16_t* tiles, int stride) {
  const uint16_t* const row = tiles + (thread_index() % kWarp) / 4 * stride + (thread_index() % kWarp) % 4 * 2;
  for (int r = 0; r < 4; ++r) memcpy(&to[r], row + r / 2 * 8 * stride + r % 2 * 8, sizeof to[r]);
}

// 16 bytes from main to shared memory, or zeros, some time before wait_for_copies: it waits for all copies of this
// thread but those of the last kLater groups, each of which ends with end_copies.
inline void copy_ahead(void* shared, const void* global, bool inside) {
  fibres::copy_ahead(shared, global, inside);
}
inline void end_copies() {
  fibres::end_copies();
}
template <int kLater>
inline void wait_for_copies() {
  fibres::wait_for_copies(kLater);
}

// The condition is the address of a number.
inline void set_condition(uint64_t condition, bool holds) {
  *reinterpret_cast<uint64_t*>(uintptr_t(condition)) = holds;
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
