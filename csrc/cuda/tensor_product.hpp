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
// shared memory while the ones before are multiplied; their rows are 48 bytes apart, so that eight of them, which a
// warp reads at once, lie in all 32 banks.
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

// Of a piece of the depth both factors' rows: high halves, then low ones.
template <int kParts>
struct alignas(16) Pieces {  // copied 16 bytes at a time
  uint16_t left[kParts][kTensorRows][kPieceStride];
  uint16_t right[kParts][kTensorColumns][kPieceStride];
};

// The chunks of eight halves that a thread copies of every piece of a factor's rows: where they begin, which is found
// before the first piece.  Rows end in zeros up to whole pieces.
template <int kParts, int kRows>
class Chunks {
 public:
  // `row_at(i)` is the factor's row in place i of the piece, negative where there is none.
  template <class RowAt>
  PYFIRSTORDER_INLINE Chunks(const Halves& from, RowAt row_at) : high_(from.high), low_(from.low) {
    PYFIRSTORDER_UNROLLED
    for (int i = 0; i < kOwn; ++i) {
      const int64_t row = row_at(place(i));
      inside_[i] = row >= 0;
      offsets_[i] = (inside_[i] ? row * from.stride : 0) + half();
    }
  }

  // Those of the next piece.
  PYFIRSTORDER_INLINE void copy(uint16_t (&to)[kParts][kRows][kPieceStride]) {
    PYFIRSTORDER_UNROLLED
    for (int i = 0; i < kOwn; ++i) {
      PYFIRSTORDER_UNROLLED
      for (int part = 0; part < kParts; ++part)
        copy_ahead(&to[part][place(i)][half()], (part == 0 ? high_ : low_) + offsets_[i], inside_[i]);
      offsets_[i] += kTileSize;
    }
  }

 private:
  static_assert(2 * kRows % kBlockThreads == 0, "each thread copies as many");
  static constexpr int kOwn = 2 * kRows / kBlockThreads;

  static PYFIRSTORDER_INLINE int place(int i) { return (thread_index() + i * kBlockThreads) / 2; }
  static PYFIRSTORDER_INLINE int half() { return thread_index() % 2 * 8; }

  const uint16_t *high_, *low_;
  int64_t offsets_[kOwn];
  bool inside_[kOwn];
};

template <int kTerms>
struct TensorProduct {
  static constexpr int kParts = kTerms == 1 ? 1 : 2;  // halves of a number that are used
  static constexpr int kStages = 4 / kParts;          // pieces in shared memory, all but one of them under way

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
    if (job.rows.count() <= first_row) return;
    const int rows = int(job.rows.count() - first_row);
    PYFIRSTORDER_SHARED Pieces<kParts> pieces[kStages];
    const auto row_at = [&](int i) { return i < rows ? job.rows.at(first_row + i) : -1; };
    const auto column_at = [&](int i) { return first_column + i < job.columns ? first_column + i : -1; };
    Chunks<kParts, kTensorRows> left(job.left, row_at);
    Chunks<kParts, kTensorColumns> right(job.right, column_at);
    const int count = int((job.depth + kTileSize - 1) / kTileSize);
    const auto copy = [&](int piece) {
      if (piece < count) {
        left.copy(pieces[piece % kStages].left);
        right.copy(pieces[piece % kStages].right);
      }
      end_copies();  // so that groups are counted alike to the end
    };
    PYFIRSTORDER_UNROLLED
    for (int piece = 0; piece < kStages - 1; ++piece) copy(piece);
    float sums[kWarpTilesDown][kWarpTilesAcross][4] = {};
    for (int piece = 0; piece < count; ++piece) {
      wait_for_copies<kStages - 2>();
      sync_block();  // this piece is there for all, and all have read the one whose place is filled next
      copy(piece + kStages - 1);
      multiply(pieces[piece % kStages], rows, sums);
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

  static PYFIRSTORDER_KERNEL void multiply(const Pieces<kParts>& pieces, int rows,
                                           float (&sums)[kWarpTilesDown][kWarpTilesAcross][4]) {
    uint32_t right[kParts][kWarpTilesAcross][2];
    PYFIRSTORDER_UNROLLED
    for (int part = 0; part < kParts; ++part) PYFIRSTORDER_UNROLLED
    for (int j = 0; j < kWarpTilesAcross; j += 2) {
      uint32_t both[4];
      load_right(both, pieces.right[part][first_column_of_warp() + kTileWidth * j], kPieceStride);
      PYFIRSTORDER_UNROLLED
      for (int c = 0; c < 4; ++c) right[part][j + c / 2][c % 2] = both[c];
    }
    PYFIRSTORDER_UNROLLED
    for (int i = 0; i < kWarpTilesDown; ++i) {
      const int row = first_row_of_warp() + kTileSize * i;
      if (row >= rows) continue;  // the same in all lanes
      uint32_t left[kParts][4];
      PYFIRSTORDER_UNROLLED
      for (int part = 0; part < kParts; ++part) load_left(left[part], pieces.left[part][row], kPieceStride);
      PYFIRSTORDER_UNROLLED
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
