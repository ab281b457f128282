// The whole attack on a tile of rows, from first step to last.
//
// One worker takes rows (a job and one of its restarts) off a shared counter into the slots of its tile.  All slots are
// evaluated together; then each ends or steps by itself, and the slot of a row that ended takes the next row.  Rows of
// a tile may so stand at different steps, and nothing about a row depends on the others.  The rules are those of
// pyfirstorder/backends/reference/attack.py, where they are numbered.
#pragma once

#include <math.h>

#include "directions.hpp"
#include "outcome.hpp"
#include "projection.hpp"
#include "random_start.hpp"
#include "slot.hpp"
#include "tile.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
class AttackWorker {
 public:
  AttackWorker(const Task<T>& task, Shared& shared, Arena& arena) : task_(task), shared_(shared) {
    const Network<T>& network = *task.network;
    const int64_t d = network.in_features, k = network.out_features;
    const AttackOptions& options = task.options;
    has_box_ = task.ball.lower != nullptr;
    is_apgd_ = options.algorithm == Algorithm::apgd;
    has_memory_ = is_apgd_ || options.momentum != 0;
    capacity_ = tile_rows(task);
    tile_ = make_tile(arena, network, capacity_);
    output_[0] = arena.take_rows<T>(capacity_, k);
    output_[1] = arena.take_rows<T>(capacity_, k);
    const auto rows = [&](bool wanted) { return wanted ? arena.take_rows<T>(capacity_, d) : Rows<T>{nullptr, 0}; };
    x0_ = rows(true);
    previous_ = rows(!is_apgd_);
    lowest_ = rows(has_box_ || task.ball.norm == Norm::linf);
    highest_ = rows(has_box_ || task.ball.norm == Norm::linf);
    velocity_ = rows(options.momentum != 0);
    base_ = rows(is_apgd_);
    top_ = rows(is_apgd_);
    top_gradient_ = rows(is_apgd_);
    x_best_ = rows(task.result.x_best != nullptr);
    if (task.result.x_best) best_output_ = arena.take_rows<T>(capacity_, k);
    lower_ = has_box_ ? arena.take<T>(padded<T>(d)) : nullptr;
    upper_ = has_box_ ? arena.take<T>(padded<T>(d)) : nullptr;
    scratch_ = arena.take<T>(4 * padded<T>(d));
    step_ = arena.take<T>(padded<T>(d));
    moved_ = arena.take<T>(padded<T>(d));
    trace_columns_ = options.steps + 1;
    trace_ = task.result.trace ? arena.take<double>(capacity_ * kTraceQuantities * trace_columns_) : nullptr;
    slots_ = arena.take<Slot<T>>(capacity_);
  }

  void run() {
    const Network<T>& network = *task_.network;
    if (has_box_) {
      copy_row(task_.ball.lower, network.in_features, lower_);
      copy_row(task_.ball.upper, network.in_features, upper_);
    }
    while (live_ < capacity_ && take_row(live_)) ++live_;
    while (live_ > 0 && !stopped()) {
      parity_ ^= 1;
      forward_tile(network, tile_, live_, output_[parity_], &shared_.stop);
      bool wants_gradient = false;
      for (int64_t i = 0; i < live_; ++i) {
        take_loss(i);
        wants_gradient |= slots_[i].t < task_.options.steps || trace_;
      }
      if (wants_gradient) backward_tile(network, tile_, live_, &shared_.stop);
      if (stopped()) return;
      for (int64_t i = 0; i < live_;) {
        if (!take_iterate(i)) {
          ++slots_[i].t;
          ++i;
        } else if (!take_row(i)) {
          --live_;
          if (i != live_) move_slot(live_, i);
        } else {
          ++i;  // the new row is evaluated with the next tile
        }
      }
    }
  }

 private:
  static int64_t tile_rows(const Task<T>& task) {
    // Enough rows that reading the weights costs little; their state stays within a few caches.
    constexpr int64_t kGroups = 8, kMostBytes = 4 << 20;
    const Network<T>& network = *task.network;
    const int64_t per_group = kTileRows * int64_t(sizeof(T)) *
                              (8 * network.in_features + 2 * network.hidden_features + 3 * network.out_features);
    int64_t groups = kGroups * per_group > kMostBytes ? kMostBytes / per_group : kGroups;
    if (groups < 1) groups = 1;
    const int64_t rows = groups * kTileRows;
    return task.rows_per_worker < rows ? (task.rows_per_worker > 0 ? task.rows_per_worker : 1) : rows;
  }

  bool stopped() const { return __atomic_load_n(&shared_.stop, __ATOMIC_RELAXED) != 0; }

  T* at(Rows<T> rows, int64_t i) const { return rows.data + i * rows.stride; }
  double* trace_of(int64_t i) const { return trace_ + i * kTraceQuantities * trace_columns_; }

  // Loads the next row into slot i; false if there is none.
  bool take_row(int64_t i) {
    const int64_t row = __atomic_fetch_add(&shared_.next_row, 1, __ATOMIC_RELAXED);
    if (row >= task_.rows) return false;
    const AttackOptions& options = task_.options;
    const int64_t d = task_.network->in_features;
    Slot<T>& slot = slots_[i];
    slot = Slot<T>{};
    slot.row = row;
    slot.job = row / options.restarts;
    slot.restart = int32_t(row % options.restarts);
    slot.sample = slot.job % task_.samples;
    slot.first_success = -1;
    slot.best_loss = T(__builtin_nan(""));
    copy_row(task_.x + slot.sample * d, d, at(x0_, i));
    const double eps = task_.ball.eps[slot.job];
    slot.ball = row_ball(task_.ball, eps, lower_, upper_, d);
    aim_ball(i);
    if (task_.ball.norm == Norm::linf) find_limits(slot.ball);
    else if (has_box_) find_room(slot.ball);
    place_start(i);
    if (velocity_.data) memset(at(velocity_, i), 0, sizeof(T) * slot.ball.features);
    if (is_apgd_) slot.apgd.begin(eps, task_.ball.norm == Norm::l1, options.steps, d);
    if (trace_)
      for (int64_t j = 0; j < kTraceQuantities * trace_columns_; ++j) trace_of(i)[j] = __builtin_nan("");
    return true;
  }

  void place_start(int64_t i) {
    const AttackOptions& options = task_.options;
    const int64_t d = task_.network->in_features;
    Slot<T>& slot = slots_[i];
    T* const x = at(tile_.x, i);
    if (options.random_start != Start::none) {
      const RandomKey key{options.seed, uint32_t(slot.restart), uint64_t(slot.sample + options.sample_offset)};
      random_start_row(slot.ball, d, options.random_start == Start::sphere, key, scratch_, x);
    } else if (task_.x_init) {
      copy_row(task_.x_init + slot.sample * d, d, moved_);
      admit_row(moved_, slot.ball, scratch_, x);
    } else {
      memcpy(x, slot.ball.x0, sizeof(T) * slot.ball.features);
    }
  }

  // Points the ball of a slot at the arrays of that slot.
  void aim_ball(int64_t i) {
    RowBall<T>& ball = slots_[i].ball;
    ball.x0 = at(x0_, i);
    ball.lowest = lowest_.data ? at(lowest_, i) : nullptr;
    ball.highest = highest_.data ? at(highest_, i) : nullptr;
  }

  void move_slot(int64_t from, int64_t to) {
    const Rows<T> all[] = {tile_.x,      x0_,        previous_,  lowest_,        highest_,
                           velocity_,    base_,      top_,       top_gradient_,  x_best_,
                           best_output_, output_[0], output_[1], tile_.gradient, tile_.residual};
    for (const Rows<T>& rows : all)
      if (rows.data) memcpy(at(rows, to), at(rows, from), sizeof(T) * rows.stride);
    if (trace_) memcpy(trace_of(to), trace_of(from), sizeof(double) * kTraceQuantities * trace_columns_);
    slots_[to] = slots_[from];
    aim_ball(to);
  }

  void take_loss(int64_t i) {
    Slot<T>& slot = slots_[i];
    slot.before = slot.now;
    const int64_t k = task_.network->out_features;
    slot.now = loss_of<T>(task_.objective.loss)(at(output_[parity_], i), at(tile_.residual, i),
                                                target_of(task_.objective, slot.sample, k), k);
    const bool finite = slot.now.value - slot.now.value == 0;
    slot.now.success &= finite;
    if (slot.now.success && slot.first_success < 0) slot.first_success = slot.t;
    if (!(slot.best_loss >= slot.now.value) && slot.now.value == slot.now.value) slot.best_loss = slot.now.value;
    if (!x_best_.data) return;
    if (!slot.has_best || is_better(slot.now.success, slot.now.value, slot.best.success, slot.best.value)) {
      slot.has_best = true;
      slot.best = slot.now;
      memcpy(at(x_best_, i), at(tile_.x, i), sizeof(T) * slot.ball.features);
      memcpy(at(best_output_, i), at(output_[parity_], i), sizeof(T) * k);
    }
  }

  // What follows the evaluation of an iterate; true if the row has ended.
  bool take_iterate(int64_t i) {
    Slot<T>& slot = slots_[i];
    const AttackOptions& options = task_.options;
    const T* const g = at(tile_.gradient, i);
    const bool last = slot.t == options.steps;
    if (trace_) observe(i);
    if (!(slot.now.value - slot.now.value == 0) || (!last && !all_finite(g, slot.ball.features)))
      return end(i, Status::not_finite, slot.t);
    if (slot.now.success && options.early_stop) return end(i, Status::success, slot.t);
    if (last) return end(i, Status::steps_used_up, slot.t);
    if (largest_magnitude(g, slot.ball.features) == 0 && !remembers(i)) {
      repeat_trace(i, 1);
      return end(i, Status::zero_gradient, slot.t);
    }
    return step(i);
  }

  // Whether a zero gradient may still be followed by a movement.
  bool remembers(int64_t i) const {
    if (is_apgd_) return slots_[i].t > 0;
    return velocity_.data && largest_magnitude(at(velocity_, i), slots_[i].ball.features) > 0;
  }

  bool step(int64_t i) {
    Slot<T>& slot = slots_[i];
    const int64_t n = slot.ball.features;
    T* const x = at(tile_.x, i);
    if (!(is_apgd_ ? apgd_step(i) : pgd_step(i))) return end(i, Status::not_finite, slot.t + 1);
    if (!has_memory_) {
      if (task_.options.retire && equal_rows(moved_, x, n)) {
        repeat_trace(i, 1);
        return end(i, Status::fixed_point, slot.t + 1);
      }
      if (task_.options.retire && slot.t > 0 && equal_rows(moved_, at(previous_, i), n)) {
        repeat_trace(i, 2);
        if ((task_.options.steps - slot.t) % 2) step_back(i);  // this step included, the last one is on the other point
        return end(i, Status::period_two, slot.t + 1);
      }
      memcpy(at(previous_, i), x, sizeof(T) * n);
    }
    memcpy(x, moved_, sizeof(T) * n);
    return false;
  }

  static bool equal_rows(const T* a, const T* b, int64_t n) {
    for (int64_t j = 0; j < n; j += lanes<T>())
      if (any(load(a + j) != load(b + j))) return false;
    return true;
  }

  StepRule<T> rule(int64_t i, double step_size, int64_t count) const {
    const Slot<T>& slot = slots_[i];
    return {T(step_size), slot.now.scale, count, at(tile_.x, i), slot.ball.x0, lower_, upper_, slot.ball.features};
  }

  // Writes the next point to moved_; false if it is not finite.
  bool pgd_step(int64_t i) {
    const AttackOptions& options = task_.options;
    const Slot<T>& slot = slots_[i];
    const T* g = at(tile_.gradient, i);
    StepRule<T> along = rule(i, options.step_size[slot.job], options.sparse_count);
    if (velocity_.data) {
      accumulate(i, g);
      g = at(velocity_, i);
      along.scale = T(1);
    }
    write_step(options.direction, g, along);
    return advance_row(at(tile_.x, i), step_, slot.ball, scratch_, moved_);
  }

  void write_step(Direction direction, const T* g, const StepRule<T>& along) {
    // In the order of `enum class Direction`
    static constexpr void (*direction_table[])(const T*, const StepRule<T>&, T*) = {
        GradientStep::apply<T>, SignStep::apply<T>, NormalizedStep::apply<T>, SparseStep::apply<T>};
    direction_table[int(direction)](g, along, step_);
  }

  // v ← μ v + g/‖g‖₁ (Dong et al. 2018), or μ v + g for the raw gradient.
  void accumulate(int64_t i, const T* g) {
    using V = Vec<T>;
    const Slot<T>& slot = slots_[i];
    const int64_t n = slot.ball.features;
    if (task_.options.direction == Direction::gradient) {
      for (int64_t j = 0; j < n; j += lanes<T>()) store(step_ + j, broadcast<V>(slot.now.scale) * load(g + j));
    } else {
      divide_row(g, n, l1_norm(g, n), T(1), step_);
    }
    T* const velocity = at(velocity_, i);
    const V keep = broadcast<V>(T(task_.options.momentum));
    for (int64_t j = 0; j < n; j += lanes<T>()) store(velocity + j, keep * load(velocity + j) + load(step_ + j));
  }

  bool apgd_step(int64_t i) {
    constexpr double kMomentum = 0.25;  // 1 - a of the paper
    using V = Vec<T>;
    Slot<T>& slot = slots_[i];
    const RowBall<T>& ball = slot.ball;
    const int64_t n = ball.features;
    const bool l1 = ball.norm == Norm::l1;
    T *const x = at(tile_.x, i), *const base = at(base_, i);
    const T* g = at(tile_.gradient, i);
    if (slot.apgd.observe(slot.now.value, slot.t)) {
      memcpy(at(top_, i), x, sizeof(T) * n);
      memcpy(at(top_gradient_, i), g, sizeof(T) * n);
    }
    if (slot.apgd.is_due()) {
      const bool restart = l1 ? slot.apgd.adapt_l1(differing(at(top_, i), ball.x0), task_.network->in_features)
                              : slot.apgd.adapt(task_.options.rho, task_.options.steps);
      if (restart) {
        memcpy(x, at(top_, i), sizeof(T) * n);
        g = at(top_gradient_, i);
      }
    }
    write_step(task_.options.direction, g, rule(i, slot.apgd.step_size, slot.apgd.count));
    if (!advance_row(x, step_, ball, scratch_, moved_)) return false;
    if (slot.t > 0 && !l1) {
      const V keep = broadcast<V>(T(kMomentum)), go = broadcast<V>(T(1 - kMomentum));
      for (int64_t j = 0; j < n; j += lanes<T>()) {
        const V here = load(x + j);
        store(step_ + j, go * (load(moved_ + j) - here) + keep * (here - load(base + j)));
      }
      if (!advance_row(x, step_, ball, scratch_, moved_)) return false;
    }
    memcpy(base, x, sizeof(T) * n);
    return true;
  }

  int64_t differing(const T* a, const T* b) const {
    int64_t count = 0;
    for (int64_t j = 0; j < task_.network->in_features; ++j) count += a[j] != b[j];
    return count;
  }

  // The trace at this iterate.
  void observe(int64_t i) {
    using V = Vec<T>;
    const Slot<T>& slot = slots_[i];
    const int64_t n = slot.ball.features;
    const T *const x = at(tile_.x, i), *const g = at(tile_.gradient, i);
    for (int64_t j = 0; j < n; j += kWideLanes)
      store_narrow(moved_ + j, load_wide(x + j) - load_wide(slot.ball.x0 + j));
    const double g_norm = l2_norm(g, n), delta_norm = l2_norm(moved_, n);
    const double product = g_norm * delta_norm;
    double* const column = trace_of(i) + slot.t;
    column[0] = double(slot.now.value);
    column[trace_columns_] = double(slot.now.scale) * g_norm;
    column[2 * trace_columns_] = delta_norm;
    column[3 * trace_columns_] = product > 0 ? inner_product(g, moved_, n) / product : 0;
    for (int64_t j = 0; j < n; j += lanes<T>()) store(step_ + j, broadcast<V>(slot.now.scale) * load(g + j));
    double residual = __builtin_nan("");
    if (advance_row(x, step_, slot.ball, scratch_, moved_)) {
      for (int64_t j = 0; j < n; j += kWideLanes) store_narrow(step_ + j, load_wide(moved_ + j) - load_wide(x + j));
      residual = l2_norm(step_, n);
    }
    column[4 * trace_columns_] = residual;
  }

  // Fills the columns after this iterate from the `period` columns that end with it.
  void repeat_trace(int64_t i, int64_t period) {
    if (!trace_) return;
    const int64_t t = slots_[i].t;
    for (int64_t q = 0; q < kTraceQuantities; ++q) {
      double* const row = trace_of(i) + q * trace_columns_;
      for (int64_t s = t + 1; s < trace_columns_; ++s) row[s] = row[t - (s - t) % period];
    }
  }

  // The row ends on the iterate before.
  void step_back(int64_t i) {
    slots_[i].now = slots_[i].before;
    memcpy(at(tile_.x, i), at(previous_, i), sizeof(T) * slots_[i].ball.features);
    memcpy(at(output_[parity_], i), at(output_[parity_ ^ 1], i), sizeof(T) * task_.network->out_features);
  }

  // Hands slot i's end over to the result; always true.
  bool end(int64_t i, Status status, int64_t steps) {
    const Slot<T>& slot = slots_[i];
    Outcome<T> outcome{};
    outcome.at_slot(slot);
    outcome.steps = steps;
    outcome.status = status;
    outcome.x = at(tile_.x, i);
    outcome.output = at(output_[parity_], i);
    if (x_best_.data) {
      outcome.x_best = at(x_best_, i);
      outcome.x_best_output = at(best_output_, i);
    }
    if (trace_) outcome.trace = trace_of(i);
    record_outcome(task_, shared_, outcome);
    return true;
  }

  const Task<T>& task_;
  Shared& shared_;
  Tile<T> tile_{};
  Rows<T> output_[2]{};  // logits of this iterate and of the one before, in turn
  Rows<T> x0_{}, previous_{}, lowest_{}, highest_{}, velocity_{};
  Rows<T> base_{}, top_{}, top_gradient_{};  // apgd: where the last step began, and its best point
  Rows<T> x_best_{}, best_output_{};
  T *lower_ = nullptr, *upper_ = nullptr, *scratch_ = nullptr, *step_ = nullptr, *moved_ = nullptr;
  double* trace_ = nullptr;
  Slot<T>* slots_ = nullptr;
  int64_t capacity_ = 0, live_ = 0, trace_columns_ = 0;
  int parity_ = 0;
  bool has_box_ = false, is_apgd_ = false, has_memory_ = false;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
