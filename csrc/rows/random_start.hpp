// Uniform random points of the ball, or of its boundary, around one sample, clipped to the box.
//
// ℓ∞: uniform coordinates, and one of them at ±ε for the boundary; ℓ2: a normal direction (Box & Muller 1958) times
// U^(1/d); ℓ1: exponentials with random signs over their sum, one more exponential taking the Dirichlet remainder.
#pragma once

#include <math.h>

#include "../core/philox.hpp"
#include "projection.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

struct RandomKey {
  uint64_t seed;
  uint32_t restart;
  uint64_t sample;
};

// Writes the unnormalised coordinates of a block of two, and returns its contribution to the norm.
PYFIRSTORDER_INLINE double draw_block(Norm norm, const RandomKey& key, int64_t block, double (&pair)[2], int count) {
  const Words words = philox(key.seed, key.restart, key.sample, uint32_t(block));
  if (norm == Norm::l2) {
    const double length = ::sqrt(-2.0 * ::log(uniform(words.first)));
    const double angle = 2.0 * 3.14159265358979323846 * uniform(words.second);
    pair[0] = length * ::cos(angle);
    pair[1] = length * ::sin(angle);
    return pair[0] * pair[0] + (count > 1 ? pair[1] * pair[1] : 0.0);
  }
  const uint64_t both[2] = {words.first, words.second};
  double total = 0;
  for (int i = 0; i < count; ++i) {
    if (norm == Norm::linf) {
      pair[i] = 2.0 * uniform(both[i]) - 1.0;
    } else {
      const double exponential = -::log(uniform(both[i]));
      total += exponential;
      pair[i] = random_sign(both[i]) * exponential;
    }
  }
  return total;
}

// value / scale rounded towards zero; the scale is a power of two.
template <class T>
PYFIRSTORDER_INLINE T scaled_towards_zero(double value, double scale) {
  const T rounded = T(value / scale);
  return ::fabs(double(rounded) * scale) > ::fabs(value) ? one_towards_zero(rounded) : rounded;
}

// x becomes the start.  scratch holds a row.  Two passes over the same counter-based numbers: one for the norm.
template <class T>
PYFIRSTORDER_INLINE void random_start_row(const RowBall<T>& ball, int64_t features, bool on_sphere,
                                          const RandomKey& key, T* scratch, T* x) {
  const uint64_t whole = philox(key.seed, key.restart, key.sample, kSampleBlock).first;
  // products of a denormal radius have few bits, and those of a huge one overflow: they are taken at another scale
  const double scale = scale_of(ball);
  const double radius = scale != 1 ? scaled_radii(ball).target : ball.radius.target;
  double pair[2], total = 0, factor = double(ball.eps);
  if (ball.norm != Norm::linf) {
    for (int64_t j = 0; j < features; j += 2)
      total += draw_block(ball.norm, key, j / 2, pair, features - j > 1 ? 2 : 1);
    if (ball.norm == Norm::l2)
      factor = (on_sphere ? 1.0 : ::pow(uniform(whole), 1.0 / double(features))) / ::sqrt(total) * radius;
    else factor = radius / (total + (on_sphere ? 0.0 : -::log(uniform(whole))));
  }
  const int64_t face = on_sphere ? int64_t(::floor(uniform(whole) * double(features))) : -1;
  for (int64_t j = features; j < ball.features; ++j) scratch[j] = 0;
  for (int64_t j = 0; j < features; j += 2) {
    const int count = features - j > 1 ? 2 : 1;
    draw_block(ball.norm, key, j / 2, pair, count);
    for (int i = 0; i < count; ++i) {
      if (ball.norm == Norm::linf) {
        if (j + i == face) pair[i] = random_sign(whole);
        x[j + i] = T(double(ball.x0[j + i]) + pair[i] * factor);
      } else {
        scratch[j + i] = scaled_towards_zero<T>(pair[i] * factor, scale);
      }
    }
  }
  for (int64_t j = features; j < ball.features; ++j) x[j] = 0;
  sync_warp();
  for (int64_t j = 0; j < ball.features && (ball.norm == Norm::linf || ball.lower); j += lanes<T>()) {
    T* const row = ball.norm == Norm::linf ? x : scratch;
    store(row + j, max(min(load(row + j), load(ball.highest + j)), load(ball.lowest + j)));
  }
  if (ball.norm != Norm::linf) place_row(scratch, ball, x);
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
