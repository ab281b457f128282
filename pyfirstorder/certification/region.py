"""The set ``{‖δ‖_p <= ε} ∩ box`` as a support function, and how far hidden units can move in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyfirstorder.certification import lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.problem import Array, Weights

    Multiply = Callable[[Array, Array], Array]

_DUAL = {"linf": 1, "l2": 2, "l1": np.inf}
_UNIT = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}
_OWN_UNIT = 2.0**-53
_EXTRA_TERMS = 32  # roundings of an engine besides those of its dot products, such as motions below an ulp of x


def share(terms: int, unit: float) -> float:
    """γ: the rounding of sums of that many terms, of the sum of magnitudes (Higham 2002, section 3.1), twice over.

    The four units of float64 are for the sums that make the bound itself.
    """
    return 2 * (terms + _EXTRA_TERMS) * (unit + 4 * _OWN_UNIT)


def unit_of(dtype: np.dtype) -> float:
    """Half an ulp of 1."""
    return _UNIT[np.dtype(dtype)]


class Region(NamedTuple):
    """The allowed perturbations of each row: a ball, and a box that holds the ball's own."""

    norm: str
    eps: Array  # (B,)
    centre: Array  # (B, d), of the box
    radius: Array  # (B, d), half its sides

    def support(self, directions: Array) -> Array:
        """At least ``max ⟨v, δ⟩`` for directions v (B, q, d): the lesser of ball and box, exact for linf."""
        box = np.einsum("bqd,bd->bq", directions, self.centre)
        box += np.einsum("bqd,bd->bq", np.abs(directions), self.radius)
        if self.norm == "linf":
            return box
        dual = np.linalg.norm(directions, ord=_DUAL[self.norm], axis=2)
        return np.minimum(box, self.eps[:, None] * dual)


class Hidden(NamedTuple):
    """The hidden units over the region, in the arithmetic of an engine."""

    at_x: Array  # h = W x + b (B, m)
    scale: Array  # magnitudes that are summed in h (B, m)
    error: Array  # of an engine's h (B, m)
    lower: Array  # (B, m)
    upper: Array


def region(x: Array, norm: str, eps: Array, bounds: tuple[Array, Array] | None) -> Region:
    """The region around each row of x (float64)."""
    low, high = np.broadcast_to(-eps[:, None], x.shape), np.broadcast_to(eps[:, None], x.shape)
    if bounds is not None:
        low, high = np.maximum(low, bounds[0] - x), np.minimum(high, bounds[1] - x)
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    width = high - low
    radius = np.where(np.isinf(width), 0.5 * high - 0.5 * low, 0.5 * width)
    return Region(norm, eps, 0.5 * (low + high), radius)


def may_overflow(scale: Array, unit: float) -> Array:
    """Where a sum of such magnitudes may leave the range of an engine's type, and so end anywhere."""
    largest = np.finfo(np.float32 if unit == unit_of(np.dtype(np.float32)) else np.float64).max
    return ~(scale <= 0.5 * float(largest))


def hidden(weights: Weights, x: Array, allowed: Region, unit: float, multiply: Multiply) -> Hidden:
    """Intervals of ``W (x + δ) + b``, widened by the rounding of an engine and of this computation."""
    w, b = weights.hidden_weight.astype(np.float64), weights.hidden_bias.astype(np.float64)
    sizes = np.abs(w)
    at_x = multiply(x, w.T) + b
    half_width = multiply(allowed.radius, sizes.T)
    shift = multiply(allowed.centre, w.T)
    low, high = shift - half_width, shift + half_width
    if allowed.norm != "linf":
        dual = allowed.eps[:, None] * np.linalg.norm(w, ord=_DUAL[allowed.norm], axis=1)
        low, high = np.maximum(low, -dual), np.minimum(high, dual)
    scale = multiply(np.abs(x), sizes.T) + np.abs(b) + multiply(np.abs(allowed.centre), sizes.T) + half_width
    error = np.where(may_overflow(scale, unit), np.inf, share(w.shape[1], unit) * scale)
    return Hidden(at_x, scale, error, at_x + low - error, at_x + high + error)


def relaxations(weights: Weights, units: Hidden, linear: bool) -> list[tuple[Array, Array, Array, Array]]:
    """Slopes and offsets (s_lower, t_lower, s_upper, t_upper), the constant lines (intervals) first."""
    name, parameter, low, high = weights.activation, weights.parameter, units.lower, units.upper
    flat = np.zeros_like(low)
    least, most = lines.offsets(name, parameter, low, high, flat)
    found = [(flat, least, flat, most)]
    if not linear:
        return found
    slope = lines.chord(name, parameter, low, high)
    below, above = lines.offsets(name, parameter, low, high, slope)
    found.append((slope, below, slope, above))
    if name in ("relu", "leaky_relu"):
        other = lines.adaptive(name, parameter, low, high)
        under, over = lines.offsets(name, parameter, low, high, other)
        convex = name == "relu" or parameter <= 1
        found.append((other, under, slope, above) if convex else (slope, below, other, over))
    return found
