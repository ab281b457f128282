"""The specification itself: derivatives against differences, losses against other formulas, Philox against its authors.

The reference backend is what all others are held to, so it is held to mathematics: central differences, formulas
written in another way, known answers of the generator's authors.  Closed forms and laws of ascent are in
test_ascent.py, for every backend.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from support import (
    ACTIVATION_NAMES,
    CLASS_LOSSES,
    LOSS_NAMES,
    REFERENCE,
    Problem,
    every_backend,
    every_dtype,
    make_network,
    make_objective,
    make_problem,
    reweigh,
    smallest_outputs,
    tolerance,
)

from pyfirstorder.backends.reference import losses, philox
from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.network import parse_activation
from pyfirstorder.problem import Objective

STEP = 1e-5  # of the central differences
DIFFERENCE = tolerance("central difference", np.float64)


def value(problem: Problem, x: np.ndarray) -> np.ndarray:
    return REFERENCE.input_gradient(problem.weights, x, problem.objective, 1)[0]


# ------------------------------------------------------------------ activations

FORMULAS = {
    "relu": lambda h, _: h if h > 0 else 0.0,
    "leaky_relu": lambda h, p: h if h > 0 else p * h,
    "elu": lambda h, p: h if h > 0 else p * (math.exp(h) - 1),
    "softplus": lambda h, p: math.log(1 + math.exp(p * h)) / p,
    "sigmoid": lambda h, _: 1 / (1 + math.exp(-h)),
    "tanh": lambda h, _: (math.exp(2 * h) - 1) / (math.exp(2 * h) + 1),
    "erf": lambda h, _: math.erf(h),
    "gelu": lambda h, _: h * (1 - 0.5 * math.erfc(h / math.sqrt(2))),
    "gelu_tanh": lambda h, _: h / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * (h + 0.044715 * h**3))),
    "silu": lambda h, _: h / (1 + math.exp(-h)),
    "quadratic": lambda h, _: h**2,
    "identity": lambda h, _: h,
}


@pytest.mark.parametrize("text", ACTIVATION_NAMES)
def test_activations_are_their_formulas(text):
    name, parameter = parse_activation(text)
    h = np.linspace(-5, 5, 101)
    expected = [FORMULAS[name](number, parameter) for number in h]
    np.testing.assert_allclose(ACTIVATIONS[name].value(h, parameter), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("text", ACTIVATION_NAMES)
def test_derivatives_of_activations_are_central_differences(text):
    name, parameter = parse_activation(text)
    function = ACTIVATIONS[name]
    h = np.linspace(-6, 6, 400)  # an even number: no point at the kink
    difference = (function.value(h + STEP, parameter) - function.value(h - STEP, parameter)) / (2 * STEP)
    np.testing.assert_allclose(function.derivative(h, parameter), difference, rtol=0, atol=12 * DIFFERENCE)


@pytest.mark.parametrize("text", ACTIVATION_NAMES)
def test_curvatures_of_activations_are_central_differences(text):
    name, parameter = parse_activation(text)
    function = ACTIVATIONS[name]
    h = np.concatenate([np.linspace(-6, 6, 240), [-40.0, 40.0, -300.0, 300.0]])  # no kink within a step of them
    difference = (function.derivative(h + STEP, parameter) - function.derivative(h - STEP, parameter)) / (2 * STEP)
    np.testing.assert_allclose(function.curvature(h, parameter), difference, rtol=0, atol=12 * DIFFERENCE)
    huge = np.array([-1e100, 1e100, 0.0])
    assert np.isfinite(function.curvature(huge, parameter)).all()


@pytest.mark.parametrize(("text", "slope"), [("relu", 0.0), ("leaky_relu(0.2)", 0.2), ("elu(0.5)", 0.5)])
def test_derivatives_at_a_kink_take_the_frameworks_value(text, slope):
    name, parameter = parse_activation(text)
    for zero in (0.0, -0.0):
        assert ACTIVATIONS[name].derivative(np.array([zero]), parameter)[0] == slope


@every_dtype
@pytest.mark.parametrize("text", ACTIVATION_NAMES)
def test_activations_stay_finite_far_out(text, dtype):
    name, parameter = parse_activation(text)
    h = np.array([-1e18, -1e4, -200, 200, 1e4, 1e18], dtype=dtype)
    with np.errstate(over="ignore", under="ignore"):
        assert np.isfinite(ACTIVATIONS[name].value(h, parameter)).all()
        assert np.isfinite(ACTIVATIONS[name].derivative(h, parameter)).all()


# ------------------------------------------------------------------ input gradients


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_input_gradients_are_central_differences(activation, loss, targeted):
    problem = make_problem(d=6, m=11, samples=7, activation=activation, loss=loss, targeted=targeted, seed=20)
    _, gradient, _ = REFERENCE.input_gradient(problem.weights, problem.x, problem.objective, 1)
    steps = STEP * np.eye(6)
    difference = np.stack(
        [(value(problem, problem.x + step) - value(problem, problem.x - step)) / (2 * STEP) for step in steps], axis=1
    )
    np.testing.assert_allclose(gradient, difference, rtol=0, atol=DIFFERENCE * max(1.0, np.abs(gradient).max()))


@pytest.mark.parametrize("loss", [name for name in LOSS_NAMES if name != "dlr"])
def test_a_targeted_loss_is_the_negative_loss(loss):
    problem = make_problem(loss=loss, seed=21)
    targeted = Objective(loss, True, problem.objective.labels, problem.objective.values)
    plain = REFERENCE.input_gradient(problem.weights, problem.x, problem.objective, 1)
    turned = REFERENCE.input_gradient(problem.weights, problem.x, targeted, 1)
    np.testing.assert_array_equal(turned[0], -plain[0])
    np.testing.assert_array_equal(turned[1], -plain[1])


# ------------------------------------------------------------------ losses


def _dlr(z: np.ndarray, y: int) -> float:
    ranked = sorted(z, reverse=True)
    return -(z[y] - max(np.delete(z, y))) / (ranked[0] - ranked[2] if len(z) > 2 else 1.0)


LOSS_FORMULAS = {
    "squared": lambda z, y: 0.5 * math.fsum((a - b) ** 2 for a, b in zip(z, y)),
    "linear": lambda z, y: math.fsum(a * b for a, b in zip(z, y)),
    "logistic": lambda z, y: math.log(1 + math.exp(-y[0] * z[0])),
    "cross_entropy": lambda z, y: math.log(math.fsum(math.exp(a - z[y]) for a in z)),
    "margin": lambda z, y: max(np.delete(z, y)) - z[y],
    "dlr": _dlr,
}


@pytest.mark.parametrize("k", [1, 2, 3, 5, 33])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_losses_are_their_formulas(loss, k):
    if k < smallest_outputs(loss, targeted=False) or (loss == "logistic" and k > 1):
        k = smallest_outputs(loss, targeted=False)
    rng = np.random.default_rng(22)
    z = 3 * rng.standard_normal((50, k))
    weights, x = make_network(4, 3, k).weights(np.float64), np.zeros((50, 4))
    objective = make_objective(loss, weights, x)
    targets = objective.labels if objective.values is None else objective.values
    expected = [LOSS_FORMULAS[loss](row, y) for row, y in zip(z, targets)]
    np.testing.assert_allclose(losses.evaluate(z, objective)[0], expected, rtol=1e-10, atol=1e-12)


def test_targeted_dlr_is_its_formula():
    z = np.array([[1.0, 4.0, 2.0, 3.5, -1.0]])
    objective = Objective("dlr", True, np.array([3]), None, sources=np.array([1]))
    expected = -(4.0 - 3.5) / (4.0 - 0.5 * (2.0 + 1.0))  # Croce & Hein 2020, equation 7
    assert losses.evaluate(z, objective)[0][0] == pytest.approx(expected, rel=1e-11)


@every_dtype
@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_extreme_logits_give_finite_losses_and_a_residual_that_is_not_zero(loss, size, dtype):
    k = 1 if loss == "logistic" else 4
    z = np.array([[size, 1.0, -size, 0.5][:k]], dtype=dtype)
    for label in range(k):
        targets = Objective(loss, False, np.array([label]), np.full((1, k), -1.0, dtype))
        loss_value, residual, scale = losses.evaluate(z, targets)
        assert np.isfinite(loss_value).all()
        assert np.isfinite(residual).all()
        assert np.isfinite(scale).all()
        if not (loss == "dlr" and loss_value[0] >= 1 - 1e-6):  # where y is the third logit, dlr is flat
            assert np.abs(residual).max() >= 1e-4


def test_the_rescaled_residual_times_its_scale_is_softmax_minus_one_hot():
    z = 4 * np.random.default_rng(23).standard_normal((30, 6))
    labels = np.arange(30) % 6
    _, residual, scale = losses.evaluate(z, Objective("cross_entropy", False, labels, None))
    softmax = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scale[:, None] * residual, softmax - np.eye(6)[labels], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", CLASS_LOSSES)
def test_success_is_a_wrong_class_and_the_target_class_when_targeted(loss):
    z = np.array([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0], [2.0, 2.0, 0.0]])  # of equal logits the first is predicted
    labels = np.array([0, 0, 1])
    assert losses.succeeded(z, Objective(loss, False, labels, None)).tolist() == [True, False, True]
    assert losses.succeeded(z, Objective(loss, True, labels, None)).tolist() == [False, True, False]


def test_success_of_logistic_is_the_other_sign_and_an_output_of_zero_is_negative():
    z, y = np.array([[0.5], [-0.5], [0.0]]), np.array([[1.0], [1.0], [-1.0]])
    assert losses.succeeded(z, Objective("logistic", False, None, y)).tolist() == [False, True, False]


# ------------------------------------------------------------------ Philox4x32-10


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_gives_the_known_answers_of_its_authors(counter, key, expected):
    block, sample = counter[0], counter[1] | counter[2] << 32
    words = philox.words(
        key[0] | key[1] << 32, counter[3], np.array([sample], dtype=np.uint64), np.array([block], dtype=np.uint64)
    )[0, 0]
    got = [int(word) >> shift & 0xFFFFFFFF for word in words for shift in (0, 32)]
    assert got == list(expected)


def test_uniform_numbers_lie_strictly_between_zero_and_one():
    words = np.array([0, 2**64 - 1, 2**63], dtype=np.uint64)
    numbers = philox.uniform(words)
    assert (numbers > 0).all()
    assert (numbers < 1).all()
    assert numbers[2] == pytest.approx(0.5)


# ------------------------------------------------------------------ the smallest case, by hand


@every_backend
@every_dtype
def test_a_network_worked_by_hand_gives_these_numbers(backend, dtype):
    weights = make_network(2, 2, 1, "relu", dtype).weights(dtype)
    weights = reweigh(
        weights,
        hidden_weight=np.array([[1, 2], [-1, 1]], dtype),
        hidden_bias=np.array([0.5, -1], dtype),
        output_weight=np.array([[2, 3]], dtype),
        output_bias=np.array([0.25], dtype),
    )
    x, y = np.array([[1, 1], [-2, 2]], dtype), np.array([[0], [20]], dtype)
    loss, gradient, output = backend.input_gradient(weights, x, Objective("squared", False, None, y), 1)
    # h = (3.5, -1) and (2.5, 3), so z = 7.25 and 14.25, and r = z - y = 7.25 and -5.75
    np.testing.assert_array_equal(output, [[7.25], [14.25]])
    np.testing.assert_array_equal(loss, [26.28125, 16.53125])
    np.testing.assert_array_equal(gradient, [[14.5, 29.0], [5.75, -40.25]])
