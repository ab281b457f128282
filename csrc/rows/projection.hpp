// Exact projection of one padded row onto ball ∩ box.
//
// The roots are found by Newton's method on the piecewise function (the mathematics is in core/balls.hpp):
// - ℓ2 with a box: in q = s² the squared norm Σ min(q v², a²) is concave and piecewise linear, so that Newton from the
//   left, q = ε² / ‖v‖², rises to the root and reaches it in as many steps as pieces are crossed (usually 2 to 5);
// - ℓ1 without a box: Σ max(|v| - τ, 0) is convex and piecewise linear: Newton from the left again (Michelot, Condat);
// - ℓ1 with a box: neither, so Newton is safeguarded by bisection.
#pragma once

#include "row_sums.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// Doubles below this radius are projected at a larger scale: their shares would be denormal.  Those above the other one
// at a smaller scale: their sums would overflow.
constexpr double kDenormalRadius = 0x1p-900, kDenormalScale = 0x1p600;
constexpr double kHugeRadius = 0x1p900, kHugeScale = 0x1p-600;

// The allowed set around one sample; arrays are padded rows.
template <class T>
struct RowBall {
  Norm norm;
  Radii radius;  // ℓ2 and ℓ1
  T eps;         // ℓ∞: the largest number of the type within the radius
  const T* x0;
  const T* lower;  // the box, null if there is none
  const T* upper;
  T* lowest;  // ℓ∞: smallest and largest allowed x; else, with a box, smallest (<= 0) and largest (>= 0) allowed δ
  T* highest;
  int64_t features;  // padded
  int64_t true_features;
  double given_radius;
};

template <class T>
PYFIRSTORDER_INLINE RowBall<T> row_ball(const Ball<T>& ball, double eps, const T* lower, const T* upper,
                                        int64_t features) {
  RowBall<T> row{};
  row.norm = ball.norm;
  row.eps = below<T>(eps);
  row.radius = radii<T>(eps, ball.norm, features);
  row.lower = lower;
  row.upper = upper;
  row.features = padded<T>(features);
  row.true_features = features;
  row.given_radius = eps;
  return row;
}

// The box, stretched to hold x0: a bound that the type cannot hold exactly may lie an ulp inside x0.
template <class V>
PYFIRSTORDER_INLINE V stretched_lower(V lower, V x0) {
  return min(lower, x0);
}
template <class V>
PYFIRSTORDER_INLINE V stretched_upper(V upper, V x0) {
  return max(upper, x0);
}

// Fills lowest and highest with the room of δ.
template <class T>
PYFIRSTORDER_INLINE void find_room(const RowBall<T>& ball) {
  using V = Vec<T>;
  for (int64_t j = 0; j < ball.features; j += lanes<T>()) {
    const V x0 = load(ball.x0 + j);
    store(ball.lowest + j, add_towards_zero(stretched_lower(load(ball.lower + j), x0), -x0));
    store(ball.highest + j, add_towards_zero(stretched_upper(load(ball.upper + j), x0), -x0));
  }
}

// Fills lowest and highest with the limits of x, for ℓ∞.
template <class T>
PYFIRSTORDER_INLINE void find_limits(const RowBall<T>& ball) {
  using V = Vec<T>;
  const V eps = broadcast<V>(ball.eps < largest_finite<T>() ? ball.eps : largest_finite<T>());
  for (int64_t j = 0; j < ball.features; j += lanes<T>()) {
    const V x0 = load(ball.x0 + j);
    V low = add_towards(x0, -eps), high = add_towards(x0, eps);
    if (ball.lower) {
      low = max(low, stretched_lower(load(ball.lower + j), x0));
      high = min(high, stretched_upper(load(ball.upper + j), x0));
    }
    store(ball.lowest + j, low);
    store(ball.highest + j, high);
  }
}

template <class T>
PYFIRSTORDER_INLINE double norm_of(const T* delta, const RowBall<T>& ball) {
  return ball.norm == Norm::l2 ? l2_norm(delta, ball.features) : sum_magnitudes(delta, ball.features);
}

// The power of two that the problem is scaled by.
template <class T>
PYFIRSTORDER_INLINE double scale_of(const RowBall<T>& ball) {
  if (sizeof(T) == 4) return 1;
  return ball.given_radius < kDenormalRadius ? kDenormalScale : ball.given_radius > kHugeRadius ? kHugeScale : 1;
}

// The accepted and the target radius of the scaled problem.
template <class T>
PYFIRSTORDER_INLINE Radii scaled_radii(const RowBall<T>& ball) {
  return radii<T>(ball.given_radius * scale_of(ball), ball.norm, ball.true_features);
}

// Whether the norm of δ, ℓ2 or ℓ1, is within the accepted radius.
template <class T>
PYFIRSTORDER_INLINE bool is_inside(const T* delta, const RowBall<T>& ball) {
  if (ball.norm == Norm::l2 && scale_of(ball) > 1)
    return scaled_l2_norm(delta, ball.features, kDenormalScale) <= scaled_radii(ball).accept;
  return norm_of(delta, ball) <= ball.radius.accept;
}

// δ = factor · δ rounded towards zero.
template <class T>
PYFIRSTORDER_INLINE void scale_towards_zero(T* delta, int64_t n, double factor) {
  for (int64_t j = 0; j < n; j += kWideLanes)
    store_towards_zero(delta + j, broadcast<Wide>(factor) * load_wide(delta + j));
}

// Room towards the box in the direction of v.
template <class T>
PYFIRSTORDER_INLINE Wide room_of(const RowBall<T>& ball, int64_t j, Wide v) {
  return select(v < Wide{}, -load_wide(ball.lowest + j), load_wide(ball.highest + j));
}

// The s of ℓ2 with a box: root of ‖min(s |v|, a)‖ = radius.  Sums are in units of their largest terms: powers of two.
template <class T>
PYFIRSTORDER_INLINE double l2_scale(const T* v, const RowBall<T>& ball, double radius) {
  constexpr int kMostIterations = 100;  // each crosses a breakpoint; guards against rounding alone
  const double per_radius = power_of_two_scale(radius);
  double s = radius / l2_norm(v, ball.features);
  for (int i = 0; i < kMostIterations; ++i) {
    Wide most{};
    for (int64_t j = 0; j < ball.features; j += kWideLanes) {
      const Wide value = load_wide(v + j), magnitude = abs(value);
      most = max(select(broadcast<Wide>(s) * magnitude < room_of(ball, j, value), magnitude, Wide{}), most);
    }
    if (largest(most) == 0) break;  // every coordinate is at the box
    const double per_free = power_of_two_scale(largest(most));
    Wide free_sum{}, clamped_sum{};
    for (int64_t j = 0; j < ball.features; j += kWideLanes) {
      const Wide value = load_wide(v + j), magnitude = abs(value), room = room_of(ball, j, value);
      const auto free = broadcast<Wide>(s) * magnitude < room;
      const Wide scaled = select(free, magnitude * broadcast<Wide>(per_free), Wide{});
      const Wide clamped = select(free, Wide{}, room * broadcast<Wide>(per_radius));
      free_sum = fma(scaled, scaled, free_sum);
      clamped_sum = fma(clamped, clamped, clamped_sum);
    }
    const double left = radius * per_radius * (radius * per_radius) - sum(clamped_sum);
    if (left <= 0) break;
    const double next = ::sqrt(left / sum(free_sum)) / per_radius * per_free;
    if (!(next > s)) break;
    s = next < 1 ? next : 1;
  }
  return s;
}

// The threshold of ℓ1 as an offset plus a remainder: coordinates are compared with it as (|v| - offset) - remainder,
// exactly, where the offset is a coordinate near the threshold, however large.
struct Threshold {
  double offset, remainder;
};

// The number in the middle of all that lie between two: the bits of floating-point numbers, turned round below zero,
// sort like integers.
PYFIRSTORDER_INLINE double middle_number(double low, double high) {
  const auto turned = [](int64_t bits) { return bits < 0 ? INT64_MIN - bits : bits; };
  const int64_t a = turned(word_of(low)), b = turned(word_of(high)), middle = turned((a >> 1) + (b >> 1) + (a & b & 1));
  double number;
  memcpy(&number, &middle, sizeof number);
  return number;
}

// Newton from `remainder`, between the thresholds 0 and `top`, the largest |v|.
template <class T>
PYFIRSTORDER_INLINE double l1_remainder(const T* v, const RowBall<T>& ball, double radius, double top,
                                        Threshold start) {
  // Newton needs 3 to 10.  Where it creeps, or rounding keeps the sum from the radius, every second step halves what is
  // left of the 2⁶⁴ numbers.
  constexpr int kNewtonIterations = 32, kMostIterations = kNewtonIterations + 2 * 64;
  const Wide offset = broadcast<Wide>(start.offset);
  double low = -start.offset, high = top - start.offset, tau = start.remainder;
  for (int i = 0; i < kMostIterations; ++i) {
    Wide total{}, moving{};
    for (int64_t j = 0; j < ball.features; j += kWideLanes) {
      const Wide value = load_wide(v + j);
      const Wide excess = (abs(value) - offset) - broadcast<Wide>(tau);
      const Wide room = ball.lower ? room_of(ball, j, value) : broadcast<Wide>(infinity<double>());
      total = total + max(min(excess, room), Wide{});
      moving = moving + select((excess > Wide{}) & (excess < room), broadcast<Wide>(1), Wide{});
    }
    const double beyond = sum(total) - radius, slope = sum(moving);
    if (::fabs(beyond) <= 0x1p-48 * radius) break;  // within the distance of target and accepted radius
    if (beyond > 0) low = tau;
    else high = tau;
    const bool creeps = i >= kNewtonIterations;
    double next = slope > 0 ? tau + beyond / slope : infinity<double>();
    if (next == tau) break;
    if ((creeps && i % 2) || !(next > low && next < high)) {
      next = creeps ? middle_number(low, high) : low + (high - low) / 2;
      if (next == low || next == high) return high;
    }
    tau = next;
  }
  return tau;
}

template <class T>
PYFIRSTORDER_INLINE Threshold l1_threshold(const T* v, const RowBall<T>& ball, double radius) {
  constexpr int kMostOffsets = 4;
  const double top = double(largest_magnitude(v, ball.features));
  Threshold threshold{top, -top};
  threshold.remainder = l1_remainder(v, ball, radius, top, threshold);
  // Without a box the largest coordinate is within the radius of the threshold.  With one it need not be, and then the
  // nearest coordinate takes its place.
  for (int i = 1; i < kMostOffsets && ::fabs(threshold.remainder) > 4 * radius; ++i) {
    double nearest = top, distance = infinity<double>();
    for (int64_t j = 0; j < ball.features; ++j) {
      const double magnitude = ::fabs(double(v[j]));
      const double apart = ::fabs((magnitude - threshold.offset) - threshold.remainder);
      if (apart < distance) {
        distance = apart;
        nearest = magnitude;
      }
    }
    if (nearest == threshold.offset) break;
    threshold = {nearest, 0.0};
    threshold.remainder = l1_remainder(v, ball, radius, top, threshold);
  }
  return threshold;
}

// Brings a row that is many orders larger than the radius nearer to it, so that their ratio, or the norm of the row, is
// a normal number: the nearest point of a ball depends only on where v points.
template <class T>
PYFIRSTORDER_INLINE void bring_nearer(T* v, const RowBall<T>& ball) {
  constexpr double kLargestRatio = 0x1p900, kLargestSummand = 0x1p1000;
  const double most = double(largest_magnitude(v, ball.features));
  const bool overflows = most > kLargestSummand && !ball.lower;  // with a box no norm of v is taken
  if (!(most / kLargestRatio > ball.radius.target) && !overflows) return;
  const double down = power_of_two_scale(most), up = 0x1p60 / power_of_two_scale(ball.radius.target);
  for (int64_t j = 0; j < ball.features; j += kWideLanes)
    store_narrow(v + j, load_wide(v + j) * broadcast<Wide>(down) * broadcast<Wide>(up));
}

template <class T>
PYFIRSTORDER_INLINE void shrink_l2(T* v, const RowBall<T>& ball) {
  if constexpr (sizeof(T) == 8) bring_nearer(v, ball);
  if (!ball.lower) {
    scale_towards_zero(v, ball.features, ball.radius.target / l2_norm(v, ball.features));
    return;
  }
  const Wide s = broadcast<Wide>(l2_scale(v, ball, ball.radius.target));
  for (int64_t j = 0; j < ball.features; j += kWideLanes) {
    const Wide value = load_wide(v + j);
    store_towards_zero(v + j, copysign(min(s * abs(value), room_of(ball, j, value)), value));
  }
}

template <class T>
PYFIRSTORDER_INLINE void shrink_l1(T* v, const RowBall<T>& ball) {
  const Threshold threshold = l1_threshold(v, ball, ball.radius.target);
  const Wide offset = broadcast<Wide>(threshold.offset), tau = broadcast<Wide>(threshold.remainder);
  for (int64_t j = 0; j < ball.features; j += kWideLanes) {
    const Wide value = load_wide(v + j);
    Wide magnitude = max((abs(value) - offset) - tau, Wide{});
    if (ball.lower) magnitude = min(magnitude, room_of(ball, j, value));
    store_towards_zero(v + j, copysign(magnitude, value));
  }
}

// Moves v, which is outside, to the nearest allowed δ.
template <class T>
PYFIRSTORDER_INLINE void shrink_row(T* v, const RowBall<T>& ball) {
  if (ball.norm == Norm::l2) shrink_l2(v, ball);
  else shrink_l1(v, ball);
  if (norm_of(v, ball) <= ball.radius.accept) return;
  // cancellation beside huge coordinates: fall back inside along the ray
  if constexpr (sizeof(T) == 8) bring_nearer(v, ball);
  scale_towards_zero(v, ball.features, ball.radius.target / norm_of(v, ball));
}

// The same for a radius among the denormal doubles, whose products have few bits, or among the largest, whose sums
// overflow: the problem is scaled by a power of two, and the result comes back rounded towards zero.
PYFIRSTORDER_INLINE void shrink_scaled_row(double* v, const RowBall<double>& ball, double* scratch) {
  const int64_t n = ball.features;
  const Wide bound = broadcast<Wide>(0x1p1000), scale = broadcast<Wide>(scale_of(ball));
  const auto scaled = [&](const double* from, double* to) {
    for (int64_t j = 0; j < n; j += kWideLanes) store(to + j, max(min(load(from + j) * scale, bound), -bound));
  };
  RowBall<double> large = ball;
  large.radius = scaled_radii(ball);
  if (ball.lower) {
    large.lowest = scratch;
    large.highest = scratch + n;
    scaled(ball.lowest, large.lowest);
    scaled(ball.highest, large.highest);
  }
  scaled(v, v);
  shrink_row(v, large);
  for (int64_t j = 0; j < n; j += lanes<double>()) {
    const Wide value = load(v + j), back = value / scale;
    store(v + j, select(abs(back * scale) > abs(value), one_smaller(back), back));
  }
}

// v becomes the nearest allowed δ; false if v is not finite.  For ℓ∞ too, lowest and highest must hold the room of δ.
// scratch holds two rows.
template <class T>
PYFIRSTORDER_INLINE bool project_row(T* v, const RowBall<T>& ball, T* scratch) {
  using V = Vec<T>;
  if (!all_finite(v, ball.features)) return false;
  const V eps = broadcast<V>(ball.norm == Norm::linf ? ball.eps : infinity<T>());
  for (int64_t j = 0; j < ball.features; j += lanes<T>()) {
    V delta = max(min(load(v + j), eps), -eps);
    if (ball.lower) delta = max(min(delta, load(ball.highest + j)), load(ball.lowest + j));
    store(scratch + j, delta);
  }
  if (ball.norm == Norm::linf || is_inside(scratch, ball)) {
    copy(v, scratch, ball.features);
    return true;
  }
  if (!(ball.radius.target > 0)) {
    clear(v, ball.features);
    return true;
  }
  if constexpr (sizeof(T) == 8) {
    if (scale_of(ball) != 1) {
      shrink_scaled_row(v, ball, scratch);
      return true;
    }
  }
  shrink_row(v, ball);
  return true;
}

// x = x0 + δ rounded towards x0; a coordinate that used up its room lies on the bound itself.
template <class T>
PYFIRSTORDER_INLINE void place_row(const T* delta, const RowBall<T>& ball, T* x) {
  using V = Vec<T>;
  for (int64_t j = 0; j < ball.features; j += lanes<T>()) {
    const V x0 = load(ball.x0 + j), d = load(delta + j);
    V point = add_towards(x0, d);
    if (ball.lower) {
      const auto at_upper = (d == load(ball.highest + j)) & (d > V{});
      const auto at_lower = (d == load(ball.lowest + j)) & (d < V{});
      point = select(at_upper, stretched_upper(load(ball.upper + j), x0), point);
      point = select(at_lower, stretched_lower(load(ball.lower + j), x0), point);
    }
    store(x + j, point);
  }
}

// The point of ball ∩ box nearest to x + step; false if that is not finite.  scratch holds three rows.
template <class T>
PYFIRSTORDER_INLINE bool advance_row(const T* x, const T* step, const RowBall<T>& ball, T* scratch, T* moved) {
  if (ball.norm == Norm::linf) {
    for (int64_t j = 0; j < ball.features; j += lanes<T>())
      store(moved + j, max(min(load(x + j) + load(step + j), load(ball.highest + j)), load(ball.lowest + j)));
    return true;
  }
  for (int64_t j = 0; j < ball.features; j += lanes<T>())
    store(scratch + j, (load(x + j) - load(ball.x0 + j)) + load(step + j));
  if (!project_row(scratch, ball, scratch + ball.features)) return false;
  place_row(scratch, ball, moved);
  return true;
}

// A point given from outside: unchanged where it is allowed, else the nearest that is.  A difference beyond the range
// of the type, which only points at both of its ends have, is taken for the largest number.  scratch holds four rows.
template <class T>
PYFIRSTORDER_INLINE void admit_row(const T* point, const RowBall<T>& ball, T* scratch, T* x) {
  T* const step = scratch + 3 * ball.features;
  const T* from = ball.x0;
  bool inside = false;
  if (ball.norm == Norm::linf) {
    from = point;
    clear(step, ball.features);
  } else {
    const Vec<T> most = broadcast<Vec<T>>(largest_finite<T>());
    for (int64_t j = 0; j < ball.features; j += lanes<T>())
      store(step + j, max(min(load(point + j) - load(ball.x0 + j), most), -most));
    inside = is_inside(step, ball);
    for (int64_t j = 0; inside && ball.lower && j < ball.features; j += lanes<T>()) {
      const Vec<T> x0 = load(ball.x0 + j), p = load(point + j);
      inside = !any((p < stretched_lower(load(ball.lower + j), x0)) | (p > stretched_upper(load(ball.upper + j), x0)));
    }
  }
  if (inside) copy(x, point, ball.features);
  else advance_row(from, step, ball, scratch, x);
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
