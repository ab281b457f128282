"""Additions and conversions that round towards a given side, one scalar at a time.

``like`` is any array of the type T (float32 or float64) that the result must have.  NaN stays NaN.
"""

from __future__ import annotations

import numpy as np

from pyfirstorder.backends.numba.compilation import compiled


@compiled
def is_finite(value):
    """Neither infinite nor NaN."""
    return abs(value) < np.inf


@compiled
def largest_below(value, like):
    """The largest T that is at most ``value`` (float64)."""
    rounded = like.dtype.type(value)
    return np.nextafter(rounded, like.dtype.type(-np.inf)) if rounded > value else rounded


@compiled
def towards_zero(value, unit, like):
    """``value / unit`` (float64, unit a power of two) rounded towards zero to T."""
    rounded = like.dtype.type(value / unit)
    return np.nextafter(rounded, like.dtype.type(0.0)) if abs(np.float64(rounded)) * unit > abs(value) else rounded


@compiled
def _two_sum(first, second):
    """The rounded sum and its rounding error (Knuth): exact sum = total + error."""
    total = first + second
    part = total - first
    return total, (first - (total - part)) + (second - part)


@compiled
def add_towards(centre, delta):
    """``centre + delta`` rounded towards the centre: never further from it than ``delta``."""
    total, error = _two_sum(centre, delta)
    if (delta > 0 and error < 0) or (delta < 0 and error > 0) or not is_finite(total):
        return np.nextafter(total, centre)
    return total


@compiled
def add_towards_zero(first, second):
    """``first + second`` rounded towards zero."""
    total, error = _two_sum(first, second)
    if (total > 0 and error < 0) or (total < 0 and error > 0):
        return np.nextafter(total, total - total)
    return total


@compiled
def clip(value, lowest, highest):
    """The number of [lowest, highest] that is nearest."""
    if value < lowest:
        return lowest
    return highest if value > highest else value
