// Rows of floats as sums of two half-precision numbers, for tensor cores: x = (high + low) 2^exponent.
//
// One exponent for a row brings its largest magnitude to [2¹⁴, 2¹⁵), so no range is lost: |x - (high + low) 2^exponent|
// is at most 2⁻²² |x|, or 2⁻³⁹ of the row's largest magnitude where that is more (a half has 11 bits, and none below
// 2⁻²⁴).  The high half alone is right to 2⁻¹¹ |x|.
#pragma once

#include <math.h>

#include "engine.hpp"
#include "warp.hpp"
// after the words that they are written in
#include "../rows/arena.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

using cuda::Halves;

// Where halves are written.
struct HalfRows {
  uint16_t *high, *low;
  int32_t* exponent;  // by row
  int64_t stride;
};

PYFIRSTORDER_INLINE HalfRows take_half_rows(Arena& arena, int64_t rows, int64_t columns) {
  const Rows<uint16_t> high = arena.take_rows<uint16_t>(rows, columns);
  const Rows<uint16_t> low = arena.take_rows<uint16_t>(rows, columns);
  return {high.data, low.data, arena.take<int32_t>(rows), high.stride};
}

PYFIRSTORDER_INLINE Halves read_only(const HalfRows& rows) {
  return {rows.high, rows.low, rows.exponent, rows.stride};
}

// 2^exponent, exponents out of the range of normal floats brought to its ends.
PYFIRSTORDER_INLINE float power_of_two(int exponent) {
  const int inside = exponent < -126 ? -126 : exponent > 127 ? 127 : exponent;
  return of_bits<float>((inside + 127) << 23);
}

// value · 2^exponent, which need not be a float by itself: rounded once, where the result is a normal number.
PYFIRSTORDER_INLINE float times_power_of_two(float value, int exponent) {
  const int inside = exponent < -126 ? -126 : exponent > 127 ? 127 : exponent;
  return value * power_of_two(inside) * power_of_two(exponent - inside);
}

// The n numbers `value(j)` of a row, by one warp; zeros follow them.
template <class Value>
PYFIRSTORDER_INLINE void split_row(Value value, int64_t n, const HalfRows& to, int64_t i) {
  constexpr int kLargest = 14;  // exponent of the largest magnitude once it is scaled; a half ends below 2¹⁶
  float most = 0;
  for (int64_t j = lane(); j < n; j += kWarp) most = max(::fabsf(value(j)), most);
  most = largest(most);
  const bool scales = most > 0 && most - most == 0;
  const int exponent = scales ? ::ilogbf(most) - kLargest : 0;
  for (int64_t j = lane(); j < padded<float>(n); j += kWarp) {
    const float scaled = j < n ? times_power_of_two(value(j), -exponent) : 0;
    const uint16_t high = half_bits(scaled);
    to.high[i * to.stride + j] = high;
    to.low[i * to.stride + j] = half_bits(scaled - of_half_bits(high));
  }
  if (lane() == 0) to.exponent[i] = exponent;
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
