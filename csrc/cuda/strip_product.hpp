// Products of few rows, for warps that take eight or 32 columns of them each: the sums of TensorProduct and of Product,
// in the same order and so with the same bits.
//
// Where rows are few, a tile of the large products would leave most of a block idle.  Here nothing passes through
// shared memory on its way: what a warp reads of a factor serves no other warp of the block.
#pragma once

#include "space.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// Rows of a live list that are multiplied together: from `first` on, as many as there are up to most().
template <class T>
struct RowTile {
  static PYFIRSTORDER_INLINE constexpr int most() { return kHasHalves<T> ? kTileSize : 8; }

  int64_t first;
  int count;
};

// Columns of a matrix in halves from `first` on, and where their first row of halves lies.
struct Columns {
  int64_t first;
  const uint16_t *high, *low;
  int64_t stride;
};

PYFIRSTORDER_INLINE Columns columns_from(const Halves& right, int64_t first) {
  return {first, right.high + first * right.stride, right.low + first * right.stride, right.stride};
}

// kTileWidth columns, of float32.
template <int kTerms>
struct TensorStrip {
  using Tensor = TensorProduct<kTerms>;
  static constexpr int kParts = Tensor::kParts;
  static constexpr int kAhead = 4;  // pieces of the depth that are under way from memory at once

  static PYFIRSTORDER_KERNEL void run(const TensorJob& job, const RowTile<float>& tile, const Columns& columns) {
    const int own = lane() / 4, at = lane() % 4 * 2;
    const bool has_column = columns.first + own < job.columns;
    const uint16_t* left[kParts][2];
    const uint16_t* right[kParts];
    bool has_row[2];
    for (int r = 0; r < 2; ++r) {
      has_row[r] = own + 8 * r < tile.count;
      const int64_t row = has_row[r] ? job.rows.at(tile.first + own + 8 * r) : 0;
      for (int part = 0; part < kParts; ++part)
        left[part][r] = (part ? job.left.low : job.left.high) + row * job.left.stride + at;
    }
    for (int part = 0; part < kParts; ++part)
      right[part] = (part ? columns.low : columns.high) + (has_column ? own : 0) * columns.stride + at;
    float sums[4] = {};
    for (int64_t k = 0; k < job.depth; k += kAhead * kTileSize) {
      uint32_t rows[kAhead][kParts][4], matrix[kAhead][kParts][1][2];
      PYFIRSTORDER_UNROLLED
      for (int ahead = 0; ahead < kAhead; ++ahead) PYFIRSTORDER_UNROLLED
      for (int part = 0; part < kParts; ++part) PYFIRSTORDER_UNROLLED
      for (int r = 0; r < 2; ++r) {
        const int64_t depth = k + ahead * kTileSize;
        const bool inside = depth < job.depth;  // and then up to the end of the padding
        matrix[ahead][part][0][r] = pair(right[part] + depth + 8 * r, inside && has_column);
        for (int down = 0; down < 2; ++down)
          rows[ahead][part][2 * r + down] = pair(left[part][down] + depth + 8 * r, inside && has_row[down]);
      }
      PYFIRSTORDER_UNROLLED
      for (int ahead = 0; ahead < kAhead; ++ahead)
        if (k + ahead * kTileSize < job.depth) Tensor::add_tile(rows[ahead], matrix[ahead], 0, sums);
    }
    store_strip<1>(job, tile.first, columns.first, [&](int, int c) -> float& { return sums[c]; });
  }

 private:
  static PYFIRSTORDER_KERNEL uint32_t pair(const uint16_t* at, bool inside) {
    uint32_t both = 0;
    if (inside) both = *reinterpret_cast<const uint32_t*>(at);  // rows of halves begin on whole vectors
    return both;
  }
};

// A column for each lane, of float64.
template <class T>
struct ChainStrip {
  static PYFIRSTORDER_KERNEL void run(const ProductJob<T>& job, const RowTile<T>& tile, int64_t first_column) {
    constexpr int kRows = RowTile<T>::most();
    const int64_t column = first_column + lane();  // of the padding, at most
    const T* x[kRows];
    T sums[kRows];
    PYFIRSTORDER_UNROLLED
    for (int i = 0; i < kRows; ++i) {
      x[i] = row_of(job.x, job.rows.at(tile.first + (i < tile.count ? i : 0)));
      sums[i] = job.start ? job.start[column] : T(0);
    }
    for (int64_t k = 0; k < job.matrix.depth; ++k) {
      const T factor = job.matrix.data[k * job.matrix.stride + column];
      PYFIRSTORDER_UNROLLED
      for (int i = 0; i < kRows; ++i) sums[i] = fma(x[i][k], factor, sums[i]);
    }
    PYFIRSTORDER_UNROLLED
    for (int i = 0; i < kRows; ++i)
      if (i < tile.count) row_of(job.c, job.rows.at(tile.first + i))[column] = sums[i];
  }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
