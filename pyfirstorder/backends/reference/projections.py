"""Exact Euclidean projections onto ball ∩ box, and how their results are rounded.

Problem (per sample): minimise ‖δ - v‖₂ subject to ‖δ‖_p <= ε and lower <= x0 + δ <= upper.  With ``a_j`` the room
towards the box in the direction of v_j, the solutions are

- ℓ∞: δ = clip(v, ±ε, box);
- ℓ2: |δ_j| = min(s |v_j|, a_j), s in (0, 1] the root of ‖δ‖₂ = ε;
- ℓ1: |δ_j| = min(max(|v_j| - τ, 0), a_j), τ >= 0 the root of ‖δ‖₁ = ε (Croce & Hein 2021; Condat 2016 without box).

The root of ℓ2 is found by sorting the breakpoints of the piecewise function, that of ℓ1 by Newton's method.

Rounding.  A user measures ‖x_adv - x0‖ in the array's own type or in float64, and finds no point outside: results are
rounded towards x0, and for ℓ2 and ℓ1, whose norms are sums, the radius is first reduced by the largest error that a
sum of d terms can make (``radii``).  Points accepted by that test are returned unchanged, so projecting is idempotent
to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.problem import Array, Ball


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


def towards_zero(value: Array, dtype: np.dtype) -> Array:
    """A wider number rounded towards zero to the type."""
    rounded = value.astype(dtype)
    return np.where(np.abs(rounded) > np.abs(value), np.nextafter(rounded, dtype.type(0)), rounded)


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
    step = np.broadcast_to(below(ball.eps, x0.dtype)[:, None], x0.shape)
    lower, upper = add_towards(x0, -step), add_towards(x0, step)
    if ball.lower is not None and ball.upper is not None:
        box_lower, box_upper = box_limits(x0, ball.lower, ball.upper)
        lower, upper = np.maximum(lower, box_lower), np.minimum(upper, box_upper)
    return lower, upper


def project(v: Array, x0: Array, ball: Ball) -> Array:
    """The δ of ball ∩ box that is nearest to v, rounded towards zero."""
    lowest, highest = box_room(x0, ball)
    if ball.norm == "linf":
        eps = below(ball.eps, v.dtype)[:, None]
        return np.clip(v, np.maximum(lowest, -eps), np.minimum(highest, eps))
    delta = np.clip(v, lowest, highest)
    radius = radii(ball.eps, ball.norm, v.dtype, v.shape[1])
    length = NORMS[ball.norm]
    for row in np.flatnonzero(length(delta) > radius.accept):
        magnitude = np.abs(v[row]).astype(wide(v.dtype))
        room = np.where(v[row] < 0, -lowest[row], highest[row]).astype(magnitude.dtype)
        moved = SHRINK[ball.norm](magnitude, room, magnitude.dtype.type(radius.target[row]))
        moved = towards_zero(np.copysign(moved, v[row]), v.dtype)
        reached = length(moved[None])[0]
        if reached > radius.accept[row]:  # cancellation beside huge coordinates: fall back inside along the ray
            moved = towards_zero(moved * (radius.target[row] / reached), v.dtype)
        delta[row] = moved
    return delta


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
            lower, upper = linf_limits(x0, ball)
            return np.clip(x + step, lower, upper)
        v = (x - x0) + step
        finite = np.all(np.isfinite(v), axis=1, keepdims=True)
        return np.where(finite, place(x0, project(np.where(finite, v, 0), x0, ball), ball), np.nan)


def movable(x: Array, x0: Array, ball: Ball) -> tuple[Array, Array]:
    """Which coordinates the box lets rise, and which fall."""
    if ball.lower is None or ball.upper is None:
        free = np.ones(x.shape, dtype=bool)
        return free, free
    lower, upper = box_limits(x0, ball.lower, ball.upper)
    return x < upper, x > lower


def admit(points: Array, x0: Array, ball: Ball) -> Array:
    """Points given from outside: unchanged where they are allowed, else the nearest that is."""
    if ball.norm == "linf":
        lower, upper = linf_limits(x0, ball)
        return np.clip(points, lower, upper)
    widest = wide(x0.dtype)
    accept = radii(ball.eps, ball.norm, x0.dtype, x0.shape[1]).accept
    inside = NORMS[ball.norm](points.astype(widest) - x0.astype(widest)) <= accept
    if ball.lower is not None and ball.upper is not None:
        lower, upper = box_limits(x0, ball.lower, ball.upper)
        inside &= np.all((points >= lower) & (points <= upper), axis=1)
    return np.where(inside[:, None], points, place(x0, project(points - x0, x0, ball), ball))


def wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Sums of float32 are exact enough in float64; float64 wants the machine's widest type for its extremes."""
    return np.dtype(np.float64) if dtype == np.float32 else np.dtype(np.longdouble)


def _l2_norm(delta: Array) -> Array:
    return np.sqrt(np.sum(np.square(delta.astype(wide(delta.dtype))), axis=1))


def _l1_norm(delta: Array) -> Array:
    return np.sum(np.abs(delta.astype(wide(delta.dtype))), axis=1)


def _shrink_l2(magnitude: Array, room: Array, radius: Any) -> Array:
    """min(s |v|, room) of Euclidean norm ``radius``: the square is piecewise linear in s², with breaks at room/|v|."""
    breaks = np.divide(room, magnitude, out=np.full_like(room, np.inf), where=magnitude > 0)
    order = np.argsort(breaks)
    clamped = np.concatenate([[0], np.cumsum(room[order] ** 2)])
    free = np.concatenate([np.cumsum(magnitude[order][::-1] ** 2)[::-1], [0]])
    starts = np.concatenate([[0], breaks[order]])  # piece i is s in [starts[i], starts[i + 1]]
    with np.errstate(invalid="ignore", over="ignore"):  # without a box, breaks are infinite
        reaches = np.where(free > 0, clamped + starts**2 * free, clamped)
    piece = np.searchsorted(reaches, radius**2, side="right") - 1
    return np.minimum(magnitude * np.sqrt((radius**2 - clamped[piece]) / free[piece]), room)


def _shrink_l1(magnitude: Array, room: Array, radius: Any) -> Array:
    """min(max(|v| - τ, 0), room) of sum ``radius``; τ is measured from a coordinate near it, however large."""
    if not radius > 0:
        return np.zeros_like(magnitude)
    top = pivot = magnitude.max()
    remainder = _l1_root(magnitude - pivot, room, radius, -pivot, top - pivot, -pivot)
    for _ in range(3):  # a box can leave the largest coordinate far from τ: then the nearest one takes its place
        nearest = magnitude[np.argmin(np.abs((magnitude - pivot) - remainder))]
        if abs(remainder) <= 4 * radius or nearest == pivot:
            break
        pivot = nearest
        remainder = _l1_root(magnitude - pivot, room, radius, -pivot, top - pivot, 0 * pivot)
    return np.minimum(np.maximum((magnitude - pivot) - remainder, 0), room)


def _l1_root(shifted: Array, room: Array, radius: Any, low: Any, high: Any, tau: Any) -> Any:
    """Newton, kept by bisection between low (sum too large) and high, until the sum is the radius."""
    for _ in range(4000):  # bisection over all exponents; Newton needs 3 to 10
        excess = shifted - tau
        beyond = np.sum(np.minimum(np.maximum(excess, 0), room)) - radius
        if abs(beyond) <= 2.0**-48 * radius:  # within the distance of target and accepted radius
            break
        low, high = (tau, high) if beyond > 0 else (low, tau)
        slope = np.count_nonzero((excess > 0) & (excess < room))
        following = tau + beyond / slope if slope else high
        if not low < following < high:
            following = low + (high - low) / 2
            if following in (low, high):
                return high
        tau = following
    return tau


NORMS: dict[str, Callable[[Array], Array]] = {"l2": _l2_norm, "l1": _l1_norm}
SHRINK: dict[str, Callable[[Array, Array, Any], Array]] = {"l2": _shrink_l2, "l1": _shrink_l1}
