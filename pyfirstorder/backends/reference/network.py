"""Forward pass and input gradient: ``z = A σ(W x + b) + c`` and ``∇ₓL = Wᵀ (σ'(h) ⊙ Aᵀ ∂L/∂z)``."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.backends.reference.elementwise import elementwise
from pyfirstorder.backends.reference.losses import evaluate

if TYPE_CHECKING:
    from pyfirstorder.problem import Array, Objective, Weights

_NUMBERS_AT_ONCE = 2**27  # of the matrix, read once for each row, about 1e9 to 4e9 a second


class Gradient(NamedTuple):
    """Loss and input gradient of each row; the true gradient is ``scale * direction``."""

    output: Array  # (B, k)
    loss: Array  # (B,)
    direction: Array  # (B, d), the gradient for the rescaled residual
    scale: Array  # (B,)


@singledispatch
def product(rows: Array, matrix: Array) -> Array:
    """``rows @ matrix.T`` row by row: one product of the batch would round differently with its size.

    In calls of about a tenth of a second, so that Ctrl-C is heard in between.
    """
    at_once = max(1, _NUMBERS_AT_ONCE // max(1, matrix.size))
    parts = [rows[first : first + at_once] for first in range(0, max(1, len(rows)), at_once)]
    products = [(part[:, None, :] @ matrix.T)[:, 0] for part in parts]
    return products[0] if len(products) == 1 else np.concatenate(products)


def forward(weights: Weights, x: Array) -> Array:
    """Logits (B, k)."""
    h = product(x, weights.hidden_weight) + weights.hidden_bias
    hidden = elementwise(ACTIVATIONS[weights.activation].value)(h, weights.parameter).astype(x.dtype)
    return _output(weights, h, hidden)


def _output(weights: Weights, h: Array, hidden: Array) -> Array:
    """``A σ(h) + c``; NaN where an h overflowed: it may have had either sign, and a σ that saturates would hide it."""
    output = product(hidden, weights.output_weight) + weights.output_bias
    output[~np.all(np.isfinite(h), axis=1)] = np.nan
    return output


def input_gradient(weights: Weights, x: Array, objective: Objective) -> Gradient:
    """Loss and its gradient in x, up to a scale per sample."""
    activation = ACTIVATIONS[weights.activation]
    h = product(x, weights.hidden_weight) + weights.hidden_bias
    hidden = elementwise(activation.value)(h, weights.parameter).astype(x.dtype)
    output = _output(weights, h, hidden)
    loss, residual, scale = evaluate(output, objective)
    slope = elementwise(activation.derivative)(h, weights.parameter).astype(x.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        signal = slope * product(residual.astype(x.dtype), weights.output_weight.T)
        direction = product(signal, weights.hidden_weight.T)
    return Gradient(output, loss.astype(x.dtype), direction, scale.astype(x.dtype))
