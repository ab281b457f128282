// The work space of a call: what its kernels, and products between them, leave for each other.
//
// Every thread lays it out anew, which is arithmetic alone.  A warp takes rows, one after another.
#pragma once

#include "product.hpp"
#include "tensor_product.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// One call, or the part of it that fits the work space.  `task.network` points to where the kernel can read it: the
// host lays out the space with a network of its own, and kernels read the one that StoreNetwork put at its beginning.
template <class T>
struct Call {
  Task<T> task;
  Network<T> network;
  Matrix<T> hidden, output, output_backward, hidden_backward;
  Matrix<T> gram;  // of the loop on hidden units, else empty
  char* space;
  int64_t first, rows;  // rows of the whole task that this part is
  int64_t warps;        // of a kernel on rows
  int64_t workers;      // warps that have scratch space of their own: those, or those of the loop on chip
  bool for_hopper;      // which products: with the same bits
};

template <class T>
constexpr bool kHasHalves = sizeof(T) == 4;

// Rows that a product multiplies: tensor cores take them in halves.
template <class T>
struct Factor {
  Rows<T> numbers;
  HalfRows halves;
  int64_t columns;

  // After this warp has written the row.
  PYFIRSTORDER_INLINE void split(int64_t row) const {
    const T* const number = row_of(numbers, row);
    split_values(row, [=](int64_t j) { return number[j]; });
  }

  // Other numbers than those of the row, for the next product alone.
  template <class Value>
  PYFIRSTORDER_INLINE void split_values(int64_t row, Value value) const {
    if constexpr (kHasHalves<T>) {
      sync_warp();
      split_row(value, columns, halves, row);
    }
  }
};

template <class T>
PYFIRSTORDER_INLINE Factor<T> take_factor(Arena& arena, int64_t rows, int64_t columns, bool in_halves) {
  const Rows<T> numbers = arena.take_rows<T>(rows, columns);
  return {numbers, in_halves ? take_half_rows(arena, rows, columns) : HalfRows{}, columns};
}

template <class T>
struct Space {
  PYFIRSTORDER_INLINE explicit Space(const Call<T>& call) : task(call.task), network(call.network), arena(call.space) {
    const int64_t d = network.in_features, m = network.hidden_features, k = network.out_features;
    stored_network = arena.take<Network<T>>(1);
    x = take_factor<T>(arena, call.rows, d, kHasHalves<T>);
    hidden = take_factor<T>(arena, call.rows, m, kHasHalves<T>);
    residual = take_factor<T>(arena, call.rows, k, kHasHalves<T> && is_wide());
    gradient = arena.take_rows<T>(call.rows, d);
    slope = arena.take_rows<T>(call.rows, m);
    if (is_fast()) clean_hidden = arena.take_rows<T>(call.rows, m);
    output = arena.take_rows<T>(call.rows, k);
    ended = arena.take<int>(call.rows);
    live = {arena.take<int>(call.rows), arena.take<int>(1), arena.take<int>(1), call.rows};
    bodies_left = arena.take<int>(1);
  }

  PYFIRSTORDER_INLINE size_t bytes() const { return arena.used(); }
  PYFIRSTORDER_INLINE bool is_wide() const { return network.out_features >= cuda::kWideOutputs; }
  // An early stop is a claim, and so rests on losses that are not rounded.
  PYFIRSTORDER_INLINE bool is_fast() const {
    return kHasHalves<T> && task.options.precision == Precision::fast && !task.options.early_stop;
  }

  const Task<T>& task;
  const Network<T>& network;
  Arena arena;
  Network<T>* stored_network;
  Factor<T> x;         // iterates
  Factor<T> hidden;    // W x + b, σ(h), at last σ' ⊙ Aᵀ r
  Factor<T> residual;  // ∂L/∂z up to scale
  Rows<T> gradient;    // ∂L/∂x up to the same scale
  Rows<T> slope, output;
  Rows<T> clean_hidden{};  // of the clean samples: W x₀ + b, in fast mode
  int* ended;
  LiveRows live;
  int* bodies_left;  // of a loop that the device repeats
};

PYFIRSTORDER_INLINE int64_t warp_index() {
  return block_index() * kBlockWarps + warp_of_block();
}

// Calls `body(row)` for this warp's share of so many rows.
template <class T, class Body>
PYFIRSTORDER_INLINED void for_rows(const Call<T>& call, int64_t rows, Body body) {
  for (int64_t row = warp_index(); row < rows; row += call.warps) {
    body(row);
    sync_warp();
  }
}

template <class T, class Body>
PYFIRSTORDER_INLINED void for_live_rows(const Call<T>& call, const LiveRows& live, Body body) {
  for_rows(call, live.count(), [&](int64_t place) { body(live.at(place)); });
}

// At the beginning of a call all rows are live.
template <class T>
PYFIRSTORDER_INLINE void begin_live(const Space<T>& space, int64_t row) {
  if (lane() != 0) return;
  space.ended[row] = 0;
  space.live.list[row] = int(row);
  if (row != 0) return;
  *space.live.counted = int(space.live.most);
  *space.live.changed = 0;
}

// After a step, whether it was the row's last.
template <class T>
PYFIRSTORDER_INLINE void mark(const Space<T>& space, int64_t row, bool ended) {
  if (lane() != 0) return;
  space.ended[row] = ended;
  if (ended) *space.live.changed = 1;  // the same from all who write it
}

template <class T>
PYFIRSTORDER_INLINE Worker worker_of(const Call<T>& call) {
  return Worker{warp_index(), call.workers};
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
