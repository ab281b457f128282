"""What an attack gives back: kept while a job runs, and handed over to the result when a restart of it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder.backends.numba.compilation import compiled
from pyfirstorder.backends.numba.state import (
    BEST_LOSS,
    FIRST_SUCCESS,
    LAST_LOSS,
    LAST_OUTPUT,
    LOSS,
    NEW_LOSS,
    NEW_OUTPUT,
    OUTPUT,
    STATUS,
    STEPS,
    SUCCESS,
    X_BEST,
    X_BEST_LOSS,
    X_BEST_OUTPUT,
    X_BEST_SUCCESS,
    X,
    copy,
    fill,
)
from pyfirstorder.problem import TRACE_QUANTITIES, AttackArrays, Status

if TYPE_CHECKING:
    from pyfirstorder.backends.numba.arguments import Plan
    from pyfirstorder.problem import Array

STEPS_USED_UP, ZERO_GRADIENT = int(Status.STEPS_USED_UP), int(Status.ZERO_GRADIENT)
FIXED_POINT, PERIOD_TWO = int(Status.FIXED_POINT), int(Status.PERIOD_TWO)


class Outcome(NamedTuple):
    """`pyfirstorder.problem.AttackArrays`, with empty arrays for what was not asked for."""

    x_adv: Array
    loss: Array
    output: Array
    success: Array
    best_loss: Array
    x_best: Array
    x_best_loss: Array
    x_best_output: Array
    x_best_success: Array
    steps: Array
    first_success: Array
    status: Array
    trace: Array
    iterates: Array


def make_outcome(plan: Plan, rows: int, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Outcome:
    """Room for so many jobs on a network of shape (d, m, k)."""
    features, _, outputs = shape
    best = rows if plan.keep_best else 0
    traced = rows if plan.trace else 0
    return Outcome(
        np.empty((rows, features), dtype),
        np.empty(rows, dtype),
        np.empty((rows, outputs), dtype),
        np.empty(rows, np.bool_),
        np.empty(rows, dtype),
        np.empty((best, features), dtype),
        np.empty(best, dtype),
        np.empty((best, outputs), dtype),
        np.empty(best, np.bool_),
        np.empty(rows, np.int64),
        np.empty(rows, np.int64),
        np.empty(rows, np.int8),
        np.empty((traced, len(TRACE_QUANTITIES), plan.steps + 1), np.float64),
        np.empty((rows if plan.keep_iterates else 0, plan.steps + 1, features), dtype),
    )


def as_attack_arrays(outcome: Outcome, plan: Plan) -> AttackArrays:
    """None again for what was not asked for."""
    absent = set() if plan.keep_best else {"x_best", "x_best_loss", "x_best_output", "x_best_success"}
    absent |= set() if plan.trace else {"trace"}
    absent |= set() if plan.keep_iterates else {"iterates"}
    arrays: dict[str, Any] = {name: None if name in absent else part for name, part in outcome._asdict().items()}
    return AttackArrays(**arrays)


@compiled
def clear(plan, job):
    """Before the first iterate, which stands in ``X``."""
    job.counts[SUCCESS] = job.counts[X_BEST_SUCCESS] = 0
    job.counts[STEPS], job.counts[FIRST_SUCCESS], job.counts[STATUS] = 0, -1, STEPS_USED_UP
    job.numbers[LOSS], job.numbers[BEST_LOSS], job.numbers[X_BEST_LOSS] = 0, np.nan, np.nan
    fill(0, job.outputs[OUTPUT])
    if plan.keep_best:
        copy(job.vectors[X], job.vectors[X_BEST])
        fill(np.nan, job.outputs[X_BEST_OUTPUT])
    if plan.trace:
        for quantity in job.trace:
            fill(np.nan, quantity)


@compiled
def is_better(success, loss, than_success, than_loss):
    """Success first, then the larger loss; a loss that is not a number is worse than any other."""
    larger = loss > than_loss or (np.isnan(than_loss) and not np.isnan(loss))
    return (success and not than_success) or (bool(success) == bool(than_success) and larger)


@compiled
def larger(loss, than):
    """The larger of two losses, of which one or both may be NaN."""
    return loss if np.isnan(than) or loss > than else than


@compiled
def record(plan, job, success, t):
    """Take in the evaluation of iterate t, keeping that of the iterate before."""
    numbers, outputs, counts = job.numbers, job.outputs, job.counts
    loss = numbers[NEW_LOSS]
    numbers[LAST_LOSS], numbers[LOSS] = numbers[LOSS], loss
    copy(outputs[OUTPUT], outputs[LAST_OUTPUT])
    copy(outputs[NEW_OUTPUT], outputs[OUTPUT])
    counts[SUCCESS] = success
    if success and counts[FIRST_SUCCESS] < 0:
        counts[FIRST_SUCCESS] = t
    numbers[BEST_LOSS] = larger(loss, numbers[BEST_LOSS])
    if plan.keep_best and is_better(success, loss, counts[X_BEST_SUCCESS], numbers[X_BEST_LOSS]):
        copy(job.vectors[X], job.vectors[X_BEST])
        copy(outputs[OUTPUT], outputs[X_BEST_OUTPUT])
        numbers[X_BEST_LOSS], counts[X_BEST_SUCCESS] = loss, success


@compiled
def absorb(plan, result, number, job, restart):
    """Take over what a finished restart of that job did better: its last iterate, and its best one."""
    numbers, counts, first = job.numbers, job.counts, restart == 0
    if first or is_better(counts[SUCCESS], numbers[LOSS], result.success[number], result.loss[number]):
        copy(job.vectors[X], result.x_adv[number])
        copy(job.outputs[OUTPUT], result.output[number])
        result.loss[number], result.success[number] = numbers[LOSS], counts[SUCCESS] != 0
        result.first_success[number], result.status[number] = counts[FIRST_SUCCESS], counts[STATUS]
        if plan.trace:
            for quantity in range(len(job.trace)):
                copy(job.trace[quantity], result.trace[number, quantity])
    result.best_loss[number] = numbers[BEST_LOSS] if first else larger(numbers[BEST_LOSS], result.best_loss[number])
    result.steps[number] = counts[STEPS] + (0 if first else result.steps[number])
    if plan.keep_best:
        _absorb_best(result, number, job, first)


@compiled
def _absorb_best(result, number, job, first):
    loss, success = job.numbers[X_BEST_LOSS], job.counts[X_BEST_SUCCESS]
    if first or is_better(success, loss, result.x_best_success[number], result.x_best_loss[number]):
        copy(job.vectors[X_BEST], result.x_best[number])
        copy(job.outputs[X_BEST_OUTPUT], result.x_best_output[number])
        result.x_best_loss[number], result.x_best_success[number] = loss, success != 0


@compiled
def extend_iterates(plan, iterates, status, t):
    """What follows iterate t of a job that has ended: itself, the two points of a cycle, or nothing."""
    for ahead in range(t + 1, plan.steps + 1):
        if status in (FIXED_POINT, ZERO_GRADIENT):
            copy(iterates[t], iterates[ahead])
        elif status == PERIOD_TWO:
            copy(iterates[t - (ahead - t) % 2], iterates[ahead])
        else:
            fill(np.nan, iterates[ahead])
