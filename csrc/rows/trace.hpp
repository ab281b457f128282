// What is recorded of every iterate of a row: loss, ‖g‖₂, ‖δ‖₂, cos∠(g, δ) and ‖P(δ + g) - δ‖₂; on request the iterate.
//
// Numbers wait in the work space for the end of the row, because only one restart is kept.  Iterates are many more, so
// they go straight to the result, and then there is one restart.
#pragma once

#include "slot.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
class Trace {
 public:
  PYFIRSTORDER_INLINE Trace(const Task<T>& task, Arena& arena, int64_t capacity, Worker worker)
      : columns_(task.options.steps + 1), features_(task.network->in_features), iterates_(task.result.iterates) {
    if (!task.result.trace) return;
    values_ = arena.take<double>(capacity * kTraceQuantities * columns_);
    const int64_t n = padded<T>(task.network->in_features);
    step_ = worker.own(arena.take<T>(n * worker.count), n);
    moved_ = worker.own(arena.take<T>(n * worker.count), n);
    scratch_ = worker.own(arena.take<T>(3 * n * worker.count), 3 * n);
    wanted_ = true;
  }

  PYFIRSTORDER_INLINE bool wanted() const { return wanted_; }

  // The record of slot i, null if none is wanted.
  PYFIRSTORDER_INLINE double* of(int64_t i) const {
    return wanted_ ? values_ + i * kTraceQuantities * columns_ : nullptr;
  }

  PYFIRSTORDER_INLINE void begin(int64_t i) {
    for (int64_t j = 0; wanted_ && j < kTraceQuantities * columns_; ++j) of(i)[j] = __builtin_nan("");
  }

  // There are no iterates after t.  What has been reached is written once: iterates are too many to be filled before.
  PYFIRSTORDER_INLINE void leave(const Slot<T>& slot) {
    for (int64_t j = (slot.t + 1) * features_; iterates_ && j < columns_ * features_; ++j)
      iterate(slot, 0)[j] = T(__builtin_nan(""));
  }

  PYFIRSTORDER_INLINE void move(int64_t from, int64_t to) {
    if (wanted_) copy(of(to), of(from), kTraceQuantities * columns_);
  }

  PYFIRSTORDER_INLINE void observe(int64_t i, const Slot<T>& slot, const T* x, const T* g) {
    if (!wanted_) return;
    if (iterates_) copy(iterate(slot, slot.t), x, features_);
    const int64_t n = slot.ball.features;
    const Moments of_row = moments(x, g, slot.ball);
    double residual = residual_square(x, g, slot, of_row);
    residual = keeps_digits<T>(residual) ? ::sqrt(residual) : projected_residual(x, g, slot);
    if (of_row.gradient != of_row.gradient) residual = not_known();  // a clamp would make numbers of NaN
    const bool exact = keeps_digits<T>(of_row.gradient) && keeps_digits<T>(of_row.delta);
    for (int64_t j = 0; !exact && j < n; j += kWideLanes)  // what follows needs δ then, and only then
      store_narrow(moved_ + j, load_wide(x + j) - load_wide(slot.ball.x0 + j));
    const double g_norm = keeps_digits<T>(of_row.gradient) ? ::sqrt(of_row.gradient) : l2_norm(g, n);
    const double delta_norm = keeps_digits<T>(of_row.delta) ? ::sqrt(of_row.delta) : l2_norm(moved_, n);
    put(i, slot, g_norm, delta_norm, cosine(g, moved_, n, g_norm, delta_norm, of_row.along), residual);
  }

  // The record of an iterate from the norms of g (up to the scale of the loss) and δ, their cosine and the residual.
  PYFIRSTORDER_INLINE void put(int64_t i, const Slot<T>& slot, double g_norm, double delta_norm, double cosine,
                               double residual) {
    const double quantities[kTraceQuantities] = {double(slot.now.value), double(slot.now.scale) * g_norm, delta_norm,
                                                 cosine, residual};
    for (int q = 0; q < kTraceQuantities; ++q) of(i)[q * columns_ + slot.t] = quantities[q];
  }

  // The loss of an iterate, when it has been evaluated anew.
  PYFIRSTORDER_INLINE void settle(int64_t i, const Slot<T>& slot) { of(i)[slot.t] = double(slot.now.value); }

  // Fills the columns after iterate t from the `period` columns that end with it.
  PYFIRSTORDER_INLINE void repeat(int64_t i, const Slot<T>& slot, int64_t period) {
    const int64_t t = slot.t;
    for (int64_t s = t + 1; iterates_ && s < columns_; ++s)
      copy(iterate(slot, s), iterate(slot, t - (s - t) % period), features_);
    for (int64_t q = 0; wanted_ && q < kTraceQuantities; ++q) {
      double* const row = of(i) + q * columns_;
      for (int64_t s = t + 1; s < columns_; ++s) row[s] = row[t - (s - t) % period];
    }
  }

 private:
  // ‖g‖², ‖δ‖² and ⟨g, δ⟩.
  struct Moments {
    double gradient, delta, along;
  };

  static PYFIRSTORDER_INLINE Moments moments(const T* x, const T* g, const RowBall<T>& ball) {
    Wide gradient{}, delta{}, along{};
    for (int64_t j = 0; j < ball.features; j += kWideLanes) {
      const Wide slope = load_wide(g + j), moved = load_wide(x + j) - load_wide(ball.x0 + j);
      gradient = fma(slope, slope, gradient);
      delta = fma(moved, moved, delta);
      along = fma(slope, moved, along);
    }
    return {sum(gradient), sum(delta), sum(along)};
  }

  static PYFIRSTORDER_INLINE double not_known() { return __builtin_nan(""); }

  // ‖P(δ + g) - δ‖² in one pass where P is a formula, else NaN: of ℓ∞ a clamp, of ℓ2 without a box the shrinking
  // v ↦ f v, so that the difference is (f - 1) δ + f g.
  static PYFIRSTORDER_INLINE double residual_square(const T* x, const T* g, const Slot<T>& slot,
                                                    const Moments& of_row) {
    const RowBall<T>& ball = slot.ball;
    const double by = double(slot.now.scale);
    Wide total{};
    if (ball.norm == Norm::linf) {
      for (int64_t j = 0; j < ball.features; j += kWideLanes) {
        const Wide here = load_wide(x + j), ahead = fma(broadcast<Wide>(by), load_wide(g + j), here);
        const Wide moved = max(min(ahead, load_wide(ball.highest + j)), load_wide(ball.lowest + j)) - here;
        total = fma(moved, moved, total);
      }
      return sum(total);
    }
    if (ball.norm != Norm::l2 || ball.lower) return not_known();
    const double reached = ::sqrt(of_row.delta + 2 * by * of_row.along + by * by * of_row.gradient);
    const double shrink = reached > ball.radius.accept ? ball.radius.target / reached : 1;
    const Wide back = broadcast<Wide>(shrink - 1), ahead = broadcast<Wide>(shrink * by);
    for (int64_t j = 0; j < ball.features; j += kWideLanes) {
      const Wide moved = fma(ahead, load_wide(g + j), back * (load_wide(x + j) - load_wide(ball.x0 + j)));
      total = fma(moved, moved, total);
    }
    return sum(total);
  }

  // The same without its square, by the projection of the loop itself: NaN where that is not finite.
  PYFIRSTORDER_INLINE double projected_residual(const T* x, const T* g, const Slot<T>& slot) {
    const int64_t n = slot.ball.features;
    const Vec<T> by = broadcast<Vec<T>>(slot.now.scale);
    for (int64_t j = 0; j < n; j += lanes<T>()) store(step_ + j, by * load(g + j));
    if (!advance_row(x, step_, slot.ball, scratch_, moved_)) return not_known();
    for (int64_t j = 0; j < n; j += kWideLanes) store_narrow(step_ + j, load_wide(moved_ + j) - load_wide(x + j));
    return l2_norm(step_, n);
  }

  PYFIRSTORDER_INLINE T* iterate(const Slot<T>& slot, int64_t t) const {
    return iterates_ + (slot.job * columns_ + t) * features_;
  }

  const int64_t columns_, features_;
  T* const iterates_;
  double* values_ = nullptr;
  T *step_ = nullptr, *moved_ = nullptr, *scratch_ = nullptr;
  bool wanted_ = false;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
