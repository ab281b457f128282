// What a kernel asks of a Hopper GPU beyond threads.hpp: products by four warps together (wgmma), boxes of a matrix
// that the copy engine brings to shared memory (TMA), and barriers that count arrivals and bytes (mbarrier).
//
// Both factors of a product lie in shared memory as boxes: rows of 64 halves, 128 bytes, whose 16-byte chunks are
// exchanged within every eight rows (`swizzled`), so that reading a column of chunks meets all banks.  A box begins at
// a multiple of 1,024 bytes, because the exchange follows the bits of the address.  Source: PTX ISA 8.0, "Asynchronous
// Warpgroup Level Matrix Multiply-Accumulate Instructions" and "Tensors".
#pragma once

#include "threads.hpp"

#if defined(__CUDACC__)
#include <cuda.h>  // of which the type of a map is used, and no function
#else
#include "hopper_fibres.hpp"
#endif

namespace pyfirstorder::PYFIRSTORDER_TARGET {

constexpr int kWarpGroup = 128;                                   // threads that multiply together
constexpr int kWideRows = 64, kWideColumns = 128, kDepth = 16;    // of what they multiply
constexpr int kWideSums = kWideRows * kWideColumns / kWarpGroup;  // of a thread
constexpr int kBoxRows = 128, kBoxDepth = 64, kBoxAlignment = 1024;
constexpr int kChunk = 8;  // halves that are copied together, 16 bytes

struct alignas(kBoxAlignment) Box {
  uint16_t halves[kBoxRows][kBoxDepth];
};

// Where a chunk of a row lies in the row.
PYFIRSTORDER_INLINE int swizzled(int row, int chunk) {
  return chunk ^ row % 8;
}

#if defined(__CUDACC__)

using SharedBarrier = uint64_t;
using MatrixMap = CUtensorMap;

PYFIRSTORDER_INLINE unsigned shared_address(const void* shared) {
  PYFIRSTORDER_ON_DEVICE(return unsigned(__cvta_generic_to_shared(shared));)
  return 0;
}
PYFIRSTORDER_KERNEL char* boxes() {
  char* const memory = launched_shared();
  return memory + (kBoxAlignment - shared_address(memory) % kBoxAlignment) % kBoxAlignment;
}
PYFIRSTORDER_INLINE void begin_barrier(SharedBarrier& barrier, int arrivals) {
  PYFIRSTORDER_ON_DEVICE(asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)),
                                      "r"(arrivals) : "memory");)
}
PYFIRSTORDER_INLINE void show_barriers() {
  PYFIRSTORDER_ON_DEVICE(asm volatile("fence.mbarrier_init.release.cluster;" :: : "memory");
                         asm volatile("fence.proxy.async.shared::cta;" :: : "memory");)
}
PYFIRSTORDER_INLINE void arrive(SharedBarrier& barrier) {
  PYFIRSTORDER_ON_DEVICE(
      asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");)
}
PYFIRSTORDER_INLINE void arrive_and_expect(SharedBarrier& barrier, int bytes) {
  PYFIRSTORDER_ON_DEVICE(
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)),
                   "r"(bytes) : "memory");)
}
PYFIRSTORDER_INLINE void wait_for_phase(SharedBarrier& barrier, int parity) {
  PYFIRSTORDER_ON_DEVICE(unsigned over = 0;
                         do asm volatile("{ .reg .pred over; mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2; "
                                         "selp.u32 %0, 1, 0, over; }" : "=r"(over) : "r"(shared_address(&barrier)),
                                         "r"(parity) : "memory");
                         while (!over);)
}
PYFIRSTORDER_INLINE void copy_box_ahead(Box& to, const MatrixMap& from, int64_t row, int64_t at,
                                        SharedBarrier& barrier) {
  PYFIRSTORDER_ON_DEVICE(asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                                      "[%0], [%1, {%2, %3}], [%4];" ::"r"(shared_address(&to)),
                                      "l"(&from), "r"(int(at)), "r"(int(row)),
                                      "r"(shared_address(&barrier)) : "memory");)
}
PYFIRSTORDER_INLINE void show_to_tensor_cores() {
  PYFIRSTORDER_ON_DEVICE(asm volatile("fence.proxy.async.shared::cta;" :: : "memory");)
}

// A factor of a product, as the instruction takes it: the address, 1,024 bytes from eight rows to the next, the
// exchange of chunks within 128 bytes.
PYFIRSTORDER_INLINE uint64_t describe(const uint16_t* in_box) {
  constexpr uint64_t kEightRows = uint64_t(8 * kBoxDepth * sizeof(uint16_t) / 16) << 32, kExchange128 = 1ull << 62;
  return uint64_t(shared_address(in_box) >> 4 & 0x3FFF) | 1ull << 16 | kEightRows | kExchange128;
}
PYFIRSTORDER_INLINE void begin_products() {
  PYFIRSTORDER_ON_DEVICE(asm volatile("wgmma.fence.sync.aligned;" :: : "memory");)
}
PYFIRSTORDER_INLINE void end_products() {
  PYFIRSTORDER_ON_DEVICE(asm volatile("wgmma.commit_group.sync.aligned;" :: : "memory");)
}
template <int kLater>
PYFIRSTORDER_INLINE void wait_for_products() {
  PYFIRSTORDER_ON_DEVICE(asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLater) : "memory");)
}
template <bool kFromZero>
PYFIRSTORDER_INLINE void multiply_wide(float (&d)[kWideSums], uint64_t left, uint64_t right) {
#if defined(__CUDA_ARCH__)
  asm volatile(
      "{ .reg .pred adds; setp.ne.b32 adds, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,"
      "%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,"
      "%57,%58,%59,%60,%61,%62,%63}, %64, %65, adds, 1, 1, 0, 0; }"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]),
        "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]),
        "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
        "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),
        "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
      : "l"(left), "l"(right), "n"(kFromZero ? 0 : 1));
#endif
}

#else

using SharedBarrier = fibres::Barrier;
using MatrixMap = fibres::MatrixMap;

// Where boxes begin in shared memory beside what the kernel declares.
inline char* boxes() {
  return fibres::boxes();
}

// A barrier's phase is over when so many threads have arrived and the bytes that they expect have come.  Phases are
// even and odd in turn, and the first is even: waiting for an odd one before it returns at once.
inline void begin_barrier(SharedBarrier& barrier, int arrivals) {
  barrier.begin(arrivals);
}
// After barriers were begun, before others learn of them.
inline void show_barriers() {}
inline void arrive(SharedBarrier& barrier) {
  barrier.arrive(0);
}
inline void arrive_and_expect(SharedBarrier& barrier, int bytes) {
  barrier.arrive(bytes);
}
inline void wait_for_phase(SharedBarrier& barrier, int parity) {
  barrier.wait(parity);
}

// A box that begins at that row and depth of a matrix, zeros outside of it, some time before the barrier's phase ends.
inline void copy_box_ahead(Box& to, const MatrixMap& from, int64_t row, int64_t at, SharedBarrier& barrier) {
  barrier.bring(&to, from, row, at);
}

// What this thread wrote, or waited for, is seen by tensor cores once others know that it is there.
inline void show_to_tensor_cores() {
  fibres::show_to_tensor_cores();
}

inline uint64_t describe(const uint16_t* in_box) {
  return fibres::describe(in_box);
}

// Products between `begin` and `end`, which also part them from what else uses their sums; waiting leaves the last
// kLater such groups under way.  Until then neither factors nor sums may be touched.
inline void begin_products() {}
inline void end_products() {
  fibres::end_products();
}
template <int kLater>
inline void wait_for_products() {
  fibres::wait_for_products(kLater);
}

// sums (64 x 128) = left (64 x 16) · rightᵀ (128 x 16), or what they were and that; by a warp group whose shares are
// those of PTX's wgmma.m64n128k16: warp w holds rows 16 w to 16 w + 15, in 16 tiles of mma.m16n8k16.
template <bool kFromZero>
inline void multiply_wide(float (&sums)[kWideSums], uint64_t left, uint64_t right) {
  fibres::multiply_wide(sums, left, right, kFromZero);
}

#endif

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
