"""Ascent directions: from a gradient of any scale to the step of unit length; a zero gradient gives zero.

``sign`` is steepest ascent for ℓ∞, ``normalized`` for ℓ2 and ``sparse`` for ℓ1 (Tramèr & Boneh 2019).  Each is one
function of ``(ball, job, g, count, x, out)`` and one line of ``DIRECTIONS``.
"""

from __future__ import annotations

import math

import numpy as np

from pyfirstorder.backends.numba.compilation import choose_by_code, compiled
from pyfirstorder.backends.numba.state import TERMS, UNPROJECTED, copy, fill
from pyfirstorder.backends.numba.sums import largest_magnitude, total


@compiled
def gradient(ball, job, g, count, x, out):
    """G itself."""
    copy(g, out)


@compiled
def sign(ball, job, g, count, x, out):
    """±1 or 0 by coordinate."""
    for j in range(len(g)):
        out[j] = (1 if g[j] > 0 else 0) - (1 if g[j] < 0 else 0)


@compiled
def normalized(ball, job, g, count, x, out):
    """G / ‖g‖₂, with g first divided by its largest coordinate so that no square over- or underflows."""
    largest, terms = largest_magnitude(g), job.wide[TERMS]
    fill(0, out)
    if not largest > 0:
        return
    for j in range(len(g)):
        out[j] = g[j] / largest
        terms[j] = np.float64(out[j]) * np.float64(out[j])
    length = math.sqrt(total(terms))
    for j in range(len(g)):
        out[j] = out[j] / length


@compiled
def sparse(ball, job, g, count, x, out):
    """±1/q on the q = min(count, nonzero) largest coordinates that the box lets move; the first of equals wins."""
    x0, magnitude = job.x0, job.vectors[UNPROJECTED]
    for j in range(len(g)):
        free = True
        if ball.has_box:
            free = x[j] < max(ball.upper[j], x0[j]) if g[j] > 0 else x[j] > min(ball.lower[j], x0[j])
        out[j] = abs(g[j]) if free else 0
        magnitude[j] = out[j]
    edge = _rank(magnitude, min(count, len(g)) - 1)
    above = 0
    for j in range(len(g)):
        above += out[j] > edge
    equals = count - above if edge > 0 else 0  # how many of those equal to the edge are taken
    moving = 0
    for j in range(len(g)):
        chosen = out[j] > edge
        if out[j] == edge and equals > 0:
            chosen = True
            equals -= 1
        moving += chosen
        out[j] = (1 if g[j] > 0 else -1) if chosen else 0
    for j in range(len(g)):
        out[j] = out[j] / out.dtype.type(max(moving, 1))


@compiled
def _rank(values, rank):
    """The entry of that rank, 0 being the largest (Hoare 1961); the values are reordered."""
    low, high = 0, len(values) - 1
    while low < high:
        pivot, i, j = values[(low + high) // 2], low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return values[rank]


@compiled
def unit_l1(job, g, out):
    """G / ‖g‖₁, as momentum accumulates it, scaled like `normalized`."""
    largest, terms = largest_magnitude(g), job.wide[TERMS]
    fill(0, out)
    if not largest > 0:
        return
    for j in range(len(g)):
        out[j] = g[j] / largest
        terms[j] = np.float64(abs(out[j]))
    length = total(terms)
    for j in range(len(g)):
        out[j] = out[j] / length


DIRECTIONS = {"gradient": gradient, "sign": sign, "normalized": normalized, "sparse": sparse}
choose_direction = choose_by_code(DIRECTIONS.values())
