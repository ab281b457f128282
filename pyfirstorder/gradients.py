"""The weights of a network in training, and the gradient of the mean loss in them.

The gradient of the mean loss over a mini-batch of B samples, with ``h = W x + b``, ``a = σ(h)``, ``z = A a + c`` and
``R`` the rows ``∂L/∂z / B``::

    ∂A = Rᵀ a      ∂c = Σ R      S = σ'(h) ⊙ (R A)      ∂W = Sᵀ x      ∂b = Σ S

are four matrix products, taken by the backend: those of NumPy's BLAS would leave its threads spinning in the way of the
attack.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.backends.reference.losses import evaluate
from pyfirstorder.network import parse_activation

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.problem import Array, Objective

# He et al. 2015 (arXiv 1502.01852): half of the hidden units are off, so their variance is doubled.
_RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu")


class Parameters(NamedTuple):
    """Weights of a network or, in the same shapes, their gradients."""

    hidden_weight: Array  # W (m, d)
    hidden_bias: Array  # b (m,)
    output_weight: Array  # A (k, m)
    output_bias: Array  # c (k,)


def initial_parameters(
    in_features: int, hidden_features: int, out_features: int, activation: str, generator: np.random.Generator
) -> Parameters:
    """The weights that training starts from, see the notes of `train`."""
    name, _ = parse_activation(activation)
    hidden_variance = (2.0 if name in _RECTIFIERS else 1.0) / in_features
    w = generator.standard_normal((hidden_features, in_features), dtype=np.float32) * math.sqrt(hidden_variance)
    a = generator.standard_normal((out_features, hidden_features), dtype=np.float32) / math.sqrt(hidden_features)
    return Parameters(
        w.astype(np.float32),
        np.zeros(hidden_features, np.float32),
        a.astype(np.float32),
        np.zeros(out_features, np.float32),
    )


def weight_gradients(
    parameters: Parameters,
    activation: str,
    x: Array,
    objective: Objective,
    multiply: Callable[[Array, Array], Array] = np.matmul,
) -> tuple[Array, Array, Parameters]:
    """Loss (B,) and output (B, k) of each row of x, and the gradient of their mean loss in the weights."""
    name, parameter = parse_activation(activation)
    w, b, a, c = parameters
    h = multiply(x, w.T) + b
    hidden = ACTIVATIONS[name].value(h, parameter).astype(x.dtype)
    output = multiply(hidden, a.T) + c
    value, residual, scale = evaluate(output, objective)
    r = (residual * (scale / len(x))[:, None]).astype(x.dtype)
    s = ACTIVATIONS[name].derivative(h, parameter).astype(x.dtype) * multiply(r, a)
    return value, output, Parameters(multiply(s.T, x), s.sum(axis=0), multiply(r.T, hidden), r.sum(axis=0))
