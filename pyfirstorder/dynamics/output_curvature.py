"""``R = ∂²L/∂z²`` of every loss at the output z, by sample: what the Hessian of the input needs of the loss.

Residuals ``r = ∂L/∂z`` come from `pyfirstorder.backends.reference.losses`.  Their derivatives::

    squared        I
    logistic       s (1 - s) with s = sigmoid(-y z)
    cross_entropy  diag(p) - p pᵀ with p = softmax(z)
    margin, linear 0
    dlr            -N/w with N = ⟨n, z⟩ and w = ⟨b, z⟩:  (n bᵀ + b nᵀ)/w² - 2 N b bᵀ/w³

margin and dlr are smooth where the order of the logits is strict, and R is their true second derivative there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder.backends.reference.activations import sigmoid
from pyfirstorder.backends.reference.losses import DLR_GUARD

if TYPE_CHECKING:
    from pyfirstorder.problem import Array, Objective


def output_curvature(z: Array, objective: Objective) -> Array:
    """R (B, k, k) of the ascended value (the negative loss where targeted) at outputs z (B, k)."""
    samples, outputs = z.shape
    if objective.loss == "dlr" and (outputs > 2 or objective.targeted):
        return _dlr(z, objective)
    if objective.loss == "squared":
        curvature = np.broadcast_to(np.eye(outputs, dtype=z.dtype), (samples, outputs, outputs))
    elif objective.loss == "logistic":
        assert objective.values is not None
        t = objective.values * z
        curvature = (sigmoid(t) * sigmoid(-t))[:, :, None]
    elif objective.loss == "cross_entropy":
        shares = np.exp(z - z.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        pairs = shares[:, :, None] * shares[:, None, :] * (1 - np.eye(outputs))
        curvature = np.eye(outputs) * pairs.sum(axis=2, keepdims=True) - pairs  # 1 - p would cancel where p is near 1
    else:
        curvature = np.zeros((samples, outputs, outputs), dtype=z.dtype)
    return -curvature if objective.targeted else curvature


def _dlr(z: Array, objective: Objective) -> Array:
    assert objective.labels is not None
    rows, order, one = np.arange(len(z)), np.argsort(-z, axis=1, kind="stable"), np.eye(z.shape[1], dtype=z.dtype)
    first, third = one[order[:, 0]], one[order[:, 2]]
    if objective.targeted:
        assert objective.sources is not None
        numerator = one[objective.sources] - one[objective.labels]
        spread = first - 0.5 * (third + one[order[:, 3]])
    else:
        others = z.copy()
        others[rows, objective.labels] = -np.inf
        numerator = one[objective.labels] - one[np.argmax(others, axis=1)]
        spread = first - third
    width = (np.sum(spread * z, axis=1) + DLR_GUARD)[:, None, None]
    height = np.sum(numerator * z, axis=1)[:, None, None]
    mixed = numerator[:, :, None] * spread[:, None, :]
    square = spread[:, :, None] * spread[:, None, :]
    return np.asarray((mixed + mixed.transpose(0, 2, 1) - 2 * (height / width) * square) / width**2)
