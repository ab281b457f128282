"""Activations σ and their derivatives, elementwise on arrays: the specification of the other backends.

Each entry of ``ACTIVATIONS`` is the value, the derivative and the default of the one parameter that some activations
have (``None``: no parameter).  At a kink the derivative takes the value that the deep-learning frameworks use.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.problem import Array

    Function = Callable[[Array, float], Array]

SQRT_HALF = math.sqrt(0.5)
INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)
TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)
# Hendrycks & Gimpel 2016: gelu(h) ~ h/2 (1 + tanh(sqrt(2/pi) (h + 0.044715 h^3)))
GELU_TANH_SCALE = math.sqrt(2.0 / math.pi)
GELU_TANH_CUBIC = 0.044715

_erf_of_doubles = np.vectorize(math.erf, otypes=[np.float64])


@singledispatch
def erf(h: Array) -> Array:
    """The error function, in the precision of ``h`` (NumPy has none of its own; other libraries register theirs)."""
    return _erf_of_doubles(h).astype(h.dtype) if h.size else h.copy()


def sigmoid(h: Array) -> Array:
    """1 / (1 + exp(-h)) without overflow."""
    e = np.exp(-np.abs(h))
    return np.where(h >= 0, 1.0, e).astype(h.dtype) / (1 + e)


def _gelu_tanh_inner(h: Array) -> Array:
    return np.tanh(GELU_TANH_SCALE * (h + GELU_TANH_CUBIC * h * h * h))


def _gelu_tanh_derivative(h: Array, _: float) -> Array:
    t = _gelu_tanh_inner(h)
    slope = GELU_TANH_SCALE * (1 + 3 * GELU_TANH_CUBIC * h * h)
    # 1 - t^2 vanishes in floating point long before slope * h overflows
    return 0.5 * (1 + t) + np.where(t * t < 1, 0.5 * h * (1 - t * t) * slope, 0)


def _softplus(h: Array, beta: float) -> Array:
    return np.maximum(h, 0) + np.log1p(np.exp(-beta * np.abs(h))) / beta


def _silu_derivative(h: Array, _: float) -> Array:
    s = sigmoid(h)
    return s * (1 + h * (1 - s))


def _normal_density(h: Array) -> Array:
    return INV_SQRT_2PI * np.exp(-0.5 * np.minimum(h * h, 1e4))  # exp(-5000) is already zero in double


def _gelu_tanh_curvature(h: Array, _: float) -> Array:
    t, bounded = _gelu_tanh_inner(h), np.clip(h, -1e2, 1e2)  # beyond, 1 - t^2 is zero
    slope = GELU_TANH_SCALE * (1 + 3 * GELU_TANH_CUBIC * bounded * bounded)
    bend = 6 * GELU_TANH_SCALE * GELU_TANH_CUBIC * bounded
    return (1 - t * t) * (slope + bounded * (0.5 * bend - t * slope * slope))


def _silu_curvature(h: Array, _: float) -> Array:
    s = sigmoid(h)
    return s * sigmoid(-h) * (2 + h * (1 - 2 * s))


def _no_curvature(h: Array, _: float) -> Array:
    return np.zeros_like(h)


class Activation(NamedTuple):
    """σ(h, parameter), σ'(h, parameter), default parameter or None, σ''(h, parameter)."""

    value: Function
    derivative: Function
    default_parameter: float | None = None
    curvature: Function = _no_curvature  # zero at kinks, too


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(lambda h, _: np.maximum(h, 0), lambda h, _: np.where(h > 0, 1, 0)),
    "leaky_relu": Activation(lambda h, p: np.where(h > 0, h, p * h), lambda h, p: np.where(h > 0, 1, p), 0.01),
    "elu": Activation(
        lambda h, p: np.where(h > 0, h, p * np.expm1(np.minimum(h, 0))),
        lambda h, p: np.where(h > 0, 1, p * np.exp(np.minimum(h, 0))),
        1.0,
        lambda h, p: np.where(h > 0, 0, p * np.exp(np.minimum(h, 0))),
    ),
    "softplus": Activation(
        _softplus, lambda h, p: sigmoid(p * h), 1.0, lambda h, p: p * sigmoid(p * h) * sigmoid(-p * h)
    ),
    "sigmoid": Activation(
        lambda h, _: sigmoid(h),
        lambda h, _: sigmoid(h) * sigmoid(-h),
        curvature=lambda h, _: -sigmoid(h) * sigmoid(-h) * np.tanh(0.5 * h),
    ),
    "tanh": Activation(
        lambda h, _: np.tanh(h),
        lambda h, _: 4 * sigmoid(2 * h) * sigmoid(-2 * h),
        curvature=lambda h, _: -8 * np.tanh(h) * sigmoid(2 * h) * sigmoid(-2 * h),
    ),
    "erf": Activation(
        lambda h, _: erf(h),
        lambda h, _: TWO_OVER_SQRT_PI * np.exp(-np.minimum(h * h, 1e4)),
        curvature=lambda h, _: -2 * TWO_OVER_SQRT_PI * np.clip(h, -1e2, 1e2) * np.exp(-np.minimum(h * h, 1e4)),
    ),
    "gelu": Activation(
        lambda h, _: 0.5 * h * (1 + erf(SQRT_HALF * h)),
        lambda h, _: 0.5 * (1 + erf(SQRT_HALF * h)) + np.clip(h, -1e2, 1e2) * _normal_density(h),
        curvature=lambda h, _: _normal_density(h) * (2 - np.clip(h, -1e2, 1e2) ** 2),
    ),
    "gelu_tanh": Activation(
        lambda h, _: 0.5 * h * (1 + _gelu_tanh_inner(h)), _gelu_tanh_derivative, curvature=_gelu_tanh_curvature
    ),
    "silu": Activation(lambda h, _: h * sigmoid(h), _silu_derivative, curvature=_silu_curvature),
    "quadratic": Activation(lambda h, _: h * h, lambda h, _: 2 * h, curvature=lambda h, _: np.full_like(h, 2)),
    "identity": Activation(lambda h, _: h, lambda h, _: np.ones_like(h)),
}
