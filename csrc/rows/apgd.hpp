// APGD's memory of one row: step size, checkpoints and counts (Croce & Hein 2020, arXiv 2003.01690, algorithm 1; for ℓ1
// Croce & Hein 2021, arXiv 2103.01208).  The points themselves are rows of the attack's work space.
#pragma once

#include <stdint.h>

#include "../core/target.hpp"
#include "../core/types.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// Coordinates moved by the sparse direction for a share of them, as in the authors' code.
PYFIRSTORDER_INLINE int64_t sparse_count(double share, int64_t features) {
  double kept = (1.0 - share) * double(features);
  if (kept > double(features) - 1) kept = double(features) - 1;
  if (kept < 0) kept = 0;
  return features - int64_t(kept);
}

PYFIRSTORDER_INLINE int64_t share_of_steps(double share, int64_t steps) {
  const int64_t count = int64_t(share * double(steps));
  return count > 1 ? count : 1;
}

template <class T>
struct ApgdState {
  static constexpr double kFirstWindow = 0.22, kSmallestWindow = 0.06, kWindowDecrease = 0.03;  // shares of all steps
  static constexpr double kL1Window = 0.04;
  static constexpr double kL1FirstShare = 0.2;       // of the coordinates, moved by the first steps
  static constexpr double kL1SparsityDivisor = 1.5;  // coordinates moved: those of the best point over this
  static constexpr double kL1StillShrinking = 0.95;
  static constexpr double kL1StepDivisor = 1.5, kL1LargestDivisor = 10.0;

  double first_step_size, step_size, support;
  T best_loss, last_loss, checked_loss;
  int64_t rises, since_check, window, count;
  bool halved;  // whether the last checkpoint changed the step size

  PYFIRSTORDER_INLINE void begin(double eps, bool l1, int64_t steps, int64_t features) {
    first_step_size = step_size = eps * (l1 ? 1.0 : 2.0);
    support = double(features);
    rises = since_check = 0;
    window = share_of_steps(l1 ? kL1Window : kFirstWindow, steps);
    count = sparse_count(kL1FirstShare, features);
    halved = true;
  }

  // Takes the loss of iterate t; whether it is the best so far.
  PYFIRSTORDER_INLINE bool observe(T loss, int64_t t) {
    const bool best = t == 0 || loss > best_loss;
    if (best) best_loss = loss;
    if (t == 0) {
      checked_loss = loss;
    } else {
      rises += loss > last_loss;
      ++since_check;
    }
    last_loss = loss;
    return best;
  }

  PYFIRSTORDER_INLINE bool is_due() const { return since_check == window; }

  // ℓ∞ and ℓ2: whether the row restarts from its best point, with half the step size.
  PYFIRSTORDER_INLINE bool adapt(double rho, int64_t steps) {
    const bool stalled = !halved && checked_loss >= best_loss;
    halved = stalled || double(rises) <= double(window) * rho;
    checked_loss = best_loss;
    if (halved) step_size /= 2;
    const int64_t smallest = share_of_steps(kSmallestWindow, steps);
    window -= share_of_steps(kWindowDecrease, steps);
    if (window < smallest) window = smallest;
    rises = since_check = 0;
    return halved;
  }

  // ℓ1: the same, from the count of coordinates in which the best point differs from x0.
  PYFIRSTORDER_INLINE bool adapt_l1(int64_t differing, int64_t features) {
    const bool shrinking = double(differing) / support < kL1StillShrinking;
    count = sparse_count(double(differing) / double(features) / kL1SparsityDivisor, features);
    const double least = first_step_size / kL1LargestDivisor, smaller = step_size / kL1StepDivisor;
    step_size = shrinking ? first_step_size : smaller > least ? smaller : least;
    support = double(differing > 1 ? differing : 1);
    rises = since_check = 0;
    return shrinking;
  }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
