// The product of a tile of rows with a packed matrix: C (rows x columns) = start + X (rows x depth) · matrix.
//
// Every element is one chain of fused multiply-adds over the depth in ascending order, beginning at its start value,
// whatever the shape of the kernel that computes it: so a row's result does not depend on its neighbours.  Few rows
// take several panels at once, to have enough independent chains to hide the latency of the multiply-add.
#pragma once

#include "crew.hpp"
#include "panels.hpp"
#include "simd.hpp"
// after the words that it is written in
#include "../rows/arena.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// The rows of a tile are read once for every panel, so the part of them that one pass over the panels needs stays in
// the second cache; panels are read once and come from further away, so each is fetched while the one before is in use.
constexpr int64_t kRowsInCache = 256 << 10;  // bytes
constexpr int kSecondCache = 2;              // locality of a prefetch

struct Prefetch {
  const char* from;
  int64_t pace;
};

// ROWS rows x COUNT panels of VECTORS vectors, all in registers, over `depth` rows of panels that are `panel_depth`
// deep.  On the way it fetches a share of the next panel into the second cache: `pace` bytes a line that it reads.
template <class T, int ROWS, int COUNT, int VECTORS>
[[gnu::noinline]] void product_kernel(Rows<const T> x, const T* panel, int64_t panel_depth, int64_t depth,
                                      Prefetch ahead, Rows<const T> start, Rows<T> c) {
  using V = Vec<T>;
  constexpr int64_t kWidth = VECTORS * lanes<T>();
  constexpr int64_t kRowBytes = COUNT * kWidth * int64_t(sizeof(T));
  V sums[ROWS][COUNT * VECTORS];
  for (int row = 0; row < ROWS; ++row)
    for (int j = 0; j < COUNT * VECTORS; ++j)
      sums[row][j] = start.data ? load(start.data + row * start.stride + j * lanes<T>()) : V{};

  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t line = 0; line < kRowBytes; line += kCacheLine, ahead.from += ahead.pace)
      __builtin_prefetch(ahead.from, 0, kSecondCache);
    V columns[COUNT * VECTORS];
    for (int p = 0; p < COUNT; ++p)
      for (int v = 0; v < VECTORS; ++v)
        columns[p * VECTORS + v] = load(panel + (p * panel_depth + k) * kWidth + v * lanes<T>());
    for (int row = 0; row < ROWS; ++row) {
      const V value = broadcast<V>(x.data[row * x.stride + k]);
      for (int j = 0; j < COUNT * VECTORS; ++j) sums[row][j] = fma(value, columns[j], sums[row][j]);
    }
  }

  for (int row = 0; row < ROWS; ++row)
    for (int j = 0; j < COUNT * VECTORS; ++j) store(c.data + row * c.stride + j * lanes<T>(), sums[row][j]);
}

template <class T>
using ProductKernel = void (*)(Rows<const T>, const T*, int64_t, int64_t, Prefetch, Rows<const T>, Rows<T>);

// Panels that a kernel of so many rows takes at once.
constexpr int panels_at_once(int rows) {
  return kTileRows / rows;
}

template <class T, int VECTORS>
inline ProductKernel<T> one_panel_kernel(int rows) {
  static_assert(kTileRows <= 8, "one line per row count below");
  constexpr int kMost = kTileRows;
  switch (rows) {
    case 1: return product_kernel<T, 1, 1, VECTORS>;
    case 2: return product_kernel<T, 2, 1, VECTORS>;
    case 3: return product_kernel<T, 3, 1, VECTORS>;
    case 4: return product_kernel<T, 4, 1, VECTORS>;
    case 5: return product_kernel < T, 5 <= kMost ? 5 : 1, 1, VECTORS > ;
    case 6: return product_kernel < T, 6 <= kMost ? 6 : 1, 1, VECTORS > ;
    case 7: return product_kernel < T, 7 <= kMost ? 7 : 1, 1, VECTORS > ;
    default: return product_kernel<T, kMost, 1, VECTORS>;
  }
}

template <class T>
inline ProductKernel<T> edge_kernel(int rows, int vectors) {
  static_assert(kPanelVectors <= 3, "one line per vector count below");
  switch (vectors) {
    case 1: return one_panel_kernel<T, 1>(rows);
    case 2: return one_panel_kernel<T, 2>(rows);
    default: return one_panel_kernel<T, kPanelVectors>(rows);
  }
}

// Several whole panels at once, for the few rows that leave registers free.
template <class T>
inline ProductKernel<T> many_panels_kernel(int rows) {
  switch (rows) {
    case 1: return product_kernel<T, 1, panels_at_once(1), kPanelVectors>;
    case 2: return product_kernel<T, 2, panels_at_once(2), kPanelVectors>;
    case 3: return product_kernel<T, 3, panels_at_once(3), kPanelVectors>;
    default: return product_kernel<T, 4, panels_at_once(4), kPanelVectors>;
  }
}

// Rows of depth that one pass over all panels takes: equal blocks of which `rows` rows fit the cache.
template <class T>
inline int64_t depth_block(int64_t rows, int64_t depth) {
  const int64_t blocks = (rows * depth * int64_t(sizeof(T)) + kRowsInCache - 1) / kRowsInCache;
  return blocks > 1 ? (depth + blocks - 1) / blocks : depth;
}

// A product of all rows of a tile with some columns of a matrix.
template <class T>
struct ProductTask {
  Rows<const T> x;
  int64_t rows;
  Panels<T> matrix;
  const T* start;  // one value per column, padded; null for zero
  Rows<T> c;       // has padded columns
  const int* stop;
};

// Columns first to end, which begin and end with a panel.
template <class T>
void multiply_columns(const ProductTask<T>& task, int64_t begin, int64_t end) {
  const auto& [x, rows, matrix, start, c, stop] = task;
  const int64_t groups = (rows + kTileRows - 1) / kTileRows;
  const int64_t at_once = groups == 1 && rows <= 4 ? panels_at_once(int(rows)) : 1;
  const int64_t block = depth_block<T>(rows, matrix.depth);
  for (int64_t k = 0; k == 0 || k < matrix.depth; k += block) {
    const int64_t depth = matrix.depth - k < block ? matrix.depth - k : block;
    const T* panel = matrix.data + begin * matrix.depth;
    for (int64_t first = begin; first < end && !__atomic_load_n(stop, __ATOMIC_RELAXED);) {
      const int64_t left = end - first;
      const bool many = at_once > 1 && left >= at_once * panel_width<T>();
      const int64_t whole = panel_width<T>() * (many ? at_once : 1);
      const int64_t width = left < whole ? padded<T>(left) : whole;
      const int64_t panel_columns = many ? panel_width<T>() : width;
      const T* const next = panel + matrix.depth * width + k * panel_columns;
      Prefetch ahead = {reinterpret_cast<const char*>(next), (kCacheLine + groups - 1) / groups};
      // Rows are shared out evenly among the groups: a last group of one row would wait for latencies.
      for (int64_t group = 0, row = 0; group < groups; ++group) {
        const int count = int((rows - row + groups - group - 1) / (groups - group));
        const ProductKernel<T> kernel =
            many ? many_panels_kernel<T>(count) : edge_kernel<T>(count, int(width / lanes<T>()));
        const Rows<T> sums = {c.data + row * c.stride + first, c.stride};
        const Rows<const T> from =
            k == 0 ? Rows<const T>{start ? start + first : nullptr, 0} : Rows<const T>{sums.data, sums.stride};
        kernel({x.data + row * x.stride + k, x.stride}, panel + k * panel_columns, matrix.depth, depth, ahead, from,
               sums);
        ahead.from += depth * width * int64_t(sizeof(T)) / groups;
        row += count;
      }
      panel += matrix.depth * width;
      first += width;
    }
  }
}

template <class T>
void multiply_part(void* what, int part, int parts) {
  const ProductTask<T>& task = *static_cast<const ProductTask<T>*>(what);
  const int64_t panels = (task.matrix.columns + panel_width<T>() - 1) / panel_width<T>();
  const int64_t begin = panels * part / parts * panel_width<T>(), end = panels * (part + 1) / parts * panel_width<T>();
  multiply_columns(task, begin, end < task.matrix.columns ? end : task.matrix.columns);
}

// All rows of a tile; start (one value per column, padded) may be null for zero.  c has padded columns.
template <class T>
void product(Rows<const T> x, int64_t rows, Panels<T> matrix, const T* start, Rows<T> c, Shared& shared) {
  constexpr int64_t kWorthSharing = 1 << 18;  // multiply-adds: some ten microseconds
  ProductTask<T> task = {x, rows, matrix, start, c, &shared.stop};
  if (shared.helpers > 0 && rows * matrix.depth * matrix.columns >= kWorthSharing)
    share_out(shared, multiply_part<T>, &task);
  else multiply_columns(task, 0, matrix.columns);
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
