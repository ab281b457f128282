"""APGD's memory of one job: momentum towards the last step, and a step size that halves when the loss stops rising.

Croce & Hein 2020 (arXiv 2003.01690), algorithm 1, and for ℓ1 Croce & Hein 2021 (arXiv 2103.01208); the equations stand
in the reference.
"""

from __future__ import annotations

import numpy as np

from pyfirstorder.backends.numba.compilation import compiled
from pyfirstorder.backends.numba.directions import choose_direction
from pyfirstorder.backends.numba.state import (
    APGD_BEST,
    APGD_CHECKED,
    APGD_GRADIENT_BEST,
    APGD_LAST,
    APGD_STEP_SIZE,
    APGD_SUPPORT,
    APGD_X_BEST,
    BASE,
    CHOSEN,
    COORDINATES,
    EPS,
    GRADIENT,
    HALVED,
    MOVED,
    NEW_LOSS,
    RISES,
    SINCE_CHECK,
    WINDOW,
    X,
    copy,
    fill,
)
from pyfirstorder.backends.numba.steps import advance
from pyfirstorder.problem import NORMS

L1 = NORMS.index("l1")
MOMENTUM = 0.25  # 1 - a
FIRST_WINDOW, SMALLEST_WINDOW, WINDOW_DECREASE = 0.22, 0.06, 0.03  # shares of all steps
L1_WINDOW = 0.04
L1_FIRST_SHARE = 0.2  # of the coordinates, moved by the first steps
L1_SPARSITY_DIVISOR = 1.5  # coordinates moved: those of the best point over this
L1_STILL_SHRINKING = 0.95
L1_STEP_DIVISOR, L1_LARGEST_DIVISOR = 1.5, 10.0


@compiled
def sparse_count(share, features):
    """How many coordinates the sparse direction moves for a share of them, as in the authors' code."""
    return features - int(min(max((1.0 - share) * features, 0.0), features - 1.0))


@compiled
def _first_step_size(ball, job):
    return job.sizes[EPS] * (1.0 if ball.norm == L1 else 2.0)


@compiled
def begin(plan, ball, job):
    """Forget everything."""
    l1, features, numbers, sizes, counts = ball.norm == L1, len(job.x0), job.numbers, job.sizes, job.counts
    copy(job.x0, job.vectors[BASE])
    copy(job.x0, job.vectors[APGD_X_BEST])
    fill(0, job.vectors[APGD_GRADIENT_BEST])
    numbers[APGD_BEST] = numbers[APGD_LAST] = numbers[APGD_CHECKED] = -np.inf
    sizes[APGD_STEP_SIZE] = _first_step_size(ball, job)
    sizes[APGD_SUPPORT] = features
    counts[RISES] = counts[SINCE_CHECK] = 0
    counts[WINDOW] = max(int((L1_WINDOW if l1 else FIRST_WINDOW) * plan.steps), 1)
    counts[COORDINATES] = sparse_count(L1_FIRST_SHARE, features)
    counts[HALVED] = 1


@compiled
def step(plan, ball, job, t):
    """The next iterate, into ``MOVED``."""
    numbers, counts = job.numbers, job.counts
    x, g, loss = job.vectors[X], job.vectors[GRADIENT], numbers[NEW_LOSS]
    if loss > numbers[APGD_BEST]:
        numbers[APGD_BEST] = loss
        copy(x, job.vectors[APGD_X_BEST])
        copy(g, job.vectors[APGD_GRADIENT_BEST])
    if t > 0:
        counts[RISES] += loss > numbers[APGD_LAST]
        counts[SINCE_CHECK] += 1
    else:
        numbers[APGD_CHECKED] = loss
    numbers[APGD_LAST] = loss
    if counts[SINCE_CHECK] == counts[WINDOW]:
        restarted = _adapt_l1(ball, job) if ball.norm == L1 else _adapt(plan, job)
        counts[SINCE_CHECK] = counts[RISES] = 0
        if restarted:
            x, g = job.vectors[APGD_X_BEST], job.vectors[APGD_GRADIENT_BEST]
    _move(plan, ball, job, x, g, t)


@compiled
def _adapt(plan, job):
    """Halve the step size of a job that stalls; whether it did."""
    numbers, counts = job.numbers, job.counts
    stalled = counts[HALVED] == 0 and numbers[APGD_CHECKED] >= numbers[APGD_BEST]
    halve = stalled or counts[RISES] <= counts[WINDOW] * plan.rho
    counts[HALVED] = halve
    numbers[APGD_CHECKED] = numbers[APGD_BEST]
    if halve:
        job.sizes[APGD_STEP_SIZE] /= 2
    decrease, smallest = max(int(WINDOW_DECREASE * plan.steps), 1), max(int(SMALLEST_WINDOW * plan.steps), 1)
    counts[WINDOW] = max(counts[WINDOW] - decrease, smallest)
    return halve


@compiled
def _adapt_l1(ball, job):
    """Let the count of moved coordinates follow the best point; whether its sparsity still shrinks."""
    best, sizes, support, features = job.vectors[APGD_X_BEST], job.sizes, 0, len(job.x0)
    for j in range(features):
        support += best[j] != job.x0[j]
    shrinking = support / sizes[APGD_SUPPORT] < L1_STILL_SHRINKING
    job.counts[COORDINATES] = sparse_count(support / features / L1_SPARSITY_DIVISOR, features)
    first = _first_step_size(ball, job)
    smaller = max(sizes[APGD_STEP_SIZE] / L1_STEP_DIVISOR, first / L1_LARGEST_DIVISOR)
    sizes[APGD_STEP_SIZE] = first if shrinking else smaller
    sizes[APGD_SUPPORT] = max(support, 1)  # a best point that is x0 itself has none
    return shrinking


@compiled
def _move(plan, ball, job, x, g, t):
    moved, chosen, base = job.vectors[MOVED], job.vectors[CHOSEN], job.vectors[BASE]
    choose_direction(plan.direction, ball, job, g, job.counts[COORDINATES], x, chosen)
    advance(ball, job, x, chosen, job.sizes[APGD_STEP_SIZE], moved)
    if t > 0 and ball.norm != L1:
        keep, rest = x.dtype.type(MOMENTUM), x.dtype.type(1.0 - MOMENTUM)
        for j in range(len(x)):
            chosen[j] = rest * (moved[j] - x[j]) + keep * (x[j] - base[j])
        advance(ball, job, x, chosen, 1.0, moved)
    copy(x, base)
