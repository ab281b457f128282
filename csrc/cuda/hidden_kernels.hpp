// The ℓ2 attack without a box on hidden units (rows/hidden_row.hpp), between the products of its steps.
//
// A step multiplies s with K = W Wᵀ in place of x with Wᵀ and s with W.  Products are those of strict mode: sums u and
// p are kept in double, so that every step adds the rounding of one product and no more.  Rows that are left to the
// dense loop wait until all others have ended, and begin anew.
#pragma once

#include "attack_kernels.hpp"
// after the words that it is written in
#include "../rows/hidden_row.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// What this loop needs behind the space of an attack.
template <class T>
struct HiddenSpace : AttackSpace<T> {
  PYFIRSTORDER_INLINE HiddenSpace(const Call<T>& call, Worker worker, Slot<T>& own)
      : AttackSpace<T>(call, worker, own) {
    Arena& arena = this->arena;
    const int64_t d = this->network.in_features, m = this->network.hidden_features;
    image = arena.take_rows<T>(call.rows, m);
    clean = arena.take_rows<T>(call.rows, m);
    if (starts()) start = arena.take_rows<T>(call.rows, d);
    if (starts()) start_image = arena.take_rows<T>(call.rows, m);
    moved = arena.take_rows<double>(call.rows, m);
    weights = arena.take_rows<double>(call.rows, m);
    if (keeps_best()) best_weights = arena.take_rows<double>(call.rows, m);
    states = arena.take<HiddenState>(call.rows);
  }

  PYFIRSTORDER_INLINE bool starts() const {
    return this->task.options.random_start != Start::none || this->task.x_init != nullptr;
  }
  PYFIRSTORDER_INLINE bool keeps_best() const { return this->task.result.x_best != nullptr; }
  PYFIRSTORDER_INLINE int64_t hidden_numbers() const { return padded<T>(this->network.hidden_features); }

  // The row and its state, copied to where this warp can change them.
  PYFIRSTORDER_INLINE void take(int64_t row) {
    AttackSpace<T>::take(row);
    state = states[row];
  }
  PYFIRSTORDER_INLINE void give_back(int64_t row) {
    AttackSpace<T>::give_back(row);
    if (lane() == 0) states[row] = state;
  }
  PYFIRSTORDER_INLINE HiddenRow<T> taken(int64_t row) {
    const T* const from = starts() ? row_of(start_image, row) : nullptr;
    return HiddenRow<T>(this->task, this->loop.trace(), row, this->own, state,
                        {row_of(this->hidden.numbers, row), row_of(image, row), row_of(moved, row),
                         row_of(weights, row), from, hidden_numbers()});
  }

  Rows<T> image, clean;                         // K s, and W x₀ + b
  Rows<T> start{}, start_image{};               // δ₀ and W δ₀, where the start is not x₀
  Rows<double> moved, weights, best_weights{};  // p, u, and u at the best iterate
  HiddenState* states;
  HiddenState state;
};

// After BeginRows: the state of a row, and its clean sample for the next product.
template <class T>
struct BeginHidden {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    HiddenSpace<T> space(call, worker_of(call), own);
    for_rows(call, call.rows, [&](int64_t row) {
      space.take(row);
      T* const x = row_of(space.x.numbers, row);
      const T* const x0 = row_of(space.loop.x0(), row);
      const int64_t n = space.own.ball.features;
      clear(row_of(space.moved, row), space.hidden_numbers());
      clear(row_of(space.weights, row), space.hidden_numbers());
      if (space.starts()) {
        T* const start = row_of(space.start, row);
        for (int64_t j = 0; j < n; j += lanes<T>()) store(start + j, load(x + j) - load(x0 + j));
        sync_warp();
        space.state = HiddenRow<T>::begin(space.own.ball, start);
      } else {
        space.state = HiddenRow<T>::begin(space.own.ball);
      }
      space.give_back(row);
      copy(x, x0, n);
      space.x.split(row);
    });
  }
};

// Where the start is not the clean sample: the distance, for the next product.
template <class T>
struct LoadStarts {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    const HiddenSpace<T> space(call, worker_of(call), own);
    for_rows(call, call.rows, [&](int64_t row) {
      copy(row_of(space.x.numbers, row), row_of(space.start, row), padded<T>(call.network.in_features));
      space.x.split(row);
    });
  }
};

template <class T>
struct MoveToStarts {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    const HiddenSpace<T> space(call, worker_of(call), own);
    for_rows(call, call.rows, [&](int64_t row) {
      for (int64_t j = 0; j < space.hidden_numbers(); j += kWideLanes)
        store(row_of(space.moved, row) + j, load_wide(row_of(space.start_image, row) + j));
    });
  }
};

template <class T>
PYFIRSTORDER_INLINE void take_hidden_loss(HiddenSpace<T>& space, int64_t row) {
  space.take(row);
  if (take_value(space.own, loss_of_row(space, row, space.own.sample, row_of(space.output, row))) &&
      space.keeps_best()) {
    copy(row_of(space.best_weights, row), row_of(space.weights, row), space.hidden_numbers());
    space.state.best_start_share = space.state.start_share;
  }
  space.give_back(row);
}

// h = h₀ + p, σ and σ'; and the outputs, where there are few of them.
template <class T>
PYFIRSTORDER_INLINE void find_hidden_values(const HiddenSpace<T>& space, const Matrix<T>& output_rows, int64_t row) {
  T* const hidden = row_of(space.hidden.numbers, row);
  const T* const clean = row_of(space.clean, row);
  const double* const moved = row_of(space.moved, row);
  for (int64_t j = 0; j < space.hidden_numbers(); j += kWideLanes)
    store_narrow(hidden + j, load_wide(clean + j) + load(moved + j));
  activate(space, output_rows, row);
}

template <class T>
PYFIRSTORDER_INLINE void step_hidden_row(HiddenSpace<T>& space, int64_t row) {
  space.take(row);
  const bool ended = space.taken(row).take_iterate();
  if (!ended) ++space.own.t;
  space.give_back(row);
  mark(space, row, ended);
}

// Where there are few outputs, all before the product with K.
template <class T>
struct HiddenValues {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    HiddenSpace<T> space(call, worker_of(call), own);
    for_live_rows(call, space.live, [&](int64_t row) {
      find_hidden_values(space, call.output_backward, row);
      if (space.is_wide()) return;
      take_hidden_loss(space, row);
      sync_warp();
      find_signal(space, call.output_backward, row);
    });
  }
};

template <class T>
struct HiddenLosses {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    HiddenSpace<T> space(call, worker_of(call), own);
    for_live_rows(call, space.live, [&](int64_t row) {
      take_hidden_loss(space, row);
      space.residual.split(row);
    });
  }
};

template <class T>
struct StepHidden {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    HiddenSpace<T> space(call, worker_of(call), own);
    for_live_rows(call, space.live, [&](int64_t row) { step_hidden_row(space, row); });
  }
};

// Of all rows, the combination Wᵀ u for the next product: at the last iterate or at the best one.
template <class T>
PYFIRSTORDER_KERNEL void load_combinations(const Call<T>& call, bool best) {
  Slot<T> own;
  const HiddenSpace<T> space(call, worker_of(call), own);
  for_rows(call, call.rows, [&](int64_t row) {
    const double* const from = row_of(best ? space.best_weights : space.weights, row);
    for (int64_t j = 0; j < space.hidden_numbers(); j += kWideLanes)
      store_narrow(row_of(space.hidden.numbers, row) + j, load(from + j));
    space.hidden.split(row);
    begin_live(space, row);
  });
}

// And the point that it belongs to, for an evaluation.
template <class T>
PYFIRSTORDER_KERNEL void place_combinations(const Call<T>& call, bool best) {
  Slot<T> own;
  HiddenSpace<T> space(call, worker_of(call), own);
  for_rows(call, call.rows, [&](int64_t row) {
    space.take(row);
    T* const x = row_of(space.x.numbers, row);
    copy(x, row_of(space.gradient, row), space.own.ball.features);
    sync_warp();
    const double share = best ? space.state.best_start_share : space.state.start_share;
    HiddenRow<T>::place_end(space.own.ball, space.starts() ? row_of(space.start, row) : nullptr, share, space.state,
                            space.loop.scratch(), x);
    space.give_back(row);
    space.x.split(row);
  });
}

template <class T>
struct LoadBest {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) { load_combinations(call, true); }
};
template <class T>
struct PlaceBest {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) { place_combinations(call, true); }
};
template <class T>
struct LoadEnds {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) { load_combinations(call, false); }
};
template <class T>
struct PlaceEnds {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) { place_combinations(call, false); }
};

template <class T>
struct TakeBest {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    HiddenSpace<T> space(call, worker_of(call), own);
    for_rows(call, call.rows, [&](int64_t row) {
      space.take(row);
      copy(row_of(space.loop.x_best(), row), row_of(space.x.numbers, row), space.own.ball.features);
      settle_best(space.own, settled_value(space, row, space.loop.best_output()));
      space.give_back(row);
    });
  }
};

template <class T>
struct TakeEnds {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    HiddenSpace<T> space(call, worker_of(call), own);
    for_rows(call, call.rows, [&](int64_t row) {
      space.take(row);
      space.taken(row).settle(settled_value(space, row, space.loop.output()));
      space.give_back(row);
    });
  }
};

// Rows that are left to the dense loop begin anew; the others have ended.
template <class T>
struct BeginDeferred {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    HiddenSpace<T> space(call, worker_of(call), own);
    for_rows(call, call.rows, [&](int64_t row) {
      const bool deferred = space.states[row].deferred;
      if (deferred) begin_attack(space, call.first + row, row);
      mark(space, row, !deferred);
    });
  }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
