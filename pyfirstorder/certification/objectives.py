"""From bounds of linear functionals of the output to bounds of each loss.

Squared and cross_entropy with several outputs also take the tangent at x, whose remainder is of second order:
``L(z) <= L(z0) + ⟨r, z - z0⟩ + R``, with ``R = ½ Σ D²`` for squared, ``R = range(D)²/8`` for log-sum-exp (half of the
largest variance of a variable of that range, Popoviciu), and 0 for their negatives, which are concave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder.backends.reference.losses import DLR_GUARD, evaluate

if TYPE_CHECKING:
    from pyfirstorder.problem import Array, Objective

_SMALLEST = {2.0**-24: 2.0**-126, 2.0**-53: 2.0**-1022}  # what a type rounds to zero, by half an ulp of 1


def functionals(objective: Objective, z0: Array) -> Array:
    """Rows (B, q, k): those of the margin (or ⟨y, z⟩), then z_j, then -z_j, then the tangent, as a loss needs them."""
    samples, k = z0.shape
    sign = -1.0 if objective.targeted else 1.0
    eye = np.broadcast_to(np.eye(k), (samples, k, k))
    both = [eye, -eye]
    if objective.labels is not None:
        margins = sign * (np.eye(k)[None] - np.eye(k)[objective.labels][:, None])
        if objective.loss == "dlr":
            return np.concatenate([margins, *both], axis=1)
        if objective.loss == "margin":
            return np.ascontiguousarray(margins)
        return np.concatenate([margins, *both, _tangent(objective, z0)[:, None]], axis=1)
    assert objective.values is not None
    values = objective.values.astype(np.float64)[:, None]
    if objective.loss == "linear":
        return sign * values
    if objective.loss == "logistic":
        return -sign * values
    return np.concatenate([*both, _tangent(objective, z0)[:, None]], axis=1)


def _tangent(objective: Objective, z0: Array) -> Array:
    _, residual, scale = evaluate(z0, objective)
    return np.asarray(residual * scale[:, None], dtype=np.float64)


def loss_bounds(objective: Objective, z0: Array, found: Array, unit: float) -> tuple[Array, Array | None]:
    """The bound of the loss (B,), and that of the margin (B,) where there are classes."""
    k = z0.shape[1]
    if objective.labels is not None:
        margin, each = _margin(objective, found[:, :k])
        up, low = found[:, k : 2 * k], -found[:, 2 * k : 3 * k]
        if objective.loss == "margin" or (objective.loss == "dlr" and k == 2):
            return _widened(margin, unit, k, margin), margin
        if objective.loss == "dlr":
            return _dlr(objective, margin, up, low, each, unit)
        value = np.fmin(_cross_entropy(objective, each), _from_tangent(objective, z0, found[:, -1], up, low))
        size = np.maximum(np.abs(up), np.abs(low)).max(axis=1)
        return _widened(value, unit, k, _of_exponents(size, value, unit, k)), margin
    assert objective.values is not None
    if objective.loss == "linear":
        scale = np.abs(found[:, 0])  # the sum's own magnitudes are in the allowance of the functional
        return _widened(found[:, 0], unit, k, scale), None
    if objective.loss == "logistic":
        t = found[:, 0]
        value = -np.logaddexp(0.0, -t) if objective.targeted else np.logaddexp(0.0, t)
        return _widened(value, unit, k, _of_exponents(np.abs(t), value, unit, k)), t
    up, low = found[:, :k], -found[:, k : 2 * k]
    y = objective.values.astype(np.float64)
    above, below = up - y, low - y
    if objective.targeted:
        nearest = np.maximum(np.maximum(below, -above), 0.0)
        value = -0.5 * (nearest * nearest).sum(axis=1)
    else:
        value = 0.5 * np.maximum(above * above, below * below).sum(axis=1)
    value = np.fmin(value, _from_tangent(objective, z0, found[:, -1], up, low))
    size = np.maximum(np.abs(up), np.abs(low)) + np.abs(y)
    return _widened(value, unit, k, (size * size).sum(axis=1)), None


def _margin(objective: Objective, bounds: Array) -> tuple[Array, Array]:
    """Bound of max_j (z_j - z_y), or of min_j (z_y - z_j) where targeted; and those of each j."""
    assert objective.labels is not None
    own = np.arange(bounds.shape[1]) == objective.labels[:, None]
    if objective.targeted:
        each = np.where(own, np.inf, bounds)
        return each.min(axis=1), each
    each = np.where(own, -np.inf, bounds)
    return each.max(axis=1), each


def _cross_entropy(objective: Objective, each: Array) -> Array:
    """log(1 + Σ exp(z_j - z_y)) grows in every margin."""
    t = -each if objective.targeted else each
    value = np.logaddexp(0.0, np.logaddexp.reduce(t, axis=1))
    return -value if objective.targeted else value


def _from_tangent(objective: Objective, z0: Array, found: Array, up: Array, low: Array) -> Array:
    value, residual, scale = evaluate(z0, objective)
    r = residual * scale[:, None]
    bound = value + found - (r * z0).sum(axis=1)
    # The tangent's own roundings, those of r included.
    bound += 256 * 2.0**-53 * z0.shape[1] * (np.abs(value) + np.abs(r).sum(axis=1) * (1 + np.abs(z0).max(axis=1)))
    bound += 256 * 2.0**-53 * np.maximum(np.abs(up), np.abs(low)).max(axis=1)
    if objective.targeted:
        return np.asarray(bound)
    above, below = up - z0, low - z0
    if objective.loss == "squared":
        return np.asarray(bound + 0.5 * np.maximum(above * above, below * below).sum(axis=1))
    spread = above.max(axis=1) - below.min(axis=1)
    return np.asarray(bound + spread * spread / 8)


def _dlr(
    objective: Objective, margin: Array, up: Array, low: Array, each: Array, unit: float
) -> tuple[Array, Array | None]:
    """A margin over a width: its largest value over the least width if it can be positive, over the largest if not.

    The targeted form divides the margin of the target over the source class alone, and its width is
    z_(1) - ½(z_(3) + z_(4)).
    """
    ups, lows = -np.sort(-up, axis=1), -np.sort(-low, axis=1)
    if objective.targeted:
        assert objective.sources is not None
        numerator = np.take_along_axis(each, objective.sources[:, None], axis=1)[:, 0]
        least = lows[:, 0] - 0.5 * (ups[:, 2] + ups[:, 3])
        most = ups[:, 0] - 0.5 * (lows[:, 2] + lows[:, 3])
    else:
        numerator = margin
        least, most = lows[:, 0] - ups[:, 2], ups[:, 0] - lows[:, 2]
    size = unit * 8 * np.maximum(np.abs(up), np.abs(low)).max(axis=1)
    numerator = numerator + size
    least, most = np.maximum(least - size, 0.0), np.maximum(most + size, 0.0)
    width = np.where(numerator > 0, least + DLR_GUARD * (1 - 1e-6), most + 2 * DLR_GUARD)
    value = numerator / width
    return _widened(value, unit, 4, value), margin


def _of_exponents(size: Array, value: Array, unit: float, terms: int) -> Array:
    """The part of a size of exponents t whose rounding reaches ``log(1 + Σ exp t)``.

    Its derivative is ``S/(1 + S) <= min(1, log(1 + S))``, S the sum; twice that, because S itself is rounded first.
    So a small loss has a small error, as long as exponents err by less than a half.
    """
    share = np.where(_allowance(unit, terms) * size < 0.5, np.minimum(1.0, 2 * np.abs(value)), 1.0)
    return np.asarray(size * share)


def _allowance(unit: float, terms: int) -> float:
    return (terms + 32) * (unit + 4 * 2.0**-53)


def _widened(value: Array, unit: float, terms: int, scale: Array) -> Array:
    """Plus the rounding of the loss itself in the arithmetic of the engine."""
    bound = value + _allowance(unit, terms) * (np.abs(value) + np.abs(scale)) + 4 * terms * _SMALLEST[unit]
    return np.where(np.isnan(bound), np.inf, bound)
