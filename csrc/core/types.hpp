// What a computation is, as plain structs: shared by every engine and by the bindings, so without any code.
//
// Arrays are row-major and contiguous; B samples, d input coordinates, m hidden units, k outputs.  A job is one attack
// of one sample at one radius, and job j attacks sample j % samples: a sweep of E radii is E * B jobs over B rows.
#pragma once

#include <stdint.h>

namespace pyfirstorder {

enum class Activation : int {
  relu,
  leaky_relu,
  elu,
  softplus,
  sigmoid,
  tanh,
  erf,
  gelu,
  gelu_tanh,
  silu,
  quadratic,
  identity
};
enum class Loss : int { squared, logistic, cross_entropy, margin, dlr, linear };
enum class Norm : int { linf, l2, l1 };
enum class Direction : int { gradient, sign, normalized, sparse };
enum class Start : int { none, ball, sphere };
enum class Algorithm : int { pgd, apgd };
enum class Evaluation : int { automatic, dense, hidden, incremental };
enum class Precision : int { strict, fast };
enum class Status : int8_t { steps_used_up, fixed_point, period_two, success, zero_gradient, not_finite };

constexpr int kTraceQuantities = 5;  // loss, gradient norm, delta norm, cosine, residual

// A matrix of weights in column panels, see cpu/panels.hpp.
template <class T>
struct Panels {
  const T* data;
  int64_t depth;    // rows of the matrix: length of the dot products
  int64_t columns;  // columns of the matrix, before padding
};

template <class T>
struct Network {
  const T* hidden_bias;  // padded with zeros like the columns of the panels
  const T* output_bias;
  Panels<T> hidden;             // Wᵀ: d deep, m columns: hidden products
  Panels<T> output;             // Aᵀ: m deep, k columns: logits
  Panels<T> output_backward;    // A: k deep, m columns: residual to hidden units
  Panels<T> hidden_backward;    // W: m deep, d columns: hidden units to input gradient
  const T* hidden_rows;         // W row by row, padded, for piecewise linear activations; else null
  const T* reference_jacobian;  // A W, k padded rows of d; null until it is wanted
  Panels<T> gram;               // W Wᵀ: m deep, m columns; data is null until it is wanted
  double gram_norm;             // its Frobenius norm
  bool has_even_terms;          // see cpu/term_sizes.hpp
  int64_t most_zero_terms;      // likewise
  int64_t in_features;
  int64_t hidden_features;
  int64_t out_features;
  Activation activation;
  double parameter;
};

template <class T>
struct Objective {
  Loss loss;
  bool targeted;
  const int64_t* labels;   // (B,) or null
  const T* values;         // (B, k) or null
  const int64_t* sources;  // (B,) or null: the label that targeted dlr moves away from
};

template <class T>
struct Ball {
  Norm norm;
  const double* eps;  // (jobs,)
  const T* lower;     // (d,) or null
  const T* upper;     // (d,) or null
};

struct AttackOptions {
  Algorithm algorithm;
  int64_t steps;
  const double* step_size;  // (jobs,)
  Direction direction;
  int64_t sparse_count;
  double momentum;
  Start random_start;
  int64_t restarts;
  uint64_t seed;
  int64_t sample_offset;
  bool early_stop;
  double rho;
  bool retire;
  Evaluation evaluation;
  Precision precision;
};

// Where results go; pointers that are null are not wanted.
template <class T>
struct AttackResult {
  T* x_adv;                // (jobs, d)
  T* loss;                 // (jobs,)
  T* output;               // (jobs, k)
  bool* success;           // (jobs,)
  T* best_loss;            // (jobs,)
  T* x_best;               // (jobs, d)
  T* x_best_loss;          // (jobs,)
  T* x_best_output;        // (jobs, k)
  bool* x_best_success;    // (jobs,)
  int64_t* steps;          // (jobs,)
  int64_t* first_success;  // (jobs,)
  int8_t* status;          // (jobs,)
  double* trace;           // (jobs, kTraceQuantities, steps + 1)
  T* iterates;             // (jobs, steps + 1, d), beside a trace, of one restart
  int32_t* kept_restart;   // (jobs,): which restart the row holds, -1 at first; null for a single restart
  int32_t* best_restart;   // (jobs,): the same of x_best
};

// One call of the engine.  Which fields are used depends on the operation.
template <class T>
struct Task {
  const Network<T>* network;
  const T* x;       // (B, d)
  const T* x_init;  // (B, d) or null
  int64_t samples;
  int64_t jobs;
  Objective<T> objective;
  Ball<T> ball;
  AttackOptions options;
  AttackResult<T> result;
  T* rows_out;              // forward (B, k); input_gradient, project, random_start (B, d)
  T* loss_out;              // input_gradient (B,)
  T* output_out;            // input_gradient (B, k)
  T* scale_out;             // input_gradient (B,), work space of a GPU
  const T* delta;           // project (B, d)
  int64_t rows;             // units of work: samples, or jobs * restarts
  const int64_t* row_list;  // which rows those are, or null for all
  int64_t* deferred;        // hidden-space loop: a count, and the rows that it leaves to the dense loop
  int64_t rows_per_worker;  // an even share of them
};

// What the workers of one call share.
struct Shared {
  int64_t next_row;  // first unit of work that nobody has taken
  int64_t finished;  // units of work that are done
  int stop;          // set to make the workers return early
  int* locks;        // spin locks for results that several workers write, or null
  // see cpu/crew.hpp
  int helpers;                                    // threads that help the only worker; 0 if there are several workers
  void (*yield)();                                // lets other threads run
  void (*work)(void* what, int part, int parts);  // what is being shared out, null at the end
  void* what;
  int64_t posted;  // how many times something was shared out
  int64_t done;    // helpers that have done their part of it
};

constexpr int kLocks = 64;

}  // namespace pyfirstorder
