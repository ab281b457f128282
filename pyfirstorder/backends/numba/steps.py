"""From a direction to the next iterate: ``x ← P(x + η direction)``, with every rounding towards x0."""

from __future__ import annotations

import numpy as np

from pyfirstorder.backends.numba.balls import LINF, norm_of, project
from pyfirstorder.backends.numba.compilation import compiled
from pyfirstorder.backends.numba.rounding import add_towards, clip, is_finite
from pyfirstorder.backends.numba.state import ACCEPT, HIGHEST, LOWEST, SPARE, UNPROJECTED, copy, fill


@compiled
def place(ball, job, x):
    """From δ to x0 + δ, rounded towards x0; a coordinate that used up its room lies on the bound itself."""
    x0, lowest, highest = job.x0, job.vectors[LOWEST], job.vectors[HIGHEST]
    for j in range(len(x0)):
        delta = x[j]
        x[j] = add_towards(x0[j], delta)
        if ball.has_box:
            if delta == highest[j] and delta > 0:
                x[j] = max(ball.upper[j], x0[j])
            if delta == lowest[j] and delta < 0:
                x[j] = min(ball.lower[j], x0[j])


@compiled
def _between_limits(job, point, x):
    lowest, highest = job.vectors[LOWEST], job.vectors[HIGHEST]
    for j in range(len(x)):
        x[j] = clip(point[j], lowest[j], highest[j])


@compiled
def advance(ball, job, x, direction, step_size, moved):
    """The point of ball ∩ box nearest to ``x + step_size * direction``; NaN where a step overflows (not for ℓ∞).

    ``moved`` is another array than x.
    """
    size = x.dtype.type(step_size)
    if ball.norm == LINF:
        for j in range(len(x)):
            moved[j] = x[j] + size * direction[j]
        _between_limits(job, moved, moved)
        return
    x0, v, infinite = job.x0, job.vectors[UNPROJECTED], 0
    for j in range(len(x)):
        v[j] = (x[j] - x0[j]) + size * direction[j]
        infinite += not is_finite(v[j])
    if infinite:
        fill(np.nan, moved)
        return
    project(ball, job, v, moved)
    place(ball, job, moved)


@compiled
def admit(ball, job, point, x):
    """A point given from outside: unchanged where it is allowed, else the nearest that is.

    A difference beyond the range of the type, which only points at both of its ends have, is its largest number.
    """
    if ball.norm == LINF:
        _between_limits(job, point, x)
        return
    x0, delta, inside = job.x0, job.wide[SPARE], True
    for j in range(len(x0)):
        delta[j] = np.float64(point[j]) - np.float64(x0[j])
        if ball.has_box:
            inside &= min(ball.lower[j], x0[j]) <= point[j] <= max(ball.upper[j], x0[j])
    if inside and norm_of(ball, job, delta) <= job.sizes[ACCEPT]:
        copy(point, x)
        return
    v, largest = job.vectors[UNPROJECTED], np.finfo(x.dtype).max
    for j in range(len(x0)):
        v[j] = clip(point[j] - x0[j], -largest, largest)
    project(ball, job, v, x)
    place(ball, job, x)
