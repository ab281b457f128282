"""Counter-based random starts: Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers").

Key: the 64-bit seed.  Counter words: (block, sample low, sample high, restart); one block holds the two 64-bit words of
coordinates 2 * block and 2 * block + 1, and the last block belongs to the sample as a whole.  The same words as in the
reference, hence the same starts up to the rounding of log, sin, cos and of sums.
"""

from __future__ import annotations

import math

import numpy as np

from pyfirstorder.backends.numba.balls import L2, LINF
from pyfirstorder.backends.numba.compilation import compiled
from pyfirstorder.backends.numba.rounding import clip, largest_below, towards_zero
from pyfirstorder.backends.numba.state import EPS, HIGHEST, LOWEST, SPARE, TARGET, TERMS, UNIT
from pyfirstorder.backends.numba.steps import place
from pyfirstorder.backends.numba.sums import total

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
ROUNDS = 10
LOW = np.uint64(0xFFFFFFFF)
THIRTY_TWO = np.uint64(32)
TWELVE = np.uint64(12)
ONE = np.uint64(1)
SAMPLE_BLOCK = 0xFFFFFFFF  # the words of the sample as a whole: radius or face, and the Dirichlet remainder


@compiled
def words(seed, restart, sample, block):
    """The two 64-bit words of one block (seed uint64, the others int64)."""
    a, b = np.uint64(block), np.uint64(sample) & LOW
    c, d = np.uint64(sample) >> THIRTY_TWO, np.uint64(restart)
    key_low, key_high = seed & LOW, seed >> THIRTY_TWO
    for _ in range(ROUNDS):
        left, right = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b = (right >> THIRTY_TWO) ^ b ^ key_low, right & LOW
        c, d = (left >> THIRTY_TWO) ^ d ^ key_high, left & LOW
        key_low, key_high = (key_low + WEYL[0]) & LOW, (key_high + WEYL[1]) & LOW
    return (b << THIRTY_TWO) | a, (d << THIRTY_TWO) | c


@compiled
def uniform(word):
    """The top 53 bits as a number of the open interval (0, 1)."""
    return (np.float64(word >> TWELVE) + 0.5) * 2.0**-52


@compiled
def random_sign(word):
    """+1 or -1 by the lowest bit, which `uniform` does not use."""
    return 1.0 - 2.0 * np.float64(word & ONE)


@compiled
def _linf_point(first, second, point, j):
    point[j] = 2.0 * uniform(first) - 1.0
    if j + 1 < len(point):
        point[j + 1] = 2.0 * uniform(second) - 1.0


@compiled
def _l2_point(first, second, point, j):
    """Two normal numbers (Box & Muller 1958)."""
    angle = 2.0 * math.pi * uniform(second)
    length = math.sqrt(-2.0 * math.log(uniform(first)))
    point[j] = length * math.cos(angle)
    if j + 1 < len(point):
        point[j + 1] = length * math.sin(angle)


@compiled
def _l1_point(first, second, point, j):
    """Two exponential numbers with random signs."""
    point[j] = random_sign(first) * -math.log(uniform(first))
    if j + 1 < len(point):
        point[j + 1] = random_sign(second) * -math.log(uniform(second))


@compiled
def unit_ball(norm, on_sphere, seed, restart, sample, point, terms):
    """A uniform point (float64) of the unit ball or its boundary.

    ℓ∞: uniform coordinates, and one of them at ±1 for the boundary; ℓ2: a normal direction times U^(1/d); ℓ1:
    exponentials with random signs over their sum, one extra exponential taking the Dirichlet remainder.
    """
    features = len(point)
    whole, _ = words(seed, restart, sample, SAMPLE_BLOCK)
    for block in range((features + 1) // 2):
        first, second = words(seed, restart, sample, block)
        if norm == LINF:
            _linf_point(first, second, point, 2 * block)
        elif norm == L2:
            _l2_point(first, second, point, 2 * block)
        else:
            _l1_point(first, second, point, 2 * block)
    if norm == LINF:
        if on_sphere:
            point[math.floor(uniform(whole) * features)] = random_sign(whole)
        return
    for j in range(features):
        terms[j] = point[j] * point[j] if norm == L2 else abs(point[j])
    size = total(terms)
    if norm == L2:
        size, share = math.sqrt(size), 1.0 if on_sphere else uniform(whole) ** (1.0 / features)
    else:
        size, share = size - (0.0 if on_sphere else math.log(uniform(whole))), 1.0
    for j in range(features):
        point[j] = point[j] / size * share


@compiled
def random_start(ball, job, on_sphere, seed, restart, sample, start):
    """A point drawn uniformly from the ball (or its boundary) around x0, clipped to the box."""
    x0, lowest, highest, point = job.x0, job.vectors[LOWEST], job.vectors[HIGHEST], job.wide[SPARE]
    unit_ball(ball.norm, on_sphere, seed, restart, sample, point, job.wide[TERMS])
    if ball.norm == LINF:
        radius = np.float64(largest_below(job.sizes[EPS], x0))
        for j in range(len(x0)):
            start[j] = clip(x0.dtype.type(x0[j] + point[j] * radius), lowest[j], highest[j])
        return
    target, unit = job.sizes[TARGET], job.sizes[UNIT]
    for j in range(len(x0)):
        start[j] = clip(towards_zero(point[j] * target, unit, x0), lowest[j], highest[j])
    place(ball, job, start)
