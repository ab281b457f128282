"""Activations σ: one scalar function each, giving (σ(h), σ'(h)), and one loop over the hidden units.

Computed in float64 and rounded once to the type of the network: one compilation serves both types, and a float32
network sees errors below one ulp.  At a kink the derivative takes the value that the deep-learning frameworks use.
NaN gives NaN, and infinity the limits that the reference gives.
"""

from __future__ import annotations

import math

from pyfirstorder.backends.numba.compilation import choose_by_code, compiled

SQRT_HALF = math.sqrt(0.5)
INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)
TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)
# Hendrycks & Gimpel 2016: gelu(h) ~ h/2 (1 + tanh(sqrt(2/pi) (h + 0.044715 h^3)))
GELU_TANH_SCALE = math.sqrt(2.0 / math.pi)
GELU_TANH_CUBIC = 0.044715


@compiled
def _sigmoid(h):
    """Without overflow."""
    e = math.exp(-abs(h))
    return (1.0 if h >= 0 else e) / (1.0 + e)


@compiled
def _at_most_zero(h):
    """NaN stays."""
    return 0.0 if h > 0 else h


@compiled
def _at_least_zero(h):
    """NaN stays."""
    return 0.0 if h < 0 else h


@compiled
def relu(h, parameter):
    """max(h, 0)."""
    return _at_least_zero(h), 1.0 if h > 0 else 0.0


@compiled
def leaky_relu(h, parameter):
    """H above zero, else slope * h."""
    return h if h > 0 else parameter * h, 1.0 if h > 0 else parameter


@compiled
def elu(h, parameter):
    """H above zero, else alpha * (exp(h) - 1)."""
    below = _at_most_zero(h)
    if h > 0:
        return h, 1.0
    return parameter * math.expm1(below), parameter * math.exp(below)


@compiled
def softplus(h, parameter):
    """log(1 + exp(beta h)) / beta."""
    e = math.exp(-parameter * abs(h))
    return _at_least_zero(h) + math.log1p(e) / parameter, _sigmoid(parameter * h)


@compiled
def sigmoid(h, parameter):
    """1 / (1 + exp(-h))."""
    s = _sigmoid(h)
    return s, s * _sigmoid(-h)


@compiled
def tanh(h, parameter):
    """tanh(h), with the derivative free of cancellation."""
    return math.tanh(h), 4.0 * _sigmoid(2.0 * h) * _sigmoid(-2.0 * h)


@compiled
def erf(h, parameter):
    """The error function."""
    return math.erf(h), TWO_OVER_SQRT_PI * math.exp(-h * h)


@compiled
def gelu(h, parameter):
    """H times the normal distribution function."""
    rank = 0.5 * (1.0 + math.erf(SQRT_HALF * h))
    near = math.copysign(1e2, h) if abs(h) > 1e2 else h  # the density is zero there, but infinity * 0 is NaN
    return h * rank, rank + near * INV_SQRT_2PI * math.exp(-0.5 * near * near)


@compiled
def gelu_tanh(h, parameter):
    """Gelu with tanh in place of the error function."""
    inner = GELU_TANH_SCALE * (h + GELU_TANH_CUBIC * h * h * h)
    t, slope = math.tanh(inner), 0.0
    rest = 4.0 * _sigmoid(2.0 * inner) * _sigmoid(-2.0 * inner)  # 1 - t^2, of which cancellation would leave nothing
    if rest > 0:  # it vanishes long before h^3 overflows
        slope = 0.5 * h * rest * GELU_TANH_SCALE * (1.0 + 3.0 * GELU_TANH_CUBIC * h * h)
    return 0.5 * h * (1.0 + t), 0.5 * (1.0 + t) + slope


@compiled
def silu(h, parameter):
    """H * sigmoid(h)."""
    s = _sigmoid(h)
    return h * s, s * (1.0 + h * (1.0 - s))


@compiled
def quadratic(h, parameter):
    """h²."""
    return h * h, 2.0 * h


@compiled
def identity(h, parameter):
    """H itself."""
    return h, 1.0


ACTIVATIONS = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "softplus": softplus,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "erf": erf,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "quadratic": quadratic,
    "identity": identity,
}


def _over_units(function):
    """The loop over the hidden units of a sample: σ(h) in place of h, and σ'(h)."""

    @compiled
    def loop(parameter, hidden, slope):
        for unit in range(len(hidden)):
            hidden[unit], slope[unit] = function(float(hidden[unit]), parameter)

    return loop


# One loop for each: a choice within the loop would take ten times as long as relu does
activate = choose_by_code(_over_units(function) for function in ACTIVATIONS.values())
