// Exercises the engines without Python: what sanitizers and valgrind run, and what replays the corpus of the fuzzer.
//
//   driver                all operations, types, names and awkward sizes on every instruction set, then random calls
//   driver threads        the parts that threads share: products, counters, restarts, the stop flag
//   driver random N SEED  N random calls
//   driver replay FILE…   what the fuzzer found
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "promises.hpp"

namespace pyfirstorder::native {
namespace {

int64_t calls = 0;

template <class T>
void fill(Case<T>& one, uint64_t seed) {
  Numbers source(Style::plain, seed);
  const auto some = [&source](int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    for (T& value : values) value = source.next<T>();
    return values;
  };
  one.hidden_weight = some(one.m * one.d);
  one.hidden_bias = some(one.m);
  one.output_weight = some(one.k * one.m);
  one.output_bias = some(one.k);
  one.x = some(one.samples * one.d);
  one.delta = some(one.samples * one.d);
  one.labels.assign(one.has_labels() ? size_t(one.samples) : 0, one.k - 1);
  one.sources.assign(one.loss == Loss::dlr && one.targeted ? size_t(one.samples) : 0, 0);
  one.values = one.has_labels() ? std::vector<T>() : some(one.samples * one.k);
  if (one.loss == Loss::logistic)
    for (T& value : one.values) value = value < 0 ? T(-1) : T(1);
  one.eps.assign(size_t(one.jobs()), 0.3);
  one.step_size.assign(size_t(one.jobs()), one.options.algorithm == Algorithm::pgd ? 0.1 : 0.0);
}

template <class T>
void check(Case<T> one) {
  fill(one, uint64_t(++calls));
  check_case(one);
}

template <class T>
Case<T> usual() {
  Case<T> one;
  one.d = 17;
  one.m = 33;
  one.k = 5;
  one.samples = 9;
  one.loss = Loss::cross_entropy;
  one.keep_best = one.trace = true;
  one.options.steps = 6;
  one.options.restarts = 1;
  one.options.sparse_count = 3;
  one.options.direction = Direction::sign;
  one.options.rho = 0.75;
  one.options.retire = true;
  return one;
}

// Each name of each list in its turn, with each operation.
template <class T>
void check_names() {
  for (int call = 0; call <= int(Call::multiply); ++call)
    for (int norm = 0; norm <= int(Norm::l1); ++norm)
      for (int start = 0; start <= int(Start::sphere); ++start)
        for (int direction = 0; direction <= int(Direction::sparse); ++direction) {
          Case<T> one = usual<T>();
          one.call = Call(call);
          one.norm = Norm(norm);
          one.options.random_start = Start(start);
          one.options.restarts = start ? 2 : 1;
          one.options.direction = Direction(direction);
          check(one);
          one.options.algorithm = Algorithm::apgd;
          check(one);
        }
  for (int activation = 0; activation <= int(Activation::identity); ++activation)
    for (int loss = 0; loss <= int(Loss::linear); ++loss)
      for (const bool targeted : {false, true}) {
        Case<T> one = usual<T>();
        one.activation = Activation(activation);
        one.parameter = 0.5;
        one.loss = Loss(loss);
        one.targeted = targeted;
        if (one.loss == Loss::logistic) one.k = 1;
        check(one);
        one.call = Call::input_gradient;
        check(one);
      }
}

// Each way of evaluation that an attack can have, and what changes it on its way.
template <class T>
void check_evaluations() {
  for (const Evaluation evaluation : {Evaluation::dense, Evaluation::hidden, Evaluation::incremental})
    for (const bool early : {false, true})
      for (const bool fast : {false, true}) {
        Case<T> one = usual<T>();
        one.options.evaluation = evaluation;
        one.options.early_stop = early;
        one.options.precision = fast ? Precision::fast : Precision::strict;
        one.options.steps = 20;
        if (evaluation == Evaluation::hidden) one.norm = Norm::l2, one.options.direction = Direction::normalized;
        check(one);
        one.radii = 3;
        one.options.random_start = Start::ball;
        one.options.restarts = 3;
        check(one);
      }
}

template <class T>
void check_sizes() {
  for (const int64_t size : {1, 2, 3, 7, 8, 9, 15, 16, 17, 23, 24, 25, 33, 48, 49, 127})
    for (const int which : {0, 1, 2, 3}) {
      Case<T> one = usual<T>();
      int64_t* const dimensions[] = {&one.d, &one.m, &one.k, &one.samples};
      *dimensions[which] = size;
      if (one.k == 1) one.loss = Loss::squared;
      one.options.sparse_count = 1;
      check(one);
      one.call = Call::forward;
      check(one);
      one.call = Call::multiply;
      check(one);
    }
  Case<T> none = usual<T>();
  none.samples = 0;
  check(none);
}

// Threads that take rows off one counter, that share the products of few rows, that are stopped, and that end restarts
// of the same job at once.
template <class T>
void check_threads() {
  for (const int threads : {2, 3, 7})
    for (const bool is_long : {false, true})
      for (const int64_t samples : {1, 5, 40})
        for (const Evaluation evaluation : {Evaluation::automatic, Evaluation::hidden, Evaluation::incremental}) {
          Case<T> one = usual<T>();
          one.threads = threads;
          one.is_long = is_long;
          one.samples = samples;
          one.options.evaluation = evaluation;
          one.options.random_start = Start::ball;
          one.options.restarts = 4;
          if (evaluation == Evaluation::hidden) one.norm = Norm::l2, one.options.direction = Direction::normalized;
          check(one);
          one.options.steps = 1 << 14;
          one.options.retire = false;
          one.keep_best = one.trace = false;
          one.stops = true;
          if (is_long) check(one);
        }
  Case<T> shared = usual<T>();  // more than a MiB of weights and one row: products are shared
  shared.d = 700;
  shared.m = 600;
  shared.samples = 1;
  shared.threads = 3;
  check(shared);
  shared.call = Call::input_gradient;
  check(shared);
}

void check_random(uint64_t count, uint64_t seed) {
  constexpr size_t kLongest = 160;
  for (uint64_t i = 0; i < count; ++i, ++calls) {
    Numbers source(Style::plain, seed + i);
    uint8_t data[kLongest];
    for (uint8_t& byte : data) byte = uint8_t(int(source.next<double>() * 128) + 128);
    check_bytes(data, kLongest);
  }
}

// Whether the file could be read: one that cannot be is no empty input, on which every promise is kept.
bool replay(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream read;
  if (file.peek() != std::ifstream::traits_type::eof()) read << file.rdbuf();
  if (!file.is_open() || file.bad() || !read) {
    std::fprintf(stderr, "%s: cannot be read\n", path.c_str());
    return false;
  }
  const std::string data = read.str();
  check_bytes(reinterpret_cast<const uint8_t*>(data.data()), data.size());
  ++calls;
  return true;
}

template <class T>
void check_everything() {
  check_names<T>();
  check_evaluations<T>();
  check_sizes<T>();
}

}  // namespace
}  // namespace pyfirstorder::native

int main(int count, char** arguments) {
  using namespace pyfirstorder::native;
  const std::string what = count > 1 ? arguments[1] : "";
  if (what == "replay" && count > 2) {
    for (int i = 2; i < count; ++i)
      if (!replay(arguments[i])) return 2;
  } else if (what == "random" && count == 4) {
    check_random(std::stoull(arguments[2]), std::stoull(arguments[3]));
  } else if (what == "threads") {
    check_threads<float>();
    check_threads<double>();
  } else if (what.empty()) {
    check_everything<float>();
    check_everything<double>();
    check_threads<float>();
    check_random(2000, 0);
  } else {
    std::fprintf(stderr, "usage: %s [threads | random N SEED | replay FILE...]\n", arguments[0]);
    return 2;
  }
  std::printf("%" PRId64 " calls on every instruction set, all promises kept\n", calls);
  return 0;
}
