"""Exact Euclidean projections onto ball ∩ box, and how their results are rounded.

Problem (per sample): minimise ‖δ - v‖₂ subject to ‖δ‖_p <= ε and lower <= x0 + δ <= upper.  With ``a_j`` the room
towards the box in the direction of v_j, the solutions are

- ℓ∞: δ = clip(v, ±ε, box);
- ℓ2: |δ_j| = min(s |v_j|, a_j), s in (0, 1] the root of ‖δ‖₂ = ε;
- ℓ1: |δ_j| = min(max(|v_j| - τ, 0), a_j), τ >= 0 the root of ‖δ‖₁ = ε (Croce & Hein 2021; Condat 2016 without box).

The roots of the piecewise functions are found by Newton's method.

Rounding.  A user measures ‖x_adv - x0‖ in the array's own type or in float64, and finds no point outside: results are
rounded towards x0, and for ℓ2 and ℓ1, whose norms are sums, the radius is first reduced by the largest error that a
sum of d terms can make (``radii``).  Points accepted by that test are returned unchanged, so projecting is idempotent
to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder.backends.reference.elementwise import elementwise

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.problem import Array, Ball

# Newton needs 3 to 10.  Where it creeps, or rounding keeps the sum from the radius, every second step after so many
# halves what is left of the 2⁶⁴ numbers.
NEWTON_ITERATIONS = 32


class Radii(NamedTuple):
    """Norms up to ``accept`` are inside; what is outside is moved to ``target``."""

    accept: Array
    target: Array


def radii(eps: Array, norm: str, dtype: np.dtype, features: int) -> Radii:
    """The radii, below ``eps``, that rounding cannot carry past it.

    float32 is measured with pairwise float32 sums, whose error grows with the depth of the tree; float64 with any
    order of summation.  The target lies a few rounding errors below the acceptance, so that a projected point is
    accepted when it comes back.
    """
    terms = 2 if norm == "l1" else 1
    if dtype == np.float32:
        unit = 2.0**-24
        share = (8 + np.ceil(np.log2(max(features, 1)))) * unit * terms
    else:
        unit = 2.0**-53
        share = (16 + features) * unit * terms
    accept = eps * (1 - share)
    return Radii(accept, accept * (1 - 4 * unit - (16 + features) * 2.0**-52))


def below(value: Array, dtype: np.dtype) -> Array:
    """The largest number of the type that is at most ``value`` (float64)."""
    with np.errstate(over="ignore"):
        rounded = value.astype(dtype)
    return np.where(rounded > value, np.nextafter(rounded, dtype.type(-np.inf)), rounded)


def add_towards(x0: Array, delta: Array) -> Array:
    """``x0 + delta`` rounded towards x0: never further from x0 than ``delta``.

    Where the error of the addition says that the rounded sum lies beyond the exact one, the neighbour on the side of x0
    is taken.
    """
    total, error = _two_sum(x0, delta)
    beyond = ((delta > 0) & (error < 0)) | ((delta < 0) & (error > 0)) | ~np.isfinite(total)
    return np.where(beyond, np.nextafter(total, x0), total)


def add_towards_zero(first: Array, second: Array) -> Array:
    """``first + second`` rounded towards zero."""
    total, error = _two_sum(first, second)
    beyond = ((total > 0) & (error < 0)) | ((total < 0) & (error > 0))
    return np.where(beyond, np.nextafter(total, np.zeros_like(total)), total)


def _two_sum(first: Array, second: Array) -> tuple[Array, Array]:
    """The rounded sum and its rounding error (Knuth): exact sum = total + error."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = first + second
        part = total - first
        return total, (first - (total - part)) + (second - part)


def towards_zero(value: Array, dtype: np.dtype, scale: Array | float = 1.0) -> Array:
    """A wider number over a power of two, rounded towards zero to the type."""
    rounded = (value / scale).astype(dtype)
    beyond = np.abs(rounded.astype(value.dtype) * scale) > np.abs(value)
    return np.where(beyond, np.nextafter(rounded, dtype.type(0)), rounded)


def scale_of(eps: Array) -> Array:
    """The power of two that brings a radius near zero, whose products would have few bits, to where they have all."""
    return np.where(eps < 2.0**-900, 2.0**600, 1.0)


def box_room(x0: Array, ball: Ball) -> tuple[Array, Array]:
    """The smallest (<= 0) and largest (>= 0) δ that keep x0 + δ in the box."""
    if ball.lower is None or ball.upper is None:
        return np.full_like(x0, -np.inf), np.full_like(x0, np.inf)
    lower, upper = box_limits(x0, ball.lower, ball.upper)
    return add_towards_zero(lower, -x0), add_towards_zero(upper, -x0)


def box_limits(x0: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
    """The box, stretched to hold x0: a bound that the type cannot hold exactly may lie an ulp inside x0."""
    return np.minimum(lower, x0), np.maximum(upper, x0)


def linf_limits(x0: Array, ball: Ball) -> tuple[Array, Array]:
    """The allowed points of ℓ∞ ball ∩ box: again a box."""
    return _linf_limits(x0, below(ball.eps, x0.dtype)[:, None], *_box_of(ball))


def _box_of(ball: Ball) -> tuple[Array, ...]:
    """The two sides, or nothing."""
    return () if ball.lower is None or ball.upper is None else (ball.lower, ball.upper)


def _linf_limits(x0: Array, eps: Array, *box: Array) -> tuple[Array, Array]:
    lower, upper = add_towards(x0, -eps), add_towards(x0, eps)
    if not box:
        return lower, upper
    box_lower, box_upper = box_limits(x0, box[0], box[1])
    return np.maximum(lower, box_lower), np.minimum(upper, box_upper)


@elementwise
def _clip_to_linf(points: Array, x0: Array, eps: Array, *box: Array) -> Array:
    return np.clip(points, *_linf_limits(x0, eps, *box))


def project(v: Array, x0: Array, ball: Ball) -> Array:
    """The δ of ball ∩ box that is nearest to v, rounded towards zero."""
    lowest, highest = box_room(x0, ball)
    if ball.norm == "linf":
        eps = below(ball.eps, v.dtype)[:, None]
        return np.clip(v, np.maximum(lowest, -eps), np.minimum(highest, eps))
    delta = np.clip(v, lowest, highest)
    scale, dtype, length = scale_of(ball.eps), v.dtype, NORMS[ball.norm]
    radius = radii(ball.eps * scale, ball.norm, dtype, v.shape[1])
    outside = np.flatnonzero(length(_scaled(delta, scale)) > radius.accept)
    if not len(outside):
        return delta
    v, scale, accept, target = v[outside], scale[outside], radius.accept[outside], radius.target[outside]
    magnitude = np.abs(_scaled(v, scale))
    room = _scaled(np.where(v < 0, -lowest[outside], highest[outside]), scale)
    moved = SHRINK[ball.norm](magnitude, room, target.astype(magnitude.dtype)[:, None])
    moved = towards_zero(np.copysign(moved, v), dtype, scale[:, None])
    reached = length(_scaled(moved, scale))
    beyond = reached > accept  # cancellation beside huge coordinates: fall back inside along the ray
    share = np.where(beyond, target / np.where(beyond, reached, 1), 1)
    nearer = towards_zero(_scaled(moved, scale) * share[:, None], dtype, scale[:, None])
    delta[outside] = np.where(beyond[:, None], nearer, moved)
    return delta


@np.errstate(over="ignore")
def _scaled(rows: Array, scale: Array) -> Array:
    """Rows times a power of two each, in the widest type."""
    largest = 2.0**1000  # infinity has no power of two
    wider = rows.astype(wide(rows))
    return np.where(scale[:, None] == 1, wider, np.clip(wider * scale[:, None], -largest, largest))


def place(x0: Array, delta: Array, ball: Ball) -> Array:
    """x0 + δ rounded towards x0; a coordinate that used up its room lies on the bound itself."""
    x = add_towards(x0, delta)
    if ball.lower is None or ball.upper is None:
        return x
    lowest, highest = box_room(x0, ball)
    lower, upper = box_limits(x0, ball.lower, ball.upper)
    x = np.where((delta == highest) & (delta > 0), upper, x)
    return np.where((delta == lowest) & (delta < 0), lower, x)


def advance(x: Array, x0: Array, direction: Array, step_size: Array, ball: Ball) -> Array:
    """The point of ball ∩ box nearest to ``x + step_size * direction``; NaN where a step overflows (not for ℓ∞)."""
    with np.errstate(over="ignore"):
        step = step_size.astype(x.dtype)[:, None] * direction
        if ball.norm == "linf":
            eps = below(ball.eps, x.dtype)[:, None]
            return _clip_to_linf(x + step, x0, eps, *_box_of(ball))
        v = (x - x0) + step
        finite = np.all(np.isfinite(v), axis=1, keepdims=True)
        return np.where(finite, place(x0, project(np.where(finite, v, 0), x0, ball), ball), np.nan)


def movable(x: Array, x0: Array, ball: Ball) -> tuple[Array, Array]:
    """Which coordinates the box lets rise, and which fall."""
    if ball.lower is None or ball.upper is None:
        free = np.ones_like(x, dtype=bool)
        return free, free
    lower, upper = box_limits(x0, ball.lower, ball.upper)
    return x < upper, x > lower


def admit(points: Array, x0: Array, ball: Ball) -> Array:
    """Points given from outside: unchanged where they are allowed, else the nearest that is.

    A difference beyond the range of the type, which only points at both of its ends have, is its largest number.
    """
    if ball.norm == "linf":
        lower, upper = linf_limits(x0, ball)
        return np.clip(points, lower, upper)
    widest, scale = wide(x0), scale_of(ball.eps)
    accept = radii(ball.eps * scale, ball.norm, x0.dtype, x0.shape[1]).accept
    inside = NORMS[ball.norm](_scaled(points.astype(widest) - x0.astype(widest), scale)) <= accept
    if ball.lower is not None and ball.upper is not None:
        lower, upper = box_limits(x0, ball.lower, ball.upper)
        inside &= np.all((points >= lower) & (points <= upper), axis=1)
    largest = np.finfo(x0.dtype).max
    with np.errstate(over="ignore"):
        delta = np.clip(points - x0, -largest, largest)
    return np.where(inside[:, None], points, place(x0, project(delta, x0, ball), ball))


def wide(array: Array) -> np.dtype[Any]:
    """Sums of float32 are exact enough in float64; those of float64 are taken in the longest type that NumPy has."""
    widest = np.longdouble if array.dtype.itemsize >= 8 and isinstance(array, np.ndarray) else np.float64
    return np.dtype(widest)


def _l2_norm(delta: Array) -> Array:
    unit = _power_of_two(np.max(np.abs(delta), axis=1)).astype(wide(delta))
    return np.sqrt(np.sum(np.square(delta.astype(wide(delta)) / unit[:, None]), axis=1)) * unit


def _power_of_two(magnitude: Array) -> Array:
    """A power of two near each: in its units, squares of what is smaller neither overflow nor vanish as a whole."""
    return np.ldexp(np.ones_like(magnitude), np.frexp(magnitude)[1] - 1)


def _l1_norm(delta: Array) -> Array:
    return np.sum(np.abs(delta.astype(wide(delta))), axis=1)


@np.errstate(over="ignore")  # rooms may be infinite
def _shrink_l2(magnitude: Array, room: Array, radius: Array) -> Array:
    """min(s |v|, room) of Euclidean norm ``radius``, in units of powers of two.

    In q = s² the squared norm is concave and piecewise linear, so Newton rises from 0 to the root, a piece or more at a
    time: it takes the coordinates that are free at s for those that are free at the root.
    """
    unit, most = _power_of_two(radius), np.max(magnitude, axis=1, keepdims=True)
    # only where v points matters: what lies far out comes nearer, so that its share of the radius is a normal number
    near = magnitude / _power_of_two(most) * (2.0**60 * unit)
    magnitude = np.where(most / 2.0**900 > radius, near, magnitude)
    room, radius, largest = room / unit, radius / unit, 1 / unit
    s = np.zeros_like(radius)
    while True:
        free = s * magnitude < room
        moving = np.where(free, magnitude, 0)
        part = _power_of_two(np.max(moving, axis=1, keepdims=True))
        clamped = np.sum(np.where(free, 0, room) ** 2, axis=1, keepdims=True)
        length = np.sum((moving / part) ** 2, axis=1, keepdims=True)
        left = np.maximum(radius**2 - clamped, 0)
        newton = np.minimum(np.sqrt(left / np.where(length > 0, length, 1)) / part, largest)
        rises = (newton > s) & (length > 0)
        if not np.any(rises):
            return np.minimum(s * magnitude, room) * unit
        s = np.where(rises, newton, s)


def _shrink_l1(magnitude: Array, room: Array, radius: Array) -> Array:
    """min(max(|v| - τ, 0), room) of sum ``radius``; τ is measured from a coordinate near it, however large."""
    top = pivot = np.max(magnitude, axis=1, keepdims=True)
    remainder = _l1_root(magnitude - pivot, room, radius, -pivot, top - pivot, -pivot)
    for _ in range(3):  # a box can leave the largest coordinate far from τ: then the nearest one takes its place
        index = np.argmin(np.abs((magnitude - pivot) - remainder), axis=1)[:, None]
        nearest = np.take_along_axis(magnitude, index, axis=1)
        far = ~(np.abs(remainder) <= 4 * radius) & (nearest != pivot)
        if not np.any(far):
            break
        pivot = np.where(far, nearest, pivot)
        again = _l1_root(magnitude - pivot, room, radius, -pivot, top - pivot, np.zeros_like(pivot))
        remainder = np.where(far, again, remainder)
    return np.where(radius > 0, np.minimum(np.maximum((magnitude - pivot) - remainder, 0), room), 0)


def _middle_number(low: Array, high: Array) -> Array:
    """The number in the middle of all between two: the bits of float64, turned round below zero, sort like integers."""
    a, b = (_turned(end.astype(np.float64).view(np.int64)) for end in (low, high))
    return _turned((a >> 1) + (b >> 1) + (a & b & 1)).view(np.float64)


def _turned(bits: Array) -> Array:
    return np.where(bits < 0, np.iinfo(np.int64).min - bits, bits)


def _l1_root(shifted: Array, room: Array, radius: Array, low: Array, high: Array, tau: Array) -> Array:
    """Newton, kept by bisection between low (sum too large) and high, until the sum is the radius."""
    found = np.zeros_like(radius, dtype=bool)
    for i in range(NEWTON_ITERATIONS + 2 * 64):
        excess = shifted - tau
        beyond = np.sum(np.minimum(np.maximum(excess, 0), room), axis=1, keepdims=True) - radius
        found = found | (np.abs(beyond) <= 2.0**-48 * radius)  # within the distance of target and accepted radius
        if np.all(found):
            break
        low, high = np.where(beyond > 0, tau, low), np.where(beyond > 0, high, tau)
        slope = np.sum((excess > 0) & (excess < room), axis=1, keepdims=True)
        newton = np.where(slope > 0, tau + beyond / np.maximum(slope, 1), high)
        creeps = i >= NEWTON_ITERATIONS
        middle = _middle_number(low, high) if creeps else low + (high - low) / 2
        halves = ~((low < newton) & (newton < high)) | (creeps and i % 2 == 1)
        following = np.where(halves, middle, newton)
        narrow = (following == low) | (following == high)
        tau = np.where(found, tau, np.where(narrow, high, following))
        found = found | narrow
    return tau


NORMS: dict[str, Callable[[Array], Array]] = {"l2": _l2_norm, "l1": _l1_norm}
SHRINK: dict[str, Callable[[Array, Array, Array], Array]] = {"l2": _shrink_l2, "l1": _shrink_l1}
