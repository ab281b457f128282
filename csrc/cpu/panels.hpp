// Matrices packed for the product kernel.
//
// A (depth x columns) matrix is cut into panels of kPanelWidth columns; in a panel the columns of one row lie together,
// row after row, so that the kernel reads it as one stream.  The last panel is only as wide as the vectors that its
// columns fill, so padding is less than one vector.
#pragma once

#include "../core/types.hpp"
#include "simd.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// Register tile: kTileRows samples x kPanelVectors vectors of columns.  Its accumulators, one vector of each operand
// and a broadcast fill the register file: 16 registers hold 6 x 2, 32 hold 8 x 3.
#if PYFIRSTORDER_VECTOR_REGISTERS == 32
constexpr int kTileRows = 8, kPanelVectors = 3;
#elif PYFIRSTORDER_HAS_FMA
constexpr int kTileRows = 6, kPanelVectors = 2;
#else
constexpr int kTileRows = 4, kPanelVectors = 2;  // the separate product of a multiply and add needs registers, too
#endif

template <class T>
constexpr int64_t panel_width() {
  return kPanelVectors * lanes<T>();
}

inline bool is_stopped(const int* stop) {
  return __atomic_load_n(stop, __ATOMIC_RELAXED) != 0;
}

// Numbers that a packed matrix takes.
template <class T>
inline int64_t packed_size(int64_t depth, int64_t columns) {
  return depth * padded<T>(columns);
}

// Packs element (row, column) = source[row * row_stride + column * column_stride], until it is told to stop.
template <class T>
inline void pack(const T* source, int64_t depth, int64_t columns, int64_t row_stride, int64_t column_stride, T* panels,
                 const int* stop) {
  for (int64_t first = 0; first < columns && !is_stopped(stop); first += panel_width<T>()) {
    const int64_t count = columns - first < panel_width<T>() ? columns - first : panel_width<T>();
    const int64_t width = padded<T>(count);
    for (int64_t row = 0; row < depth; ++row, panels += width) {
      const T* const from = source + row * row_stride + first * column_stride;
      for (int64_t j = 0; j < count; ++j) panels[j] = from[j * column_stride];
      for (int64_t j = count; j < width; ++j) panels[j] = T(0);
    }
  }
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
