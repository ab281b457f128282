// Hidden products of a sign attack from what changed in its motion.
//
// A coordinate moves by +η, -η or, at the edge of the ball, not at all, and mostly as in the step before.  With a
// motion v ≈ x⁽ᵗ⁺¹⁾ - x⁽ᵗ⁾ and its image W v known,
//
//   h⁽ᵗ⁺¹⁾ = h⁽ᵗ⁾ + W v,   W v ← W v + W (v' - v)   with v' - v zero but for a few coordinates.
//
// Steps of one length are rounded differently as x grows.  So what rounding makes of the motion is not taken into v but
// into the drift, x less the point that h belongs to, until that exceeds a few units in the last place of x: then v
// becomes the true motion, and the drift stays where it is.  h and W v are kept in double, so that nothing builds up
// but the rounding of the single products.  All of it is decided per row.
#pragma once

#include "sparse_product.hpp"
#include "tile.hpp"
// after the words that it is written in
#include "../rows/slot.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
class SparseForward {
 public:
  static int64_t numbers_per_row(const Network<T>& network) {
    return 6 * network.in_features + network.hidden_features +
           2 * network.hidden_features * int64_t(sizeof(double) / sizeof(T));
  }

  SparseForward(const Task<T>& task, Arena& arena, int64_t capacity) : network_(*task.network) {
    if (capacity == 0) return;
    const int64_t d = network_.in_features, m = network_.hidden_features;
    hidden_ = arena.take_rows<double>(capacity, padded<T>(m));
    rate_ = arena.take_rows<double>(capacity, padded<T>(m));
    motion_ = arena.take_rows<T>(capacity, d);
    drift_ = arena.take_rows<T>(capacity, d);
    value_ = arena.take_rows<T>(capacity, padded<T>(d));
    index_ = arena.take_rows<int32_t>(capacity, padded<T>(d));
    gathered_ = arena.take_rows<T>(capacity, d);
    product_ = arena.take_rows<T>(capacity, m);
    slot_of_ = arena.take<int64_t>(capacity);
    listed_ = arena.take<int64_t>(capacity);
    wanted_ = arena.take<Wanted>(capacity);
  }

  void move(int64_t from, int64_t to) {
    copy_between_rows(hidden_, from, to);
    copy_between_rows(rate_, from, to);
    copy_between_rows(motion_, from, to);
    copy_between_rows(drift_, from, to);
    copy_between_rows(value_, from, to);
    copy_between_rows(index_, from, to);
    listed_[to] = listed_[from];
  }

  // Notes how a row moves from x to `moved`, and lists the changes of its motion.
  void step(int64_t i, const T* x, const T* moved, int64_t n) {
    using V = Vec<T>;
    constexpr T kLargestDrift = sizeof(T) == 4 ? T(0x1p-22) : T(0x1p-51);  // as a share of |x|
    T *const motion = row_of(motion_, i), *const drift = row_of(drift_, i), *const value = row_of(value_, i);
    int32_t* const index = row_of(index_, i);
    int64_t count = 0;
    for (int64_t j = 0; j < n; j += lanes<T>()) {
      const V to = load(moved + j), now = to - load(x + j), before = load(motion + j), last = load(drift + j);
      const V change = now - before;
      const auto keeps = abs(last + change) <= broadcast<V>(kLargestDrift) * abs(to);
      store(drift + j, select(keeps, last + change, last));
      if (!any(~keeps)) continue;
      store(motion + j, select(keeps, before, now));
      for (int lane = 0; lane < lanes<T>(); ++lane) {
        index[count] = int32_t(j + lane);
        value[count] = change[lane];
        count += 1 + keeps[lane];  // true is -1
      }
    }
    listed_[i] = count;
  }

  // Whether the next forward pass of a row, which has noted its step, needs no dense product.
  bool is_cheap(int64_t i, int64_t t) const {
    return t % kRenewal != 0 && (listed_[i] == 0 || is_sparse(2 * listed_[i], network_.in_features));
  }

  // Fills tile.hidden of some rows with their pre-activations.
  void forward(const Tile<T>& tile, const Slot<T>* slots, RowRange range, Shared& shared) {
    for (int64_t i = range.first; i < range.end; ++i) {
      if (slots[i].t == 0) rest(i);
      wanted_[i] = slots[i].t == 0 ? begin(i, row_of(tile.x, i)) : follow(i);
    }
    multiply(tile, range, shared);
    for (int64_t i = range.first; i < range.end; ++i) take_product(i, row_of(tile.hidden, i));
    for (int64_t i = range.first; i < range.end; ++i) {
      const bool is_due = slots[i].t > 0 && slots[i].t % kRenewal == 0;
      wanted_[i] = is_due ? begin(i, row_of(tile.x, i)) : Wanted::nothing;
    }
    multiply(tile, range, shared);
    for (int64_t i = range.first; i < range.end; ++i)
      if (wanted_[i] != Wanted::nothing) take_product(i, row_of(tile.hidden, i));
  }

 private:
  static constexpr int64_t kRenewal = 64;  // steps after which h is computed from x again: long attacks add no rounding

  // The product that a row needs: with its point or its motion, dense or as a list, or with a list of changes.
  enum class Wanted : int8_t { point, listed_point, motion, listed_motion, changes, nothing };

  // No motion yet.
  void rest(int64_t i) {
    memset(row_of(rate_, i), 0, sizeof(double) * size_t(rate_.stride));
    memset(row_of(motion_, i), 0, sizeof(T) * size_t(motion_.stride));
  }

  // h from x.
  Wanted begin(int64_t i, const T* x) {
    memset(row_of(drift_, i), 0, sizeof(T) * size_t(drift_.stride));
    return list(i, x) ? Wanted::listed_point : Wanted::point;
  }

  // h from the motion.
  Wanted follow(int64_t i) {
    if (listed_[i] == 0) return Wanted::nothing;
    if (is_sparse(2 * listed_[i], network_.in_features)) return Wanted::changes;
    return list(i, row_of(motion_, i)) ? Wanted::listed_motion : Wanted::motion;
  }

  bool list(int64_t i, const T* row) {
    listed_[i] = list_nonzeros(row, network_.in_features, row_of(index_, i), row_of(value_, i));
    return is_sparse(listed_[i], network_.in_features);
  }

  // tile.hidden of all rows that want a product.
  void multiply(const Tile<T>& tile, RowRange range, Shared& shared) {
    multiply_dense(tile, range, Wanted::point, network_.hidden_bias, shared);
    multiply_dense(tile, range, Wanted::motion, nullptr, shared);
    multiply_lists(tile, range);
  }

  void multiply_dense(const Tile<T>& tile, RowRange range, Wanted which, const T* start, Shared& shared) {
    int64_t count = 0;
    for (int64_t i = range.first; i < range.end; ++i) {
      if (wanted_[i] != which) continue;
      gather(row_of(which == Wanted::point ? tile.x : motion_, i), count);
      slot_of_[count++] = i;
    }
    if (count == 0) return;
    product<T>(read_only(gathered_), count, network_.hidden, start, product_, shared);
    const size_t bytes = sizeof(T) * size_t(padded<T>(network_.hidden_features));
    for (int64_t n = 0; n < count; ++n) memcpy(row_of(tile.hidden, slot_of_[n]), row_of(product_, n), bytes);
  }

  void multiply_lists(const Tile<T>& tile, RowRange range) {
    for_sparse_panels(network_.hidden, [&](int64_t first, const T* panel, SparseKernel<T> kernel) {
      for (int64_t i = range.first; i < range.end; ++i) {
        const Wanted wanted = wanted_[i];
        if (wanted != Wanted::listed_point && wanted != Wanted::listed_motion && wanted != Wanted::changes) continue;
        const T* const start = wanted == Wanted::listed_point ? network_.hidden_bias + first : nullptr;
        kernel({row_of(index_, i), row_of(value_, i), listed_[i]}, panel, network_.hidden.depth, start,
               row_of(tile.hidden, i) + first);
      }
    });
  }

  // From the product in `out` to the pre-activations.
  void take_product(int64_t i, T* out) {
    double *const hidden = row_of(hidden_, i), *const rate = row_of(rate_, i);
    const Wanted wanted = wanted_[i];
    const bool is_point = wanted == Wanted::point || wanted == Wanted::listed_point;
    const bool is_motion = wanted == Wanted::motion || wanted == Wanted::listed_motion;
    for (int64_t j = 0; j < padded<T>(network_.hidden_features); j += kWideLanes) {
      if (is_point) {
        store(hidden + j, load_wide(out + j));
        continue;
      }
      if (is_motion) store(rate + j, load_wide(out + j));
      if (wanted == Wanted::changes) store(rate + j, load(rate + j) + load_wide(out + j));
      const Wide moved = load(hidden + j) + load(rate + j);
      store(hidden + j, moved);
      store_narrow(out + j, moved);
    }
  }

  void gather(const T* row, int64_t n) {
    memcpy(row_of(gathered_, n), row, sizeof(T) * size_t(padded<T>(network_.in_features)));
  }

  const Network<T>& network_;
  Rows<double> hidden_{}, rate_{};  // h and W v
  Rows<T> motion_{}, drift_{};      // v, and x less the point that h belongs to
  Rows<T> value_{};                 // a list of numbers
  Rows<int32_t> index_{};           // and where they are
  Rows<T> gathered_{}, product_{};  // rows that need a dense product, and those products
  int64_t *slot_of_ = nullptr, *listed_ = nullptr;
  Wanted* wanted_ = nullptr;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
