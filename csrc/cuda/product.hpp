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
constexpr int kTileDepth = 16;  // of the pieces in shared memory: 12 KiB of floats

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
    PYFIRSTORDER_SHARED T left[kTileDepth][kTileRows];
    PYFIRSTORDER_SHARED T right[kTileDepth][kTileColumns];
    const int64_t column = first_column + kThreadColumns * lane();
    T sums[kWarpRows][kThreadColumns];
    for (int j = 0; j < kThreadColumns; ++j) {
      const T start = job.start && column + j < job.matrix.stride ? job.start[column + j] : T(0);
      for (int i = 0; i < kWarpRows; ++i) sums[i][j] = start;
    }
    for (int64_t k = 0; k < job.matrix.depth; k += kTileDepth) {
      load_pieces(job, first_row, first_column, k, left, right);
      sync_block();
      const int64_t depth = job.matrix.depth - k < kTileDepth ? job.matrix.depth - k : kTileDepth;
      for (int at = 0; at < depth; ++at)
        for (int i = 0; i < kWarpRows; ++i)
          for (int j = 0; j < kThreadColumns; ++j)
            sums[i][j] =
                fma(left[at][kWarpRows * warp_of_block() + i], right[at][kThreadColumns * lane() + j], sums[i][j]);
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
  // Zeros where there are no rows or columns.
  static PYFIRSTORDER_KERNEL void load_pieces(const ProductJob<T>& job, int64_t first_row, int64_t first_column,
                                              int64_t k, T (&left)[kTileDepth][kTileRows],
                                              T (&right)[kTileDepth][kTileColumns]) {
    for (int i = thread_index(); i < kTileDepth * kTileRows; i += kBlockThreads) {
      const int64_t place = first_row + i / kTileDepth, at = k + i % kTileDepth;
      const bool inside = place < job.rows.count() && at < job.matrix.depth;
      left[i % kTileDepth][i / kTileDepth] = inside ? row_of(job.x, job.rows.at(place))[at] : T(0);
    }
    for (int i = thread_index(); i < kTileDepth * kTileColumns; i += kBlockThreads) {
      const int64_t at = k + i / kTileColumns, column = first_column + i % kTileColumns;
      const bool inside = at < job.matrix.depth && column < job.matrix.stride;
      right[i / kTileColumns][i % kTileColumns] = inside ? job.matrix.data[at * job.matrix.stride + column] : T(0);
    }
  }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
