"""Losses of the logits z: value, rescaled residual r and its scale, with ``∂value/∂z = scale * r``.

Every function takes ``(z, label, source, values, residual)``, fills ``residual`` and returns ``(value, scale)``; all in
float64, so one compilation serves both types.  The residual never underflows as a whole (see the reference).  Sources:
margin, Carlini & Wagner 2017; dlr, Croce & Hein 2020 (arXiv 2003.01690), equation 6, and 7 for a target.
"""

from __future__ import annotations

import math

import numpy as np

from pyfirstorder.backends.numba.compilation import choose_by_code, compiled
from pyfirstorder.backends.numba.state import fill

DLR_GUARD = 1e-12  # added to dlr's denominator, as in the authors' code: logits may be tied


@compiled
def first_of_largest(z, excluded):
    """Index of the largest entry, the excluded one counting as -inf; the first of equals, and NaN before all."""
    best, top = 0, -np.inf if excluded == 0 else z[0]
    for j in range(1, len(z)):
        value = -np.inf if excluded == j else z[j]
        if not np.isnan(top) and (value > top or np.isnan(value)):
            best, top = j, value
    return best


@compiled
def _ranks_before(z, i, j):
    """Whether logit i ranks before logit j: the larger first, the first of equals, NaN last."""
    if np.isnan(z[j]):
        return not np.isnan(z[i]) or i < j
    return z[i] > z[j] or (z[i] == z[j] and i < j)


@compiled
def _next_largest(z, last):
    """Index of the logit that ranks next after ``last``, or first if that is -1."""
    best = -1
    for j in range(len(z)):
        if (last < 0 or _ranks_before(z, last, j)) and (best < 0 or _ranks_before(z, j, best)):
            best = j
    return best


@compiled
def _four_largest(z):
    """Indices of the four largest logits; those beyond the number of logits are -1."""
    first = _next_largest(z, -1)
    second = _next_largest(z, first)
    third = _next_largest(z, second)
    return first, second, third, _next_largest(z, third) if len(z) > 3 else -1


@compiled
def squared(z, label, source, values, residual):
    """½‖z - y‖²."""
    total = 0.0
    for j in range(len(z)):
        residual[j] = z[j] - values[j]
        total += residual[j] * residual[j]
    return 0.5 * total, 1.0


@compiled
def linear(z, label, source, values, residual):
    """⟨y, z⟩."""
    total = 0.0
    for j in range(len(z)):
        residual[j] = values[j]
        total += residual[j] * z[j]
    return total, 1.0


@compiled
def logistic(z, label, source, values, residual):
    """log(1 + exp(-y z)), y in {-1, +1}."""
    y = float(values[0])
    t = -y * z[0]
    value = (0.0 if t <= 0 else t) + math.log1p(math.exp(-abs(t)))
    residual[0] = -y
    return value, math.exp(t - value)


@compiled
def cross_entropy(z, label, source, values, residual):
    """log-sum-exp(z) - z_y, with the residual relative to the strongest rival of y."""
    top = z[first_of_largest(z, label)]
    total = 0.0
    for j in range(len(z)):
        if j != label:
            above = z[j] - top
            residual[j] = math.exp(0.0 if above > 0 else above)
            total += residual[j]
    residual[label] = -total
    t = top - z[label]
    tail = math.exp(-abs(t))
    value = t + math.log(total + tail) if t > 0 else math.log1p(total * tail)
    return value, math.exp(t - value)


@compiled
def margin(z, label, source, values, residual):
    """The strongest rival's logit minus the label's."""
    rival = first_of_largest(z, label)
    fill(0.0, residual)
    residual[rival] += 1.0
    residual[label] -= 1.0
    return z[rival] - z[label], 1.0


@compiled
def dlr(z, label, source, values, residual):
    """The margin over the distance from the largest to the third logit."""
    if len(z) == 2:
        return margin(z, label, source, values, residual)
    rival = first_of_largest(z, label)
    first, _, third, _ = _four_largest(z)
    width = z[first] - z[third] + DLR_GUARD
    ratio = (z[label] - z[rival]) / width
    fill(0.0, residual)
    residual[rival] += 1.0
    residual[label] -= 1.0
    residual[first] += ratio
    residual[third] -= ratio
    return -ratio, 1.0 / width


@compiled
def targeted_dlr(z, label, source, values, residual):
    """The same from the source class to the target."""
    first, _, third, fourth = _four_largest(z)
    rival = z[first_of_largest(z, label)]
    width = z[first] - 0.5 * (z[third] + z[fourth]) + DLR_GUARD
    if np.isnan(rival):  # wherever it stands
        width = rival
    ratio = (z[source] - z[label]) / width
    fill(0.0, residual)
    residual[label] += 1.0
    residual[source] -= 1.0
    residual[first] += ratio
    residual[third] -= 0.5 * ratio
    residual[fourth] -= 0.5 * ratio
    return -ratio, 1.0 / width


LOSSES = {
    "squared": squared,
    "logistic": logistic,
    "cross_entropy": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "linear": linear,
    "targeted dlr": targeted_dlr,
}
evaluate_loss = choose_by_code(LOSSES.values())
