"""Lines below and above an activation on an interval, for any slope.

For a slope s the offsets are ``min`` and ``max`` of ``g(h) = σ(h) - s h`` on [l, u], so that
``s h + t_lower <= σ(h) <= s h + t_upper``.  Between its kinks and inflections σ' is monotone, so that g has one
extremum there at most: it is bracketed by bisection and bounded from outside by the tangents at both ends of the
bracket, whose excess is of second order in its width.  One rule serves every activation, and slope 0 gives its range.

Sources: Zhang et al. 2018 (arXiv 1811.00866), Singh et al. 2019 (DeepPoly).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder.backends.reference.activations import ACTIVATIONS

if TYPE_CHECKING:
    from pyfirstorder.problem import Array

# Where σ' stops being monotone, or jumps: kinks, and the zeros of σ''.
_BREAKS: dict[str, tuple[float, ...]] = {
    "relu": (0.0,),
    "leaky_relu": (0.0,),
    "elu": (0.0,),
    "softplus": (),
    "sigmoid": (0.0,),
    "tanh": (0.0,),
    "erf": (0.0,),
    "gelu": (-math.sqrt(2), math.sqrt(2)),
    "gelu_tanh": (-1.418504008790828, 1.418504008790828),
    "silu": (-2.399357280515467, 2.399357280515467),
    "quadratic": (),
    "identity": (),
}
_STRAIGHT = ("relu", "leaky_relu", "identity")  # g has its extrema at ends and kinks
_BISECTIONS = 16  # the bracket's excess is then 2^-32 of what curvature gives on the interval
_SLACK = 64 * 2.0**-53  # of the magnitudes: a few roundings of σ and of g


def offsets(name: str, parameter: float, lower: Array, upper: Array, slope: Array) -> tuple[Array, Array]:
    """Bounds of ``σ(h) - slope h`` on ``lower <= h <= upper``, rounded outwards."""
    sigma = ACTIVATIONS[name].value
    ends = [sigma(h, parameter) - slope * h for h in (lower, upper)]
    least, most = np.minimum(*ends), np.maximum(*ends)
    sides = [-np.inf, *_BREAKS[name], np.inf]
    for first, last in pairwise(sides):
        a, b = np.clip(lower, first, last), np.clip(upper, first, last)
        a, b = np.minimum(np.maximum(a, lower), upper), np.minimum(np.maximum(b, lower), upper)
        for h in (a, b):
            value = sigma(h, parameter) - slope * h
            least, most = np.minimum(least, value), np.maximum(most, value)
        if name not in _STRAIGHT:
            low, high = _inner(name, parameter, a, b, slope)
            least, most = np.minimum(least, low), np.maximum(most, high)
    magnitude = np.maximum(np.abs(lower), np.abs(upper))
    size = np.maximum(np.abs(sigma(lower, parameter)), np.abs(sigma(upper, parameter)))
    slack = _SLACK * (size + np.abs(slope) * magnitude + np.minimum(magnitude, 1.0))
    return least - slack, most + slack


def _inner(name: str, parameter: float, a: Array, b: Array, slope: Array) -> tuple[Array, Array]:
    """Bounds of an extremum of g inside [a, b], where σ' is monotone; of none, infinities that bound nothing."""
    sigma, derivative = ACTIVATIONS[name].value, ACTIVATIONS[name].derivative
    left, right = derivative(a, parameter) - slope, derivative(b, parameter) - slope
    crosses = (left * right < 0) & (a < b)
    falls = left > 0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (a + b)
        before = (derivative(middle, parameter) - slope > 0) == falls
        a, b = np.where(before, middle, a), np.where(before, b, middle)
    values = sigma(a, parameter) - slope * a, sigma(b, parameter) - slope * b
    width = b - a
    tangents = (
        values[0] + (derivative(a, parameter) - slope) * width,
        values[1] - (derivative(b, parameter) - slope) * width,
    )
    most = np.where(crosses & falls, np.minimum(*tangents), -np.inf)
    return np.where(crosses & ~falls, np.maximum(*tangents), np.inf), most


def chord(name: str, parameter: float, lower: Array, upper: Array) -> Array:
    """The slope from end to end; that of the tangent in the middle where the ends are too near for a quotient."""
    sigma, derivative = ACTIVATIONS[name].value, ACTIVATIONS[name].derivative
    width = upper - lower
    near = width <= 1e-6 * (1 + np.abs(lower) + np.abs(upper))
    rise = (sigma(upper, parameter) - sigma(lower, parameter)) / np.where(near, 1.0, width)
    return np.where(near, derivative(0.5 * (lower + upper), parameter), rise)


def adaptive(name: str, parameter: float, lower: Array, upper: Array) -> Array:
    """Of a piecewise-linear activation, the slope of the side that holds more of the interval (Zhang et al. 2018)."""
    return ACTIVATIONS[name].derivative(0.5 * (lower + upper), parameter).astype(np.float64)
