// Sums over the coordinates of one padded row, in double: norms and inner products that neither over- nor underflow.
//
// Squares of floats fit a double.  Doubles are scaled by a power of two when their largest is so big or small that a
// square would not fit.
#pragma once

#include <math.h>

#include "../core/balls.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

using Wide = Vec<double>;
constexpr int kWideLanes = kVectorBytes / 8;

template <class T>
PYFIRSTORDER_INLINE T largest_magnitude(const T* v, int64_t n) {
  Vec<T> most{};
  for (int64_t j = 0; j < n; j += lanes<T>()) most = max(abs(load(v + j)), most);
  return largest(most);
}

// Finite, every one of them.
template <class T>
PYFIRSTORDER_INLINE bool all_finite(const T* v, int64_t n) {
  Vec<T> zeros{};
  for (int64_t j = 0; j < n; j += lanes<T>()) {
    const Vec<T> value = load(v + j);
    zeros = zeros + (value - value);  // NaN for infinity and NaN
  }
  return sum(zeros) == 0;
}

template <class T>
PYFIRSTORDER_INLINE double inner_product(const T* a, const T* b, int64_t n) {
  Wide total{};
  for (int64_t j = 0; j < n; j += kWideLanes) total = fma(load_wide(a + j), load_wide(b + j), total);
  return sum(total);
}

// Whether a square, or a product of two norms, has neither over- nor underflowed.  Those of floats fit a double.
template <class T>
PYFIRSTORDER_INLINE bool keeps_digits(double square) {
  return sizeof(T) == 4 ? square - square == 0 : square > 1e-280 && square < 1e280;
}

// ⟨a, b⟩ over the product of two norms, from that sum where it is known; 0 if a norm is 0 or not a number.
template <class A, class B>
PYFIRSTORDER_INLINE double cosine(const A* a, const B* b, int64_t n, double a_norm, double b_norm, double along) {
  if (!(a_norm > 0 && b_norm > 0)) return 0;
  if (keeps_digits<A>(a_norm * b_norm)) return along / (a_norm * b_norm);
  Wide total{};
  for (int64_t j = 0; j < n; j += kWideLanes)
    total = fma(load_wide(a + j) / broadcast<Wide>(a_norm), load_wide(b + j) / broadcast<Wide>(b_norm), total);
  return sum(total);
}

template <class T>
PYFIRSTORDER_INLINE double sum_magnitudes(const T* v, int64_t n) {
  Wide total{};
  for (int64_t j = 0; j < n; j += kWideLanes) total = total + abs(load_wide(v + j));
  return sum(total);
}

// ‖scale · v‖₂
template <class T>
PYFIRSTORDER_INLINE double scaled_l2_norm(const T* v, int64_t n, double scale) {
  Wide total{};
  for (int64_t j = 0; j < n; j += kWideLanes) {
    const Wide value = broadcast<Wide>(scale) * load_wide(v + j);
    total = fma(value, value, total);
  }
  return ::sqrt(sum(total));
}

// ‖v‖₁, scaled where doubles would overflow.
template <class T>
PYFIRSTORDER_INLINE double l1_norm(const T* v, int64_t n) {
  const double most = sizeof(T) == 8 ? double(largest_magnitude(v, n)) : 0;
  if (most < 1e290) return sum_magnitudes(v, n);
  Wide total{};
  for (int64_t j = 0; j < n; j += kWideLanes) total = total + abs(broadcast<Wide>(0x1p-80) * load_wide(v + j));
  return sum(total) * 0x1p80;
}

// The power of two that brings a magnitude to [1, 2), within the range of exponents.
PYFIRSTORDER_INLINE double power_of_two_scale(double magnitude) {
  int exponent = 0;
  ::frexp(magnitude, &exponent);
  return ::ldexp(1.0, exponent < -1000 ? 1000 : 1 - exponent);
}

template <class T>
PYFIRSTORDER_INLINE double l2_norm(const T* v, int64_t n) {
  if constexpr (sizeof(T) == 4) return scaled_l2_norm(v, n, 1.0);
  const double most = double(largest_magnitude(v, n));
  if (most == 0 || (most > 1e-140 && most < 1e140)) return scaled_l2_norm(v, n, 1.0);
  const double scale = power_of_two_scale(most);
  return scaled_l2_norm(v, n, scale) / scale;
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
