// Projections and random starts, each by one warp.
#pragma once

#include "space.hpp"
// after the words that it is written in
#include "../rows/projection.hpp"
#include "../rows/random_start.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// A ball that moves from row to row, for projections and random starts.
template <class T>
struct BallSpace {
  PYFIRSTORDER_INLINE BallSpace(const Call<T>& call, Worker worker) : task(call.task), d(call.network.in_features) {
    Arena arena(call.space);
    const int64_t n = padded<T>(d);
    const auto row = [&](int64_t count) { return worker.own(arena.take<T>(count * n * call.workers), count * n); };
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
