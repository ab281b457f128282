// One vector type and the few words that the rest of the engine is written in.
//
// Vectors are those of the GCC and Clang vector extensions, so + - * / and comparisons are the compiler's; the words
// below are what the language lacks.  PYFIRSTORDER_VECTOR_BYTES, the width, and PYFIRSTORDER_HAS_FMA come with the
// instruction set.  Without hardware fused multiply-add, fma(a, b, c) rounds twice, so results of such a level differ
// from the others in the last bits; within a level every path computes the same bits.
#pragma once

#include <stdint.h>
#include <string.h>

#include "../core/target.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace pyfirstorder::PYFIRSTORDER_TARGET {

constexpr int kVectorBytes = PYFIRSTORDER_VECTOR_BYTES;

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(PYFIRSTORDER_VECTOR_BYTES)));
  typedef int32_t bits __attribute__((vector_size(PYFIRSTORDER_VECTOR_BYTES)));
  typedef int32_t word;
  typedef float half __attribute__((vector_size(PYFIRSTORDER_VECTOR_BYTES / 2)));
  typedef int32_t half_bits __attribute__((vector_size(PYFIRSTORDER_VECTOR_BYTES / 2)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(PYFIRSTORDER_VECTOR_BYTES)));
  typedef int64_t bits __attribute__((vector_size(PYFIRSTORDER_VECTOR_BYTES)));
  typedef int64_t word;
};

template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
using Bits = typename VectorOf<T>::bits;

// Element type of a vector.
template <class V>
struct ElementOf;
template <>
struct ElementOf<Vec<float>> {
  typedef float type;
};
template <>
struct ElementOf<Vec<double>> {
  typedef double type;
};
template <class V>
using Element = typename ElementOf<V>::type;

template <class T>
constexpr int lanes() {
  return kVectorBytes / int(sizeof(T));
}

// The next multiple of the vector length: rows of work space are padded to it, so that loops have no tails.
template <class T>
constexpr int64_t padded(int64_t n) {
  return (n + lanes<T>() - 1) / lanes<T>() * lanes<T>();
}

template <class T>
inline Vec<T> load(const T* p) {
  Vec<T> v;
  memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
inline void store(T* p, Vec<T> v) {
  memcpy(p, &v, sizeof v);
}

template <class V>
inline V broadcast(Element<V> value) {
  return value - V{};  // the vector extension spreads a scalar operand over the lanes
}

template <class V>
inline V fma(V a, V b, V c) {
#if !PYFIRSTORDER_HAS_FMA
  return a * b + c;
#elif defined(__aarch64__)
  if constexpr (sizeof(Element<V>) == 4) return V(vfmaq_f32(float32x4_t(c), float32x4_t(a), float32x4_t(b)));
  else return V(vfmaq_f64(float64x2_t(c), float64x2_t(a), float64x2_t(b)));
#elif PYFIRSTORDER_VECTOR_BYTES == 64 && !defined(__AVX512F__)
  // the shapes of AVX-512 on an AVX2 processor, for tests
  V result;
  for (int half = 0; half < 2; ++half) {
    const char* const at[] = {(const char*)&a + 32 * half, (const char*)&b + 32 * half, (const char*)&c + 32 * half};
    __m256 part[3];
    for (int i = 0; i < 3; ++i) memcpy(&part[i], at[i], 32);
    if constexpr (sizeof(Element<V>) == 4) part[0] = _mm256_fmadd_ps(part[0], part[1], part[2]);
    else part[0] = __m256(_mm256_fmadd_pd(__m256d(part[0]), __m256d(part[1]), __m256d(part[2])));
    memcpy((char*)&result + 32 * half, &part[0], 32);
  }
  return result;
#elif PYFIRSTORDER_VECTOR_BYTES == 64
  if constexpr (sizeof(Element<V>) == 4) return V(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c)));
  else return V(_mm512_fmadd_pd(__m512d(a), __m512d(b), __m512d(c)));
#else
  if constexpr (sizeof(Element<V>) == 4) return V(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c)));
  else return V(_mm256_fmadd_pd(__m256d(a), __m256d(b), __m256d(c)));
#endif
}

// 0, 1, 2, … by lane.
template <class T>
inline Bits<T> ascending() {
  Bits<T> places{};
  for (int lane = 0; lane < lanes<T>(); ++lane) places[lane] = lane;
  return places;
}

// The same place in all lanes.
template <class T>
inline Bits<T> broadcast_place(int64_t place) {
  return Bits<T>{} + typename VectorOf<T>::word(place);
}

template <class V, class M>
inline V select(M mask, V yes, V no) {
  return mask ? yes : no;
}

// With a NaN operand the second is returned, as by the machine's own instruction.
template <class V>
inline V min(V a, V b) {
  return a < b ? a : b;
}
template <class V>
inline V max(V a, V b) {
  return a > b ? a : b;
}

template <class V>
inline Bits<Element<V>> bits_of(V v) {
  return (Bits<Element<V>>)v;
}
template <class T>
inline Vec<T> of_bits(Bits<T> b) {
  return (Vec<T>)b;
}

template <class T>
constexpr int mantissa_bits() {
  return sizeof(T) == 4 ? 23 : 52;
}

template <class V>
inline Bits<Element<V>> sign_bit(V v) {
  using T = Element<V>;
  return bits_of(v) & (Bits<T>{} + (sizeof(T) == 4 ? INT32_MIN : INT64_MIN));
}
template <class V>
inline V abs(V v) {
  return of_bits<Element<V>>(bits_of(v) ^ sign_bit(v));
}
template <class V>
inline V copysign(V magnitude, V sign) {
  return of_bits<Element<V>>(bits_of(abs(magnitude)) | sign_bit(sign));
}

// Halving order, the same for every vector: part of what makes results repeat.
template <class V>
inline Element<V> sum(V v) {
  using T = Element<V>;
  T a[lanes<T>()];
  memcpy(a, &v, sizeof v);
  for (int half = lanes<T>() / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) a[i] += a[i + half];
  return a[0];
}

template <class V>
inline Element<V> largest(V v) {
  Element<V> result = v[0];
  for (int i = 1; i < lanes<Element<V>>(); ++i) result = v[i] > result ? v[i] : result;
  return result;
}

template <class M>
inline bool any(M mask) {
  int64_t words[kVectorBytes / 8], result = 0;
  memcpy(words, &mask, sizeof mask);
  for (int64_t word : words) result |= word;
  return result != 0;
}

// The bits of one number.
inline int32_t word_of(float value) {
  int32_t word;
  memcpy(&word, &value, sizeof word);
  return word;
}
inline int64_t word_of(double value) {
  int64_t word;
  memcpy(&word, &value, sizeof word);
  return word;
}

// How many lanes of a mask are set, and how many before each.
template <class M>
inline int64_t lanes_in(M mask) {
  int64_t count = 0;
  for (size_t i = 0; i < sizeof(M) / sizeof(mask[0]); ++i) count -= mask[i];
  return count;
}
template <class M>
inline M places_before(M mask) {
  M places{};
  for (size_t i = 1; i < sizeof(M) / sizeof(mask[0]); ++i) places[i] = places[i - 1] - mask[i - 1];
  return places;
}

// Sum of the lanes of integers.
template <class B>
inline int64_t total_of(B counts) {
  int64_t total = 0;
  for (size_t i = 0; i < sizeof(B) / sizeof(counts[0]); ++i) total += counts[i];
  return total;
}

template <class T>
inline void copy(T* to, const T* from, int64_t n) {
  memcpy(to, from, sizeof(T) * size_t(n));
}
template <class T>
inline void clear(T* to, int64_t n) {
  memset(to, 0, sizeof(T) * size_t(n));
}

// The lanes of a processor's vector need not wait for each other.
inline void sync_warp() {}

// Doubles out of an array of either type, lanes<double>() at a time: sums of float are taken in double.
inline Vec<double> load_wide(const double* p) {
  return load(p);
}
inline Vec<double> load_wide(const float* p) {
  VectorOf<float>::half v;
  memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, Vec<double>);
}

inline void store_narrow(double* p, Vec<double> v) {
  store(p, v);
}
inline void store_narrow(float* p, Vec<double> v) {
  const VectorOf<float>::half narrow = __builtin_convertvector(v, VectorOf<float>::half);
  memcpy(p, &narrow, sizeof narrow);
}

// Doubles rounded towards zero to the type of the array.
inline void store_towards_zero(double* p, Vec<double> value) {
  store(p, value);
}
inline void store_towards_zero(float* p, Vec<double> value) {
  using Half = VectorOf<float>::half;
  using HalfBits = VectorOf<float>::half_bits;
  const Half rounded = __builtin_convertvector(value, Half);
  const Vec<double> back = __builtin_convertvector(rounded, Vec<double>);
  // -1 where the magnitude was rounded up: added to the bits, it takes the neighbour towards zero
  const HalfBits correction = __builtin_convertvector(abs(back) > abs(value), HalfBits);
  const HalfBits result = (HalfBits)rounded + correction;
  memcpy(p, &result, sizeof result);
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
