"""Losses of the output z: value, rescaled output gradient and its scale.

Each function returns ``(value, residual, scale)`` with ``∂value/∂z = scale * residual``.  The residual never underflows
as a whole: for cross-entropy it is ``exp(z_j - max_{i≠y} z_i)`` for j ≠ y and minus their sum for j = y, so a network
whose softmax rounds to one-hot still shows the direction of its gradient, and the scale carries the magnitude.

Sources: margin, Carlini & Wagner 2017; dlr, Croce & Hein 2020 (arXiv 2003.01690), equation 6, and 7 for a target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.problem import Array, Objective

    Terms = tuple[Array, Array, Array]

DLR_GUARD = 1e-12  # added to dlr's denominator, as in the authors' code: logits may be tied


def _one_hot(labels: Array, like: Array) -> Array:
    return (np.arange(like.shape[1], like=like) == labels[:, None]).astype(like.dtype)


def _at(z: Array, labels: Array) -> Array:
    return np.take_along_axis(z, labels[:, None], axis=1)[:, 0]


def _strongest_other(z: Array, labels: Array) -> Array:
    """Index of the largest logit other than the label's (the first of equals)."""
    return np.argmax(np.where(_one_hot(labels, z) > 0, -np.inf, z), axis=1)


def _squared(z: Array, objective: Objective) -> Terms:
    residual = z - objective.values
    return 0.5 * np.sum(residual * residual, axis=1), residual, np.ones_like(z[:, 0])


def _linear(z: Array, objective: Objective) -> Terms:
    assert objective.values is not None
    return np.sum(objective.values * z, axis=1), objective.values, np.ones_like(z[:, 0])


def _logistic(z: Array, objective: Objective) -> Terms:
    assert objective.values is not None
    y = objective.values
    t = -(y * z)[:, 0]
    value = np.maximum(t, 0) + np.log1p(np.exp(-np.abs(t)))
    return value, -y, np.exp(t - value)


def _cross_entropy(z: Array, objective: Objective) -> Terms:
    assert objective.labels is not None
    y = objective.labels
    top = _at(z, _strongest_other(z, y))
    others = np.where(_one_hot(y, z) > 0, 0, np.exp(np.minimum(z - top[:, None], 0)))
    total = np.sum(others, axis=1)  # in [1, k)
    t = top - _at(z, y)
    value = np.where(t > 0, t + np.log(total + np.exp(-np.abs(t))), np.log1p(total * np.exp(-np.abs(t)))).astype(
        z.dtype
    )
    return value, others - total[:, None] * _one_hot(y, z), np.exp(t - value)


def _margin(z: Array, objective: Objective) -> Terms:
    assert objective.labels is not None
    y, rival = objective.labels, _strongest_other(z, objective.labels)
    return _at(z, rival) - _at(z, y), _one_hot(rival, z) - _one_hot(y, z), np.ones_like(z[:, 0])


def _dlr(z: Array, objective: Objective) -> Terms:
    assert objective.labels is not None
    if z.shape[1] == 2:
        return _margin(z, objective)
    y, rival = objective.labels, _strongest_other(z, objective.labels)
    order = np.argsort(-z, axis=1, kind="stable")
    first, third = order[:, 0], order[:, 2]
    width = _at(z, first) - _at(z, third) + z.dtype.type(DLR_GUARD)
    ratio = (_at(z, y) - _at(z, rival)) / width
    residual = _one_hot(rival, z) - _one_hot(y, z) + ratio[:, None] * (_one_hot(first, z) - _one_hot(third, z))
    return -ratio, residual, 1 / width


def _targeted_dlr(z: Array, objective: Objective) -> Terms:
    assert objective.labels is not None
    assert objective.sources is not None
    target, source = objective.labels, objective.sources
    order = np.argsort(-z, axis=1, kind="stable")
    first, third, fourth = order[:, 0], order[:, 2], order[:, 3]
    half = z.dtype.type(0.5)
    width = _at(z, first) - half * (_at(z, third) + _at(z, fourth)) + z.dtype.type(DLR_GUARD)
    width = np.where(np.isnan(z).any(axis=1), z.dtype.type(np.nan), width)  # NaN, wherever it stands
    ratio = (_at(z, source) - _at(z, target)) / width
    spread = _one_hot(first, z) - half * (_one_hot(third, z) + _one_hot(fourth, z))
    return -ratio, _one_hot(target, z) - _one_hot(source, z) + ratio[:, None] * spread, 1 / width


LOSSES: dict[str, Callable[[Array, Objective], Terms]] = {
    "squared": _squared,
    "logistic": _logistic,
    "cross_entropy": _cross_entropy,
    "margin": _margin,
    "dlr": _dlr,
    "linear": _linear,
}


def evaluate(z: Array, objective: Objective) -> Terms:
    """The ascended value per sample (negative loss where targeted), the rescaled residual and its scale."""
    if objective.loss == "dlr" and objective.targeted:
        return _targeted_dlr(z, objective)
    value, residual, scale = LOSSES[objective.loss](z, objective)
    return (-value, -residual, scale) if objective.targeted else (value, residual, scale)


def succeeded(z: Array, objective: Objective) -> Array:
    """Whether the prediction is wrong, or the target's where targeted; False where there are no classes."""
    if objective.labels is not None:
        hit = np.argmax(z, axis=1) == objective.labels
    elif objective.loss == "logistic":
        assert objective.values is not None
        hit = (z[:, 0] > 0) == (objective.values[:, 0] > 0)
    else:
        return np.zeros(len(z), dtype=bool, like=z)
    return hit if objective.targeted else ~hit
