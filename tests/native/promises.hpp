// What every result must satisfy, whatever the call: checked without a reference, so for any input.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "engine_call.hpp"

namespace pyfirstorder::native {

template <class T>
bool is_finite(T value) {
  return value - value == 0;
}

// Of the same bits, or both not a number.
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  const auto same = [](T x, T y) { return (x == y && std::signbit(x) == std::signbit(y)) || (x != x && y != y); };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

// Equal, or both not a number.
template <class T>
bool same_numbers(const std::vector<T>& a, const std::vector<T>& b) {
  const auto same = [](T x, T y) { return x == y || (x != x && y != y); };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

template <class T>
class Promises {
 public:
  Promises(const Engine& engine, const Case<T>& one) : isa_(engine.isa), one_(one), caller_(engine, one) {}

  void check() {
    switch (one_.call) {
      case Call::forward: return check_threads([&](int threads) { return caller_.forward(one_.x, threads); });
      case Call::input_gradient: return check_threads([&](int threads) { return caller_.input_gradient(threads); });
      case Call::multiply: return check_threads([&](int threads) { return caller_.multiply(threads); });
      case Call::project: return check_project();
      case Call::random_start: return check_start();
      case Call::attack: return check_attack();
    }
  }

 private:
  template <class Run>
  std::vector<T> check_threads_of(Run run) {
    std::vector<T> result = run(one_.threads);
    if (one_.threads > 1 && !one_.stops) require(same_bits(result, run(1)), "threads change no bit");
    return result;
  }

  template <class Run>
  void check_threads(Run run) {
    check_threads_of(run);
  }

  void check_project() {
    const std::vector<T> moved =
        check_threads_of([&](int threads) { return caller_.in_ball(caller_.table().project, &one_.delta, threads); });
    if (one_.stops) return;
    for (int64_t i = 0; i < one_.samples; ++i) {
      const T* const delta = moved.data() + i * one_.d;
      require(norm_of(delta, nullptr) <= one_.eps[size_t(i)], "a projected delta lies in the ball", i);
      for (int64_t j = 0; !one_.lower.empty() && j < one_.d; ++j) {
        const T x0 = one_.x[size_t(i * one_.d + j)], x = x0 + delta[j];
        require(one_.lower[size_t(j)] <= x && x <= one_.upper[size_t(j)], "x + a projected delta is in the box", i);
      }
    }
    const std::vector<T> again = caller_.in_ball(caller_.table().project, &moved, 1);
    require(same_numbers(again, moved), "projection is idempotent");
  }

  void check_start() {
    if (one_.options.random_start == Start::none) return;
    const std::vector<T> start =
        check_threads_of([&](int threads) { return caller_.in_ball(caller_.table().random_start, nullptr, threads); });
    for (int64_t i = 0; i < one_.samples && !one_.stops; ++i) check_point(start.data() + i * one_.d, i, i);
  }

  void check_attack() {
    const Result<T> result = caller_.attack(one_.threads);
    if (one_.stops) return;
    const std::vector<T> output = caller_.forward(result.x_adv, 1);
    require(same_numbers(output, result.output), "the output is what the network says of x_adv");
    const int64_t steps = one_.options.steps;
    for (int64_t job = 0; job < one_.jobs(); ++job) {
      const size_t at = size_t(job);
      check_point(result.x_adv.data() + job * one_.d, job, job % one_.samples);
      check_success(result.output.data() + job * one_.k, result.loss[at], result.success[at], job);
      const auto status = Status(result.status[at]);
      require(result.status[at] >= 0 && status <= Status::not_finite, "the status is one of the list", job);
      require(is_finite(result.loss[at]) || status == Status::not_finite, "a loss is finite, or said not to be", job);
      require(result.steps[at] >= 0 && result.steps[at] <= steps * one_.options.restarts, "steps are counted", job);
      require(result.first_success[at] >= -1 && result.first_success[at] <= steps, "success has a step", job);
      require(!result.success[at] || result.first_success[at] >= 0, "a success has its first", job);
      require(!(result.best_loss[at] < result.loss[at]), "no loss is above the best", job);
      if (!one_.keep_best) continue;
      check_point(result.x_best.data() + job * one_.d, job, job % one_.samples);
      check_success(result.x_best_output.data() + job * one_.k, result.x_best_loss[at], result.x_best_success[at], job);
      require(result.x_best_success[at] || !result.success[at], "the best is a success if the last is", job);
    }
    if (one_.threads > 1) require_same(result, caller_.attack(1));
  }

  void require_same(const Result<T>& many, const Result<T>& one) {
    require(same_bits(many.x_adv, one.x_adv), "threads change no bit of x_adv");
    require(same_bits(many.x_best, one.x_best), "threads change no bit of x_best");
    require(same_bits(many.output, one.output), "threads change no bit of the output");
    require(same_bits(many.loss, one.loss), "threads change no bit of the loss");
    require(same_bits(many.best_loss, one.best_loss), "threads change no bit of the best loss");
    require(same_bits(many.trace, one.trace), "threads change no bit of the trace");
    require(same_bits(many.iterates, one.iterates), "threads change no bit of the iterates");
    require(many.steps == one.steps && many.status == one.status, "threads change no ending");
    require(many.first_success == one.first_success, "threads change no first success");
    bool same = true;
    for (size_t i = 0; i < many.success.size(); ++i) same &= many.success[i] == one.success[i];
    require(same, "threads change no success");
  }

  // The norm of x - x0, or of x: the difference in float64, as a user measures it, and the sum in long double, scaled
  // all the same, because valgrind has no more than doubles for it.
  double norm_of(const T* x, const T* x0) const {
    const auto size = [&](int64_t j) { return std::fabs(x0 ? double(x[j]) - double(x0[j]) : double(x[j])); };
    double largest = 0;
    for (int64_t j = 0; j < one_.d; ++j) largest = size(j) <= largest ? largest : size(j);  // NaN stays
    if (one_.norm == Norm::linf || !is_finite(largest)) return largest;
    const double unit = largest > 0x1p500 ? 0x1p600 : largest < 0x1p-500 ? 0x1p-600 : 1;
    long double sum = 0;
    for (int64_t j = 0; j < one_.d; ++j) {
      const long double part = size(j) / unit;
      sum += one_.norm == Norm::l2 ? part * part : part;
    }
    return double(one_.norm == Norm::l2 ? std::sqrt(sum) : sum) * unit;
  }

  void check_point(const T* x, int64_t job, int64_t sample) {
    const T* const x0 = one_.x.data() + sample * one_.d;
    require(norm_of(x, x0) <= one_.eps[size_t(job)], "the point lies in the ball", job);
    for (int64_t j = 0; j < one_.d; ++j) {
      require(is_finite(x[j]), "the point is finite", job);
      if (one_.lower.empty()) continue;
      require(one_.lower[size_t(j)] <= x[j] && x[j] <= one_.upper[size_t(j)], "the point is in the box", job);
    }
  }

  void check_success(const T* output, T loss, bool success, int64_t job) {
    const int64_t sample = job % one_.samples;
    bool hit = false;
    const T* const nan = std::find_if(output, output + one_.k, [](T value) { return value != value; });
    require(nan == output + one_.k || !is_finite(loss), "an output that is no number makes the loss none", job);
    if (one_.has_labels()) hit = std::max_element(output, output + one_.k) - output == one_.labels[size_t(sample)];
    if (one_.loss == Loss::logistic) hit = (output[0] > 0) == (one_.values[size_t(sample)] > 0);
    const bool expected = one_.has_classes() && is_finite(loss) && hit == one_.targeted;
    require(success == expected, "success is what the output says", job);
  }

  // A promise that does not hold ends the process, as a crash would: that is what fuzzers and sanitizers look for.
  void require(bool holds, const char* promise, int64_t row = -1) const {
    if (holds) return;
    const AttackOptions& options = one_.options;
    std::fprintf(stderr, "%s, %d-byte numbers: broken promise in row %d: %s\n", isa_, int(sizeof(T)), int(row),
                 promise);
    std::fprintf(stderr,
                 "call %d, d %d, m %d, k %d, samples %d, radii %d, activation %d(%g), loss %d, targeted %d, norm %d, "
                 "box %d, x_init %d, eps %g, step size %g, threads %d\n",
                 int(one_.call), int(one_.d), int(one_.m), int(one_.k), int(one_.samples), int(one_.radii),
                 int(one_.activation), one_.parameter, int(one_.loss), int(one_.targeted), int(one_.norm),
                 int(!one_.lower.empty()), int(!one_.x_init.empty()), one_.eps.at(row < 0 ? 0 : size_t(row)),
                 one_.step_size.at(row < 0 ? 0 : size_t(row)), one_.threads);
    std::fprintf(stderr,
                 "algorithm %d, steps %d, direction %d, start %d, restarts %d, momentum %g, early stop %d, retire %d, "
                 "evaluation %d, precision %d, best %d, trace %d, iterates %d\n",
                 int(options.algorithm), int(options.steps), int(options.direction), int(options.random_start),
                 int(options.restarts), options.momentum, int(options.early_stop), int(options.retire),
                 int(options.evaluation), int(options.precision), int(one_.keep_best), int(one_.trace),
                 int(one_.keep_iterates));
    std::abort();
  }

  const char* const isa_;
  const Case<T>& one_;
  Caller<T> caller_;
};

// Decodes a call and checks it on every instruction set of this processor, in the type that the first byte says.
template <class T>
void check_case(Case<T> one) {
  for (const Isa* level = isas(); level->engine; ++level)
    if (level->is_supported()) Promises<T>(*level->engine, one).check();
}

inline void check_bytes(const uint8_t* data, size_t size) {
  Bytes bytes(data, size);
  if (bytes.flag()) check_case(decode<double>(bytes));
  else check_case(decode<float>(bytes));
}

}  // namespace pyfirstorder::native
