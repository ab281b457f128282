// Activations: value σ(h) and derivative σ'(h) of a vector of pre-activations.
//
// A new activation is one struct here, one word of `enum class Activation` and one line of `activation_table`.  At a
// kink the derivative is the deep-learning frameworks' own (relu'(0) = 0).
#pragma once

#include "elementary.hpp"
#include "target.hpp"
#include "types.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class V>
struct ValueAndSlope {
  V value, slope;
};

// 1 / (1 + exp(-h)) and its complement, both to full relative accuracy.
template <class V>
struct Sigmoids {
  V sigmoid, complement;
};

template <class V>
PYFIRSTORDER_INLINE Sigmoids<V> sigmoids(V h) {
  const V one = broadcast<V>(1);
  const V e = exp(-abs(h));
  const V large = one / (one + e), small = e * large;
  const auto rising = h >= V{};
  return {select(rising, large, small), select(rising, small, large)};
}

struct Relu {
  template <class V>
  static PYFIRSTORDER_INLINE ValueAndSlope<V> apply(V h, V) {
    return {max(V{}, h), select(h > V{}, broadcast<V>(1), V{})};
  }
};

struct LeakyRelu {
  template <class V>
  static PYFIRSTORDER_INLINE ValueAndSlope<V> apply(V h, V slope) {
    return {select(h > V{}, h, slope * h), select(h > V{}, broadcast<V>(1), slope)};
  }
};

struct Elu {
  template <class V>
  static PYFIRSTORDER_INLINE ValueAndSlope<V> apply(V h, V alpha) {
    using T = Element<V>;
    const V falling = min(V{}, h);
    const V e = exp(falling);
    // expm1(x) = 2 t / (1 - t) with t = tanh(x / 2): exp(x) - 1 would cancel near 0
    const V t = tanh(broadcast<V>(T(0.5)) * falling);
    const V expm1 = broadcast<V>(2) * t / (broadcast<V>(1) - t);
    return {select(h > V{}, h, alpha * expm1), select(h > V{}, broadcast<V>(1), alpha * e)};
  }
};

struct Softplus {
  template <class V>
  static PYFIRSTORDER_INLINE ValueAndSlope<V> apply(V h, V beta) {
    const V scaled = beta * h;
    const V e = exp(-abs(scaled));
    const V large = broadcast<V>(1) / (broadcast<V>(1) + e);
    return {max(V{}, h) + log1p_unit(e) / beta, select(scaled >= V{}, large, e * large)};
  }
};

struct Sigmoid {
  template <class V>
  static PYFIRSTORDER_INLINE ValueAndSlope<V> apply(V h, V) {
    const Sigmoids<V> s = sigmoids(h);
    return {s.sigmoid, s.sigmoid * s.complement};
  }
};

struct Tanh {
  template <class V>
  static PYFIRSTORDER_INLINE ValueAndSlope<V> apply(V h, V) {
    const Sigmoids<V> s = sigmoids(h + h);
    return {tanh(h), broadcast<V>(4) * s.sigmoid * s.complement};
  }
};

struct Erf {
  template <class V>
  static PYFIRSTORDER_INLINE ValueAndSlope<V> apply(V h, V) {
    using T = Element<V>;
    const V density = exp_minus_square(h, T(1));
    return {erf(h, density), broadcast<V>(T(1.12837916709551257390)) * density};
  }
};

// h Φ(h), Φ the normal distribution: for h < 0 from the complementary error function, which does not cancel.
struct Gelu {
  template <class V>
  static PYFIRSTORDER_INLINE ValueAndSlope<V> apply(V h, V) {
    using T = Element<V>;
    const V density = exp_minus_square(h, T(0.5));
    const V tail = broadcast<V>(T(0.5)) * density * scaled_erfc(abs(h) * broadcast<V>(T(0.70710678118654752440)));
    const V phi = select(h < V{}, tail, broadcast<V>(1) - tail);
    // far out the density is zero and h may be infinite: their product is taken as zero
    const V bounded = max(min(h, broadcast<V>(T(1e3))), broadcast<V>(T(-1e3)));
    return {select(phi == V{}, V{}, h * phi), fma(bounded * density, broadcast<V>(T(0.39894228040143267794)), phi)};
  }
};

// h/2 (1 + tanh(u)) = h sigmoid(2u), u = √(2/π) (h + 0.044715 h³): Hendrycks & Gimpel 2016.
struct GeluTanh {
  template <class V>
  static PYFIRSTORDER_INLINE ValueAndSlope<V> apply(V h, V) {
    using T = Element<V>;
    const V bounded = max(min(h, broadcast<V>(T(1e3))), broadcast<V>(T(-1e3)));  // sigmoid is 0 or 1 beyond
    const V square = bounded * bounded;
    const V cubic = broadcast<V>(T(0.044715));
    const V scale = broadcast<V>(T(1.59576912160573071176));  // 2 √(2/π)
    const Sigmoids<V> s = sigmoids(scale * fma(cubic * square, bounded, bounded));
    const V inner = scale * fma(broadcast<V>(3) * cubic, square, broadcast<V>(1));
    return {select(s.sigmoid == V{}, V{}, h * s.sigmoid), fma(bounded * s.sigmoid * s.complement, inner, s.sigmoid)};
  }
};

// h sigmoid(h); where the sigmoid is a denormal number, of few bits, from two factors √eʰ.
struct Silu {
  template <class V>
  static PYFIRSTORDER_INLINE ValueAndSlope<V> apply(V h, V) {
    using T = Element<V>;
    const Sigmoids<V> s = sigmoids(h);
    const V bounded = max(min(h, broadcast<V>(T(1e4))), broadcast<V>(T(-1e4)));
    V value = select(s.sigmoid == V{}, V{}, h * s.sigmoid);
    const auto tiny = h < broadcast<V>(T(sizeof(T) == 4 ? -86 : -707));
    if (any(tiny)) {
      const V root = exp(broadcast<V>(T(0.5)) * bounded);
      value = select(tiny, (bounded * root) * root, value);
    }
    return {value, s.sigmoid * fma(bounded, s.complement, broadcast<V>(1))};
  }
};

struct Quadratic {
  template <class V>
  static PYFIRSTORDER_INLINE ValueAndSlope<V> apply(V h, V) {
    return {h * h, h + h};
  }
};

struct Identity {
  template <class V>
  static PYFIRSTORDER_INLINE ValueAndSlope<V> apply(V h, V) {
    return {h, broadcast<V>(1)};
  }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
