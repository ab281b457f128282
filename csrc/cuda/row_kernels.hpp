// What warps do with rows between products: a warp takes a row through the code of csrc/rows.
//
// All kernels of a call see the same `Space`: every thread lays it out anew, which is arithmetic alone.  A row is a job
// and one of its restarts.  What is known of it lies in a slot; a warp works on a copy of its own, and one lane writes
// it back.
#pragma once

#include "product.hpp"
#include "tensor_product.hpp"
// after the words that it is written in
#include "../rows/names.hpp"
#include "../rows/row_loop.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// One call, or the part of it that fits the work space.  `task.network` points to where the kernel can read it: the
// host lays out the space with a network of its own, and kernels read the one that StoreNetwork put at its beginning.
template <class T>
struct Call {
  Task<T> task;
  Network<T> network;
  Matrix<T> hidden, output, output_backward, hidden_backward;
  char* space;
  int64_t first, rows;  // rows of the whole task that this part is
  int64_t warps;        // of a kernel on rows
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
    if constexpr (kHasHalves<T>) {
      sync_warp();
      split_row(row_of(numbers, row), columns, halves, row);
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
    output = arena.take_rows<T>(call.rows, k);
    ended = arena.take<int>(call.rows);
    live = {arena.take<int>(call.rows), arena.take<int>(1), call.rows};
  }

  PYFIRSTORDER_INLINE size_t bytes() const { return arena.used(); }
  PYFIRSTORDER_INLINE bool is_wide() const { return network.out_features >= cuda::kWideOutputs; }

  const Task<T>& task;
  const Network<T>& network;
  Arena arena;
  Network<T>* stored_network;
  Factor<T> x;         // iterates
  Factor<T> hidden;    // W x + b, σ(h), at last σ' ⊙ Aᵀ r
  Factor<T> residual;  // ∂L/∂z up to scale
  Rows<T> gradient;    // ∂L/∂x up to the same scale
  Rows<T> slope, output;
  int* ended;
  LiveRows live;
};

PYFIRSTORDER_INLINE int64_t warp_index() {
  return block_index() * kBlockWarps + warp_of_block();
}

// Calls `body(row)` for this warp's share of so many rows.
template <class T, class Body>
PYFIRSTORDER_INLINE void for_rows(const Call<T>& call, int64_t rows, Body body) {
  for (int64_t row = warp_index(); row < rows; row += call.warps) {
    body(row);
    sync_warp();
  }
}

template <class T, class Body>
PYFIRSTORDER_INLINE void for_live_rows(const Call<T>& call, const LiveRows& live, Body body) {
  for_rows(call, live.count(), [&](int64_t place) { body(live.at(place)); });
}

// At the beginning of a call all rows are live.
template <class T>
PYFIRSTORDER_INLINE void begin_live(const Space<T>& space, int64_t row) {
  if (lane() != 0) return;
  space.ended[row] = 0;
  space.live.list[row] = int(row);
  if (row == 0) *space.live.counted = int(space.live.most);
}

template <class T>
PYFIRSTORDER_INLINE Worker worker_of(const Call<T>& call) {
  return Worker{warp_index(), call.warps};
}

// An attack's part of the space, behind that of every call.
template <class T>
struct AttackSpace : Space<T> {
  PYFIRSTORDER_INLINE AttackSpace(const Call<T>& call, Worker worker)
      : Space<T>(call),
        loop(call.task, this->arena, {this->x.numbers, this->residual.numbers, this->gradient}, call.rows, call.rows,
             worker),
        slots(loop.slots()) {}

  // The row's slot, copied to where this warp can change it.
  PYFIRSTORDER_INLINE void take(int64_t row) {
    own = slots[row];
    loop.work_on(&own);
  }
  PYFIRSTORDER_INLINE void give_back(int64_t row) {
    sync_warp();
    if (lane() == 0) slots[row] = own;
  }

  RowLoop<T> loop;
  Slot<T>* slots;
  Slot<T> own;
};

template <class T>
struct StoreNetwork {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    if (warp_index() == 0 && lane() == 0) *Space<T>(call).stored_network = call.network;
  }
};

template <class T>
struct LoadBox {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    if (warp_index() == 0) AttackSpace<T>(call, worker_of(call)).loop.load_box();
  }
};

template <class T>
struct BeginRows {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    AttackSpace<T> space(call, worker_of(call));
    for_rows(call, call.rows, [&](int64_t row) {
      begin_row(space.task, call.first + row, space.own);
      space.loop.work_on(&space.own);
      space.loop.begin(row);
      space.give_back(row);
      space.x.split(row);
      begin_live(space, row);
    });
  }
};

template <class T>
struct Activate {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Space<T> space(call);
    const int64_t n = padded<T>(call.network.hidden_features);
    with_activation(call.network.activation, [&](auto activation) {
      for_live_rows(call, space.live, [&](int64_t row) {
        activate_row(activation, row_of(space.hidden.numbers, row), row_of(space.slope, row), n,
                     T(call.network.parameter));
        if (space.is_wide()) space.hidden.split(row);
      });
    });
  }
};

// σ' ⊙ Aᵀ r.  Where there are few outputs, the product with Aᵀ is made here; else it lies in its place already.
template <class T>
struct Signal {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Space<T> space(call);
    for_live_rows(call, space.live, [&](int64_t row) {
      T* const hidden = row_of(space.hidden.numbers, row);
      for (int64_t j = 0; j < padded<T>(call.network.hidden_features); j += lanes<T>()) {
        const T signal = space.is_wide() ? load(hidden + j) : pulled_back(call, row_of(space.residual.numbers, row), j);
        store(hidden + j, signal * load(row_of(space.slope, row) + j));
      }
      space.hidden.split(row);
    });
  }

 private:
  static PYFIRSTORDER_KERNEL T pulled_back(const Call<T>& call, const T* residual, int64_t j) {
    const Matrix<T>& matrix = call.output_backward;
    T sum = 0;
    for (int64_t c = 0; c < matrix.depth; ++c) sum = fma(residual[c], load(matrix.data + c * matrix.stride + j), sum);
    return sum;
  }
};

template <class T>
PYFIRSTORDER_INLINE LossValue<T> loss_of_row(const Space<T>& space, int64_t row, int64_t sample, T* output) {
  const int64_t k = space.network.out_features;
  return with_loss(space.task.objective.loss, [&](auto loss) {
    return decltype(loss)::apply(output, row_of(space.residual.numbers, row),
                                 target_of(space.task.objective, sample, k), k);
  });
}

template <class T>
struct TakeLosses {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    AttackSpace<T> space(call, worker_of(call));
    for_live_rows(call, space.live, [&](int64_t row) {
      space.take(row);
      space.loop.keep_output(row);
      T* const output = row_of(space.loop.output(), row);
      copy(output, row_of(space.output, row), call.network.out_features);
      space.loop.take_loss(row, loss_of_row(space, row, space.own.sample, row_of(space.output, row)));
      space.give_back(row);
      if (space.is_wide()) space.residual.split(row);
    });
  }
};

template <class T>
struct StepRows {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    AttackSpace<T> space(call, worker_of(call));
    for_live_rows(call, space.live, [&](int64_t row) {
      space.take(row);
      const bool ended = space.loop.take_iterate(row, [](int64_t, const T*, const T*, int64_t) {});
      ++space.own.t;
      space.give_back(row);
      if (lane() == 0) space.ended[row] = ended;
      if (!ended) space.x.split(row);
    });
  }
};

// By one block.
template <class T>
struct TakeOutEnded {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    const Space<T> space(call);
    space.live.take_out(space.ended);
  }
};

// Restarts of a job lie together, and one warp merges them in order.
template <class T>
struct Finish {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    AttackSpace<T> space(call, worker_of(call));
    const int64_t restarts = space.task.options.restarts;
    for_rows(call, call.rows / restarts, [&](int64_t job) {
      for (int64_t restart = 0; restart < restarts; ++restart) {
        space.take(job * restarts + restart);
        merge_outcome(space.task, space.loop.outcome(job * restarts + restart));
        sync_warp();
      }
    });
  }
};

// ------------------------------------------------------------------ calls without a loop

template <class T>
struct LoadRows {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Space<T> space(call);
    const int64_t d = call.network.in_features;
    for_rows(call, call.rows, [&](int64_t row) {
      copy_row(call.task.x + (call.first + row) * d, d, row_of(space.x.numbers, row));
      space.x.split(row);
      begin_live(space, row);
    });
  }
};

template <class T>
struct StoreOutputs {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Space<T> space(call);
    const int64_t k = call.network.out_features;
    T* const to = call.task.output_out ? call.task.output_out : call.task.rows_out;
    for_rows(call, call.rows, [&](int64_t row) { copy(to + (call.first + row) * k, row_of(space.output, row), k); });
  }
};

// The scale of a row's gradient waits in the first number of its slopes, which are used up.
template <class T>
struct Losses {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Space<T> space(call);
    for_rows(call, call.rows, [&](int64_t row) {
      const LossValue<T> value = loss_of_row(space, row, call.first + row, row_of(space.output, row));
      call.task.loss_out[call.first + row] = value.value;
      call.task.scale_out[call.first + row] = value.scale;
      if (space.is_wide()) space.residual.split(row);
    });
  }
};

template <class T>
struct StoreGradients {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Space<T> space(call);
    const int64_t d = call.network.in_features;
    for_rows(call, call.rows, [&](int64_t row) {
      const T scale = call.task.scale_out[call.first + row];
      for (int64_t j = lane(); j < d; j += kWarp)
        call.task.rows_out[(call.first + row) * d + j] = scale * row_of(space.gradient, row)[j];
    });
  }
};

// A ball that moves from row to row, for projections and random starts.
template <class T>
struct BallSpace {
  PYFIRSTORDER_INLINE BallSpace(const Call<T>& call, Worker worker) : task(call.task), d(call.network.in_features) {
    Arena arena(call.space);
    const int64_t n = padded<T>(d);
    const auto row = [&](int64_t count) { return worker.own(arena.take<T>(count * n * call.warps), count * n); };
    x0 = row(1);
    point = row(1);
    lowest = row(1);
    highest = row(1);
    lower = row(1);
    upper = row(1);
    scratch = row(2);
    used = arena.used();
  }

  PYFIRSTORDER_INLINE RowBall<T> ball_of(int64_t row) {
    const bool has_box = task.ball.lower != nullptr;
    copy_row(task.x + row * d, d, x0);
    if (has_box) copy_row(task.ball.lower, d, lower);
    if (has_box) copy_row(task.ball.upper, d, upper);
    sync_warp();
    RowBall<T> ball = row_ball(task.ball, task.ball.eps[row], has_box ? lower : nullptr, has_box ? upper : nullptr, d);
    ball.x0 = x0;
    ball.lowest = lowest;
    ball.highest = highest;
    return ball;
  }

  const Task<T>& task;
  int64_t d;
  T *x0, *point, *lowest, *highest, *lower, *upper, *scratch;
  size_t used;
};

template <class T>
struct Project {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    BallSpace<T> space(call, worker_of(call));
    for_rows(call, call.rows, [&](int64_t at) {
      const int64_t row = call.first + at;
      const RowBall<T> ball = space.ball_of(row);
      if (ball.lower) find_room(ball);
      copy_row(call.task.delta + row * space.d, space.d, space.point);
      sync_warp();
      project_row(space.point, ball, space.scratch);
      sync_warp();
      copy(call.task.rows_out + row * space.d, space.point, space.d);
    });
  }
};

template <class T>
struct RandomStart {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    BallSpace<T> space(call, worker_of(call));
    const AttackOptions& options = call.task.options;
    for_rows(call, call.rows, [&](int64_t at) {
      const int64_t row = call.first + at;
      const RowBall<T> ball = space.ball_of(row);
      if (ball.norm == Norm::linf) find_limits(ball);
      else if (ball.lower) find_room(ball);
      const RandomKey key{options.seed, uint32_t(options.restarts), uint64_t(row + options.sample_offset)};
      random_start_row(ball, space.d, options.random_start == Start::sphere, key, space.scratch, space.point);
      sync_warp();
      copy(call.task.rows_out + row * space.d, space.point, space.d);
    });
  }
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
