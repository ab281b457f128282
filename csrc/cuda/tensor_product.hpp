// The product of rows with a matrix on tensor cores: C (rows x columns) = start + X (rows x depth) · matrix, in
// float32.
//
// Both factors come as halves (halves.hpp).  Of the product of two sums of halves,
//
//   (h + l) (h' + l') = h h' + h l' + l h' + l l',
//
// three terms give what float32 can hold, and the first alone 11 bits: kTerms.  A block computes kTensorRows x
// kTensorColumns elements, a warp 64 x 32 of them, in tiles of 16 x 8 whose sums over 16 of the depth tensor cores
// form.  Those sums they cut off; with three terms the sum of them is made outside, and rounded.  The order is the
// same for every element, so a row's result does not depend on its neighbours.  Pieces of X and the matrix come to
// shared memory while the ones before are multiplied; their rows are 48 bytes apart, so that the 32 lanes of a warp
// read from all 32 banks.
#pragma once

#include "halves.hpp"
#include "live_rows.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

constexpr int kTileSize = 16, kTileWidth = 8;            // rows and depth, and columns, of what tensor cores multiply
constexpr int kWarpTilesDown = 4, kWarpTilesAcross = 4;  // of a warp
constexpr int kWarpsDown = 2, kWarpsAcross = kBlockWarps / kWarpsDown;
constexpr int kTensorRows = kTileSize * kWarpTilesDown * kWarpsDown;
constexpr int kTensorColumns = kTileWidth * kWarpTilesAcross * kWarpsAcross;
constexpr int kPieceStride = 24;  // 16 halves and a gap

struct TensorJob {
  Halves left;  // rows of X
  LiveRows rows;
  Halves right;  // columns of the matrix
  int64_t depth, columns;
  Rows<const float> start;  // null for zero; stride 0 for the same values in all rows
  Rows<float> c;
};

// Stores a strip of 16 rows by a warp: tiles beside each other as tensor cores hold them, lane 4 i + j the columns 2 j
// and 2 j + 1 of rows i and i + 8.  `sum(tile, number)` is one of this thread's.  All that is read is read before
// anything is written: loads that wait for stores would wait for memory 32 times.  The padding of rows is zero.
template <int kTilesAcross, class Sum>
PYFIRSTORDER_KERNEL void store_strip(const TensorJob& job, int64_t first_place, int64_t first_column, Sum sum) {
  struct alignas(8) Pair {
    float numbers[2];
  };
  const int64_t column = first_column + lane() % 4 * 2;
  const int columns = int(job.columns - column), width = int(job.c.stride - column);
  const int32_t* const of_columns = job.right.exponent + column;
  PYFIRSTORDER_UNROLLED
  for (int r = 0; r < 2; ++r) {
    const int64_t place = first_place + lane() / 4 + 8 * r;
    if (place >= job.rows.count()) continue;
    const int64_t row = job.rows.at(place);
    const int of_row = job.left.exponent[row];
    const float* const start = job.start.data ? row_of(job.start, row) + column : nullptr;
    PYFIRSTORDER_UNROLLED
    for (int j = 0; j < kTilesAcross; ++j) PYFIRSTORDER_UNROLLED
    for (int c = 0; c < 2; ++c) {
      const int at = kTileWidth * j + c;
      float& value = sum(j, 2 * r + c);
      value = at < columns ? times_power_of_two(value, of_row + of_columns[at]) : 0;
      if (start && at < columns) value = start[at] + value;
    }
    float* const to = row_of(job.c, row) + column;
    PYFIRSTORDER_UNROLLED
    for (int j = 0; j < kTilesAcross; ++j)
      if (kTileWidth * j < width) *reinterpret_cast<Pair*>(to + kTileWidth * j) = {{sum(j, 2 * r), sum(j, 2 * r + 1)}};
  }
}

// Pieces of both factors: high halves, then low ones.
struct alignas(16) Pieces {  // copied 16 bytes at a time
  uint16_t left[2][kTensorRows][kPieceStride];
  uint16_t right[2][kTensorColumns][kPieceStride];
};

template <int kTerms>
struct TensorProduct {
  static constexpr int kParts = kTerms == 1 ? 1 : 2;  // halves of a number that are used

  static int64_t blocks(const TensorJob& job) { return row_tiles(job) * column_tiles(job); }

  static PYFIRSTORDER_INLINE int64_t row_tiles(const TensorJob& job) {
    return (job.rows.most + kTensorRows - 1) / kTensorRows;
  }
  static PYFIRSTORDER_INLINE int64_t column_tiles(const TensorJob& job) {
    return (job.columns + kTensorColumns - 1) / kTensorColumns;
  }

  static PYFIRSTORDER_KERNEL void run(const TensorJob& job) {
    // neighbouring blocks share columns of the matrix
    const int64_t first_row = block_index() % row_tiles(job) * kTensorRows;
    const int64_t first_column = block_index() / row_tiles(job) * kTensorColumns;
    const int64_t rows = job.rows.count() - first_row;
    if (rows <= 0) return;
    PYFIRSTORDER_SHARED Pieces pieces[2];
    float sums[kWarpTilesDown][kWarpTilesAcross][4] = {};
    load_pieces(job, first_row, first_column, 0, pieces[0]);
    int at = 0;
    for (int64_t k = 0; k < job.depth; k += kTileSize, at = 1 - at) {
      if (k + kTileSize < job.depth) load_pieces(job, first_row, first_column, k + kTileSize, pieces[1 - at]);
      else end_copies();
      wait_for_copies<1>();
      sync_block();
      multiply(pieces[at], rows, sums);
      sync_block();
    }
    PYFIRSTORDER_UNROLLED
    for (int i = 0; i < kWarpTilesDown; ++i)
      store_strip<kWarpTilesAcross>(job, first_row + first_row_of_warp() + kTileSize * i,
                                    first_column + first_column_of_warp(),
                                    [&](int j, int c) -> float& { return sums[i][j][c]; });
  }

 private:
  template <int>
  friend struct TensorStrip;  // adds the same tiles

  static PYFIRSTORDER_INLINE int first_row_of_warp() {
    return warp_of_block() % kWarpsDown * kWarpTilesDown * kTileSize;
  }
  static PYFIRSTORDER_INLINE int first_column_of_warp() {
    return warp_of_block() / kWarpsDown * kWarpTilesAcross * kTileWidth;
  }

  // Zeros where there are no rows, columns or depth.
  static PYFIRSTORDER_KERNEL void load_pieces(const TensorJob& job, int64_t first_row, int64_t first_column, int64_t k,
                                              Pieces& to) {
    for (int i = thread_index(); i < 2 * kTensorRows; i += kBlockThreads) {
      const int64_t place = first_row + i / 2, at = k + i % 2 * 8;
      const bool inside = place < job.rows.count() && at < job.depth;
      load_chunk(job.left, inside ? job.rows.at(place) : 0, inside ? at : 0, inside, to.left, i);
    }
    for (int i = thread_index(); i < 2 * kTensorColumns; i += kBlockThreads) {
      const int64_t column = first_column + i / 2, at = k + i % 2 * 8;
      const bool inside = column < job.columns && at < job.depth;
      load_chunk(job.right, inside ? column : 0, inside ? at : 0, inside, to.right, i);
    }
    end_copies();
  }

  // Eight halves of a row.
  template <int kRows>
  static PYFIRSTORDER_KERNEL void load_chunk(const Halves& from, int64_t row, int64_t at, bool inside,
                                             uint16_t (&to)[2][kRows][kPieceStride], int i) {
    copy_ahead(&to[0][i / 2][i % 2 * 8], from.high + row * from.stride + at, inside);
    if (kParts == 2) copy_ahead(&to[1][i / 2][i % 2 * 8], from.low + row * from.stride + at, inside);
  }

  // Two neighbours of a row of a piece, as tensor cores take them.
  static PYFIRSTORDER_KERNEL uint32_t pair(const uint16_t (&row)[kPieceStride], int at) {
    uint32_t both;
    memcpy(&both, &row[at], sizeof both);
    return both;
  }

  static PYFIRSTORDER_KERNEL void multiply(const Pieces& pieces, int64_t rows,
                                           float (&sums)[kWarpTilesDown][kWarpTilesAcross][4]) {
    const int row = first_row_of_warp() + lane() / 4, column = first_column_of_warp() + lane() / 4, at = lane() % 4 * 2;
    uint32_t right[kParts][kWarpTilesAcross][2];
    for (int part = 0; part < kParts; ++part)
      for (int j = 0; j < kWarpTilesAcross; ++j)
        for (int r = 0; r < 2; ++r) right[part][j][r] = pair(pieces.right[part][column + kTileWidth * j], at + 8 * r);
    PYFIRSTORDER_UNROLLED
    for (int i = 0; i < kWarpTilesDown; ++i) {
      if (first_row_of_warp() + kTileSize * i >= rows) continue;  // the same in all lanes
      uint32_t left[kParts][4];
      for (int part = 0; part < kParts; ++part)
        for (int r = 0; r < 4; ++r)
          left[part][r] = pair(pieces.left[part][row + kTileSize * i + r % 2 * 8], at + r / 2 * 8);
      for (int j = 0; j < kWarpTilesAcross; ++j) add_tile(left, right, j, sums[i][j]);
    }
  }

  template <int kAcross>
  static PYFIRSTORDER_KERNEL void add_tile(const uint32_t (&left)[kParts][4],
                                           const uint32_t (&right)[kParts][kAcross][2], int j, float (&sums)[4]) {
    if (kTerms == 1) return multiply_tile(sums, left[0], right[0][j]);
    float tile[4] = {};
    multiply_tile(tile, left[kParts - 1], right[0][j]);
    multiply_tile(tile, left[0], right[kParts - 1][j]);
    multiply_tile(tile, left[0], right[0][j]);
    for (int c = 0; c < 4; ++c) sums[c] += tile[c];
  }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
