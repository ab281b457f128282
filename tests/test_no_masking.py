"""A network so confident that its float32 softmax rounds to one-hot hides nothing from these attacks.

A gradient taken through the rounded softmax is exactly zero there, and an attack that follows it leaves the sample as
it was and calls it robust (cleverhans #350: 45% of MNIST test points were left unchanged by FGSM).
"""

from __future__ import annotations

import numpy as np
import pytest
import truth
from support import (
    REFERENCE,
    Problem,
    every_backend,
    every_norm,
    make_ball,
    make_network,
    make_objective,
    reweigh,
    run,
)

from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.problem import Objective, Status

CONFIDENCE = 300.0  # the logits' factor


def confident_problem(k: int = 10, samples: int = 200) -> Problem:
    """A float32 network with huge logits, on samples that it classifies correctly."""
    weights = make_network(20, 40, k, "relu", np.float32, seed=40).weights(np.float32)
    factor = np.float32(CONFIDENCE)
    weights = reweigh(weights, output_weight=weights.output_weight * factor, output_bias=weights.output_bias * factor)
    x = np.random.default_rng(40).standard_normal((samples, 20)).astype(np.float32)
    labels = np.argmax(REFERENCE.forward(weights, x, 1), axis=1)
    return Problem(weights, x, Objective("cross_entropy", False, labels, None))


def plain_gradient(problem: Problem) -> np.ndarray:
    """What automatic differentiation of softmax and cross-entropy computes, in float32."""
    w = problem.weights
    h = problem.x @ w.hidden_weight.T + w.hidden_bias
    z = np.maximum(h, 0) @ w.output_weight.T + w.output_bias
    with np.errstate(under="ignore"):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        residual = e / e.sum(axis=1, keepdims=True) - np.eye(z.shape[1], dtype=np.float32)[problem.objective.labels]
        slope = ACTIVATIONS["relu"].derivative(h, 0.0).astype(np.float32)
        return (slope * (residual @ w.output_weight)) @ w.hidden_weight


def masked_rows() -> tuple[Problem, np.ndarray]:
    """The problem and the rows whose plain gradient is exactly zero."""
    problem = confident_problem()
    masked = ~plain_gradient(problem).any(axis=1)
    assert masked.mean() > 0.3, "the network must be confident for this to be a test"
    return problem, masked


@every_backend
@every_norm
def test_one_step_moves_every_sample_whose_plain_gradient_is_zero(backend, norm):
    problem, masked = masked_rows()
    ball = make_ball(norm, problem.x)
    end = run(backend, problem, ball, steps=1, step_size=ball.eps)
    assert (end.x_adv != problem.x).any(axis=1)[masked].all()
    assert not (end.status == Status.ZERO_GRADIENT).any()


@every_backend
@every_norm
def test_the_direction_is_the_true_one_although_the_loss_is_zero_in_float32(backend, norm):
    """A small step lowers the margin of the class, computed in float64, of every masked sample."""
    problem, masked = masked_rows()
    ball = make_ball(norm, problem.x, eps=1e-3)
    end = run(backend, problem, ball, steps=1, step_size=ball.eps)
    margin = Objective("margin", False, problem.objective.labels, None)
    wide = truth.widen(problem._replace(objective=margin))
    before, after = (
        REFERENCE.input_gradient(wide.weights, x.astype(np.float64), margin, 1)[0] for x in (problem.x, end.x_adv)
    )
    assert (after > before)[masked].all()


@every_backend
@every_norm
def test_attacks_succeed_where_the_plain_gradient_finds_nothing(backend, norm):
    problem, masked = masked_rows()
    ball = make_ball(norm, problem.x, eps={"linf": 0.5, "l2": 2.0, "l1": 6.0}[norm])
    end = run(backend, problem, ball, steps=20, step_size=ball.eps / 8)
    assert end.success[masked].mean() > 0.9


@every_backend
def test_a_confident_logistic_loss_still_moves(backend):
    weights = make_network(20, 40, 1, "tanh", np.float32, seed=41).weights(np.float32)
    weights = reweigh(weights, output_weight=weights.output_weight * np.float32(1e4))
    x = np.random.default_rng(41).standard_normal((50, 20)).astype(np.float32)
    signs = np.where(REFERENCE.forward(weights, x, 1) > 0, 1, -1).astype(np.float32)
    problem = Problem(weights, x, Objective("logistic", False, None, signs))
    end = run(backend, problem, make_ball("linf", x), steps=1)
    assert (end.x_adv != x).any(axis=1).all()


@every_backend
@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("size", [1e-30, 1e-18, 1e18])
def test_directions_do_not_depend_on_the_scale_of_the_network(backend, targeted, size):
    """Weights of 1e-30 give gradients whose squares underflow; sign, normalized and sparse go on all the same."""
    weights = make_network(20, 40, 3, "identity", np.float32, seed=42).weights(np.float32)
    scaled = reweigh(weights, output_weight=weights.output_weight * np.float32(size))
    x = np.random.default_rng(42).standard_normal((9, 20)).astype(np.float32)
    for norm in ("linf", "l2", "l1"):
        ends = []
        for w in (weights, scaled):
            problem = Problem(w, x, make_objective("linear", w, x, targeted))
            ends.append(run(backend, problem, make_ball(norm, x), steps=1).x_adv)
        np.testing.assert_allclose(ends[1], ends[0], rtol=1e-4, atol=1e-5)
