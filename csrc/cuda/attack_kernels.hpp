// What warps do with rows between two evaluations of an attack: a warp takes a row through the code of csrc/rows.
//
// A row is a job and one of its restarts.  What is known of it lies in a slot; a warp works on a copy of its own, and
// one lane writes it back.
#pragma once

#include "evaluation_kernels.hpp"
// after the words that it is written in
#include "../rows/row_loop.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

// An attack's part of the space, behind that of every call.
template <class T>
struct AttackSpace : Space<T> {
  PYFIRSTORDER_INLINE AttackSpace(const Call<T>& call, Worker worker, Slot<T>& own)
      : Space<T>(call),
        loop(call.task, this->arena, {this->x.numbers, this->residual.numbers, this->gradient}, call.rows, call.rows,
             worker),
        slots(loop.slots()),
        own(own) {}

  // The row's slot, copied to where this warp can change it.
  PYFIRSTORDER_INLINE void take(int64_t row) {
    own = slots[row];
    loop.work_on(&own);
  }
  // Without what is the same from the row's begin on: that need not be kept until then.
  PYFIRSTORDER_INLINE void give_back(int64_t row) {
    sync_warp();
    if (lane() == 0) static_cast<SlotState<T>&>(slots[row]) = own;
  }

  // Gives the next product the row's iterate; in fast mode its distance from the clean sample, of which halves keep
  // eleven bits where of the iterate they would lose most of the distance.
  PYFIRSTORDER_INLINE void split_iterate(int64_t row) const {
    if (!this->is_fast()) return this->x.split(row);
    const T *const x = row_of(this->x.numbers, row), *const x0 = row_of(loop.x0(), row);
    this->x.split_values(row, [=](int64_t j) { return x[j] - x0[j]; });
  }

  RowLoop<T> loop;
  Slot<T>* slots;
  Slot<T>& own;  // a variable of the kernel's: beside pointers to it, nothing else here could be in registers
};

template <class T>
struct LoadBox {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    if (warp_index() == 0) AttackSpace<T>(call, worker_of(call), own).loop.load_box();
  }
};

// Row `of_task` of the task begins in place `row`.
template <class T>
PYFIRSTORDER_INLINE void begin_attack(AttackSpace<T>& space, int64_t of_task, int64_t row) {
  begin_row(space.task, of_task, space.own);
  space.loop.work_on(&space.own);
  space.loop.begin(row);
  sync_warp();
  if (lane() == 0) space.slots[row] = space.own;
  const T* const x0 = row_of(space.loop.x0(), row);
  if (space.is_fast()) space.x.split_values(row, [=](int64_t j) { return x0[j]; });
  else space.x.split(row);
}

template <class T>
struct BeginRows {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    AttackSpace<T> space(call, worker_of(call), own);
    for_rows(call, call.rows, [&](int64_t row) {
      begin_attack(space, call.first + row, row);
      begin_live(space, row);
    });
  }
};

template <class T>
struct SplitIterates {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    const AttackSpace<T> space(call, worker_of(call), own);
    for_live_rows(call, space.live, [&](int64_t row) { space.split_iterate(row); });
  }
};

template <class T>
PYFIRSTORDER_INLINE void take_loss(AttackSpace<T>& space, int64_t row) {
  space.take(row);
  space.loop.keep_output(row);
  copy(row_of(space.loop.output(), row), row_of(space.output, row), space.network.out_features);
  space.loop.take_loss(row, loss_of_row(space, row, space.own.sample, row_of(space.output, row)));
  space.give_back(row);
}

template <class T>
struct TakeLosses {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    AttackSpace<T> space(call, worker_of(call), own);
    for_live_rows(call, space.live, [&](int64_t row) {
      take_loss(space, row);
      space.residual.split(row);
    });
  }
};

// All between the two products of a step, where there are few outputs.
template <class T>
struct HiddenToSignal {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    AttackSpace<T> space(call, worker_of(call), own);
    for_live_rows(call, space.live, [&](int64_t row) {
      activate(space, call.output_backward, row);
      take_loss(space, row);
      sync_warp();
      find_signal(space, call.output_backward, row);
    });
  }
};

template <class T>
PYFIRSTORDER_INLINE void step_row(AttackSpace<T>& space, int64_t row) {
  space.take(row);
  const bool ended = space.loop.take_iterate(row, [](int64_t, const T*, const T*, int64_t) {});
  ++space.own.t;
  space.give_back(row);
  mark(space, row, ended);
  if (!ended) space.split_iterate(row);
}

template <class T>
struct StepRows {
  static PYFIRSTORDER_INLINED void run(const Call<T>& call) {
    Slot<T> own;
    AttackSpace<T> space(call, worker_of(call), own);
    for_live_rows(call, space.live, [&](int64_t row) { step_row(space, row); });
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

// After steps in fast mode: the end points as they are, and all rows live, for an evaluation that is not rounded.
template <class T>
struct BeginSettling {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    const AttackSpace<T> space(call, worker_of(call), own);
    for_rows(call, call.rows, [&](int64_t row) {
      space.x.split(row);
      begin_live(space, row);
    });
  }
};

template <class T>
PYFIRSTORDER_INLINE LossValue<T> settled_value(const AttackSpace<T>& space, int64_t row, Rows<T> output) {
  copy(row_of(output, row), row_of(space.output, row), space.network.out_features);
  LossValue<T> value = loss_of_row(space, row, space.own.sample, row_of(space.output, row));
  value.success &= value.value - value.value == 0;
  return value;
}

// Then the best points, which take the place of the end points in the next evaluation.
template <class T>
struct SettleEnds {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    AttackSpace<T> space(call, worker_of(call), own);
    for_rows(call, call.rows, [&](int64_t row) {
      space.take(row);
      settle_last(space.own, settled_value(space, row, space.loop.output()));
      space.own.best_loss = space.own.now.value;
      space.give_back(row);
      const T* const best = row_of(space.loop.x_best(), row);
      space.x.split_values(row, [=](int64_t j) { return best[j]; });
    });
  }
};

template <class T>
struct SettleBest {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    AttackSpace<T> space(call, worker_of(call), own);
    for_rows(call, call.rows, [&](int64_t row) {
      space.take(row);
      if (space.own.has_best) settle_best(space.own, settled_value(space, row, space.loop.best_output()));
      if (!(space.own.best_loss >= space.own.best.value)) space.own.best_loss = space.own.best.value;
      space.give_back(row);
    });
  }
};

// Restarts of a job lie together, and one warp merges them in order.
template <class T>
struct Finish {
  static PYFIRSTORDER_KERNEL void run(const Call<T>& call) {
    Slot<T> own;
    AttackSpace<T> space(call, worker_of(call), own);
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

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
