"""Exact Euclidean projections onto ball ∩ box of one vector, rounded like the reference's.

Problem: minimise ‖δ - v‖₂ subject to ‖δ‖_p <= ε and lower <= x0 + δ <= upper.  With ``a_j`` the room towards the box
in the direction of v_j: ℓ∞ clips; ℓ2 has |δ_j| = min(s |v_j|, a_j) with ‖δ‖₂ = ε; ℓ1 has
|δ_j| = min(max(|v_j| - τ, 0), a_j) with ‖δ‖₁ = ε.  The reference sorts the breakpoints; here Newton's method finds s
and τ (`_shrink_l2`, `_shrink_l1`), which ends exactly because the functions are piecewise linear.

The limits of a job are computed once per attack: for ℓ∞ the allowed points themselves, which are again a box; for ℓ2
and ℓ1 the room, the smallest (<= 0) and largest (>= 0) δ that keep x0 + δ in the box.
"""

from __future__ import annotations

import math

import numpy as np

from pyfirstorder.backends.numba.compilation import compiled
from pyfirstorder.backends.numba.rounding import (
    add_towards,
    add_towards_zero,
    clip,
    largest_below,
    towards_zero,
)
from pyfirstorder.backends.numba.state import ACCEPT, EPS, HIGHEST, LOWEST, SPARE, TARGET, TERMS, UNIT, fill
from pyfirstorder.backends.numba.sums import (
    euclidean_norm,
    largest_magnitude,
    scaled_norm,
    sum_of_magnitudes,
    total,
)
from pyfirstorder.problem import NORMS

LINF, L2 = NORMS.index("linf"), NORMS.index("l2")
# Below this radius sums are formed in units of 2^-600, so that neither they nor the shares of the radius are denormal
SMALL_RADIUS, SMALL_UNIT = 2.0**-900, 2.0**600
HUGE = float(np.finfo(np.float64).max)  # what a coordinate that overflows in these units is taken for
# Newton needs 3 to 10.  Where it creeps, or rounding keeps the sum from the radius, every second step after so many
# halves what is left of the 2^64 numbers
NEWTON_ITERATIONS = 32
MOST_BASES = 64  # each brings 2^50; all doubles span 2^2100
CLOSE_TO_BASE = 16  # radii: rounding of 2^-49 radii a coordinate is below what the target leaves


@compiled
def set_radii(ball, job, eps):
    """The norm up to which points are accepted, and the one to which others are moved (reference: ``radii``).

    Both in units of ``1 / UNIT``, in which all sums are formed.
    """
    job.sizes[EPS], job.sizes[UNIT] = eps, SMALL_UNIT if eps < SMALL_RADIUS else 1.0
    job.sizes[ACCEPT] = eps * job.sizes[UNIT] * (1.0 - ball.accept_share)
    job.sizes[TARGET] = job.sizes[ACCEPT] * (1.0 - ball.target_share)


@compiled
def set_room(ball, job):
    """The smallest and largest δ that the box allows."""
    x0, lowest, highest = job.x0, job.vectors[LOWEST], job.vectors[HIGHEST]
    for j in range(len(x0)):
        if ball.has_box:
            lowest[j] = add_towards_zero(min(ball.lower[j], x0[j]), -x0[j])
            highest[j] = add_towards_zero(max(ball.upper[j], x0[j]), -x0[j])
        else:
            lowest[j], highest[j] = -np.inf, np.inf


@compiled
def set_limits(ball, job, eps):
    """Radii and limits of a job."""
    set_radii(ball, job, eps)
    if ball.norm != LINF:
        set_room(ball, job)
        return
    x0, lowest, highest = job.x0, job.vectors[LOWEST], job.vectors[HIGHEST]
    radius = largest_below(eps, x0)
    for j in range(len(x0)):
        lowest[j], highest[j] = add_towards(x0[j], -radius), add_towards(x0[j], radius)
        if ball.has_box:
            lowest[j] = max(lowest[j], min(ball.lower[j], x0[j]))
            highest[j] = min(highest[j], max(ball.upper[j], x0[j]))


@compiled
def norm_of(ball, job, values):
    """‖v‖₂ or ‖v‖₁, times the unit; v is not the first of the job's wide vectors."""
    unit, terms = job.sizes[UNIT], job.wide[TERMS]
    return euclidean_norm(values, unit, terms) if ball.norm == L2 else sum_of_magnitudes(values, unit, terms)


@compiled
def project_linf(job, v, delta):
    """The δ nearest to v between the limits of the room, for ℓ∞."""
    radius, lowest, highest = largest_below(job.sizes[EPS], v), job.vectors[LOWEST], job.vectors[HIGHEST]
    for j in range(len(v)):
        delta[j] = clip(v[j], max(lowest[j], -radius), min(highest[j], radius))


@compiled
def project(ball, job, v, delta):
    """The δ nearest to v, for ℓ2 and ℓ1 between the limits of the room."""
    lowest, highest, unit = job.vectors[LOWEST], job.vectors[HIGHEST], job.sizes[UNIT]
    for j in range(len(v)):
        delta[j] = clip(v[j], lowest[j], highest[j])
    accept, target = job.sizes[ACCEPT], job.sizes[TARGET]
    if not norm_of(ball, job, delta) > accept:
        return
    if target == 0:
        fill(0, delta)
    elif ball.norm == L2:
        _shrink_l2(ball, job, v, delta)
    else:
        _shrink_l1(job, v, delta)
    reached = norm_of(ball, job, delta)
    if reached > accept:  # cancellation beside huge coordinates: fall back inside along the ray
        for j in range(len(v)):
            # a ratio of radius and norm may be denormal, and then has few digits
            delta[j] = towards_zero(np.float64(delta[j]) * unit / reached * target, unit, delta)


@compiled
def _magnitude_and_room(job, v, j, unit):
    """|v_j| and the room in its direction, float64, in units of ``1 / unit``."""
    space = -job.vectors[LOWEST, j] if v[j] < 0 else job.vectors[HIGHEST, j]
    return min(abs(np.float64(v[j])) * unit, HUGE), np.float64(space) * unit


@compiled
def _shrink_l2(ball, job, v, delta):
    """min(s |v|, room) of Euclidean norm ``radius``.

    ``s²`` is the root of the concave increasing piecewise-linear ``q -> Σ min(q v², a²) - ε²``.  Newton from the left,
    starting where nothing is clamped, never overshoots: coordinates only become clamped, and where none does the root
    is exact.  s is kept as ``level * factor``, factor a power of two by which the free coordinates have safe squares.
    """
    unit, radius, terms, free = job.sizes[UNIT], job.sizes[TARGET], job.wide[TERMS], job.wide[SPARE]
    level, factor, clamped = -1.0, 1.0, -1
    while True:
        count, used = 0, 0.0
        for j in range(len(v)):
            free[j], space = _magnitude_and_room(job, v, j, unit)
            if ball.has_box and level * (free[j] * factor) > space:
                free[j] = 0.0
                count += 1
                used += (space / radius) ** 2
        if count <= clamped or used >= 1:
            break
        length, next_factor = scaled_norm(free, 1.0, terms)
        if length == 0:
            break
        level, factor, clamped = radius * math.sqrt(1.0 - used) / length, next_factor, count
        if not ball.has_box:
            break
    for j in range(len(v)):
        magnitude, space = _magnitude_and_room(job, v, j, unit)
        moved = min(level * (magnitude * factor), space)
        delta[j] = towards_zero(math.copysign(moved, v[j]), unit, delta)


@compiled
def _tally(job, v, base, threshold):
    """Σ min(max(|v| - τ, 0), room) at τ = base + threshold, and how many coordinates are free and clamped there."""
    unit, terms, free, clamped = job.sizes[UNIT], job.wide[TERMS], 0, 0
    for j in range(len(v)):
        magnitude, space = _magnitude_and_room(job, v, j, unit)
        above = (magnitude - base) - threshold
        terms[j] = min(max(above, 0.0), space)
        free += 0 < above < space
        clamped += above > 0 and above >= space
    return total(terms), free, clamped


@compiled
def _turned(bits):
    return np.iinfo(np.int64).min - bits if bits < 0 else bits


@compiled
def _middle_number(low, high):
    """The number in the middle of all between two: the bits of float64, turned round below zero, sort like integers."""
    a, b = _turned(np.float64(low).view(np.int64)), _turned(np.float64(high).view(np.int64))
    return np.int64(_turned((a >> 1) + (b >> 1) + (a & b & 1))).view(np.float64)


@compiled
def _newton_l1(job, v, base, threshold, left, right):
    """The threshold at which the sum is the radius, between left and right (Michelot 1986; Condat 2016).

    Without a box the decreasing piecewise-linear sum is convex, and Newton from the left never overshoots; with a box,
    bisection where Newton leaves the bracket.
    """
    radius, last_free, last_clamped = job.sizes[TARGET], -1, -1
    for i in range(NEWTON_ITERATIONS + 2 * 64):
        reached, free, clamped = _tally(job, v, base, threshold)
        if reached > radius:
            left = threshold
        else:
            right = threshold
        root = threshold + (reached - radius) / free if free else np.inf
        creeps = i >= NEWTON_ITERATIONS
        if (creeps and i % 2 == 1) or not left <= root <= right:
            root, free = _middle_number(left, right) if creeps else 0.5 * left + 0.5 * right, -1
        if root == threshold or (free == last_free and clamped == last_clamped and free > 0):
            return root
        threshold, last_free, last_clamped = root, free, clamped
    return threshold


@compiled
def _root_l1(job, v):
    """τ of `_shrink_l1` as ``base + threshold``.

    Measured from the largest |v|, where cancellation would hurt.  If that one is so large and so soon clamped that the
    rounding of ``|v| - base`` counts, the root so far is the next base, each 2^-50 as far from the root as the last.
    """
    radius, base = job.sizes[TARGET], min(np.float64(largest_magnitude(v)) * job.sizes[UNIT], HUGE)
    threshold = _newton_l1(job, v, base, max(-base, -radius), -base, 0.0)
    for _ in range(MOST_BASES):
        if abs(threshold) <= CLOSE_TO_BASE * radius:
            break
        distance, base = abs(threshold), base + threshold
        slack = 2.0**-50 * (distance + base) + 2.0**-40 * radius
        threshold = _newton_l1(job, v, base, 0.0, -slack, slack)
    return base, threshold


@compiled
def _shrink_l1(job, v, delta):
    """min(max(|v| - τ, 0), room) with sum ``radius``."""
    base, threshold = _root_l1(job, v)
    unit = job.sizes[UNIT]
    for j in range(len(v)):
        magnitude, space = _magnitude_and_room(job, v, j, unit)
        moved = min(max((magnitude - base) - threshold, 0.0), space)
        delta[j] = towards_zero(math.copysign(moved, v[j]), unit, delta)
