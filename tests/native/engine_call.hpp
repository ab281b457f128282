// A caller of an engine's table, as csrc/bind/cpu_module.cpp is one, without Python.
#pragma once

#include <memory>
#include <vector>

#include "../../csrc/cpu/dispatch.hpp"
#include "../../csrc/cpu/parallel.hpp"
#include "attack_case.hpp"

namespace pyfirstorder::native {

// Lets a call run to its end, or stops it at the first look.
class Watch : public Supervisor {
 public:
  explicit Watch(bool stops) : stops_(stops) {}
  bool wants_stop(double) noexcept override { return stops_; }

 private:
  const bool stops_;
};

constexpr int kNever = 0;  // a stop flag that nobody raises

// Flags that may hold no truth value before the engine has written one: UBSan would find a bool that holds neither.
class Flags {
 public:
  explicit Flags(size_t count) : flags_(new bool[count ? count : 1]()), count_(count) {}
  bool* data() { return flags_.get(); }
  bool operator[](size_t i) const { return flags_[i]; }
  size_t size() const { return count_; }

 private:
  std::unique_ptr<bool[]> flags_;
  size_t count_;
};

template <class T>
struct Result {
  explicit Result(const Case<T>& one)
      : x_adv(size_t(one.jobs() * one.d)),
        loss(size_t(one.jobs())),
        output(size_t(one.jobs() * one.k)),
        best_loss(size_t(one.jobs())),
        x_best(one.keep_best ? size_t(one.jobs() * one.d) : 0),
        x_best_loss(one.keep_best ? size_t(one.jobs()) : 0),
        x_best_output(one.keep_best ? size_t(one.jobs() * one.k) : 0),
        success(size_t(one.jobs())),
        x_best_success(one.keep_best ? size_t(one.jobs()) : 0),
        steps(size_t(one.jobs()), -1),
        first_success(size_t(one.jobs())),
        status(size_t(one.jobs()), int8_t(-1)),
        trace(one.trace ? size_t(one.jobs() * kTraceQuantities * (one.options.steps + 1)) : 0),
        iterates(one.keep_iterates ? size_t(one.jobs() * (one.options.steps + 1) * one.d) : 0),
        restarts(one.options.restarts > 1 ? size_t(2 * one.jobs()) : 0, -1) {}

  AttackResult<T> view(const Case<T>& one) {
    AttackResult<T> view{};
    view.x_adv = x_adv.data();
    view.loss = loss.data();
    view.output = output.data();
    view.success = success.data();
    view.best_loss = best_loss.data();
    if (one.keep_best) {
      view.x_best = x_best.data();
      view.x_best_loss = x_best_loss.data();
      view.x_best_output = x_best_output.data();
      view.x_best_success = x_best_success.data();
    }
    view.steps = steps.data();
    view.first_success = first_success.data();
    view.status = status.data();
    if (one.trace) view.trace = trace.data();
    if (one.keep_iterates) view.iterates = iterates.data();
    if (!restarts.empty()) {
      view.kept_restart = restarts.data();
      view.best_restart = restarts.data() + one.jobs();
    }
    return view;
  }

  std::vector<T> x_adv, loss, output, best_loss, x_best, x_best_loss, x_best_output;
  Flags success, x_best_success;
  std::vector<int64_t> steps, first_success;
  std::vector<int8_t> status;
  std::vector<double> trace;
  std::vector<T> iterates;
  std::vector<int32_t> restarts;
};

// A network in the layout of one engine, and the calls on it.
template <class T>
class Caller {
 public:
  Caller(const Engine& engine, const Case<T>& one) : table_(table_of<T>(engine)), one_(one) {
    network_.in_features = one.d;
    network_.hidden_features = one.m;
    network_.out_features = one.k;
    network_.activation = one.activation;
    network_.parameter = one.parameter;
    memory_ = allocate_aligned(table_.packed_bytes(network_));
    table_.pack({one.hidden_weight.data(), one.hidden_bias.data(), one.output_weight.data(), one.output_bias.data()},
                memory_.get(), network_, &kNever);
  }

  std::vector<T> forward(const std::vector<T>& x, int threads) {
    const int64_t rows = int64_t(x.size()) / one_.d;
    std::vector<T> output(size_t(rows * one_.k));
    Task<T> task = task_on(x, rows);
    task.rows_out = output.data();
    run(table_.forward, task, threads);
    return output;
  }

  // The loss, then the gradient, then the output.
  std::vector<T> input_gradient(int threads) {
    const size_t rows = size_t(one_.samples);
    std::vector<T> loss(rows), gradient(rows * size_t(one_.d)), output(rows * size_t(one_.k));
    Task<T> task = task_on(one_.x, one_.samples);
    task.loss_out = loss.data();
    task.rows_out = gradient.data();
    task.output_out = output.data();
    run(table_.input_gradient, task, threads);
    loss.insert(loss.end(), gradient.begin(), gradient.end());
    loss.insert(loss.end(), output.begin(), output.end());
    return loss;
  }

  // A random start or, if there is a delta, its projection.
  std::vector<T> in_ball(const Operation<T>& operation, const std::vector<T>* delta, int threads) {
    std::vector<T> moved(one_.x.size());
    Task<T> task = task_on(one_.x, one_.samples);
    task.delta = delta ? delta->data() : nullptr;
    task.rows_out = moved.data();
    run(operation, task, threads);
    return moved;
  }

  std::vector<T> multiply(int threads) {
    std::vector<T> product(size_t(one_.samples * one_.m));
    Task<T> task = task_on(one_.x, one_.samples);
    task.rows_out = product.data();
    run(table_.multiply, task, threads);
    return product;
  }

  Result<T> attack(int threads) {
    Result<T> result(one_);
    Task<T> task = task_on(one_.x, one_.samples);
    task.x_init = one_.x_init.empty() ? nullptr : one_.x_init.data();
    task.jobs = one_.jobs();
    task.rows = task.jobs * one_.options.restarts;
    task.result = result.view(one_);
    std::vector<int64_t> deferred(size_t(task.rows) + 1);
    task.deferred = deferred.data();
    const bool in_hidden_space = table_.uses_hidden_space(task);
    if (in_hidden_space) provide_gram();
    else if (table_.uses_jacobian(network_, task.options)) provide_reference_jacobian();
    run(in_hidden_space ? table_.hidden_space_attack : table_.attack, task, threads);
    if (deferred[0] > 0) {
      task.rows = deferred[0];
      task.row_list = deferred.data() + 1;
      task.options.evaluation = Evaluation::dense;
      run(table_.attack, task, threads);
    }
    return result;
  }

  const OperationTable<T>& table() const { return table_; }

 private:
  Task<T> task_on(const std::vector<T>& x, int64_t rows) {
    Task<T> task{};
    task.network = &network_;
    task.x = x.data();
    task.rows = task.samples = rows;
    task.objective = {one_.loss, one_.targeted, data_or_null(one_.labels), data_or_null(one_.values),
                      data_or_null(one_.sources)};
    task.ball = {one_.norm, one_.eps.data(), data_or_null(one_.lower), data_or_null(one_.upper)};
    task.options = one_.options;
    task.options.step_size = one_.step_size.data();
    return task;
  }

  template <class V>
  static const V* data_or_null(const std::vector<V>& values) {
    return values.empty() ? nullptr : values.data();
  }

  void run(const Operation<T>& operation, const Task<T>& task, int threads) {
    Watch watch(one_.stops);
    run_operation(operation, task, threads, one_.is_long, watch);
  }

  std::vector<T> times(const T* left, int64_t rows, Panels<T> right) {
    Network<T> shape{};
    shape.hidden = right;
    shape.in_features = right.depth;
    shape.hidden_features = right.columns;
    std::vector<T> product(size_t(rows * right.columns));
    Task<T> task{};
    task.network = &shape;
    task.x = left;
    task.rows = task.samples = rows;
    task.rows_out = product.data();
    Watch watch(false);
    run_operation(table_.multiply, task, 1, false, watch);
    return product;
  }

  void provide_gram() {
    const std::vector<T> gram = times(one_.hidden_weight.data(), one_.m, network_.hidden);
    double square = 0;
    for (const T value : gram) square += double(value) * double(value);
    network_.gram_norm = std::sqrt(square);
    gram_ = allocate_aligned(table_.packed_matrix_bytes(one_.m, one_.m));
    network_.gram = table_.pack_matrix(gram.data(), one_.m, one_.m, gram_.get(), &kNever);
  }

  void provide_reference_jacobian() {
    const std::vector<T> product = times(one_.output_weight.data(), one_.k, network_.hidden_backward);
    const int64_t stride = table_.padded(one_.d);
    jacobian_ = allocate_aligned(sizeof(T) * size_t(one_.k * stride));
    T* const rows = static_cast<T*>(jacobian_.get());
    std::fill(rows, rows + one_.k * stride, T(0));
    for (int64_t c = 0; c < one_.k; ++c) std::copy_n(product.data() + c * one_.d, one_.d, rows + c * stride);
    network_.reference_jacobian = rows;
  }

  const OperationTable<T>& table_;
  const Case<T>& one_;
  Network<T> network_{};
  AlignedMemory memory_, gram_, jacobian_;
};

}  // namespace pyfirstorder::native
