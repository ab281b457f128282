// The vector words of a GPU: a vector is what the lanes of one warp hold, a number each.
//
// The code of csrc/rows runs on a warp as it runs on a processor's vector: all lanes take the same way through it,
// numbers outside of vectors are the same in all of them, and arrays are read and written 32 numbers at a time.
#pragma once

#include <math.h>
#include <string.h>

#include "threads.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

constexpr int kVectorBytes = kWarp * 8;  // of doubles; a vector of floats has as many lanes

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type;
  typedef int32_t bits, word;
};
template <>
struct VectorOf<double> {
  typedef double type;
  typedef int64_t bits, word;
};

template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
using Bits = typename VectorOf<T>::bits;

template <class V>
struct ElementOf {
  typedef V type;
};
template <class V>
using Element = typename ElementOf<V>::type;

template <class T>
PYFIRSTORDER_INLINE constexpr int lanes() {
  return kWarp;
}

template <class T>
PYFIRSTORDER_INLINE constexpr int64_t padded(int64_t n) {
  return (n + kWarp - 1) / kWarp * kWarp;
}

template <class T>
PYFIRSTORDER_INLINE T load(const T* p) {
  return p[lane()];
}
template <class T>
PYFIRSTORDER_INLINE void store(T* p, T value) {
  p[lane()] = value;
}

template <class V>
PYFIRSTORDER_INLINE V broadcast(V value) {
  return value;
}

PYFIRSTORDER_INLINE float fma(float a, float b, float c) {
  return ::fmaf(a, b, c);
}
PYFIRSTORDER_INLINE double fma(double a, double b, double c) {
  return ::fma(a, b, c);
}

template <class T>
PYFIRSTORDER_INLINE Bits<T> ascending() {
  return Bits<T>(lane());
}
template <class T>
PYFIRSTORDER_INLINE Bits<T> broadcast_place(int64_t place) {
  return Bits<T>(place);
}

template <class V, class M>
PYFIRSTORDER_INLINE V select(M mask, V yes, V no) {
  return mask ? yes : no;
}

// With a NaN operand the second is returned, as by a processor's own instruction.
template <class V>
PYFIRSTORDER_INLINE V min(V a, V b) {
  return a < b ? a : b;
}
template <class V>
PYFIRSTORDER_INLINE V max(V a, V b) {
  return a > b ? a : b;
}

PYFIRSTORDER_INLINE int32_t bits_of(float value) {
  int32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
PYFIRSTORDER_INLINE int64_t bits_of(double value) {
  int64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
template <class T>
PYFIRSTORDER_INLINE T of_bits(Bits<T> bits) {
  T value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
template <class T>
PYFIRSTORDER_INLINE Bits<T> word_of(T value) {
  return bits_of(value);
}

template <class T>
PYFIRSTORDER_INLINE constexpr int mantissa_bits() {
  return sizeof(T) == 4 ? 23 : 52;
}

PYFIRSTORDER_INLINE float abs(float value) {
  return ::fabsf(value);
}
PYFIRSTORDER_INLINE double abs(double value) {
  return ::fabs(value);
}
PYFIRSTORDER_INLINE float copysign(float magnitude, float sign) {
  return ::copysignf(magnitude, sign);
}
PYFIRSTORDER_INLINE double copysign(double magnitude, double sign) {
  return ::copysign(magnitude, sign);
}

// Every lane gets the same bits: a sum of two is the same in either order.  Lanes also see what others wrote before.
template <class V>
PYFIRSTORDER_INLINE V sum(V value) {
  sync_warp();
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value = value + from_lane_across(value, distance);
  sync_warp();
  return value;
}
template <class V>
PYFIRSTORDER_INLINE V largest(V value) {
  sync_warp();
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const V other = from_lane_across(value, distance);
    value = other > value ? other : value;
  }
  sync_warp();
  return value;
}
template <class M>
PYFIRSTORDER_INLINE bool any(M mask) {
  return lanes_with(bool(mask)) != 0;
}

template <class M>
PYFIRSTORDER_INLINE int64_t lanes_in(M mask) {
  return count_bits(lanes_with(bool(mask)));
}
template <class M>
PYFIRSTORDER_INLINE int64_t places_before(M mask) {
  return count_bits(lanes_with(bool(mask)) & ((1u << lane()) - 1));
}
template <class B>
PYFIRSTORDER_INLINE int64_t total_of(B counts) {
  return sum(counts);
}

template <class T>
PYFIRSTORDER_INLINE void copy(T* to, const T* from, int64_t n) {
  for (int64_t j = lane(); j < n; j += kWarp) to[j] = from[j];
}
template <class T>
PYFIRSTORDER_INLINE void clear(T* to, int64_t n) {
  for (int64_t j = lane(); j < n; j += kWarp) to[j] = T(0);
}

template <class T>
PYFIRSTORDER_INLINE double load_wide(const T* p) {
  return double(p[lane()]);
}
template <class T>
PYFIRSTORDER_INLINE void store_narrow(T* p, double value) {
  p[lane()] = T(value);
}
PYFIRSTORDER_INLINE void store_towards_zero(double* p, double value) {
  p[lane()] = value;
}
PYFIRSTORDER_INLINE void store_towards_zero(float* p, double value) {
  const float rounded = float(value);
  const bool beyond = ::fabs(double(rounded)) > ::fabs(value);
  p[lane()] = of_bits<float>(bits_of(rounded) - int32_t(beyond));
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
