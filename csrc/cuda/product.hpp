// The product of rows with a matrix, for blocks of threads: C (rows x columns) = start + X (rows x depth) · matrix.
//
// Of float64; those of float32 are made by tensor cores (tensor_product.hpp).  A block computes kTileRows x
// kTileColumns elements, a warp 8 rows of them, a thread 4 columns of those.  Pieces of X and of the matrix lie in
// shared memory.  Every element is one chain of fused multiply-adds over the depth in ascending order, beginning at its
// start value, so a row's result does not depend on its neighbours.
#pragma once

#include "engine.hpp"
#include "live_rows.hpp"
// after the words that it is written in
#include "../rows/arena.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

constexpr int kWarpRows = 8, kThreadColumns = 4;
constexpr int kTileRows = kWarpRows * kBlockWarps, kTileColumns = kThreadColumns * kWarp;
constexpr int kTileDepth = 16;              // of the pieces in shared memory
constexpr int kLeftStride = kTileRows + 2;  // so that neighbouring threads, who store at 16 depths, meet in few banks

// A matrix in main memory of the device, row by row; `stride` numbers apart, padded with zeros to whole vectors.  For
// tensor cores its columns, in halves; one of the two may be missing.
template <class T>
struct Matrix {
  const T* data;
  int64_t depth, columns, stride;
  cuda::Halves halves;
};

template <class T>
struct ProductJob {
  Rows<T> x;
  LiveRows rows;
  Matrix<T> matrix;
  const T* start;  // one value per column, padded; null for zero
  Rows<T> c;
};

// What a thread brings to shared memory of every piece of the depth, found before the first one: of some rows of X a
// number each, all at one depth, and of one column of the matrix, or some, every few numbers.
template <class T>
class Fetcher {
 public:
  PYFIRSTORDER_INLINE Fetcher(const ProductJob<T>& job, int64_t first_row, int64_t first_column)
      : matrix_(job.matrix.data + down() * job.matrix.stride + first_column + across()), stride_(job.matrix.stride) {
    columns_ = int(min_of(job.matrix.stride - first_column, kTileColumns));
    PYFIRSTORDER_UNROLLED
    for (int i = 0; i < kOwnRows; ++i) {
      const int64_t place = first_row + row(i);
      x_[i] = place < job.rows.count() ? row_of(job.x, job.rows.at(place)) + at() : nullptr;
    }
  }

  // The next piece, of which `depth` are left; zeros where there are no rows or columns.
  PYFIRSTORDER_INLINE void fetch(int64_t depth, T (&left)[kTileDepth][kLeftStride],
                                 T (&right)[kTileDepth][kTileColumns]) {
    PYFIRSTORDER_UNROLLED
    for (int i = 0; i < kOwnRows; ++i) {
      left[at()][row(i)] = x_[i] && at() < depth ? *x_[i] : T(0);
      if (x_[i]) x_[i] += kTileDepth;
    }
    PYFIRSTORDER_UNROLLED
    for (int i = 0; i < kTileDepth; i += kDown) {
      PYFIRSTORDER_UNROLLED
      for (int j = 0; j < kTileColumns; j += kAcross)
        right[down() + i][across() + j] = down() + i < depth && across() + j < columns_ ? matrix_[j] : T(0);
      matrix_ += kDown * stride_;
    }
  }

 private:
  static constexpr int kOwnRows = kTileRows * kTileDepth / kBlockThreads;
  static constexpr int kAcross = kBlockThreads < kTileColumns ? kBlockThreads : kTileColumns;  // threads at one depth
  static constexpr int kDown = kBlockThreads / kAcross;

  static PYFIRSTORDER_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
  static PYFIRSTORDER_INLINE int at() { return thread_index() % kTileDepth; }
  static PYFIRSTORDER_INLINE int row(int i) { return thread_index() / kTileDepth + i * (kBlockThreads / kTileDepth); }
  static PYFIRSTORDER_INLINE int across() { return thread_index() % kAcross; }
  static PYFIRSTORDER_INLINE int down() { return thread_index() / kAcross; }

  const T* x_[kOwnRows];
  const T* matrix_;
  int64_t stride_;
  int columns_;
};

template <class T>
struct Product {
  static int64_t blocks(const ProductJob<T>& job) { return row_tiles(job) * column_tiles(job); }

  static PYFIRSTORDER_INLINE int64_t row_tiles(const ProductJob<T>& job) {
    return (job.rows.most + kTileRows - 1) / kTileRows;
  }
  static PYFIRSTORDER_INLINE int64_t column_tiles(const ProductJob<T>& job) {
    return (job.matrix.columns + kTileColumns - 1) / kTileColumns;
  }

  static PYFIRSTORDER_KERNEL void run(const ProductJob<T>& job) {
    // neighbouring blocks share columns of the matrix
    const int64_t first_row = block_index() % row_tiles(job) * kTileRows;
    const int64_t first_column = block_index() / row_tiles(job) * kTileColumns;
    const int64_t rows = job.rows.count();
    if (first_row >= rows) return;
    PYFIRSTORDER_SHARED T left[kTileDepth][kLeftStride];
    PYFIRSTORDER_SHARED T right[kTileDepth][kTileColumns];
    const int64_t column = first_column + kThreadColumns * lane();
    T sums[kWarpRows][kThreadColumns];
    for (int j = 0; j < kThreadColumns; ++j) {
      const T start = job.start && column + j < job.matrix.stride ? job.start[column + j] : T(0);
      for (int i = 0; i < kWarpRows; ++i) sums[i][j] = start;
    }
    Fetcher<T> fetcher(job, first_row, first_column);
    for (int64_t k = 0; k < job.matrix.depth; k += kTileDepth) {
      fetcher.fetch(job.matrix.depth - k, left, right);
      sync_block();
      const int depth = job.matrix.depth - k < kTileDepth ? int(job.matrix.depth - k) : kTileDepth;
      PYFIRSTORDER_ROLLED  // four of them at once would not fit some processors' registers
      for (int at = 0; at < depth; ++at) add(left[at], right[at], sums);
      sync_block();
    }
    for (int i = 0; i < kWarpRows; ++i) {
      const int64_t place = first_row + kWarpRows * warp_of_block() + i;
      if (place >= rows) break;
      T* const c = row_of(job.c, job.rows.at(place));
      for (int j = 0; j < kThreadColumns; ++j)
        if (column + j < job.c.stride) c[column + j] = sums[i][j];
    }
  }

 private:
  static PYFIRSTORDER_KERNEL void add(const T (&left)[kLeftStride], const T (&right)[kTileColumns],
                                      T (&sums)[kWarpRows][kThreadColumns]) {
    for (int i = 0; i < kWarpRows; ++i)
      for (int j = 0; j < kThreadColumns; ++j)
        sums[i][j] = fma(left[kWarpRows * warp_of_block() + i], right[kThreadColumns * lane() + j], sums[i][j]);
  }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
