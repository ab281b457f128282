// From one iterate of a row to the next: direction, momentum, APGD's rules, projection.
#pragma once

#include "directions.hpp"
#include "slot.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
class Stepper {
 public:
  PYFIRSTORDER_INLINE Stepper(const Task<T>& task, Arena& arena, int64_t capacity, Worker worker)
      : options_(task.options), features_(task.network->in_features), is_apgd_(options_.algorithm == Algorithm::apgd) {
    if (options_.momentum != 0) velocity_ = arena.take_rows<T>(capacity, features_);
    if (is_apgd_) base_ = arena.take_rows<T>(capacity, features_);
    if (is_apgd_) top_ = arena.take_rows<T>(capacity, features_);
    if (is_apgd_) top_gradient_ = arena.take_rows<T>(capacity, features_);
    const int64_t n = padded<T>(features_);
    scratch_ = worker.own(arena.take<T>(3 * n * worker.count), 3 * n);
    step_ = worker.own(arena.take<T>(n * worker.count), n);
    moved_ = worker.own(arena.take<T>(n * worker.count), n);
  }

  PYFIRSTORDER_INLINE void begin(int64_t i, Slot<T>& slot) {
    if (velocity_.data) clear(row_of(velocity_, i), slot.ball.features);
    if (is_apgd_) slot.apgd.begin(slot.ball.given_radius, slot.ball.norm == Norm::l1, options_.steps, features_);
  }

  PYFIRSTORDER_INLINE void move(int64_t from, int64_t to) {
    copy_between_rows(velocity_, from, to);
    copy_between_rows(base_, from, to);
    copy_between_rows(top_, from, to);
    copy_between_rows(top_gradient_, from, to);
  }

  // Whether a step depends on more than the iterate, so that a point may come again without repeating what follows.
  PYFIRSTORDER_INLINE bool has_memory() const { return is_apgd_ || velocity_.data; }

  // Whether a zero gradient may still be followed by a movement.
  PYFIRSTORDER_INLINE bool remembers(int64_t i, const Slot<T>& slot) const {
    if (is_apgd_) return slot.t > 0;
    return velocity_.data && largest_magnitude(row_of(velocity_, i), slot.ball.features) > 0;
  }

  // Takes the step from x along the gradient g to moved(); false if that is not finite.
  PYFIRSTORDER_INLINE bool step(int64_t i, Slot<T>& slot, double step_size, T* x, const T* g) {
    return is_apgd_ ? apgd_step(i, slot, x, g) : pgd_step(i, slot, step_size, x, g);
  }

  PYFIRSTORDER_INLINE const T* moved() const { return moved_; }

 private:
  PYFIRSTORDER_INLINE void take_direction(const T* g, const StepRule<T>& rule, T* step) const {
    switch (options_.direction) {
      case Direction::gradient: return GradientStep::apply(g, rule, step);
      case Direction::sign: return SignStep::apply(g, rule, step);
      case Direction::normalized: return NormalizedStep::apply(g, rule, step);
      default: return SparseStep::apply(g, rule, step);
    }
  }

  static PYFIRSTORDER_INLINE StepRule<T> rule(const Slot<T>& slot, const T* x, double step_size, int64_t count) {
    const RowBall<T>& ball = slot.ball;
    return {T(step_size), slot.now.scale, count, x, ball.x0, ball.lower, ball.upper, ball.features};
  }

  PYFIRSTORDER_INLINE bool pgd_step(int64_t i, const Slot<T>& slot, double step_size, const T* x, const T* g) {
    StepRule<T> along = rule(slot, x, step_size, options_.sparse_count);
    if (velocity_.data) {
      accumulate(i, slot, g);
      g = row_of(velocity_, i);
      along.scale = T(1);
    }
    take_direction(g, along, step_);
    if (slot.ball.norm == Norm::linf && !all_finite(step_, slot.ball.features)) return false;  // others look themselves
    return advance_row(x, step_, slot.ball, scratch_, moved_);
  }

  // v ← μ v + g/‖g‖₁ (Dong et al. 2018), or μ v + g for the raw gradient.
  PYFIRSTORDER_INLINE void accumulate(int64_t i, const Slot<T>& slot, const T* g) {
    using V = Vec<T>;
    const int64_t n = slot.ball.features;
    if (options_.direction == Direction::gradient) {
      for (int64_t j = 0; j < n; j += lanes<T>()) store(step_ + j, broadcast<V>(slot.now.scale) * load(g + j));
    } else {
      divide_row(g, n, l1_norm(g, n), T(1), step_);
    }
    T* const velocity = row_of(velocity_, i);
    const V keep = broadcast<V>(T(options_.momentum));
    for (int64_t j = 0; j < n; j += lanes<T>()) store(velocity + j, keep * load(velocity + j) + load(step_ + j));
  }

  PYFIRSTORDER_INLINE bool apgd_step(int64_t i, Slot<T>& slot, T* x, const T* g) {
    const RowBall<T>& ball = slot.ball;
    const int64_t n = ball.features;
    const bool l1 = ball.norm == Norm::l1;
    T* const base = row_of(base_, i);
    if (slot.apgd.observe(slot.now.value, slot.t)) {
      copy(row_of(top_, i), x, n);
      copy(row_of(top_gradient_, i), g, n);
    }
    bool restart = false;
    if (slot.apgd.is_due()) {
      restart = l1 ? slot.apgd.adapt_l1(differing(row_of(top_, i), ball.x0), features_)
                   : slot.apgd.adapt(options_.rho, options_.steps);
      if (restart) {
        exchange(x, row_of(top_, i), n);
        g = row_of(top_gradient_, i);
      }
    }
    const bool moves = advance_apgd(slot, x, base, g);
    if (restart && moves) copy(row_of(top_, i), x, n);
    if (restart && !moves) copy(x, row_of(top_, i), n);  // the row ends where its output was computed
    if (moves) copy(base, x, n);
    return moves;
  }

  // From x, which is the iterate or the best point, to moved(); false if that is not finite.
  PYFIRSTORDER_INLINE bool advance_apgd(const Slot<T>& slot, const T* x, const T* base, const T* g) {
    constexpr double kMomentum = 0.25;  // 1 - a of the paper
    using V = Vec<T>;
    const RowBall<T>& ball = slot.ball;
    take_direction(g, rule(slot, x, slot.apgd.step_size, slot.apgd.count), step_);
    if (!advance_row(x, step_, ball, scratch_, moved_)) return false;
    if (slot.t > 0 && ball.norm != Norm::l1) {
      const V keep = broadcast<V>(T(kMomentum)), go = broadcast<V>(T(1 - kMomentum));
      for (int64_t j = 0; j < ball.features; j += lanes<T>()) {
        const V here = load(x + j);
        store(step_ + j, go * (load(moved_ + j) - here) + keep * (here - load(base + j)));
      }
      if (!advance_row(x, step_, ball, scratch_, moved_)) return false;
    }
    return true;
  }

  static PYFIRSTORDER_INLINE void exchange(T* a, T* b, int64_t n) {
    for (int64_t j = 0; j < n; j += lanes<T>()) {
      const Vec<T> kept = load(a + j);
      store(a + j, load(b + j));
      store(b + j, kept);
    }
  }

  PYFIRSTORDER_INLINE int64_t differing(const T* a, const T* b) const {
    int64_t count = 0;
    for (int64_t j = 0; j < padded<T>(features_); j += lanes<T>()) count += lanes_in(load(a + j) != load(b + j));
    return count;
  }

  const AttackOptions& options_;
  const int64_t features_;
  const bool is_apgd_;
  Rows<T> velocity_{};
  Rows<T> base_{}, top_{}, top_gradient_{};  // apgd: where the last step began, and its best point
  T *scratch_ = nullptr, *step_ = nullptr, *moved_ = nullptr;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
