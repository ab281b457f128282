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

// Which logits of a vector are neither that of the label nor padding.
template <class T>
PYFIRSTORDER_INLINE auto competes(int64_t first, int64_t outputs, int64_t label) {
  const Bits<T> place = ascending<T>();
  return (place < broadcast_place<T>(outputs - first)) & (place != broadcast_place<T>(label - first));
}

// A vector of logits, with -infinity for those that do not compete.
template <class T>
PYFIRSTORDER_INLINE Vec<T> rivals_at(const T* z, int64_t first, int64_t outputs, int64_t label) {
  return select(competes<T>(first, outputs, label), load(z + first), broadcast<Vec<T>>(-infinity<T>()));
}

// The largest logit but that of the label; NaN if one of them is NaN.  z can be read up to a multiple of the vector
// length.
template <class T>
PYFIRSTORDER_INLINE T strongest_rival(const T* z, int64_t outputs, int64_t label) {
  Vec<T> most = rivals_at(z, 0, outputs, label);
  for (int64_t j = lanes<T>(); j < outputs; j += lanes<T>()) {
    const Vec<T> more = rivals_at(z, j, outputs, label);
    most = select(more <= most, most, select(most == most, more, most));
  }
  return any(most != most) ? T(__builtin_nan("")) : largest(most);
}

// The first place but the label's that holds a value; the last one if none does.
template <class T>
PYFIRSTORDER_INLINE int64_t place_of(T value, const T* z, int64_t outputs, int64_t label) {
  int64_t place = 0;
  while (place < outputs - 1 && !(z[place] == value && place != label)) ++place;
  return place;
}

// Whether the prediction, the first largest logit, is not the label (or is, where targeted).
template <class T>
PYFIRSTORDER_INLINE bool class_success(T rival, const T* z, int64_t outputs, const Target<T>& target) {
  const T own = z[target.label];
  const bool hit = own > rival || (own == rival && target.label < place_of(rival, z, outputs, target.label));
  return hit == target.targeted;
}

// Adds `amount` to the residual of one output; residuals are padded.
template <class T>
PYFIRSTORDER_INLINE void add_to_place(T* residual, int64_t outputs, int64_t place, T amount) {
  for (int64_t j = 0; j < outputs; j += lanes<T>()) {
    const auto here = ascending<T>() == broadcast_place<T>(place - j);
    store(residual + j, load(residual + j) + select(here, broadcast<Vec<T>>(amount), Vec<T>{}));
  }
}

struct Squared {
  template <class T>
  static PYFIRSTORDER_INLINE LossValue<T> apply(T* z, T* residual, const Target<T>& target, int64_t outputs) {
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
  static PYFIRSTORDER_INLINE LossValue<T> apply(T* z, T* residual, const Target<T>& target, int64_t outputs) {
    T value = 0;
    for (int64_t j = 0; j < outputs; ++j) {
      value += target.values[j] * z[j];  // NOLINT(clang-analyzer-core.NullDereference): a loss of values has them
      residual[j] = target.sign * target.values[j];
    }
    return {target.sign * value, T(1), false};
  }
};

// log(total + exp(-|t|)) or its like: scalar, once a row, by the C library in double.
struct Logistic {
  template <class T>
  static PYFIRSTORDER_INLINE LossValue<T> apply(T* z, T* residual, const Target<T>& target, int64_t) {
    const T y = target.values[0], t = -(y * z[0]);
    const T value = (t > 0 ? t : T(0)) + T(::log1p(::exp(-double(t > 0 ? t : -t))));
    residual[0] = target.sign * -y;
    const bool hit = (z[0] > 0) == (y > 0);
    return {target.sign * value, T(::exp(double(t) - double(value))), hit == target.targeted};
  }
};

struct CrossEntropy {
  template <class T>
  static PYFIRSTORDER_INLINE LossValue<T> apply(T* z, T* residual, const Target<T>& target, int64_t outputs) {
    using V = Vec<T>;
    const T rival = strongest_rival(z, outputs, target.label), own = z[target.label];
    V sums{};
    for (int64_t j = 0; j < outputs; j += lanes<T>()) {
      const auto counts = competes<T>(j, outputs, target.label);
      const V e = select(counts, exp(select(counts, load(z + j) - broadcast<V>(rival), V{})), V{});
      sums = sums + e;
      store(residual + j, broadcast<V>(target.sign) * e);
    }
    const T total = sum(sums);  // in [1, k)
    residual[target.label] = -target.sign * total;
    const double t = double(rival) - double(own);
    const double value = t > 0 ? t + ::log(double(total) + ::exp(-t)) : ::log1p(double(total) * ::exp(t));
    return {target.sign * T(value), T(::exp(t - value)), class_success(rival, z, outputs, target)};
  }
};

struct Margin {
  template <class T>
  static PYFIRSTORDER_INLINE LossValue<T> apply(T* z, T* residual, const Target<T>& target, int64_t outputs) {
    const T rival = strongest_rival(z, outputs, target.label), own = z[target.label];
    clear(residual, outputs);
    add_to_place(residual, outputs, place_of(rival, z, outputs, target.label), target.sign);
    add_to_place(residual, outputs, target.label, -target.sign);
    return {target.sign * (rival - own), T(1), class_success(rival, z, outputs, target)};
  }
};

struct Dlr {
  // The places of the four largest logits, the first of equals before the others.
  template <class T>
  static PYFIRSTORDER_INLINE void largest_four(const T* z, int64_t outputs, int64_t (&order)[4]) {
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
  static PYFIRSTORDER_INLINE LossValue<T> apply(T* z, T* residual, const Target<T>& target, int64_t outputs) {
    if (outputs == 2) return Margin::apply(z, residual, target, outputs);
    const T guard = T(1e-12);  // as in the authors' code: logits may be tied
    const T rival = strongest_rival(z, outputs, target.label), own = z[target.label];
    int64_t order[4] = {0, 0, 0, 0};
    largest_four(z, outputs, order);
    clear(residual, outputs);
    const bool success = class_success(rival, z, outputs, target);
    if (target.targeted) {
      const T half = T(0.5);
      const T spread = z[order[0]] - half * (z[order[2]] + z[order[3]]) + guard;
      const T width = rival == rival ? spread : rival;  // NaN, wherever it stands
      const T ratio = (z[target.source] - own) / width;
      add_to_place(residual, outputs, target.label, T(1));
      add_to_place(residual, outputs, target.source, T(-1));
      add_to_place(residual, outputs, order[0], ratio);
      add_to_place(residual, outputs, order[2], -(half * ratio));
      add_to_place(residual, outputs, order[3], -(half * ratio));
      return {-ratio, 1 / width, success};
    }
    const T width = z[order[0]] - z[order[2]] + guard;
    const T ratio = (own - rival) / width;
    add_to_place(residual, outputs, place_of(rival, z, outputs, target.label), T(1));
    add_to_place(residual, outputs, target.label, T(-1));
    add_to_place(residual, outputs, order[0], ratio);
    add_to_place(residual, outputs, order[2], -ratio);
    return {-ratio, 1 / width, success};
  }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
