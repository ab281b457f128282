// Ascent directions of one padded row, written as the step η · direction(g).  A zero gradient gives a zero step.
#pragma once

#include <math.h>

#include "row_sums.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
struct StepRule {
  T step_size;
  T scale;        // the true gradient is scale * g
  int64_t count;  // coordinates that the sparse direction moves
  const T* x;
  const T* x0;
  const T* lower;  // the box, or null
  const T* upper;
  int64_t features;  // padded
};

struct GradientStep {
  template <class T>
  static PYFIRSTORDER_INLINE void apply(const T* g, const StepRule<T>& rule, T* step) {
    using V = Vec<T>;
    const V scale = broadcast<V>(rule.scale), step_size = broadcast<V>(rule.step_size);
    for (int64_t j = 0; j < rule.features; j += lanes<T>()) store(step + j, step_size * (scale * load(g + j)));
  }
};

struct SignStep {
  template <class T>
  static PYFIRSTORDER_INLINE void apply(const T* g, const StepRule<T>& rule, T* step) {
    using V = Vec<T>;
    const V up = broadcast<V>(rule.step_size);
    for (int64_t j = 0; j < rule.features; j += lanes<T>()) {
      const V value = load(g + j);
      store(step + j, select(value > V{}, up, select(value < V{}, -up, V{})));
    }
  }
};

// v ← v / norm, through a power of two so that the reciprocal of a tiny norm does not overflow.
template <class T>
PYFIRSTORDER_INLINE void divide_row(const T* v, int64_t n, double norm, T factor, T* out) {
  using V = Vec<T>;
  const double power = norm > 0 ? power_of_two_scale(norm) : 0;
  const double bounded = sizeof(T) == 4 ? ::fmin(power, 0x1p120) : power;
  const V first = broadcast<V>(T(bounded)), second = broadcast<V>(norm > 0 ? T(1 / (norm * bounded)) : T(0));
  for (int64_t j = 0; j < n; j += lanes<T>()) store(out + j, broadcast<V>(factor) * ((load(v + j) * first) * second));
}

struct NormalizedStep {
  template <class T>
  static PYFIRSTORDER_INLINE void apply(const T* g, const StepRule<T>& rule, T* step) {
    divide_row(g, rule.features, l2_norm(g, rule.features), rule.step_size, step);
  }
};

// ±η/q on the q = min(count, nonzero) largest coordinates that the box lets move; the first of equals wins.
// The q-th largest magnitude is found by bisection over the bits of floating-point numbers, which sort like integers.
struct SparseStep {
  template <class T>
  static PYFIRSTORDER_INLINE void apply(const T* g, const StepRule<T>& rule, T* step) {
    using V = Vec<T>;
    using Integer = typename VectorOf<T>::word;
    for (int64_t j = 0; j < rule.features; j += lanes<T>()) {  // step holds the magnitudes first
      const V value = load(g + j);
      V magnitude = abs(value);
      if (rule.lower) {
        const V x = load(rule.x + j), x0 = load(rule.x0 + j);
        const auto can_rise = x<max(load(rule.upper + j), x0), can_fall = x> min(load(rule.lower + j), x0);
        magnitude = select((value > V{}) & can_rise, magnitude, select((value < V{}) & can_fall, magnitude, V{}));
      }
      store(step + j, magnitude);
    }
    Integer least = 1, beyond = word_of(infinity<T>());
    while (beyond - least > 1) {  // count(least) >= q unless fewer are not zero
      const Integer middle = least + (beyond - least) / 2;
      if (count_from(step, rule.features, middle) >= rule.count) least = middle;
      else beyond = middle;
    }
    const int64_t above = count_from(step, rule.features, least + 1);
    const int64_t chosen = count_from(step, rule.features, least);
    const int64_t moving = chosen < rule.count ? chosen : rule.count;
    int64_t ties = moving - above;
    const T length = moving > 0 ? rule.step_size * (T(1) / T(moving)) : T(0);
    for (int64_t j = 0; j < rule.features; j += lanes<T>()) {
      const Bits<T> bits = bits_of(load(step + j));
      const auto tie = bits == least;
      const auto taken = (bits > least) | (tie & (places_before(tie) < broadcast_place<T>(ties)));
      if (ties > 0) ties -= lanes_in(tie);
      const V length_here = select(load(g + j) > V{}, broadcast<V>(length), broadcast<V>(-length));
      store(step + j, select(taken, length_here, V{}));
    }
  }

  // How many magnitudes have at least these bits.
  template <class T, class Integer>
  static PYFIRSTORDER_INLINE int64_t count_from(const T* magnitudes, int64_t n, Integer bits) {
    Bits<T> total{};
    for (int64_t j = 0; j < n; j += lanes<T>())
      total = total + select(bits_of(load(magnitudes + j)) >= bits, broadcast_place<T>(1), Bits<T>{});
    return total_of(total);
  }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
