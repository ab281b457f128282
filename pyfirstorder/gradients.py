"""The weights of a network in training, the gradient of the mean loss in them, and second derivatives.

The gradient of the mean loss over a mini-batch of B samples, with ``h = W x + b``, ``a = σ(h)``, ``z = A a + c`` and
``R`` the rows ``∂L/∂z / B``::

    ∂A = Rᵀ a      ∂c = Σ R      S = σ'(h) ⊙ (R A)      ∂W = Sᵀ x      ∂b = Σ S

are four matrix products, taken by the backend: those of NumPy's BLAS would leave its threads spinning in the way of the
attack.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.backends.reference.losses import evaluate
from pyfirstorder.network import parse_activation

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.problem import Array, Objective, Weights

    Multiply = Callable[[Array, Array], Array]

# He et al. 2015 (arXiv 1502.01852): half of the hidden units are off, so their variance is doubled.
_RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu")


class Parameters(NamedTuple):
    """Weights of a network or, in the same shapes, their gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder.training import Parameters
    >>> Parameters(np.eye(2), np.zeros(2), np.ones((1, 2)), np.zeros(1)).output_weight.shape
    (1, 2)
    """

    hidden_weight: Array  # W (m, d)
    hidden_bias: Array  # b (m,)
    output_weight: Array  # A (k, m)
    output_bias: Array  # c (k,)


def initial_parameters(
    in_features: int,
    hidden_features: int,
    out_features: int,
    activation: str,
    generator: np.random.Generator,
    dtype: np.dtype[Any] = np.dtype(np.float32),  # noqa: B008  (immutable)
) -> Parameters:
    """The weights that training starts from, see the notes of `train`."""
    name, _ = parse_activation(activation)
    hidden_variance = (2.0 if name in _RECTIFIERS else 1.0) / in_features
    kind: Any = dtype.type
    w = generator.standard_normal((hidden_features, in_features), dtype=kind) * math.sqrt(hidden_variance)
    a = generator.standard_normal((out_features, hidden_features), dtype=kind) / math.sqrt(hidden_features)
    return Parameters(w.astype(dtype), np.zeros(hidden_features, dtype), a.astype(dtype), np.zeros(out_features, dtype))


def weight_gradients(
    parameters: Parameters,
    activation: str,
    x: Array,
    objective: Objective,
    multiply: Multiply = np.matmul,
    output_layer: bool = True,
) -> tuple[Array, Array, Parameters]:
    """Loss (B,) and output (B, k) of each row of x, and the gradient of their mean loss in the weights.

    Parameters
    ----------
    parameters : Parameters
        W (m, d), b (m,), A (k, m) and c (k,) of one floating type.
    activation : str
        See `TwoLayerNetwork`.
    x : array (B, d)
        Rows of that type.
    objective : Objective
        Loss and targets, see `pyfirstorder.problem`; they are trusted.
    multiply : function, optional
        Who multiplies matrices; NumPy if left out.
    output_layer : bool
        False gives the gradient in A and c as zero, without finding it.

    Returns
    -------
    loss (B,), output (B, k), Parameters
        The last is the gradient, in the shapes of the weights.

    Raises
    ------
    TypeError, ValueError
        If the activation is not known.

    References
    ----------
    Rumelhart, Hinton & Williams 1986; the equations stand at the head of `pyfirstorder.gradients`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder.problem import Objective
    >>> from pyfirstorder.training import Parameters, weight_gradients
    >>> weights = Parameters(np.eye(2), np.zeros(2), np.array([[1.0, -1.0]]), np.zeros(1))
    >>> x, objective = np.array([[3.0, 1.0]]), Objective("squared", False, None, np.array([[1.0]]))
    >>> loss, output, gradient = weight_gradients(weights, "identity", x, objective)  # z = 2, so ∂L/∂z = 1
    >>> loss, output, gradient.output_weight
    (array([0.5]), array([[2.]]), array([[3., 1.]]))
    """
    name, parameter = parse_activation(activation)
    w, b, a, c = parameters
    h = multiply(x, w.T) + b
    hidden = ACTIVATIONS[name].value(h, parameter).astype(x.dtype)
    output = multiply(hidden, a.T) + c
    value, residual, scale = evaluate(output, objective)
    r = (residual * (scale / len(x))[:, None]).astype(x.dtype)
    return value, output, _pull_back(parameters, activation, x, h, hidden, r, multiply, output_layer)


def pull_back(
    parameters: Parameters, activation: str, x: Array, r: Array, multiply: Multiply = np.matmul
) -> Parameters:
    """The gradient in the weights of ``Σ ⟨r, z⟩`` for rows r (B, k) that do not depend on them."""
    name, parameter = parse_activation(activation)
    h = multiply(x, parameters.hidden_weight.T) + parameters.hidden_bias
    hidden = ACTIVATIONS[name].value(h, parameter).astype(x.dtype)
    return _pull_back(parameters, activation, x, h, hidden, r, multiply)


def _pull_back(
    parameters: Parameters,
    activation: str,
    x: Array,
    h: Array,
    hidden: Array,
    r: Array,
    multiply: Multiply,
    output_layer: bool = True,
) -> Parameters:
    name, parameter = parse_activation(activation)
    s = ACTIVATIONS[name].derivative(h, parameter).astype(x.dtype) * multiply(r, parameters.output_weight)
    if not output_layer:
        a, c = (np.broadcast_to(x.dtype.type(0), part.shape) for part in parameters[2:])
        return Parameters(multiply(s.T, x), s.sum(axis=0), a, c)
    return Parameters(multiply(s.T, x), s.sum(axis=0), multiply(r.T, hidden), r.sum(axis=0))


def pull_back_twice(
    parameters: Parameters, activation: str, x: Array, r: Array, u: Array, multiply: Multiply = np.matmul
) -> tuple[Array, Array, Parameters]:
    """The gradient of ``Σ ⟨u, g⟩`` in x (B, d), r (B, k) and the weights, with ``g = Wᵀ(σ'(h) ⊙ Aᵀr)`` and u (B, d).

    With ``p = Aᵀr``, ``q = W u`` and ``e = σ''(h) ⊙ p ⊙ q``: ∂x = Wᵀe, ∂r = A(σ'(h) ⊙ q), ∂W = (σ'(h) ⊙ p) uᵀ + e xᵀ,
    ∂b = e and ∂A = r (σ'(h) ⊙ q)ᵀ, summed over rows; c has none.
    """
    name, parameter = parse_activation(activation)
    w, b, a, c = parameters
    h = multiply(x, w.T) + b
    slope = ACTIVATIONS[name].derivative(h, parameter).astype(x.dtype)
    p, q = multiply(r, a), multiply(u, w.T)
    second = ACTIVATIONS[name].curvature(h, parameter).astype(x.dtype) * p * q
    along = slope * q
    weights = Parameters(
        multiply((slope * p).T, u) + multiply(second.T, x), second.sum(axis=0), multiply(r.T, along), np.zeros_like(c)
    )
    return multiply(second, w), multiply(along, a.T), weights


def hessian_vector_product(
    weights: Weights,
    slope: Array,
    unit_curvature: Array,
    output: Array,
    v: Array,
    multiply: Multiply = np.matmul,
    transposed: Array | None = None,
) -> Array:
    """The Hessian of the loss in x times v (B, d), row by row.

    With ``slope = σ'(h)`` and ``unit_curvature = σ''(h) ⊙ Aᵀr`` (B, m), ``output = ∂²L/∂z²`` (B, k, k) and ``q = W v``:
    ``Wᵀ(unit_curvature ⊙ q + slope ⊙ Aᵀ output A (slope ⊙ q))``.  W stands on the left, because v has few rows and the
    engine packs what stands on the right; ``transposed`` is a contiguous Wᵀ for calls that repeat.
    """
    w, a = weights.hidden_weight, weights.output_weight
    q = multiply(w, v.T).T
    along = np.einsum("bij,bj->bi", output, multiply(slope * q, a.T))
    return multiply(w.T if transposed is None else transposed, (unit_curvature * q + slope * multiply(along, a)).T).T
