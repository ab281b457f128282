// exp, log(1 + x) on [0, 1], tanh, erf and the scaled complementary error function, on vectors V of float or double.
//
// Written on the words of the target (fma, select, abs, …).  The polynomials are near-minimax fits (Chebyshev
// interpolation in 60 digits); each function states its range and error, which tests hold.  NaN gives NaN.
#pragma once

#include "target.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
PYFIRSTORDER_INLINE constexpr T infinity() {
  return T(__builtin_huge_val());
}

// Passed by value: device code cannot take the address of a constant.
template <class T, int N>
struct Coefficients {
  T values[N];
};

// Value of a polynomial, lowest coefficient first.
template <class V, int N>
PYFIRSTORDER_INLINE V polynomial(V x, Coefficients<Element<V>, N> coefficients) {
  V result = broadcast<V>(coefficients.values[N - 1]);
  for (int i = N - 2; i >= 0; --i) result = fma(result, x, broadcast<V>(coefficients.values[i]));
  return result;
}

template <class T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  static constexpr float largest = 88.7228394f, smallest = -104.0f;           // beyond: infinity, and zero
  static constexpr float magic = 0x1.8p23f;                                   // adding it rounds to an integer
  static constexpr float ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;  // high: 15 bits, so n * high is exact
  static PYFIRSTORDER_INLINE constexpr Coefficients<float, 5> series() {
    return {{0.5f, 0.166665769897f, 0.0416665546172f, 0.00836317905272f, 0.00139261835877f}};
  }
};
template <>
struct ExpConstants<double> {
  static constexpr double largest = 709.782712893384, smallest = -745.2;
  static constexpr double magic = 0x1.8p52;
  static constexpr double ln2_high = 0x1.62e42fefap-1, ln2_low = 0x1.cf79abc9e3b39p-40;  // high: 38 bits
  static PYFIRSTORDER_INLINE constexpr Coefficients<double, 11> series() {
    return {{0.5, 0.16666666666666670991, 0.041666666666666669755, 0.0083333333333261351258, 0.0013888888888883748305,
             0.00019841269874820625271, 0.000024801587325547741216, 2.755725540020642443e-6, 2.7557273643110295328e-7,
             2.5105217004720745164e-8, 2.0914686968086877233e-9}};
  }
};

// exp(x): at most 2 ulp over the whole range, denormal results included; overflow gives infinity.
// x = n ln 2 + r with |r| <= ln 2 / 2; exp(r) = 1 + r + r² p(r); times 2ⁿ in two factors, so that no factor
// overflows.
template <class V>
PYFIRSTORDER_INLINE V exp(V x) {
  using T = Element<V>;
  using C = ExpConstants<T>;
  const V clamped = max(min(x, broadcast<V>(C::largest + 1)), broadcast<V>(C::smallest));
  const V shifted = fma(clamped, broadcast<V>(T(1.44269504088896340736)), broadcast<V>(C::magic));
  const V n = shifted - broadcast<V>(C::magic);
  V r = fma(n, broadcast<V>(-C::ln2_high), clamped);
  r = fma(n, broadcast<V>(-C::ln2_low), r);
  const V value = fma(r * r, polynomial(r, C::series()), r) + broadcast<V>(1);
  const Bits<T> exponent = bits_of(shifted) - bits_of(broadcast<V>(C::magic));
  const Bits<T> half = exponent >> 1, rest = exponent - half;
  const Bits<T> one = bits_of(broadcast<V>(1));
  const Bits<T> unit = broadcast_place<T>(int64_t(1) << mantissa_bits<T>());  // of exponents, which may be negative
  const V scaled = value * of_bits<T>(one + half * unit) * of_bits<T>(one + rest * unit);
  return select(x == x, scaled, x);
}

template <class T>
struct LogConstants;
template <>
struct LogConstants<float> {
  static PYFIRSTORDER_INLINE constexpr Coefficients<float, 3> series() {
    return {{0.333333425477f, 0.199943788583f, 0.14790492965f}};
  }
};
template <>
struct LogConstants<double> {
  static PYFIRSTORDER_INLINE constexpr Coefficients<double, 8> series() {
    return {{0.33333333333333333232, 0.20000000000000441618, 0.14285714285399892516, 0.11111111196290522549,
             0.090908977737605681173, 0.076931223688108333029, 0.066343191846334119395, 0.065440174254637769151}};
  }
};

// log(1 + x) for x in [0, 1]: at most 2 ulp.
// 1 + x = 2^k (1 + f) with 1 + f in [√½, √2]; log(1 + f) = 2 atanh(s), s = f / (2 + f); f is exact in both cases.
template <class V>
PYFIRSTORDER_INLINE V log1p_unit(V x) {
  using T = Element<V>;
  const auto upper = x > broadcast<V>(T(0.41421356237309504880));
  const V f = select(upper, broadcast<V>(T(0.5)) * (x - broadcast<V>(1)), x);
  const V s = f / (broadcast<V>(2) + f);
  const V z = s * s;
  // 2 atanh(s) = f - s (f - 2 z p(z)): the leading term exact, the rest small
  const V small = f - s * (f - broadcast<V>(2) * z * polynomial(z, LogConstants<T>::series()));
  return small + select(upper, broadcast<V>(T(0.69314718055994530942)), V{});
}

template <class T>
struct TanhConstants;
template <>
struct TanhConstants<float> {
  static PYFIRSTORDER_INLINE constexpr Coefficients<float, 5> series() {
    return {{-0.333333289441f, 0.13332769737f, -0.0538509095785f, 0.0209971789991f, -0.00609671416591f}};
  }
};
template <>
struct TanhConstants<double> {
  static PYFIRSTORDER_INLINE constexpr Coefficients<double, 12> series() {
    return {{-0.33333333333333332938, 0.13333333333333041602, -0.05396825396789699169, 0.021869488519008305756,
             -0.008863235103240877925, 0.0035921217511549622695, -0.0014557754120478055104, 0.0005896606577757043347,
             -0.00023759064960555619551, 0.000092571161295567682707, -0.000031201101425797400033,
             6.48516348279311315e-6}};
  }
};

// tanh(x): at most 2 ulp.  An odd polynomial up to 5/8, where 1 - 2 / (exp(2x) + 1) would cancel.
template <class V>
PYFIRSTORDER_INLINE V tanh(V x) {
  using T = Element<V>;
  const V magnitude = abs(x);
  const V z = x * x;
  const V near = fma(x * z, polynomial(min(z, broadcast<V>(1)), TanhConstants<T>::series()), x);
  const V e = exp(broadcast<V>(-2) * magnitude);
  const V far = (broadcast<V>(1) - e) / (broadcast<V>(1) + e);
  return select(magnitude < broadcast<V>(T(0.625)), near, copysign(far, x));
}

template <class T>
struct ErfConstants;
template <>
struct ErfConstants<float> {
  static PYFIRSTORDER_INLINE constexpr Coefficients<float, 7> series() {
    return {{1.12837916585f, -0.376126266667f, 0.112835947152f, -0.0268542120106f, 0.00518908742343f,
             -0.000801686428717f, 7.87587506269e-5f}};
  }
  static PYFIRSTORDER_INLINE constexpr Coefficients<float, 13> scaled() {
    return {{1.23299511873f, -0.139621112284f, 0.0153796345372f, 0.0680968352324f, -0.101038671068f, 0.0937359487777f,
             -0.0663329351111f, 0.0371482263824f, -0.0161943672704f, 0.00508856346279f, -0.000742216992162f,
             -0.000270427083226f, 0.000111472140214f}};
  }
};
template <>
struct ErfConstants<double> {
  static PYFIRSTORDER_INLINE constexpr Coefficients<double, 13> series() {
    return {{1.1283791670955125738, -0.37612638903183748056, 0.11283791670954878666, -0.026866170645076793248,
             0.0052239776248180144673, -0.00085483269808337899052, 0.00012055331111642710923,
             -0.000014925595266831181565, 1.6461000484121368033e-6, -1.6350312701054695011e-7, 1.4659775274047435814e-8,
             -1.137284885679167367e-9, 5.9571761477489114044e-11}};
  }
  static PYFIRSTORDER_INLINE constexpr Coefficients<double, 22> scaled() {
    return {{1.232995118625552553,      -0.13962111684056232491,     0.015379652102605925447,
             0.068097054254679310022,   -0.10103906603557659295,     0.093732834998651311268,
             -0.066330365827172486132,  0.03716751553354565126,      -0.016197733899873979478,
             0.0050319700162769844446,  -0.00075777426386629608785,  -0.00019925696504680891417,
             0.00015062543812998780183, -0.000024397942042580889714, -0.000011231357709953950707,
             5.7058998230115176051e-6,  3.086416650758570284e-7,     -8.181992953728532602e-7,
             6.0076735980312438225e-8,  1.0188055868845701697e-7,    -9.9492049100400781869e-9,
             -9.085302642590078019e-9}};
  }
};

// exp(x²) erfc(x) for x >= 0: at most 3 ulp up to 15 (float) and 30 (double), where erfc itself has long been zero.
// A polynomial in t = (x - 4) / (x + 4), divided by 1 + 2x, which takes out most of the variation.
template <class V>
PYFIRSTORDER_INLINE V scaled_erfc(V x) {
  using T = Element<V>;
  const V bounded = min(x, broadcast<V>(sizeof(T) == 4 ? 15 : 30));
  const V t = (bounded - broadcast<V>(4)) / (bounded + broadcast<V>(4));
  return polynomial(t, ErfConstants<T>::scaled()) / fma(broadcast<V>(2), bounded, broadcast<V>(1));
}

// erf(x): at most 4 ulp.  exp_of_minus_square is exp(-x²), which callers need as well.
template <class V>
PYFIRSTORDER_INLINE V erf(V x, V exp_of_minus_square) {
  using T = Element<V>;
  const V magnitude = abs(x);
  const V z = min(x * x, broadcast<V>(1));
  const V near = x * polynomial(z, ErfConstants<T>::series());
  const V far = copysign(broadcast<V>(1) - exp_of_minus_square * scaled_erfc(magnitude), x);
  return select(magnitude < broadcast<V>(1), near, select(x == x, far, x));
}

// exp(-scale x²) to full relative accuracy: the rounding error of x² is made up for.
template <class V>
PYFIRSTORDER_INLINE V exp_minus_square(V x, Element<V> scale) {
  using T = Element<V>;
  const V limit = broadcast<V>(T(sizeof(T) == 4 ? 1e2 : 1e3));  // beyond, the result is zero
  const V bounded = max(min(x, limit), -limit);
#if PYFIRSTORDER_HAS_FMA
  const V square = bounded * bounded;
  const V error = fma(bounded, bounded, -square);
#else
  // Veltkamp's splitting: the products of halves are exact
  const V split = bounded * broadcast<V>(T(sizeof(T) == 4 ? 4097 : 134217729));
  const V high = split - (split - bounded), low = bounded - high;
  const V square = bounded * bounded;
  const V error = ((high * high - square) + broadcast<V>(2) * high * low) + low * low;
#endif
  const V value = exp(-broadcast<V>(scale) * square);
  return select(x == x, value - value * broadcast<V>(scale) * error, x);
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
