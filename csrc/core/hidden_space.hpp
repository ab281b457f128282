// When an attack goes on hidden units instead of input coordinates (rows/hidden_row.hpp): told from the network and the
// options alone, never from the number of samples, so that a sample's bits do not depend on it.  Costs are in
// floating-point operations a sample.
//
//   dense         4 m (d + k) a step
//   hidden space  2 m² + 4 m k a step, 8 m d for first and last points, and a share of forming W Wᵀ
#pragma once

#include "target.hpp"
#include "types.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// The hidden-space loop knows no box, no other norm and no memory between steps, and forms no iterates but the last.
template <class T>
inline bool allows_hidden_space(const Task<T>& task) {
  const AttackOptions& options = task.options;
  const bool direction = options.direction == Direction::gradient || options.direction == Direction::normalized;
  return (options.evaluation == Evaluation::automatic || options.evaluation == Evaluation::hidden) && direction &&
         task.ball.norm == Norm::l2 && !task.ball.lower && options.algorithm == Algorithm::pgd &&
         options.momentum == 0 && !task.result.iterates;
}

// Where a product of the dense loop is `cheaper` than one on hidden units, by that factor.
template <class T>
inline bool uses_hidden_space(const Task<T>& task, const Network<T>& network, double cheaper = 1) {
  constexpr double kSamplesToShare = 64;  // the samples that forming W Wᵀ, once for a network, is shared by
  const double d = double(network.in_features), m = double(network.hidden_features);
  const double k = double(network.out_features), steps = double(task.options.steps);
  if (!allows_hidden_space(task)) return false;
  const double dense = (steps + 0.5) * 4 * m * (d + k) / cheaper;
  if (task.options.evaluation == Evaluation::hidden) return true;
  const double hidden = steps * (2 * m * m + 4 * m * k) + 8 * m * d + 2 * m * m * d / kSamplesToShare;
  return hidden < dense;
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
