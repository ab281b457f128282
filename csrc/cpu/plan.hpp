// Which of the equivalent ways an attack is evaluated, from the network and the options alone: never from the number of
// samples or threads, so that a sample's bits depend on neither.  Costs are in floating-point operations a sample.
//
//   dense         4 m (d + k) a step
//   hidden space  see core/hidden_space.hpp
//   incremental   hidden products from the coordinates whose motion changed (sparse_forward.hpp), gradients from the
//                 sample's Jacobian, kept up by the units that changed sides (jacobian.hpp)
#pragma once

#include "../core/hidden_space.hpp"
#include "../core/types.hpp"
#include "panels.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

constexpr int64_t kMostTileBytes = 4 << 20;  // of a worker: the tile and what belongs to it

// Whether σ' takes finitely many values, so that few units change it in a step.
inline bool is_piecewise_linear(Activation activation) {
  return activation == Activation::relu || activation == Activation::leaky_relu || activation == Activation::identity;
}

inline bool allows_incremental(const AttackOptions& options) {
  return options.evaluation == Evaluation::automatic || options.evaluation == Evaluation::incremental;
}

// Few coordinates change their motion only where steps have one length: those of the sign.
inline bool allows_sparse_forward(const AttackOptions& options) {
  return options.direction == Direction::sign && options.algorithm == Algorithm::pgd;
}

template <class T>
inline bool uses_sparse_forward(const Network<T>& network, const AttackOptions& options) {
  // What changed is found in a few passes over d and m numbers: where one of them is small, d m products are cheaper.
  constexpr int64_t kFewestProducts = 100;  // for each of those numbers
  constexpr int64_t kFewestSteps = 8;       // the first steps, and those that reach the edge of the ball, change much
  if (!allows_incremental(options) || !allows_sparse_forward(options)) return false;
  if (options.evaluation == Evaluation::incremental) return true;
  const int64_t d = network.in_features, m = network.hidden_features;
  return options.steps >= kFewestSteps && d * m >= kFewestProducts * (d + m);
}

// The Jacobian of a row costs about a third of k backward products at the start, at half of their speed, and 4 k d a
// step in place of 2 m d.
template <class T>
inline bool uses_jacobian(const Network<T>& network, const AttackOptions& options) {
  constexpr double kPriceOfBuilding = 3;  // in backward products, with some terms in the steps that follow
  const double d = double(network.in_features), m = double(network.hidden_features);
  const double k = double(network.out_features), steps = double(options.steps);
  if (!allows_incremental(options) || !is_piecewise_linear(network.activation) || !network.has_even_terms) return false;
  const double largest = 2 * d > m ? 2 * d : m;  // of what is kept for each output and row
  if (kTileRows * k * largest * double(sizeof(T)) > double(kMostTileBytes)) return false;
  return options.evaluation == Evaluation::incremental || steps * (m - 6 * k) > kPriceOfBuilding * k * m;
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
