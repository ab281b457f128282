// The end of one row, and how the restarts of a job become one result: the one that succeeds, then the one with the
// larger loss, then the earlier one, whatever the order in which workers bring them.
#pragma once

#include "slot.hpp"

namespace pyfirstorder::PYFIRSTORDER_TARGET {

template <class T>
struct Outcome {
  int64_t job;
  int32_t restart;
  int64_t steps;
  Status status;
  LossValue<T> last, best;  // at the last and at the best iterate
  T best_loss;
  int64_t first_success;
  const T *x, *output, *x_best, *x_best_output;
  const double* trace;

  PYFIRSTORDER_INLINE void at_slot(const Slot<T>& slot) {
    job = slot.job;
    restart = slot.restart;
    last = slot.now;
    best = slot.best;
    best_loss = slot.best_loss;
    first_success = slot.first_success;
    steps = slot.steps;
    status = slot.status;
  }
};

// Whether this restart is kept instead of the one that the result holds (-1: none yet).
template <class T>
PYFIRSTORDER_INLINE bool takes_over(int32_t held, int32_t restart, const LossValue<T>& value, bool success, T loss) {
  if (held < 0 || is_better(value.success, value.value, success, loss)) return true;
  return !is_better(success, loss, value.success, value.value) && restart < held;
}

template <class T>
PYFIRSTORDER_INLINE void write_last(const Task<T>& task, const Outcome<T>& outcome) {
  const AttackResult<T>& result = task.result;
  const int64_t d = task.network->in_features, k = task.network->out_features, job = outcome.job;
  copy(result.x_adv + job * d, outcome.x, d);
  copy(result.output + job * k, outcome.output, k);
  result.loss[job] = outcome.last.value;
  result.success[job] = outcome.last.success;
  result.first_success[job] = outcome.first_success;
  result.status[job] = int8_t(outcome.status);
  const int64_t trace_size = kTraceQuantities * (task.options.steps + 1);
  if (result.trace) copy(result.trace + job * trace_size, outcome.trace, trace_size);
  if (result.kept_restart) result.kept_restart[job] = outcome.restart;
}

template <class T>
PYFIRSTORDER_INLINE void write_best(const Task<T>& task, const Outcome<T>& outcome) {
  const AttackResult<T>& result = task.result;
  const int64_t d = task.network->in_features, k = task.network->out_features, job = outcome.job;
  copy(result.x_best + job * d, outcome.x_best, d);
  copy(result.x_best_output + job * k, outcome.x_best_output, k);
  result.x_best_loss[job] = outcome.best.value;
  result.x_best_success[job] = outcome.best.success;
  if (result.best_restart) result.best_restart[job] = outcome.restart;
}

template <class T>
PYFIRSTORDER_INLINE void merge_outcome(const Task<T>& task, const Outcome<T>& outcome) {
  const AttackResult<T>& result = task.result;
  const int64_t job = outcome.job;
  const int64_t steps = result.steps[job];
  const bool first = steps < 0;
  const int32_t kept = first || !result.kept_restart ? -1 : result.kept_restart[job];
  const int32_t best = first || !result.best_restart ? -1 : result.best_restart[job];
  // before the first restart nobody has written a truth value there
  const bool success = !first && result.success[job];
  const bool best_success = !first && result.x_best && result.x_best_success[job];
  const bool last_is_better = takes_over(kept, outcome.restart, outcome.last, success, result.loss[job]);
  const bool best_is_better =
      result.x_best && takes_over(best, outcome.restart, outcome.best, best_success, result.x_best_loss[job]);
  const T largest = first ? T(0) : result.best_loss[job];
  sync_warp();  // all lanes have read what they are going to write
  if (last_is_better) write_last(task, outcome);
  if (best_is_better) write_best(task, outcome);
  // of two zeros with different signs the first to come would stay
  if (first || largest != largest || outcome.best_loss > largest) result.best_loss[job] = outcome.best_loss + T(0);
  result.steps[job] = (first ? 0 : steps) + outcome.steps;
}

}  // namespace pyfirstorder::PYFIRSTORDER_TARGET
