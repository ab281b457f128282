"""The attack on a tile of jobs: every job through its steps, with the rules of the reference's ``attack``.

A tile steps together only to share the reading of the weights; a job that has ended leaves the list of live rows.  What
a job needs stands in its row of the block of jobs in flight, whose size does not grow with the batch.  Because it is
kept between calls, Python can let a block run a few steps at a time and look for Ctrl-C in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyfirstorder.backends.numba import apgd
from pyfirstorder.backends.numba.balls import set_limits
from pyfirstorder.backends.numba.compilation import compiled
from pyfirstorder.backends.numba.directions import choose_direction, unit_l1
from pyfirstorder.backends.numba.network import input_gradient, succeeded
from pyfirstorder.backends.numba.outcome import absorb, clear, extend_iterates, record
from pyfirstorder.backends.numba.philox import random_start
from pyfirstorder.backends.numba.rounding import is_finite
from pyfirstorder.backends.numba.state import (
    ALIVE,
    CHOSEN,
    GRADIENT,
    LAST_LOSS,
    LAST_OUTPUT,
    LOSS,
    MOVED,
    NEW_LOSS,
    NEW_OUTPUT,
    OUTPUT,
    PREVIOUS,
    SCALE,
    SPARE,
    STATUS,
    STEP_SIZE,
    STEPS,
    SUCCESS,
    TERMS,
    VELOCITY,
    X,
    copy,
    fill,
    job_of,
)
from pyfirstorder.backends.numba.steps import admit, advance
from pyfirstorder.backends.numba.sums import euclidean_norm
from pyfirstorder.problem import STARTS, TRACE_QUANTITIES, Status

if TYPE_CHECKING:
    from pyfirstorder.backends.numba.arguments import BallArrays, NetworkArrays, Plan, Targets
    from pyfirstorder.problem import Array

FIXED_POINT, PERIOD_TWO, NOT_FINITE = int(Status.FIXED_POINT), int(Status.PERIOD_TWO), int(Status.NOT_FINITE)
FIRST_SUCCESS_ENDS, ZERO_GRADIENT = int(Status.SUCCESS), int(Status.ZERO_GRADIENT)
NO_START, ON_SPHERE = STARTS.index("none"), STARTS.index("sphere")
TRACED_LOSS, GRADIENT_NORM, DELTA_NORM, COSINE, RESIDUAL_NORM = (
    TRACE_QUANTITIES.index(name) for name in ("loss", "gradient_norm", "delta_norm", "cosine", "residual")
)


class Problem(NamedTuple):
    """All that an attack is given."""

    network: NetworkArrays
    targets: Targets
    ball: BallArrays
    plan: Plan
    x: Array  # T (B, d)
    x_init: Array  # T (B, d), or without rows
    eps: Array  # float64 (jobs,)
    step_size: Array  # float64 (jobs,)


@compiled
def attack_tile(rows, first_job, restart, steps, problem, block, result):
    """Take the jobs of a range of rows from the first to before the last of ``steps``."""
    plan, x, live, count = problem.plan, problem.x, block.live[rows[0] : rows[1]], 0
    for row in range(rows[0], rows[1]):
        if steps[0] == 0:
            number = first_job + row
            _begin(problem, job_of(block, row, x[number % len(x)]), number, restart)
        if block.counts[row, ALIVE]:
            live[count] = row
            count += 1
    for t in range(steps[0], steps[1]):
        if count == 0:
            break
        input_gradient(problem.network, problem.targets, block, live[:count], first_job, len(x))
        left = 0
        for i in range(count):
            row, number = live[i], first_job + live[i]
            sample = number % len(x)
            job = job_of(block, row, x[sample])
            if plan.keep_iterates:
                copy(job.vectors[X], result.iterates[number, t])
            job.counts[ALIVE] = _take_step(problem.targets, problem.ball, plan, job, sample, t)
            if job.counts[ALIVE]:
                live[left] = row
                left += 1
            else:
                if plan.keep_iterates:
                    extend_iterates(plan, result.iterates[number], job.counts[STATUS], t)
                absorb(plan, result, number, job, restart)
        count = left


@compiled
def _begin(problem, job, number, restart):
    """The first iterate, and no memory."""
    plan, ball, start, sample = problem.plan, problem.ball, job.vectors[X], number % len(problem.x)
    set_limits(ball, job, problem.eps[number])
    job.sizes[STEP_SIZE] = problem.step_size[number]
    if plan.start != NO_START:
        random_start(ball, job, plan.start == ON_SPHERE, plan.seed, restart, sample + plan.sample_offset, start)
    elif len(problem.x_init):
        admit(ball, job, problem.x_init[sample], start)
    else:
        copy(job.x0, start)
    copy(start, job.vectors[PREVIOUS])
    fill(0, job.vectors[VELOCITY])
    job.counts[ALIVE] = 1
    clear(plan, job)
    if plan.apgd:
        apgd.begin(plan, ball, job)


@compiled
def _take_step(targets, ball, plan, job, sample, t):
    """Take in the evaluation of iterate t, then end or step; whether the job goes on."""
    loss, counts = job.numbers[NEW_LOSS], job.counts
    record(plan, job, succeeded(targets, job.outputs[NEW_OUTPUT], sample) and is_finite(loss), t)
    if plan.trace:
        _observe(ball, job, t)
    finite, zero = _survey(job.vectors[GRADIENT])
    if counts[SUCCESS] and plan.early_stop:
        counts[STATUS] = FIRST_SUCCESS_ENDS
        return False
    if not is_finite(loss) or (not finite and t < plan.steps):  # the last iterate needs no gradient
        counts[STATUS] = NOT_FINITE
        return False
    if t == plan.steps:
        return False
    if zero and _has_no_memory(plan, job, t):
        _freeze(plan, job, ZERO_GRADIENT, t)
        return False
    counts[STEPS] += 1
    if plan.apgd:
        apgd.step(plan, ball, job, t)
    else:
        _pgd_step(plan, ball, job)
    return _arrive(targets, plan, job, sample, t)


@compiled
def _survey(vector):
    """Whether all coordinates are finite, and whether all are zero."""
    infinite, nonzero = 0, 0
    for value in vector:
        infinite += not is_finite(value)
        nonzero += value != 0
    return infinite == 0, nonzero == 0


@compiled
def _has_no_memory(plan, job, t):
    """Whether nothing but the gradient moves the job."""
    if plan.apgd:
        return t == 0
    return plan.momentum == 0 or _survey(job.vectors[VELOCITY])[1]


@compiled
def _freeze(plan, job, status, t):
    """End a job whose iterates would stay what they are at step t."""
    job.counts[STATUS] = status
    if plan.trace:
        for quantity in job.trace:
            fill(quantity[t], quantity[t + 1 :])


@compiled
def _pgd_step(plan, ball, job):
    """The next iterate, into ``MOVED``."""
    g, chosen = job.vectors[GRADIENT], job.vectors[CHOSEN]
    if plan.raw_gradient:
        for j in range(len(g)):
            g[j] = job.numbers[SCALE] * g[j]
    if plan.momentum != 0:
        if not plan.raw_gradient:
            unit_l1(job, g, chosen)
            g, chosen = chosen, g
        velocity, momentum = job.vectors[VELOCITY], g.dtype.type(plan.momentum)
        for j in range(len(g)):
            velocity[j] = momentum * velocity[j] + g[j]
        g = velocity
    choose_direction(plan.direction, ball, job, g, plan.sparse_count, job.vectors[X], chosen)
    advance(ball, job, job.vectors[X], chosen, job.sizes[STEP_SIZE], job.vectors[MOVED])


@compiled
def _arrive(targets, plan, job, sample, t):
    """Make the moved point the iterate, unless it shows that the job has ended; whether the job goes on."""
    x, previous, moved = job.vectors[X], job.vectors[PREVIOUS], job.vectors[MOVED]
    if not _survey(moved)[0]:
        job.counts[STATUS] = NOT_FINITE
        return False
    if plan.retire:
        changed, changed_twice = 0, 0
        for j in range(len(x)):
            changed += moved[j] != x[j]
            changed_twice += moved[j] != previous[j]
        if changed == 0:
            _freeze(plan, job, FIXED_POINT, t)
            return False
        if changed_twice == 0 and t > 0:
            _end_cycle(targets, plan, job, sample, t)
            return False
    copy(x, previous)
    copy(moved, x)
    return True


@compiled
def _end_cycle(targets, plan, job, sample, t):
    """End a job that goes to and fro between this iterate and the one before, on the one that parity says."""
    job.counts[STATUS] = PERIOD_TWO
    if plan.trace:
        for quantity in job.trace:
            for ahead in range(t + 1, plan.steps + 1):
                quantity[ahead] = quantity[t - (ahead - t) % 2]
    if (plan.steps - t) % 2 == 1:
        copy(job.vectors[PREVIOUS], job.vectors[X])
        copy(job.outputs[LAST_OUTPUT], job.outputs[OUTPUT])
        job.numbers[LOSS] = job.numbers[LAST_LOSS]
        job.counts[SUCCESS] = succeeded(targets, job.outputs[OUTPUT], sample)


@compiled
def _observe(ball, job, t):
    """The quantities of the trace at iterate t."""
    x, g, x0, gradient, ahead = job.vectors[X], job.vectors[GRADIENT], job.x0, job.vectors[CHOSEN], job.vectors[MOVED]
    delta, terms, scale, inner = job.wide[SPARE], job.wide[TERMS], np.float64(job.numbers[SCALE]), 0.0
    for j in range(len(x)):
        delta[j] = np.float64(x[j]) - np.float64(x0[j])
        inner += np.float64(g[j]) * delta[j]
        gradient[j] = scale * np.float64(g[j])
    g_norm, delta_norm = euclidean_norm(g, 1.0, terms), euclidean_norm(delta, 1.0, terms)
    advance(ball, job, x, gradient, 1.0, ahead)
    for j in range(len(x)):
        delta[j] = np.float64(ahead[j]) - np.float64(x[j])
    job.trace[TRACED_LOSS, t] = job.numbers[NEW_LOSS]
    job.trace[GRADIENT_NORM, t] = abs(scale) * g_norm
    job.trace[DELTA_NORM, t] = delta_norm
    job.trace[COSINE, t] = inner / (g_norm * delta_norm) if g_norm * delta_norm > 0 else 0.0
    job.trace[RESIDUAL_NORM, t] = euclidean_norm(delta, 1.0, terms)
