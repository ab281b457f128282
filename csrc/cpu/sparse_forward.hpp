// Hidden products of a sign attack from what changed in its motion.
//
// A coordinate moves by +η, -η or, at the edge of the ball, not at all, and mostly as in the step before.  With the
// motion v = x⁽ᵗ⁾ - x⁽ᵗ⁻¹⁾ and its image W v known,
//
//   h⁽ᵗ⁺¹⁾ = h⁽ᵗ⁾ + W v,   W v ← W v + W (v' - v)   with v' - v zero but for a few coordinates.
//
// Steps of one length are rounded alike as long as x stays between two powers of two, so v' - v is compared with zero
// exactly.  h and W v are kept in double, so that nothing builds up but the rounding of the single products.  Where
// many coordinates changed, W v is a dense product.  All of it is decided per row.
#pragma once

#include "row_sums.hpp"
#include "slot.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// total += Σ_n value[n] · row index[n] of COUNT panels of VECTORS vectors.
template <class T, int COUNT, int VECTORS>
[[gnu::noinline]] void sparse_kernel(const T* panel, int64_t panel_depth, const int32_t* index, const T* value,
                                     int64_t count, double* total) {
  using V = Vec<T>;
  constexpr int64_t kWidth = VECTORS * lanes<T>();
  V sums[COUNT * VECTORS] = {};
  for (int64_t n = 0; n < count; ++n) {
    const V factor = broadcast<V>(value[n]);
    const T* const row = panel + index[n] * kWidth;
    for (int p = 0; p < COUNT; ++p)
      for (int v = 0; v < VECTORS; ++v)
        sums[p * VECTORS + v] =
            fma(factor, load(row + p * panel_depth * kWidth + v * lanes<T>()), sums[p * VECTORS + v]);
  }
  T spread[COUNT * VECTORS * lanes<T>()];
  for (int j = 0; j < COUNT * VECTORS; ++j) store(spread + j * lanes<T>(), sums[j]);
  for (int64_t j = 0; j < COUNT * kWidth; j += kWideLanes) store(total + j, load(total + j) + load_wide(spread + j));
}

template <class T>
class SparseForward {
 public:
  static int64_t numbers_per_row(const Network<T>& network) {
    return 5 * network.in_features + (2 * network.hidden_features * int64_t(sizeof(double))) / int64_t(sizeof(T));
  }

  SparseForward(const Task<T>& task, Arena& arena, int64_t capacity) : network_(*task.network) {
    if (capacity == 0) return;
    const int64_t d = network_.in_features, m = network_.hidden_features;
    hidden_ = arena.take_rows<double>(capacity, padded<T>(m));
    rate_ = arena.take_rows<double>(capacity, padded<T>(m));
    motion_ = arena.take_rows<T>(capacity, d);
    value_ = arena.take_rows<T>(capacity, d);
    index_ = arena.take_rows<int32_t>(capacity, padded<T>(d));
    gathered_ = arena.take_rows<T>(capacity, d);
    product_ = arena.take_rows<T>(capacity, m);
    slot_of_ = arena.take<int64_t>(capacity);
    changed_ = arena.take<int64_t>(capacity);
  }

  void move(int64_t from, int64_t to) {
    copy_between_rows(hidden_, from, to);
    copy_between_rows(rate_, from, to);
    copy_between_rows(motion_, from, to);
    copy_between_rows(value_, from, to);
    copy_between_rows(index_, from, to);
    changed_[to] = changed_[from];
  }

  // Notes how a row moves from x to `moved`.
  void step(int64_t i, const T* x, const T* moved, int64_t n) {
    using V = Vec<T>;
    T *const motion = row_of(motion_, i), *const value = row_of(value_, i);
    int32_t* const index = row_of(index_, i);
    int64_t count = 0;
    for (int64_t j = 0; j < n; j += lanes<T>()) {
      const V from = load(x + j), to = load(moved + j), before = load(motion + j);
      const V change = (to - from) - before;
      const auto differs = change != V{};
      if (!any(differs)) continue;
      store(motion + j, to - from);
      for (int lane = 0; lane < lanes<T>(); ++lane) {
        index[count] = int32_t(j + lane);
        value[count] = change[lane];
        count -= differs[lane];  // true is -1
      }
    }
    changed_[i] = count;
  }

  // Fills tile.hidden with the pre-activations of some rows of `points`, one after another.
  void evaluate(const Tile<T>& tile, const int64_t* rows, int64_t count, Rows<T> points, const int* stop) {
    int64_t gathered = 0;
    for (int64_t n = 0; n < count; ++n) gather(row_of(points, rows[n]), rows[n], gathered);
    product<T>(read_only(gathered_), count, network_.hidden, network_.hidden_bias, tile.hidden, stop);
  }

  // Fills tile.hidden with the pre-activations of all rows.
  void forward(const Tile<T>& tile, const Slot<T>* slots, int64_t live, const int* stop) {
    renew(tile, slots, live, stop);
    follow_many(slots, live, stop);
    follow_few(slots, live);
    for (int64_t i = 0; i < live; ++i) {
      double *const hidden = row_of(hidden_, i), *const rate = row_of(rate_, i);
      T* const out = row_of(tile.hidden, i);
      const bool moves = !is_due(slots[i].t);
      for (int64_t j = 0; j < padded<T>(network_.hidden_features); j += kWideLanes) {
        if (moves) store(hidden + j, load(hidden + j) + load(rate + j));
        store_narrow(out + j, load(hidden + j));
      }
    }
  }

 private:
  static constexpr int64_t kRenewal = 64;  // steps after which h is computed from x again: long attacks add no rounding
  static constexpr int64_t kDenseFrom = 6;  // a dense product, if more than 1/6 of the coordinates changed

  static bool is_due(int64_t t) { return t % kRenewal == 0; }
  bool is_many(int64_t i) const { return changed_[i] * kDenseFrom > network_.in_features; }

  // Rows that begin, or are due: h from x.
  void renew(const Tile<T>& tile, const Slot<T>* slots, int64_t live, const int* stop) {
    int64_t count = 0;
    for (int64_t i = 0; i < live; ++i)
      if (is_due(slots[i].t)) gather(row_of(tile.x, i), i, count);
    multiply(count, network_.hidden_bias, stop);
    for (int64_t n = 0; n < count; ++n) {
      widen(n, row_of(hidden_, slot_of_[n]));
      if (slots[slot_of_[n]].t > 0) continue;
      memset(row_of(rate_, slot_of_[n]), 0, sizeof(double) * rate_.stride);
      memset(row_of(motion_, slot_of_[n]), 0, sizeof(T) * motion_.stride);
      changed_[slot_of_[n]] = 0;
    }
  }

  // Rows of which much changed its motion: W v from v.
  void follow_many(const Slot<T>* slots, int64_t live, const int* stop) {
    int64_t count = 0;
    for (int64_t i = 0; i < live; ++i)
      if (slots[i].t > 0 && is_many(i)) gather(row_of(motion_, i), i, count);
    multiply(count, nullptr, stop);
    for (int64_t n = 0; n < count; ++n) widen(n, row_of(rate_, slot_of_[n]));
  }

  // The others: W v from the changes.  A few panels stay in the cache for all rows.
  void follow_few(const Slot<T>* slots, int64_t live) {
    constexpr int kAtOnce = 4;
    const Panels<T>& matrix = network_.hidden;
    const T* panel = matrix.data;
    for (int64_t first = 0; first < matrix.columns;) {
      const int64_t left = matrix.columns - first, whole = kAtOnce * panel_width<T>();
      const int64_t width = left >= whole ? whole : left < panel_width<T>() ? padded<T>(left) : panel_width<T>();
      for (int64_t i = 0; i < live; ++i) {
        if (slots[i].t == 0 || changed_[i] == 0 || is_many(i)) continue;
        kernel_of(width)(panel, matrix.depth, row_of(index_, i), row_of(value_, i), changed_[i],
                         row_of(rate_, i) + first);
      }
      panel += matrix.depth * width;
      first += width;
    }
  }

  static auto kernel_of(int64_t width) {
    constexpr int kAtOnce = 4;
    if (width > panel_width<T>()) return sparse_kernel<T, kAtOnce, kPanelVectors>;
    switch (width / lanes<T>()) {
      case 1: return sparse_kernel<T, 1, 1>;
      case 2: return sparse_kernel<T, 1, 2>;
      default: return sparse_kernel<T, 1, kPanelVectors>;
    }
  }

  void gather(const T* row, int64_t i, int64_t& count) {
    memcpy(row_of(gathered_, count), row, sizeof(T) * padded<T>(network_.in_features));
    slot_of_[count++] = i;
  }

  void multiply(int64_t count, const T* start, const int* stop) {
    if (count > 0) product<T>(read_only(gathered_), count, network_.hidden, start, product_, stop);
  }

  void widen(int64_t n, double* to) {
    for (int64_t j = 0; j < padded<T>(network_.hidden_features); j += kWideLanes)
      store(to + j, load_wide(row_of(product_, n) + j));
  }

  const Network<T>& network_;
  Rows<double> hidden_{}, rate_{};  // h and W v
  Rows<T> motion_{}, value_{};      // v, and the changes of the coordinates
  Rows<int32_t> index_{};           // that index_ names
  Rows<T> gathered_{}, product_{};  // rows that need a dense product, and those products
  int64_t *slot_of_ = nullptr, *changed_ = nullptr;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
