"""Sums and norms of one vector, added up in float64 by eight interleaved sums.

The order depends on the length alone, so equal vectors have equal norms wherever they stand in a batch, and the norm
does not fall when a coordinate grows: rounding is monotone.  Relative error below (d / 8 + 9) 2^-53 for the sums.
"""

from __future__ import annotations

import math

import numpy as np

from pyfirstorder.backends.numba.compilation import compiled

# Sums of squares of this range lost nothing to underflow (2^-1022 = 2e-308 per term) nor to overflow
SMALLEST_SAFE, LARGEST_SAFE = 1e-280, 1e300
# Powers of two up to these keep a product of any two doubles near 1 in range
LARGEST_EXPONENT = 1000


@compiled
def total(values):
    """The sum; eight running sums hide the latency of the addition."""
    a, b, c, d, e, f, g, h = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    whole = len(values) // 8 * 8
    for j in range(0, whole, 8):
        a += values[j]
        b += values[j + 1]
        c += values[j + 2]
        d += values[j + 3]
        e += values[j + 4]
        f += values[j + 5]
        g += values[j + 6]
        h += values[j + 7]
    for j in range(whole, len(values)):
        a += values[j]
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@compiled
def largest_magnitude(values):
    """The largest |v|, or 0 for none; NaN counts as none."""
    largest = values.dtype.type(0)
    for j in range(len(values)):
        magnitude = abs(values[j])
        largest = magnitude if magnitude > largest else largest
    return largest


@compiled
def sum_of_magnitudes(values, unit, terms):
    """``‖unit v‖₁``, unit a power of two; ``terms`` is scratch space, float64."""
    for j in range(len(values)):
        terms[j] = abs(np.float64(values[j])) * unit
    return total(terms)


@compiled
def scaled_norm(values, unit, terms):
    """``(‖factor v‖₂, factor)``, factor a power of two, ``unit`` unless a square then over- or underflows."""
    squares = _scaled_squares(values, unit, terms)
    if SMALLEST_SAFE < squares < LARGEST_SAFE or np.isnan(squares):
        return math.sqrt(squares), unit
    largest = np.float64(largest_magnitude(values))
    if largest in (0.0, np.inf):
        return largest, unit
    exponent = min(max(-math.frexp(largest)[1], -LARGEST_EXPONENT), LARGEST_EXPONENT)
    factor = math.ldexp(1.0, exponent)
    return math.sqrt(_scaled_squares(values, factor, terms)), factor


@compiled
def euclidean_norm(values, unit, terms):
    """``‖unit v‖₂``, unit a power of two, without over- or underflow of its squares."""
    length, factor = scaled_norm(values, unit, terms)
    return length * (unit / factor)


@compiled
def _scaled_squares(values, factor, terms):
    for j in range(len(values)):
        scaled = np.float64(values[j]) * factor
        terms[j] = scaled * scaled
    return total(terms)
