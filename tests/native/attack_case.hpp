// One call of an engine with all that belongs to it, and how it is decoded from bytes.
//
// What is decoded is what pyfirstorder/validate.py lets through: finite weights and points, points inside their box,
// labels of the network's classes, radii that the type can hold, and options that go together.  Arrays have exactly
// their size, so that a sanitizer sees every access beyond them.
#pragma once

#include <algorithm>
#include <cmath>

#include "../../csrc/core/types.hpp"
#include "bytes.hpp"

namespace pyfirstorder::native {

enum class Call { attack, forward, input_gradient, project, random_start, multiply };

template <class T>
struct Case {
  Call call = Call::attack;
  int64_t d = 1, m = 1, k = 1, samples = 1, radii = 1;
  Activation activation = Activation::relu;
  double parameter = 0;
  std::vector<T> hidden_weight, hidden_bias, output_weight, output_bias;
  std::vector<T> x, x_init, lower, upper, values, delta;
  std::vector<int64_t> labels, sources;
  std::vector<double> eps, step_size;
  Loss loss = Loss::squared;
  bool targeted = false;
  Norm norm = Norm::linf;
  AttackOptions options{};
  bool keep_best = false, trace = false, keep_iterates = false;
  int threads = 1;
  bool is_long = false, stops = false;

  int64_t jobs() const { return samples * radii; }
  bool has_labels() const { return loss == Loss::cross_entropy || loss == Loss::margin || loss == Loss::dlr; }
  bool has_classes() const { return has_labels() || loss == Loss::logistic; }
};

constexpr int64_t kSizes[] = {3, 1, 2, 5, 7, 8, 9, 15, 16, 17, 23, 24, 25, 33, 47, 48, 49, 64, 65, 127};
constexpr int64_t kOutputs[] = {5, 1, 2, 3, 4, 7, 8, 9, 10, 16, 17, 33};
constexpr int64_t kSamples[] = {2, 0, 1, 3, 5, 6, 7, 8, 9, 13, 25};
constexpr double kMostWork = 4e6;  // floating-point operations of an attack, so that thousands fit in a second

template <class T>
std::vector<T> numbers(Bytes& bytes, int64_t count) {
  Numbers source(Style(bytes.below(6)), bytes.word());
  std::vector<T> values(static_cast<size_t>(count));
  for (T& value : values) value = source.next<T>();
  return values;
}

template <class T>
void decode_network(Bytes& bytes, Case<T>& one) {
  one.d = bytes.one_of(kSizes);
  one.m = bytes.one_of(kSizes);
  one.k = bytes.one_of(kOutputs);
  one.samples = bytes.one_of(kSamples);
  one.activation = Activation(bytes.below(int(Activation::identity) + 1));
  constexpr double kParameters[] = {0.01, 1, 0.2, -0.5, 0, 1e-3, 30, 1e30};
  one.parameter = bytes.one_of(kParameters);
  if (one.activation == Activation::softplus && one.parameter <= 0) one.parameter = 1;
  one.hidden_weight = numbers<T>(bytes, one.m * one.d);
  one.hidden_bias = numbers<T>(bytes, one.m);
  one.output_weight = numbers<T>(bytes, one.k * one.m);
  one.output_bias = numbers<T>(bytes, one.k);
  one.x = numbers<T>(bytes, one.samples * one.d);
}

template <class T>
void decode_objective(Bytes& bytes, Case<T>& one) {
  one.loss = Loss(bytes.below(int(Loss::linear) + 1));
  one.targeted = bytes.flag();
  const int64_t fewest = one.loss == Loss::dlr && one.targeted ? 4 : 2;
  if ((one.has_labels() && one.k < fewest) || (one.loss == Loss::logistic && one.k != 1)) one.loss = Loss::squared;
  if (one.has_labels()) {
    for (int64_t i = 0; i < one.samples; ++i) {
      one.labels.push_back(int64_t(bytes.below(uint64_t(one.k))));
      one.sources.push_back((one.labels.back() + 1 + int64_t(bytes.below(uint64_t(one.k - 1)))) % one.k);
    }
    if (one.loss != Loss::dlr || !one.targeted) one.sources.clear();
  } else {
    one.values = numbers<T>(bytes, one.samples * one.k);
    for (T& value : one.values)
      if (one.loss == Loss::logistic) value = value < 0 ? T(-1) : T(1);
  }
}

// A box that holds the points: none, one of numbers, one that some points touch, or one without width.
template <class T>
void decode_box(Bytes& bytes, Case<T>& one) {
  const uint64_t kind = bytes.below(4);
  if (kind == 0) return;
  const size_t d = size_t(one.d);
  const T largest = std::numeric_limits<T>::max();
  one.lower.assign(d, kind == 1 ? T(0) : largest);
  one.upper.assign(d, kind == 1 ? T(1) : -largest);
  for (size_t i = 0; i < one.x.size(); ++i) {
    T& x = one.x[i];
    if (kind == 1) x = std::min(std::max(x, T(0)), T(1));
    if (kind == 3) x = one.x[i % d];
    one.lower[i % d] = std::min(one.lower[i % d], x);
    one.upper[i % d] = std::max(one.upper[i % d], x);
  }
  for (size_t j = 0; j < d; ++j) {
    if (one.lower[j] > one.upper[j]) one.lower[j] = one.upper[j] = 0;  // there are no points
    one.lower[j] += T(0), one.upper[j] += T(0);                        // no zero with a sign
    if (kind == 2 && bytes.flag()) one.lower[j] = -std::numeric_limits<T>::infinity();
  }
}

template <class T>
double radius(Bytes& bytes) {
  using Limits = std::numeric_limits<T>;
  const double list[] = {0.1,
                         0,
                         1,
                         10,
                         0.003,
                         1e-7,
                         1e-30,
                         1e30,
                         double(Limits::denorm_min()),
                         double(Limits::min()),
                         5e-324,
                         1e-300,
                         double(Limits::max()) / 2,
                         double(Limits::max())};
  return bytes.one_of(list);
}

template <class T>
void decode_options(Bytes& bytes, Case<T>& one) {
  AttackOptions& options = one.options;
  options.algorithm = Algorithm(bytes.below(2));
  options.direction = Direction(bytes.below(4));
  options.random_start = one.x_init.empty() ? Start(bytes.below(3)) : Start::none;
  const bool is_random = options.random_start != Start::none;
  options.restarts = is_random ? 1 + int64_t(bytes.below(3)) : 1;
  options.steps = int64_t(bytes.below(24));
  options.sparse_count = 1 + int64_t(bytes.below(uint64_t(one.d)));
  constexpr double kMomenta[] = {0, 0.9, 1, 2, 1e-30, 1e30};
  options.momentum = bytes.one_of(kMomenta);
  options.seed = bytes.word();
  options.sample_offset = bytes.flag() ? int64_t(1) << 62 : int64_t(bytes.below(100));
  options.early_stop = bytes.flag() && one.has_classes();
  constexpr double kShares[] = {0.75, 0, 1, 0.5};
  options.rho = bytes.one_of(kShares);
  options.retire = !bytes.flag();
  options.precision = Precision(bytes.below(2));
  one.keep_best = bytes.flag();
  one.trace = bytes.flag();
  one.keep_iterates = one.trace && options.restarts == 1 && bytes.flag();
  const bool is_plain = options.algorithm == Algorithm::pgd && !one.keep_iterates && options.momentum == 0;
  const bool ascends = options.direction == Direction::gradient || options.direction == Direction::normalized;
  const bool is_piecewise = one.activation == Activation::relu || one.activation == Activation::leaky_relu ||
                            one.activation == Activation::identity;
  options.evaluation = Evaluation(bytes.below(4));
  if (options.evaluation == Evaluation::hidden && !(is_plain && ascends && one.norm == Norm::l2 && one.lower.empty()))
    options.evaluation = Evaluation::automatic;
  if (options.evaluation == Evaluation::incremental && !is_piecewise && options.direction != Direction::sign)
    options.evaluation = Evaluation::automatic;
}

template <class T>
void decode_ball(Bytes& bytes, Case<T>& one) {
  const bool may_be_free = one.options.algorithm == Algorithm::pgd && one.options.random_start == Start::none;
  for (int64_t job = 0; job < one.jobs(); ++job) {
    const bool is_free = bytes.below(16) == 15 && may_be_free;
    one.eps.push_back(is_free ? std::numeric_limits<double>::infinity() : radius<T>(bytes));
    one.step_size.push_back(one.options.algorithm == Algorithm::pgd ? radius<T>(bytes) : 0.0);
  }
}

// Steps, then restarts and radii, are given up where an attack would take long.
template <class T>
void limit_work(Case<T>& one) {
  const auto work = [&one] {
    return 4.0 * double(one.d + one.k) * double(one.m) * double(one.jobs() * one.options.restarts) *
           double(one.options.steps + 1);
  };
  while (work() > kMostWork && one.options.steps > 2) one.options.steps /= 2;
  if (work() > kMostWork) one.options.restarts = 1;
}

template <class T>
Case<T> decode(Bytes& bytes) {
  Case<T> one;
  one.call = Call(bytes.below(6));
  one.norm = Norm(bytes.below(3));
  const uint64_t manner = bytes.below(16);  // mostly on one thread: to start more takes longer than the call
  one.threads = manner < 12 ? 1 : int(manner - 10);
  one.is_long = manner >= 14;
  one.stops = manner == 15;
  decode_network(bytes, one);
  decode_objective(bytes, one);
  decode_box(bytes, one);
  one.radii = 1 + int64_t(bytes.below(3));
  if (bytes.flag()) one.x_init = numbers<T>(bytes, one.samples * one.d);
  decode_options(bytes, one);
  limit_work(one);
  decode_ball(bytes, one);
  if (one.call == Call::project) one.delta = numbers<T>(bytes, one.samples * one.d);
  return one;
}

}  // namespace pyfirstorder::native
