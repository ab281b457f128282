// The whole attack on a tile of rows, from first step to last.
//
// One worker takes rows (a job and one of its restarts) off a shared counter into the slots of its tile.  The live
// slots are evaluated together; then each ends or steps by itself, and goes on alone while that needs no shared
// product. Slots of rows that have ended lie behind the live ones until several can be handed over and filled again
// together. Rows of a tile may so stand at different steps, and nothing about a row depends on the others.  What
// happens to a row between evaluations is rows/row_loop.hpp's.
#pragma once

#include "evaluator.hpp"
#include "schedule.hpp"
// after the words that it is written in
#include "../rows/row_loop.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
class AttackWorker {
 public:
  AttackWorker(const Task<T>& task, Shared& shared, Arena& arena)
      : task_(task),
        shared_(shared),
        capacity_(Evaluator<T>::rows(task)),
        tile_(make_tile(arena, *task.network, capacity_ + kSpare)),
        evaluator_(task, arena, capacity_),
        rows_(task, arena, {tile_.x, tile_.residual, tile_.gradient}, capacity_, capacity_ + kSpare, Worker{}) {}

  void run() {
    rows_.load_box();
    while (!stopped()) {
      if (live_ == 0 || ended_ >= evaluator_.refill()) {
        finish();
        while (live_ < capacity_ && take_row(live_)) ++live_;
        if (live_ == 0) return;
      }
      evaluate({0, live_});
      // from the last slot: the one that takes the place of an ended one has been seen
      for (int64_t i = live_ - 1; i >= 0 && !stopped(); --i)
        if (run_ahead(i)) set_aside(i);
    }
  }

 private:
  bool stopped() const { return __atomic_load_n(&shared_.stop, __ATOMIC_RELAXED) != 0; }

  // Loads the next row into slot i; false if there is none.
  bool take_row(int64_t i) {
    if (!take_next_row(task_, shared_, rows_.slot(i))) return false;
    rows_.begin(i);
    return true;
  }

  // Takes the row of slot i, which has ended, out of the live ones, behind them.
  void set_aside(int64_t i) {
    const int64_t last = --live_;
    ++ended_;
    if (i == last) return;
    rows_.move_end(i, capacity_);
    rows_.move_slot(last, i);
    evaluator_.move(last, i);
    rows_.move_end(capacity_, last);
  }

  // Takes what was evaluated of slot i, and goes on alone as long as that is cheap; true if the row has ended.
  bool run_ahead(int64_t i) {
    const auto follow = [this](int64_t slot, const T* x, const T* moved, int64_t n) {
      evaluator_.step(slot, x, moved, n);
    };
    while (!rows_.take_iterate(i, follow)) {
      ++rows_.slot(i).t;
      if (stopped() || !evaluator_.is_cheap(i, rows_.slot(i))) return false;
      evaluate({i, i + 1});
    }
    return true;
  }

  // Outputs, losses and gradients of some slots.
  void evaluate(RowRange range) {
    for (int64_t i = range.first; i < range.end; ++i) rows_.keep_output(i);
    evaluator_.forward(tile_, rows_.slots(), range, rows_.output(), shared_);
    bool wants_gradient = rows_.traces();
    for (int64_t i = range.first; i < range.end; ++i) {
      rows_.take_loss(i, loss_at(rows_.slot(i), row_of(rows_.output(), i), row_of(tile_.residual, i)));
      wants_gradient |= rows_.slot(i).t < task_.options.steps;
    }
    if (wants_gradient) evaluator_.backward(tile_, rows_.slots(), range, shared_);
  }

  // Hands the rows that have ended over to the result.
  void finish() {
    const RowRange range = {live_, live_ + ended_};
    ended_ = 0;
    if (evaluator_.needs_settling() && range.first < range.end) {
      settle(range, tile_.x, rows_.output(), false);
      if (rows_.x_best().data) settle(range, rows_.x_best(), rows_.best_output(), true);
      if (stopped()) return;
    }
    for (int64_t i = range.first; i < range.end; ++i) {
      const Slot<T>& slot = rows_.slot(i);
      if (slot.status == Status::success && !slot.now.success) defer_row(task_, slot.row);
      else record_outcome(task_, shared_, rows_.outcome(i));
    }
  }

  // Evaluates the points of rows that have ended by themselves, so that the result holds what the network says of them.
  void settle(RowRange range, Rows<T> points, Rows<T> output, bool best) {
    const Tile<T> part = from_row(tile_, range.first);
    evaluator_.evaluate(part, range.end - range.first, from_row(points, range.first), from_row(output, range.first),
                        shared_);
    for (int64_t i = range.first; i < range.end; ++i) {
      Slot<T>& slot = rows_.slot(i);
      const LossValue<T> value = loss_at(slot, row_of(output, i), row_of(tile_.residual, i));
      if (best) settle_best(slot, value);
      else settle_last(slot, value);
    }
  }

  LossValue<T> loss_at(const Slot<T>& slot, T* output, T* residual) const {
    const int64_t k = task_.network->out_features;
    return loss_of<T>(task_.objective.loss)(output, residual, target_of(task_.objective, slot.sample, k), k);
  }

  static constexpr int64_t kSpare = 1;  // a row through which two others are exchanged

  const Task<T>& task_;
  Shared& shared_;
  const int64_t capacity_;
  Tile<T> tile_;
  Evaluator<T> evaluator_;
  RowLoop<T> rows_;
  int64_t live_ = 0, ended_ = 0;  // slots in use, and those behind them whose rows have ended
};

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
