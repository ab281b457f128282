// The product of rows of which most numbers are zero with a packed matrix: the rows of the matrix that count, no
// others.
//
// Every element is one chain of fused multiply-adds in the order of the list: for a list that ascends and leaves out
// zeros alone, the value of product() to the bit (but for the sign of a zero).  A row reads four panels at once; two
// thirds of the speed of a dense product is what the loads leave, so it pays where less than about 2/5 of the numbers
// are not zero.
#pragma once

#include "panels.hpp"
#include "product.hpp"
#include "simd.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

constexpr int kSparsePanels = 4;  // at once

// Whether a list of so many numbers out of n is multiplied faster than all n.
inline bool is_sparse(int64_t count, int64_t n) {
  return 5 * count < 2 * n;
}

// What a row holds besides zeros: value[n] at index[n].
template <class T>
struct SparseRow {
  const int32_t* index;
  const T* value;
  int64_t count;
};

// Lists the numbers of a padded row that are not zero; how many there are.
template <class T>
inline int64_t list_nonzeros(const T* row, int64_t n, int32_t* index, T* value) {
  int64_t count = 0;
  for (int64_t first = 0; first < n; first += lanes<T>()) {
    const auto counts = load(row + first) != Vec<T>{};
    if (!any(counts)) continue;
    for (int lane = 0; lane < lanes<T>(); ++lane) {
      index[count] = int32_t(first + lane);
      value[count] = row[first + lane];
      count -= counts[lane];  // true is -1
    }
  }
  return count;
}

// out = start + x · COUNT panels of VECTORS vectors; start may be null for zero.
template <class T, int COUNT, int VECTORS>
[[gnu::noinline]] void sparse_kernel(SparseRow<T> x, const T* panel, int64_t panel_depth, const T* start, T* out) {
  using V = Vec<T>;
  constexpr int64_t kWidth = VECTORS * lanes<T>();
  V sums[COUNT * VECTORS];
  for (int j = 0; j < COUNT * VECTORS; ++j) sums[j] = start ? load(start + j * lanes<T>()) : V{};
  for (int64_t n = 0; n < x.count; ++n) {
    const V value = broadcast<V>(x.value[n]);
    const T* const row = panel + x.index[n] * kWidth;
    for (int p = 0; p < COUNT; ++p) __builtin_prefetch(row + (COUNT + p) * panel_depth * kWidth, 0, kSecondCache);
    for (int p = 0; p < COUNT; ++p)
      for (int v = 0; v < VECTORS; ++v)
        sums[p * VECTORS + v] =
            fma(value, load(row + p * panel_depth * kWidth + v * lanes<T>()), sums[p * VECTORS + v]);
  }
  for (int j = 0; j < COUNT * VECTORS; ++j) store(out + j * lanes<T>(), sums[j]);
}

template <class T>
using SparseKernel = void (*)(SparseRow<T>, const T*, int64_t, const T*, T*);

// The kernel for so many columns: several whole panels, or a part of one.
template <class T>
inline SparseKernel<T> sparse_kernel_of(int64_t width) {
  if (width > panel_width<T>()) return sparse_kernel<T, kSparsePanels, kPanelVectors>;
  switch (width / lanes<T>()) {
    case 1: return sparse_kernel<T, 1, 1>;
    case 2: return sparse_kernel<T, 1, 2>;
    default: return sparse_kernel<T, 1, kPanelVectors>;
  }
}

// Calls body(first column, panel, kernel) for a few panels after another: they stay in the cache for all rows
// that body multiplies.
template <class T, class Body>
inline void for_sparse_panels(const Panels<T>& matrix, Body body) {
  const T* panel = matrix.data;
  for (int64_t first = 0; first < matrix.columns;) {
    const int64_t left = matrix.columns - first, whole = kSparsePanels * panel_width<T>();
    const int64_t width = left >= whole ? whole : left < panel_width<T>() ? padded<T>(left) : panel_width<T>();
    body(first, panel, sparse_kernel_of<T>(width));
    panel += matrix.depth * width;
    first += width;
  }
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
