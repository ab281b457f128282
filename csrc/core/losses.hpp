// Losses of one row of logits: value, rescaled residual, its scale, and whether the row is a success.
//
// ∂value/∂z = scale * residual, and the residual as a whole never underflows: for cross-entropy it is
// exp(z_j - max_{i≠y} z_i) for j ≠ y and minus their sum for j = y.  A new loss is one struct here, one word of
// `enum class Loss` and one line of `loss_table`.  Sources: margin, Carlini & Wagner 2017; dlr, Croce & Hein 2020.
#pragma once

#include <math.h>
#include <stdint.h>

#include "elementary.hpp"
#include "target.hpp"
#include "types.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
struct LossValue {
  T value, scale;
  bool success;
};

// The target of one row.  `sign` is -1 where targeted: the ascended value is then minus the loss.
template <class T>
struct Target {
  int64_t label, source;
  const T* values;
  T sign;
  bool targeted;
};

// The largest logit but that of one index; the first of equals.
template <class T>
struct Rival {
  T value;
  int64_t index;
};

// z has room up to a multiple of the vector length, and its padding is overwritten.
template <class T>
inline Rival<T> strongest_other(T* z, int64_t outputs, int64_t label) {
  const T own = z[label];
  z[label] = -infinity<T>();
  for (int64_t j = outputs; j < padded<T>(outputs); ++j) z[j] = -infinity<T>();
  Vec<T> most = load(z);
  for (int64_t j = lanes<T>(); j < outputs; j += lanes<T>()) most = max(load(z + j), most);
  Rival<T> rival{largest(most), 0};
  while (rival.index < outputs - 1 && !(z[rival.index] == rival.value && rival.index != label)) ++rival.index;
  z[label] = own;
  return rival;
}

// Whether the prediction, the first largest logit, is not the label (or is, where targeted).
template <class T>
inline bool class_success(Rival<T> rival, T own, const Target<T>& target) {
  const bool hit = own > rival.value || (own == rival.value && target.label < rival.index);
  return hit == target.targeted;
}

struct Squared {
  template <class T>
  static LossValue<T> apply(T* z, T* residual, const Target<T>& target, int64_t outputs) {
    T value = 0;
    for (int64_t j = 0; j < outputs; ++j) {
      const T difference = z[j] - target.values[j];
      value += difference * difference;
      residual[j] = target.sign * difference;
    }
    return {target.sign * T(0.5) * value, T(1), false};
  }
};

struct Linear {
  template <class T>
  static LossValue<T> apply(T* z, T* residual, const Target<T>& target, int64_t outputs) {
    T value = 0;
    for (int64_t j = 0; j < outputs; ++j) {
      value += target.values[j] * z[j];
      residual[j] = target.sign * target.values[j];
    }
    return {target.sign * value, T(1), false};
  }
};

// log(total + exp(-|t|)) or its like: scalar, once a row, by the C library in double.
struct Logistic {
  template <class T>
  static LossValue<T> apply(T* z, T* residual, const Target<T>& target, int64_t) {
    const T y = target.values[0], t = -(y * z[0]);
    const T value = (t > 0 ? t : T(0)) + T(::log1p(::exp(-double(t > 0 ? t : -t))));
    residual[0] = target.sign * -y;
    const bool hit = (z[0] > 0) == (y > 0);
    return {target.sign * value, T(::exp(double(t) - double(value))), hit == target.targeted};
  }
};

struct CrossEntropy {
  template <class T>
  static LossValue<T> apply(T* z, T* residual, const Target<T>& target, int64_t outputs) {
    using V = Vec<T>;
    const Rival<T> rival = strongest_other(z, outputs, target.label);
    const T own = z[target.label];
    z[target.label] = -infinity<T>();
    V sums{};
    for (int64_t j = 0; j < outputs; j += lanes<T>()) {
      const V e = exp(load(z + j) - broadcast<V>(rival.value));  // padding holds -infinity: adds nothing
      sums = sums + e;
      store(residual + j, broadcast<V>(target.sign) * e);
    }
    z[target.label] = own;
    const T total = sum(sums);  // in [1, k)
    residual[target.label] = -target.sign * total;
    const double t = double(rival.value) - double(own);
    const double value = t > 0 ? t + ::log(double(total) + ::exp(-t)) : ::log1p(double(total) * ::exp(t));
    return {target.sign * T(value), T(::exp(t - value)), class_success(rival, own, target)};
  }
};

struct Margin {
  template <class T>
  static LossValue<T> apply(T* z, T* residual, const Target<T>& target, int64_t outputs) {
    const Rival<T> rival = strongest_other(z, outputs, target.label);
    const T own = z[target.label];
    for (int64_t j = 0; j < outputs; ++j) residual[j] = T(0);
    residual[rival.index] = target.sign;
    residual[target.label] = -target.sign;
    return {target.sign * (rival.value - own), T(1), class_success(rival, own, target)};
  }
};

struct Dlr {
  // The places of the four largest logits, the first of equals before the others.
  template <class T>
  static void largest_four(const T* z, int64_t outputs, int64_t (&order)[4]) {
    int64_t count = 0;
    for (int64_t j = 0; j < outputs; ++j) {
      int64_t place = count < 4 ? count : 4;
      while (place > 0 && z[j] > z[order[place - 1]]) --place;
      if (place == 4) continue;
      for (int64_t i = count < 3 ? count : 3; i > place; --i) order[i] = order[i - 1];
      order[place] = j;
      if (count < 4) ++count;
    }
  }

  template <class T>
  static LossValue<T> apply(T* z, T* residual, const Target<T>& target, int64_t outputs) {
    if (outputs == 2) return Margin::apply(z, residual, target, outputs);
    const T guard = T(1e-12);  // as in the authors' code: logits may be tied
    const Rival<T> rival = strongest_other(z, outputs, target.label);
    const T own = z[target.label];
    int64_t order[4] = {0, 0, 0, 0};
    largest_four(z, outputs, order);
    for (int64_t j = 0; j < outputs; ++j) residual[j] = T(0);
    const bool success = class_success(rival, own, target);
    if (target.targeted) {
      const T half = T(0.5);
      const T width = z[order[0]] - half * (z[order[2]] + z[order[3]]) + guard;
      const T ratio = (z[target.source] - own) / width;
      residual[target.label] += 1;
      residual[target.source] -= 1;
      residual[order[0]] += ratio;
      residual[order[2]] -= half * ratio;
      residual[order[3]] -= half * ratio;
      return {-ratio, 1 / width, success};
    }
    const T width = z[order[0]] - z[order[2]] + guard;
    const T ratio = (own - rival.value) / width;
    residual[rival.index] += 1;
    residual[target.label] -= 1;
    residual[order[0]] += ratio;
    residual[order[2]] -= ratio;
    return {-ratio, 1 / width, success};
  }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
