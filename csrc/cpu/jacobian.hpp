// Input gradients through each row's Jacobian of the logits, for activations with piecewise constant slope.
//
//   J = A diag(σ') W   (k x d),   g = Jᵀ r
//
// A unit that changes sides changes J by a rank-one term.  Where few do, following J costs a fraction of the product
// with Wᵀ; where many do, or few steps are left to pay for building J, the product is taken.  Both are decided per row,
// from what moved in it.
#pragma once

#include "slot.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// Width of the panel that begins with a column.
template <class T>
inline int64_t width_of(const Panels<T>& matrix, int64_t first) {
  const int64_t left = matrix.columns - first;
  return left < panel_width<T>() ? padded<T>(left) : panel_width<T>();
}

// Element (row, column) of a packed matrix.
template <class T>
inline T element(const Panels<T>& matrix, int64_t row, int64_t column) {
  const int64_t first = column / panel_width<T>() * panel_width<T>();
  return matrix.data[first * matrix.depth + row * width_of(matrix, first) + (column - first)];
}

template <class T>
class Jacobian {
 public:
  static int64_t numbers_per_row(const Network<T>& network) {
    return network.in_features * (network.out_features + 1) + 2 * network.hidden_features;
  }

  Jacobian(const Task<T>& task, Arena& arena, int64_t capacity) : network_(*task.network), steps_(task.options.steps) {
    if (capacity == 0) return;
    const int64_t d = network_.in_features, m = network_.hidden_features, k = network_.out_features;
    jacobian_ = arena.take_rows<T>(capacity * k, d);
    slope_ = arena.take_rows<T>(capacity, m);
    block_ = k < kBlockRows ? kBlockRows / k : 1;
    weighted_ = arena.take_rows<T>(block_ * k, m);
    hidden_ = arena.take_rows<T>(capacity, m);
    gradient_ = arena.take_rows<T>(capacity, d);
    slot_of_ = arena.take<int64_t>(capacity);
    terms_ = arena.take<int64_t>(capacity);
    unit_ = arena.take<int32_t>(m);
    factor_ = arena.take<T>(m * k);
  }

  void move(int64_t from, int64_t to) {
    const int64_t k = network_.out_features;
    for (int64_t c = 0; c < k; ++c) copy_between_rows(jacobian_, from * k + c, to * k + c);
    copy_between_rows(slope_, from, to);
    terms_[to] = terms_[from];
  }

  // Fills tile.gradient from tile.slope and tile.residual.
  void backward(const Tile<T>& tile, const Slot<T>* slots, int64_t live, const int* stop) {
    int64_t dense = 0;
    for (int64_t i = 0; i < live; ++i) {
      T* const slope = row_of(tile.slope, i);
      const int64_t count = slots[i].t > 0 ? find_changed(slope, row_of(slope_, i)) : 0;
      memcpy(row_of(slope_, i), slope, sizeof(T) * padded<T>(network_.hidden_features));
      if (slots[i].t == 0) terms_[i] = kNone;
      if (terms_[i] != kNone && pays_to_follow(i, count)) {
        terms_[i] += count;
        follow(i, count, row_of(tile.residual, i), row_of(tile.gradient, i));
      } else {
        terms_[i] = slots[i].t > 0 && pays_to_build(count, steps_ - slots[i].t) ? kWanted : kNone;
        slot_of_[dense++] = i;
      }
    }
    for (int64_t n = 0; n < dense; n = build(n, dense, stop)) {
    }
    if (dense > 0) multiply(tile, live, dense, stop);
  }

 private:
  // Lists the units whose slope changed, each with its k factors Δσ' · A.
  int64_t find_changed(const T* now, const T* before) {
    const int64_t k = network_.out_features;
    int64_t count = 0;
    for (int64_t first = 0; first < network_.hidden_features; first += lanes<T>()) {
      if (!any(load(now + first) != load(before + first))) continue;
      for (int64_t j = first; j < first + lanes<T>() && j < network_.hidden_features; ++j) {
        if (now[j] == before[j]) continue;
        for (int64_t c = 0; c < k; ++c) factor_[count * k + c] = (now[j] - before[j]) * element(network_.output, j, c);
        unit_[count++] = int32_t(j);
      }
    }
    return count;
  }

  // In units of one k-th of a dense product: a term is read and added at a third of its speed.
  bool pays_to_follow(int64_t i, int64_t count) const {
    // and after as many terms as a fresh sum has, J is built anew
    return terms_[i] + count <= network_.hidden_features &&
           3 * count * network_.out_features < network_.hidden_features;
  }

  bool pays_to_build(int64_t count, int64_t steps_left) const {
    const int64_t m = network_.hidden_features, k = network_.out_features;
    return 2 * steps_left * (m - 2 * k - 3 * count * k) > 3 * k * m;  // few rows at once run at 2/3 of the speed
  }

  // Builds the wanted Jacobians, J = (σ' ⊙ A) W, among the dense rows from n on, as many as lie side by side and fit a
  // block; where to go on.
  int64_t build(int64_t n, int64_t dense, const int* stop) {
    const int64_t k = network_.out_features, first = slot_of_[n];
    int64_t slots = 0;
    while (n + slots < dense && slots < block_ && slot_of_[n + slots] == first + slots &&
           terms_[first + slots] == kWanted) {
      for (int64_t c = 0; c < k; ++c) weigh(row_of(slope_, first + slots), c, row_of(weighted_, slots * k + c));
      terms_[first + slots++] = 0;
    }
    if (slots == 0) return n + 1;
    product<T>(read_only(weighted_), slots * k, network_.hidden_backward, nullptr,
               {row_of(jacobian_, first * k), jacobian_.stride}, stop);
    return n + slots;
  }

  // The gradients of the dense rows, by the product with Wᵀ.
  void multiply(const Tile<T>& tile, int64_t live, int64_t dense, const int* stop) {
    const size_t m = size_t(padded<T>(network_.hidden_features)), d = size_t(padded<T>(network_.in_features));
    residual_to_hidden(network_, tile, live, stop);
    for (int64_t n = 0; n < dense; ++n) memcpy(row_of(hidden_, n), row_of(tile.hidden, slot_of_[n]), sizeof(T) * m);
    product<T>(read_only(hidden_), dense, network_.hidden_backward, nullptr, gradient_, stop);
    for (int64_t n = 0; n < dense; ++n) memcpy(row_of(tile.gradient, slot_of_[n]), row_of(gradient_, n), sizeof(T) * d);
  }

  // σ' ⊙ (row c of A)
  void weigh(const T* slope, int64_t c, T* out) const {
    const Panels<T>& matrix = network_.output_backward;
    for (int64_t first = 0; first < matrix.columns; first += panel_width<T>()) {
      const int64_t width = width_of(matrix, first);
      const T* const row = matrix.data + first * matrix.depth + c * width;
      for (int64_t j = 0; j < width; j += lanes<T>()) store(out + first + j, load(slope + first + j) * load(row + j));
    }
  }

  // J += Σ factor ⊗ (row of W) over the units that changed, and g = Jᵀ r: a strip of coordinates at a time, in
  // registers.
  void follow(int64_t i, int64_t count, const T* residual, T* gradient) {
    const int64_t k = network_.out_features, n = padded<T>(network_.in_features), strip = 2 * lanes<T>();
    for (int64_t first = 0; first < n; first += strip) {
      const bool whole = first + strip <= n;
      Vec<T> sums[2] = {};
      for (int64_t c = 0; c < k; c += kRows) {
        const auto part = whole ? k - c < kRows ? &Jacobian::follow_strip<1, 2> : &Jacobian::follow_strip<kRows, 2>
                          : k - c < kRows ? &Jacobian::follow_strip<1, 1>
                                          : &Jacobian::follow_strip<kRows, 1>;
        const int64_t rows = k - c < kRows ? 1 : kRows, end = k - c < kRows ? k : c + kRows;
        for (int64_t row = c; row < end; row += rows) (this->*part)(i, row, first, count, residual, sums);
      }
      store(gradient + first, sums[0]);
      if (whole) store(gradient + first + lanes<T>(), sums[1]);
    }
  }

  template <int ROWS, int VECTORS>
  void follow_strip(int64_t i, int64_t c, int64_t first, int64_t count, const T* residual, Vec<T>* gradient) {
    using V = Vec<T>;
    T* const at = row_of(jacobian_, i * network_.out_features + c) + first;
    V sums[ROWS][VECTORS];
    for (int row = 0; row < ROWS; ++row)
      for (int v = 0; v < VECTORS; ++v) sums[row][v] = load(at + row * jacobian_.stride + v * lanes<T>());
    for (int64_t n = 0; n < count; ++n) {
      const T* const weights = network_.hidden_rows + unit_[n] * padded<T>(network_.in_features) + first;
      const T* const factor = factor_ + n * network_.out_features + c;
      for (int row = 0; row < ROWS; ++row)
        for (int v = 0; v < VECTORS; ++v)
          sums[row][v] = fma(broadcast<V>(factor[row]), load(weights + v * lanes<T>()), sums[row][v]);
    }
    for (int row = 0; row < ROWS; ++row)
      for (int v = 0; v < VECTORS; ++v) {
        if (count > 0) store(at + row * jacobian_.stride + v * lanes<T>(), sums[row][v]);
        gradient[v] = fma(broadcast<V>(residual[c + row]), sums[row][v], gradient[v]);
      }
  }

  // What terms_ says of a row without a Jacobian, and of one whose Jacobian is to be built.
  static constexpr int64_t kNone = -1, kWanted = -2;
  static constexpr int64_t kBlockRows = 8 * kTileRows;  // of a product that builds
  static constexpr int kRows = 4;                       // of a Jacobian, at once

  const Network<T>& network_;
  const int64_t steps_;
  Rows<T> jacobian_{};             // k rows a slot
  Rows<T> slope_{};                // σ' that the Jacobian holds
  Rows<T> weighted_{};             // σ' ⊙ A
  int64_t block_ = 1;              // slots whose Jacobians are built at once
  Rows<T> hidden_{}, gradient_{};  // of the rows slot_of_ that take the product
  int64_t* slot_of_ = nullptr;
  int64_t* terms_ = nullptr;  // rank-one terms in the Jacobian
  int32_t* unit_ = nullptr;
  T* factor_ = nullptr;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
