// The elementwise and scalar mathematics of the exact projections; the loops over coordinates are the engines' own.
//
// Problem: minimise ‖δ - v‖₂ subject to ‖δ‖_p <= ε and lower <= x0 + δ <= upper.  With a_j the room towards the box in
// the direction of v_j: ℓ∞ clamps; ℓ2 |δ_j| = min(s |v_j|, a_j); ℓ1 |δ_j| = min(max(|v_j| - τ, 0), a_j).  Results are
// rounded towards x0, and ℓ2 and ℓ1 use slightly smaller radii, so that no user measures a norm beyond ε.
#pragma once

#include <float.h>
#include <math.h>

#include "elementary.hpp"
#include "target.hpp"
#include "types.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// Norms up to `accept` are inside; what is outside is moved to `target`.
struct Radii {
  double accept, target;
};

// The radii below eps that rounding cannot carry past it: float is measured by pairwise sums of floats, whose error
// grows with the depth of the tree, double by sums in any order.  The target lies a few rounding errors below, so
// that a projected point is accepted when it comes back.
template <class T>
PYFIRSTORDER_INLINE Radii radii(double eps, Norm norm, int64_t features) {
  const double terms = norm == Norm::l1 ? 2 : 1;
  const double unit = sizeof(T) == 4 ? 0x1p-24 : 0x1p-53;
  const double count = double(features);
  const double share = (sizeof(T) == 4 ? 8 + ::ceil(::log2(count < 1 ? 1 : count)) : 16 + count) * unit * terms;
  const double accept = eps * (1 - share);
  return {accept, accept * (1 - 4 * unit - (16 + count) * 0x1p-52)};
}

template <class T>
PYFIRSTORDER_INLINE constexpr T largest_finite() {
  return sizeof(T) == 4 ? T(FLT_MAX) : T(DBL_MAX);
}

PYFIRSTORDER_INLINE float one_towards_zero(float value) {
  return ::nextafterf(value, 0.0f);
}
PYFIRSTORDER_INLINE double one_towards_zero(double value) {
  return ::nextafter(value, 0.0);
}

// The largest number of the type that is at most value >= 0.
template <class T>
PYFIRSTORDER_INLINE T below(double value) {
  const T rounded = T(value);
  return double(rounded) > value ? one_towards_zero(rounded) : rounded;
}

// The bits of v, and of the smallest number where it is zero: those of -0 have no smaller ones, and lanes whose
// neighbour nobody asks for may hold it.
template <class V>
PYFIRSTORDER_INLINE auto bits_but_of_zero(V v) {
  return select(v != V{}, bits_of(v), broadcast_place<Element<V>>(1));
}

// The neighbour of v (not zero) towards zero.
template <class V>
PYFIRSTORDER_INLINE V one_smaller(V v) {
  return of_bits<Element<V>>(bits_but_of_zero(v) - 1);
}

// The neighbour of v (not zero) in the direction of step.
template <class V>
PYFIRSTORDER_INLINE V neighbour(V v, V step) {
  const auto outwards = (v > V{}) == (step > V{});
  const auto bits = bits_but_of_zero(v);
  return of_bits<Element<V>>(select(outwards, bits + 1, bits - 1));
}

// The rounding error of total = a + b (Knuth): exact sum = total + error.
template <class V>
PYFIRSTORDER_INLINE V sum_error(V a, V b, V total) {
  const V part = total - a;
  return (a - (total - part)) + (b - part);
}

// x0 + delta rounded towards x0: never further from x0 than delta.
template <class V>
PYFIRSTORDER_INLINE V add_towards(V x0, V delta) {
  using T = Element<V>;
  const V total = x0 + delta;
  const V error = sum_error(x0, delta, total);
  const auto beyond = ((delta > V{}) & (error < V{})) | ((delta < V{}) & (error > V{}));
  const V result = select(beyond, neighbour(total, -delta), total);
  const V bound = broadcast<V>(largest_finite<T>());
  return max(min(result, bound), -bound);
}

// a + b rounded towards zero.
template <class V>
PYFIRSTORDER_INLINE V add_towards_zero(V a, V b) {
  const V total = a + b;
  const V error = sum_error(a, b, total);
  const auto beyond = ((total > V{}) & (error < V{})) | ((total < V{}) & (error > V{}));
  return select(beyond, one_smaller(total), total);
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
