// Whether a Jacobian to which terms are added, and from which terms are taken, is as good as one summed afresh.
//
// A term that came and went leaves its rounding behind: about an ulp of the largest term.  Against a sum of many terms
// that is nothing, unless one unit is far larger than the others.  And where a column of W has zeros, the units that
// are on may all be among them: then the gradient there is zero, and its sign must not be that of a rounding.
#pragma once

#include "panels.hpp"
#include "simd.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
inline T magnitude(T value) {
  return value < 0 ? -value : value;
}

template <class T>
inline T largest_of_row(const T* values, int64_t count) {
  Vec<T> most{};
  int64_t n = 0;
  for (; n + lanes<T>() <= count; n += lanes<T>()) most = max(abs(load(values + n)), most);
  T result = largest(most);
  for (; n < count; ++n) result = magnitude(values[n]) > result ? magnitude(values[n]) : result;
  return result;
}

template <class T>
inline T largest_of_column(const T* values, int64_t count, int64_t stride) {
  T result = 0;
  for (int64_t n = 0; n < count; ++n)
    result = magnitude(values[n * stride]) > result ? magnitude(values[n * stride]) : result;
  return result;
}

// Adds one for each zero of a row, by column.
template <class T>
inline void count_zeros(const T* values, int64_t count, typename VectorOf<T>::word* zeros) {
  int64_t n = 0;
  for (; n + lanes<T>() <= count; n += lanes<T>()) {
    Bits<T> so_far;
    memcpy(&so_far, zeros + n, sizeof so_far);
    so_far -= load(values + n) == Vec<T>{};  // true is -1
    memcpy(zeros + n, &so_far, sizeof so_far);
  }
  for (; n < count; ++n) zeros[n] += values[n] == 0;
}

// Whether the terms A ⊗ W of the units are of like size, and their sums representable.
template <class T>
inline bool has_even_terms(const T* hidden_weight, const T* output_weight, int64_t d, int64_t m, int64_t k,
                           const int* stop) {
  // a sum of m terms rounds by about so many ulps of a typical term, give or take a factor
  const double most_uneven = m > 128 ? double(m) / 8 : 16;
  constexpr double kLargest = sizeof(T) == 4 ? 0x1p125 : 0x1p1000, kSmallest = sizeof(T) == 4 ? 0x1p-100 : 0x1p-950;
  double largest = 0, roots = 0;
  for (int64_t unit = 0; unit < m && !is_stopped(stop); ++unit) {
    const double size =
        double(largest_of_row(hidden_weight + unit * d, d)) * double(largest_of_column(output_weight + unit, k, m));
    largest = size > largest ? size : largest;
    roots += __builtin_sqrt(size);
  }
  const double typical = (roots / double(m)) * (roots / double(m));  // one huge unit hardly moves it
  return largest <= most_uneven * typical && largest * double(m) < kLargest && typical > kSmallest;
}

// The most units whose term is zero in the same coordinate, over the coordinates where not all are.
template <class T>
inline int64_t most_zero_terms(const T* hidden_weight, const T* output_weight, int64_t d, int64_t m, int64_t k,
                               const int* stop) {
  int64_t silent = 0;  // units with a zero in A
  for (int64_t unit = 0; unit < m; ++unit)
    for (int64_t c = 0; c < k; ++c)
      if (output_weight[c * m + unit] == 0) {
        ++silent;
        break;
      }
  constexpr int64_t kColumns = 64;  // of W, counted at a time
  int64_t most = silent;
  for (int64_t first = 0; first < d && !is_stopped(stop); first += kColumns) {
    const int64_t columns = d - first < kColumns ? d - first : kColumns;
    typename VectorOf<T>::word zeros[kColumns] = {};
    for (int64_t unit = 0; unit < m; ++unit) count_zeros(hidden_weight + unit * d + first, columns, zeros);
    for (int64_t j = 0; j < columns; ++j)
      if (zeros[j] < m && zeros[j] + silent > most) most = zeros[j] + silent;
  }
  return most;
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
