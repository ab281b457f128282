// One place of an attack's tile, which rows take one after another.
#pragma once

#include "apgd.hpp"
#include "projection.hpp"
#include "tile.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// What a slot knows of its row, beside the arrays.
template <class T>
struct Slot {
  int64_t row, job, sample, t;
  RowBall<T> ball;
  LossValue<T> now, before;  // at x and at the iterate before
  LossValue<T> best;         // at x_best
  T best_loss;
  int64_t first_success;
  ApgdState<T> apgd;
  int32_t restart;
  bool has_best;
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
