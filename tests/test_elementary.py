"""Activations against mpmath, in units of the last place, over the whole range of their argument.

With W = A = 1 and no biases a network's output is σ(h) itself, without further rounding.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from support import BACKENDS, every_dtype

import pyfirstorder as fo

every_native = pytest.mark.parametrize("backend", [part for part in BACKENDS if str(part.id).startswith("cpu")])

TRUTHS = {
    "softplus": lambda h: mpmath.log1p(mpmath.exp(h)),
    "sigmoid": lambda h: 1 / (1 + mpmath.exp(-h)),
    "tanh": mpmath.tanh,
    "erf": mpmath.erf,
    "elu": lambda h: h if h > 0 else mpmath.expm1(h),
    "gelu": lambda h: h * mpmath.erfc(-h / mpmath.sqrt(2)) / 2,
    "silu": lambda h: h / (1 + mpmath.exp(-h)),
}
# Units in the last place of results that are normal numbers.
MOST_ULP = {"softplus": 2, "sigmoid": 3, "tanh": 2, "erf": 4, "elu": 2, "gelu": 4, "silu": 4}
# Of denormal results, whose factors have lost bits: in units of the smallest number.
MOST_DENORMAL_UNITS = 64


def arguments(dtype):
    """Numbers of every exponent and sign, and a dense grid where functions bend."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(8)
    exponents = rng.uniform(np.log2(info.smallest_subnormal), 11, 1500)
    grid = np.linspace(-110, 110, 1500) if dtype == np.float32 else np.linspace(-760, 760, 1500)
    near = rng.uniform(-12, 12, 1500)
    signs = rng.choice([-1.0, 1.0], 1500)
    return np.concatenate([signs * np.exp2(exponents), grid, near, [0.0]]).astype(dtype)


def errors(name, got, h):
    """Errors in units of the last place of normal results, and in units of the smallest number of the others."""
    info = np.finfo(got.dtype)
    with mpmath.workdps(60):
        truth = [TRUTHS[name](mpmath.mpf(float(value))) for value in h]
        difference = np.array([float(abs(mpmath.mpf(float(a)) - b)) for a, b in zip(got, truth)])
        magnitude = np.array([float(abs(b)) for b in truth])
    normal = magnitude >= info.tiny
    last_place = np.spacing(magnitude[normal].astype(got.dtype)).astype(np.float64)
    return difference[normal] / last_place, difference[~normal] / float(info.smallest_subnormal)


@every_native
@every_dtype
@pytest.mark.parametrize("name", TRUTHS)
def test_an_activation_is_within_its_ulp_over_the_whole_range(backend, dtype, name):
    one = np.ones((1, 1), dtype)
    weights = fo.TwoLayerNetwork(one, one, activation=name).weights(dtype)
    h = arguments(dtype)
    normal, denormal = errors(name, backend.forward(weights, h[:, None], 1)[:, 0], h)
    assert normal.max() <= MOST_ULP[name]
    assert denormal.max(initial=0) <= MOST_DENORMAL_UNITS


@every_native
@every_dtype
@pytest.mark.parametrize("name", TRUTHS)
def test_an_activation_of_huge_arguments_is_its_limit(backend, dtype, name):
    one = np.ones((1, 1), dtype)
    weights = fo.TwoLayerNetwork(one, one, activation=name).weights(dtype)
    h = np.array([1e30, -1e30], dtype)
    limits = {
        "softplus": [1e30, 0],
        "sigmoid": [1, 0],
        "tanh": [1, -1],
        "erf": [1, -1],
        "elu": [1e30, -1],
        "gelu": [1e30, 0],
        "silu": [1e30, 0],
    }
    np.testing.assert_array_equal(backend.forward(weights, h[:, None], 1)[:, 0], np.array(limits[name], dtype))
