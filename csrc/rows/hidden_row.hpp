// One row of the ℓ2 attack without a box, on hidden units instead of input coordinates: what follows an evaluation.
//
// Gradients are combinations of the rows of W, and so is what they add to the start: δ = c δ₀ + Wᵀ u.  With K = W Wᵀ,
// s = σ'(h) ⊙ Aᵀ r (so that g = Wᵀ s) and p = W δ, a step needs only hidden vectors:
//
//   W g = K s,   ‖g‖² = sᵀ K s,   h = h₀ + p,   ‖δ‖² = c² ‖δ₀‖² + c uᵀ W δ₀ + uᵀ p,
//   u ← f (u + α s),   p ← f (p + α K s),   c ← f c,   f = min(1, ε / ‖δ + α g‖).
//
// u and p are kept in double, so that many steps add no more rounding than one.  At the end δ is formed, projected
// exactly, and evaluated like any point: the result holds what the network says of x_adv itself.  Rows for which the
// formulas could lose digits (a norm that is small beside what cancels in it), or that are not finite, are left to the
// dense loop; that is decided per row.
//
// What is recorded of an iterate follows from the same vectors: ⟨g, δ⟩ = sᵀ p, and for the residual w = f (δ + g) - δ
//
//   y = (f - 1) u + f s,   W w = (f - 1) p + f K s,   ‖w‖² = e² ‖δ₀‖² + e yᵀ W δ₀ + yᵀ W w,   e = (f - 1) c.
#pragma once

#include "trace.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// What a row knows beside its vectors; `deferred` leaves it to the dense loop.
struct HiddenState {
  double start_share, best_start_share, start_square;  // c, its value at the best iterate, ‖δ₀‖²
  double square;                                       // ‖δ‖²
  bool deferred;
};

// A row's vectors, padded.
template <class T>
struct HiddenVectors {
  const T *signal, *image;  // s and K s
  double *moved, *weights;  // p and u
  const T* start_image;     // W δ₀; null where the attack starts at x₀
  int64_t n;
};

template <class T>
class HiddenRow {
 public:
  PYFIRSTORDER_INLINE HiddenRow(const Task<T>& task, Trace<T>& trace, int64_t i, Slot<T>& slot, HiddenState& state,
                                const HiddenVectors<T>& vectors)
      : task_(task), trace_(trace), i_(i), slot_(slot), state_(state), vectors_(vectors) {}

  // The state of a row that starts at x₀, and of one that starts at x₀ + δ₀.
  static PYFIRSTORDER_INLINE HiddenState begin(const RowBall<T>& ball) {
    HiddenState state{};
    state.deferred = !(ball.radius.target > kSmallestRadius);
    return state;
  }
  static PYFIRSTORDER_INLINE HiddenState begin(const RowBall<T>& ball, const T* delta0) {
    HiddenState state = begin(ball);
    const double norm = l2_norm(delta0, ball.features);
    state.start_share = 1;
    state.start_square = state.square = norm * norm;
    return state;
  }

  // Steps; true if the row has ended.
  PYFIRSTORDER_INLINE bool take_iterate() {
    state_.deferred |= !(slot_.now.value - slot_.now.value == 0);
    if (!state_.deferred && trace_.wanted()) state_.deferred = !observe();
    if (state_.deferred) return true;
    if (slot_.now.success && task_.options.early_stop) return end(Status::success);
    if (slot_.t == task_.options.steps) return end(Status::steps_used_up);
    if (largest_magnitude(vectors_.signal, vectors_.n) == 0) return end(Status::zero_gradient);
    state_.deferred = !step();
    return state_.deferred;
  }

  // Turns x = Wᵀ u into the point x₀ + δ, with δ₀ (or null) and the share of it.  scratch holds five rows.
  static PYFIRSTORDER_INLINE void place_end(const RowBall<T>& ball, const T* delta0, double share, HiddenState& state,
                                            T* scratch, T* x) {
    const int64_t n = ball.features;
    for (int64_t j = 0; delta0 && j < n; j += kWideLanes)
      store_narrow(x + j, fma(broadcast<Wide>(share), load_wide(delta0 + j), load_wide(x + j)));
    state.deferred |= !project_row(x, ball, scratch);
    place_row(x, ball, scratch);
    copy(x, scratch, n);
  }

  // Takes what the network says of the end point itself; what the hidden vectors called a success has to be one there.
  PYFIRSTORDER_INLINE void settle(const LossValue<T>& value) {
    state_.deferred |= slot_.status == Status::success && !value.success;
    settle_last(slot_, value);
    if (!trace_.wanted() || state_.deferred) return;
    trace_.settle(i_, slot_);
    if (slot_.status == Status::zero_gradient) trace_.repeat(i_, slot_, 1);
  }

 private:
  PYFIRSTORDER_INLINE bool end(Status status) {
    slot_.status = status;
    slot_.steps = slot_.t;
    return true;
  }

  PYFIRSTORDER_INLINE double gram_norm() const { return task_.network->gram_norm; }

  // Records the iterate; false if the norm of the gradient has lost its digits.
  PYFIRSTORDER_INLINE bool observe() {
    const T *const s = vectors_.signal, *const image = vectors_.image, *const start = vectors_.start_image;
    const double *const p = vectors_.moved, *const u = vectors_.weights;
    const int64_t n = vectors_.n;
    const double square = inner_product(s, image, n), length = inner_product(s, s, n);
    if (length > 0 && !(square > kLostDigits * gram_norm() * length)) return false;
    const double by = double(slot_.now.scale), delta_norm = ::sqrt(state_.square);
    Wide s_p{};
    for (int64_t j = 0; j < n; j += kWideLanes) s_p = fma(load_wide(s + j), load(p + j), s_p);
    const double along = sum(s_p), reached = ::sqrt(state_.square + 2 * by * along + by * by * square);
    const double shrink = reached > slot_.ball.radius.accept ? slot_.ball.radius.target / reached : 1;
    Wide y_image{}, y_start{};
    for (int64_t j = 0; j < n; j += kWideLanes) {
      const Wide back = broadcast<Wide>(shrink - 1), ahead = broadcast<Wide>(shrink * by);
      const Wide y = fma(ahead, load_wide(s + j), back * load(u + j));
      y_image = fma(y, fma(ahead, load_wide(image + j), back * load(p + j)), y_image);
      if (start) y_start = fma(y, load_wide(start + j), y_start);
    }
    const double e = (shrink - 1) * state_.start_share;
    const double residual = e * e * state_.start_square + e * sum(y_start) + sum(y_image);
    const double g_norm = ::sqrt(square);
    trace_.put(i_, slot_, g_norm, delta_norm, cosine(s, p, n, g_norm, delta_norm, along),
               ::sqrt(residual > 0 ? residual : 0));
    return true;
  }

  // False if a norm has lost its digits.
  PYFIRSTORDER_INLINE bool step() {
    const T *const s = vectors_.signal, *const image = vectors_.image, *const start = vectors_.start_image;
    double *const p = vectors_.moved, *const u = vectors_.weights;
    const int64_t n = vectors_.n;
    double factor = double(T(task_.options.step_size[slot_.job]));
    if (task_.options.direction == Direction::normalized) {
      const double square = inner_product(s, image, n);
      if (!(square > kLostDigits * gram_norm() * inner_product(s, s, n))) return false;
      factor /= ::sqrt(square);
    } else {
      factor *= double(slot_.now.scale);
    }
    Wide u_p{}, u_u{}, p_p{}, u_start{};
    for (int64_t j = 0; j < n; j += kWideLanes) {
      const Wide by = broadcast<Wide>(factor);
      const Wide next_u = fma(by, load_wide(s + j), load(u + j)), next_p = fma(by, load_wide(image + j), load(p + j));
      store(u + j, next_u);
      store(p + j, next_p);
      u_p = fma(next_u, next_p, u_p);
      u_u = fma(next_u, next_u, u_u);
      p_p = fma(next_p, next_p, p_p);
      if (start) u_start = fma(next_u, load_wide(start + j), u_start);
    }
    const double c = state_.start_share, scale = ::sqrt(sum(u_u)) * ::sqrt(sum(p_p));
    const double square = c * c * state_.start_square + c * sum(u_start) + sum(u_p);
    if (!(square - square == 0) || (scale > 0 && square < kLostDigits * scale)) return false;
    state_.square = square;
    if (square <= slot_.ball.radius.accept * slot_.ball.radius.accept) return true;
    const double shrink = slot_.ball.radius.target / ::sqrt(square);
    for (int64_t j = 0; j < n; j += kWideLanes) {
      store(u + j, broadcast<Wide>(shrink) * load(u + j));
      store(p + j, broadcast<Wide>(shrink) * load(p + j));
    }
    state_.start_share *= shrink;
    state_.square = slot_.ball.radius.target * slot_.ball.radius.target;
    return true;
  }

  // A value below this share of what cancels in it has lost too many digits.
  static constexpr double kLostDigits = 256.0 / double(int64_t(1) << (mantissa_bits<T>() + 1));
  // Squares of smaller radii are among the denormal numbers.
  static constexpr double kSmallestRadius = sizeof(T) == 4 ? 1e-30 : 1e-140;

  const Task<T>& task_;
  Trace<T>& trace_;
  const int64_t i_;
  Slot<T>& slot_;
  HiddenState& state_;
  const HiddenVectors<T> vectors_;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
