// Input gradients through each row's Jacobian of the logits, for activations with piecewise constant slope.
//
//   J = A diag(σ') W   (k x d),   g = Jᵀ r
//
// With every unit on one side of zero J is σ' · A W, the same for all rows, and a unit on the other side changes it by
// a rank-one term.  So a row's J begins as that of all units on the side where most are, with a term for each of the
// others, and afterwards takes a term for each unit that changes sides.  Where so many do that the product with Wᵀ is
// cheaper, that is taken, and J is built again when they have become few.  All of it is decided per row, from what
// moved in it.
#pragma once

#include "plan.hpp"
#include "tile.hpp"
// after the words that it is written in
#include "../rows/slot.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// Width of the panel that begins with a column.
template <class T>
inline int64_t width_of(const Panels<T>& matrix, int64_t first) {
  const int64_t left = matrix.columns - first;
  return left < panel_width<T>() ? padded<T>(left) : panel_width<T>();
}

// What lies at (row, column) of a packed matrix; the rest of the row's part in that panel follows.
template <class T>
inline const T* element_of(const Panels<T>& matrix, int64_t row, int64_t column) {
  const int64_t first = column / panel_width<T>() * panel_width<T>();
  return matrix.data + first * matrix.depth + row * width_of(matrix, first) + (column - first);
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
    unit_ = arena.take_rows<int32_t>(kTogether, m);
    factor_ = arena.take_rows<T>(kTogether, m * k);
    hidden_ = arena.take_rows<T>(capacity, m);
    gradient_ = arena.take_rows<T>(capacity, d);
    slot_of_ = arena.take<int64_t>(capacity);
    begun_ = arena.take<int64_t>(capacity);
    terms_ = arena.take<int64_t>(capacity);
    calm_ = arena.take<bool>(capacity);
  }

  void move(int64_t from, int64_t to) {
    const int64_t k = network_.out_features;
    for (int64_t c = 0; c < k; ++c) copy_between_rows(jacobian_, from * k + c, to * k + c);
    copy_between_rows(slope_, from, to);
    terms_[to] = terms_[from];
    calm_[to] = calm_[from];
  }

  // Whether the next gradient of a row most likely needs no dense product.
  bool is_cheap(int64_t i) const { return terms_[i] != kNone && calm_[i]; }

  // Fills tile.gradient of some rows from tile.slope and tile.residual.
  void backward(const Tile<T>& tile, const Slot<T>* slots, RowRange range, Shared& shared) {
    int64_t dense = 0, begun = 0;
    for (int64_t i = range.first; i < range.end; ++i) {
      T* const slope = row_of(tile.slope, i);
      const bool first = slots[i].t == 0, is_exact = !may_cancel(slope);
      if (first || !is_exact) terms_[i] = kNone;
      const Changes changes = first ? no_changes(0) : find_changed(slope, row_of(slope_, i));
      const int64_t count = changes.count;
      calm_[i] = 6 * count * network_.out_features < network_.hidden_features;
      memcpy(row_of(slope_, i), slope, sizeof(T) * size_t(padded<T>(network_.hidden_features)));
      if (pays_to_follow(i, count)) {
        terms_[i] += count;
        follow(i, changes, row_of(tile.residual, i), row_of(tile.gradient, i));
      } else if (is_exact && pays_to_build(count, steps_ - slots[i].t)) {
        terms_[i] = 0;
        begun_[begun++] = i;
      } else {
        terms_[i] = kNone;
        slot_of_[dense++] = i;
      }
    }
    for (int64_t n = 0; n < begun; n += kTogether) build(begun_ + n, begun - n < kTogether ? begun - n : kTogether);
    for (int64_t n = 0; n < begun; ++n)
      follow(begun_[n], no_changes(0), row_of(tile.residual, begun_[n]), row_of(tile.gradient, begun_[n]));
    if (dense > 0) multiply(tile, range, dense, shared);
  }

 private:
  // Units that changed, each with its k factors Δσ' · A, and how many they are.
  struct Changes {
    int32_t* unit;
    T* factor;
    int64_t count;
  };

  Changes no_changes(int64_t n) { return {row_of(unit_, n), row_of(factor_, n), 0}; }

  void add(Changes& changes, int64_t unit, T by) const {
    const int64_t k = network_.out_features;
    T* const factor = changes.factor + changes.count * k;
    for (int64_t c = 0; c < k; ++c) factor[c] = by * *element_of(network_.output, unit, c);
    changes.unit[changes.count++] = int32_t(unit);
  }

  // Whether the units that are on may all have a zero weight in some coordinate, so that J must be exactly zero there.
  bool may_cancel(const T* slope) const {
    const int64_t m = network_.hidden_features;
    Bits<T> off{};
    for (int64_t j = 0; j < padded<T>(m); j += lanes<T>()) off += load(slope + j) == Vec<T>{};  // true is -1
    int64_t on = padded<T>(m);
    for (int lane = 0; lane < lanes<T>(); ++lane) on += off[lane];
    for (int64_t j = m; j < padded<T>(m); ++j) on -= slope[j] != 0;
    return on <= network_.most_zero_terms;
  }

  // From the slopes before.  Their rows of W are fetched, since follow() goes through them a strip at a time.
  Changes find_changed(const T* now, const T* before) {
    Changes changes = no_changes(0);
    for (int64_t first = 0; first < network_.hidden_features; first += lanes<T>()) {
      if (!any(load(now + first) != load(before + first))) continue;
      for (int64_t j = first; j < first + lanes<T>() && j < network_.hidden_features; ++j)
        if (now[j] != before[j]) {
          if (!are_few(changes.count)) {
            ++changes.count;  // nobody will follow them
            continue;
          }
          add(changes, j, now[j] - before[j]);
          fetch_row(j);
        }
    }
    return changes;
  }

  void fetch_row(int64_t unit) const {
    const int64_t bytes = padded<T>(network_.in_features) * int64_t(sizeof(T));
    const char* const row = reinterpret_cast<const char*>(network_.hidden_rows) + unit * bytes;
    for (int64_t at = 0; at < bytes; at += kCacheLine) __builtin_prefetch(row + at, 0, kSecondCache);
  }

  // From the slope on one side of zero.
  Changes find_others(int64_t n, const T* slope, T side) {
    Changes changes = no_changes(n);
    for (int64_t j = 0; j < network_.hidden_features; ++j)
      if (slope[j] != side) add(changes, j, slope[j] - side);
    return changes;
  }

  // In units of one k-th of a dense product: a term is read and added at a third of its speed.
  bool are_few(int64_t count) const { return 3 * count * network_.out_features < network_.hidden_features; }

  // After as many terms as a fresh sum has, J is built anew.
  bool pays_to_follow(int64_t i, int64_t count) const {
    return terms_[i] != kNone && are_few(count) && terms_[i] + count <= network_.hidden_features;
  }

  // As many units change in the steps to come as in this one, none if it is the first; half of them make up J.
  bool pays_to_build(int64_t count, int64_t steps_left) const {
    const int64_t m = network_.hidden_features, k = network_.out_features;
    return steps_left * (m - 2 * k - 3 * count * k) > k * m;
  }

  // The side of zero on which most units are, by its slope.
  T usual_side(const T* slope) const {
    const int64_t m = network_.hidden_features;
    int64_t above = 0;
    for (int64_t j = 0; j < m; ++j) above += slope[j] == T(1);
    if (2 * above >= m) return T(1);
    return network_.activation == Activation::leaky_relu ? T(network_.parameter) : T(0);
  }

  // The Jacobians of some slots.  A panel of W stays in the cache for all, which fetch a share each of the next one.
  void build(const int64_t* slots, int64_t count) {
    Changes changes[kTogether];
    T side[kTogether];
    for (int64_t n = 0; n < count; ++n) {
      side[n] = usual_side(row_of(slope_, slots[n]));
      changes[n] = find_others(n, row_of(slope_, slots[n]), side[n]);
    }
    const Panels<T>& matrix = network_.hidden_backward;
    for (int64_t first = 0; first < matrix.columns; first += panel_width<T>()) {
      const T* const panel = matrix.data + first * matrix.depth;
      const int64_t width = width_of(matrix, first);
      const int64_t lines = matrix.depth * width * int64_t(sizeof(T)) / kCacheLine;
      const char* next = reinterpret_cast<const char*>(panel + matrix.depth * width);
      for (int64_t n = 0; n < count; ++n) {
        for (int64_t line = n * lines / count; line < (n + 1) * lines / count; ++line)
          __builtin_prefetch(next + line * kCacheLine, 0, kSecondCache);
        for_output_groups([&](int64_t c, auto rows) {
          constexpr int kRows = decltype(rows)::value;
          switch (width / lanes<T>()) {
            case 1: return build_strip<kRows, 1>(slots[n], changes[n], side[n], panel, c, first);
            case 2: return build_strip<kRows, 2>(slots[n], changes[n], side[n], panel, c, first);
            default: return build_strip<kRows, kPanelVectors>(slots[n], changes[n], side[n], panel, c, first);
          }
        });
      }
    }
  }

  template <int ROWS, int VECTORS>
  [[gnu::noinline]] void build_strip(int64_t i, const Changes& changes, T side, const T* panel, int64_t c,
                                     int64_t first) {
    using V = Vec<T>;
    const int64_t k = network_.out_features, stride = padded<T>(network_.in_features);
    const T* const reference = network_.reference_jacobian + c * stride + first;
    V sums[ROWS][VECTORS];
    for (int o = 0; o < ROWS; ++o)
      for (int v = 0; v < VECTORS; ++v) sums[o][v] = broadcast<V>(side) * load(reference + o * stride + v * lanes<T>());
    add_terms<ROWS, VECTORS>(changes, panel, VECTORS * lanes<T>(), c, sums);
    T* const out = row_of(jacobian_, i * k + c) + first;
    for (int o = 0; o < ROWS; ++o)
      for (int v = 0; v < VECTORS; ++v) store(out + o * jacobian_.stride + v * lanes<T>(), sums[o][v]);
  }

  // sums += Σ factor ⊗ (row of W), whose strip of coordinates lies at weights + unit · stride.
  template <int ROWS, int VECTORS>
  [[gnu::always_inline]] inline void add_terms(const Changes& changes, const T* weights, int64_t stride, int64_t c,
                                               Vec<T> (&sums)[ROWS][VECTORS]) const {
    using V = Vec<T>;
    const int64_t k = network_.out_features;
    for (int64_t n = 0; n < changes.count; ++n) {
      const T* const row = weights + changes.unit[n] * stride;
      const T* const factor = changes.factor + n * k + c;
      V some[VECTORS];
      for (int v = 0; v < VECTORS; ++v) some[v] = load(row + v * lanes<T>());
      for (int o = 0; o < ROWS; ++o) {
        const V value = broadcast<V>(factor[o]);
        for (int v = 0; v < VECTORS; ++v) sums[o][v] = fma(value, some[v], sums[o][v]);
      }
    }
  }

  // The gradients of the dense rows, by the product with Wᵀ.
  void multiply(const Tile<T>& tile, RowRange range, int64_t dense, Shared& shared) {
    const size_t m = size_t(padded<T>(network_.hidden_features)), d = size_t(padded<T>(network_.in_features));
    residual_to_hidden(network_, from_row(tile, range.first), range.end - range.first, shared);
    for (int64_t n = 0; n < dense; ++n) memcpy(row_of(hidden_, n), row_of(tile.hidden, slot_of_[n]), sizeof(T) * m);
    product<T>(read_only(hidden_), dense, network_.hidden_backward, nullptr, gradient_, shared);
    for (int64_t n = 0; n < dense; ++n) memcpy(row_of(tile.gradient, slot_of_[n]), row_of(gradient_, n), sizeof(T) * d);
  }

  // J += Σ factor ⊗ (row of W) over the units that changed, and g = Jᵀ r.
  void follow(int64_t i, const Changes& changes, const T* residual, T* gradient) {
    const int64_t n = padded<T>(network_.in_features), whole = n / (2 * lanes<T>()) * (2 * lanes<T>());
    for_output_groups([&](int64_t c, auto rows) {
      constexpr int kRows = decltype(rows)::value;
      if (changes.count > 0) {
        follow_strips<kRows, 2, true>(i, c, {0, whole}, changes, residual, gradient);
        follow_strips<kRows, 1, true>(i, c, {whole, n}, changes, residual, gradient);
      } else {
        follow_strips<kRows, 2, false>(i, c, {0, whole}, changes, residual, gradient);
        follow_strips<kRows, 1, false>(i, c, {whole, n}, changes, residual, gradient);
      }
    });
  }

  // The same for ROWS outputs, a strip of VECTORS vectors of coordinates at a time, in registers.
  template <int ROWS, int VECTORS, bool CHANGED>
  [[gnu::noinline]] void follow_strips(int64_t i, int64_t c, RowRange columns, const Changes& changes,
                                       const T* residual, T* gradient) {
    using V = Vec<T>;
    const int64_t stride = jacobian_.stride, k = network_.out_features;
    for (int64_t first = columns.first; first < columns.end; first += VECTORS * lanes<T>()) {
      T* const at = row_of(jacobian_, i * k + c) + first;
      V sums[ROWS][VECTORS];
      for (int o = 0; o < ROWS; ++o)
        for (int v = 0; v < VECTORS; ++v) sums[o][v] = load(at + o * stride + v * lanes<T>());
      if constexpr (CHANGED) {
        add_terms<ROWS, VECTORS>(changes, network_.hidden_rows + first, padded<T>(network_.in_features), c, sums);
        for (int o = 0; o < ROWS; ++o)
          for (int v = 0; v < VECTORS; ++v) store(at + o * stride + v * lanes<T>(), sums[o][v]);
      }
      V out[VECTORS];
      for (int v = 0; v < VECTORS; ++v) out[v] = c > 0 ? load(gradient + first + v * lanes<T>()) : V{};
      for (int o = 0; o < ROWS; ++o)
        for (int v = 0; v < VECTORS; ++v) out[v] = fma(broadcast<V>(residual[c + o]), sums[o][v], out[v]);
      for (int v = 0; v < VECTORS; ++v) store(gradient + first + v * lanes<T>(), out[v]);
    }
  }

  template <int ROWS>
  struct Count {
    static constexpr int value = ROWS;
  };

  // Calls body(c, Count<rows>) for groups of outputs, as even as can be.
  template <class Body>
  void for_output_groups(Body body) const {
    constexpr int64_t kMost = 5;
    const int64_t k = network_.out_features, groups = (k + kMost - 1) / kMost;
    for (int64_t group = 0, c = 0; group < groups; ++group) {
      const int64_t rows = (k - c + groups - group - 1) / (groups - group);
      switch (rows) {
        case 1: body(c, Count<1>{}); break;
        case 2: body(c, Count<2>{}); break;
        case 3: body(c, Count<3>{}); break;
        case 4: body(c, Count<4>{}); break;
        default: body(c, Count<5>{});
      }
      c += rows;
    }
  }

  static constexpr int64_t kTogether = 6;  // Jacobians built at once
  static constexpr int64_t kNone = -1;     // what terms_ says of a row without a Jacobian

  const Network<T>& network_;
  const int64_t steps_;
  Rows<T> jacobian_{};             // k rows a slot
  Rows<T> slope_{};                // σ' of the iterate before
  Rows<T> hidden_{}, gradient_{};  // of the rows slot_of_ that take the product
  Rows<int32_t> unit_{};           // of changes
  Rows<T> factor_{};
  int64_t *slot_of_ = nullptr, *begun_ = nullptr;
  int64_t* terms_ = nullptr;  // rank-one terms in the Jacobian since it was built
  bool* calm_ = nullptr;      // few units changed in the last step
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
