"""Laws that every attack obeys: closed forms of linear networks, monotone ascent, and the conditions of a maximum."""

from __future__ import annotations

import numpy as np
import pytest
from support import (
    REFERENCE,
    Problem,
    every_backend,
    every_dtype,
    every_norm,
    make_ball,
    make_network,
    make_problem,
    run,
    tolerance,
)

from pyfirstorder.problem import TRACE_QUANTITIES, Ball, Objective, Status

LOSS, RESIDUAL = TRACE_QUANTITIES.index("loss"), TRACE_QUANTITIES.index("residual")


def linear_problem(dtype, d: int = 17, samples: int = 9) -> tuple[Problem, np.ndarray]:
    """The linear function ⟨w, x⟩ + constant, ascended; and w."""
    weights = make_network(d, 8, 1, "identity", dtype, seed=30).weights(dtype)
    x = np.random.default_rng(30).standard_normal((samples, d)).astype(dtype)
    w = (weights.output_weight.astype(np.float64) @ weights.hidden_weight.astype(np.float64))[0]
    return Problem(weights, x, Objective("linear", False, None, np.ones((samples, 1), dtype))), w


def close(x: np.ndarray, expected: np.ndarray, eps: float) -> None:
    allowed = tolerance("closed form", x.dtype) * (eps + np.abs(expected))
    assert (np.abs(x - expected) <= allowed).all()


@every_backend
@every_dtype
def test_on_a_linear_network_linf_reaches_the_corner(backend, dtype):
    problem, w = linear_problem(dtype)
    end = run(backend, problem, make_ball("linf", problem.x, eps=0.3), steps=20)
    close(end.x_adv, problem.x + 0.3 * np.sign(w), 0.3)


@every_backend
@every_dtype
@pytest.mark.parametrize("direction", ["normalized", "gradient"])
def test_on_a_linear_network_l2_reaches_the_point_along_the_weights(backend, dtype, direction):
    problem, w = linear_problem(dtype)
    end = run(backend, problem, make_ball("l2", problem.x, eps=0.3), steps=20, direction=direction)
    close(end.x_adv, problem.x + 0.3 * w / np.linalg.norm(w), 0.3)


@every_backend
@every_dtype
def test_on_a_linear_network_l1_reaches_the_vertex_of_the_largest_weight(backend, dtype):
    problem, w = linear_problem(dtype)
    vertex = np.where(np.abs(w) == np.abs(w).max(), 0.3 * np.sign(w), 0)
    end = run(backend, problem, make_ball("l1", problem.x, eps=0.3), steps=40, sparse_count=1)
    close(end.x_adv, problem.x + vertex, 0.3)


@every_backend
@every_dtype
def test_on_a_linear_network_l1_with_a_box_fills_the_largest_weights_first(backend, dtype):
    problem, w = linear_problem(dtype, samples=1)
    ball = Ball("l1", np.array([1.0]), problem.x[0] - dtype(0.25), problem.x[0] + dtype(0.25))
    end = run(backend, problem, ball, steps=60, sparse_count=1)
    best = np.zeros_like(w)
    best[np.argsort(-np.abs(w))[:4]] = 0.25  # radius 1 is the room of four coordinates
    close(end.x_adv, problem.x + best * np.sign(w), 1.0)


@every_backend
@every_dtype
@every_norm
def test_apgd_reaches_the_optimum_of_a_linear_network(backend, dtype, norm):
    problem, w = linear_problem(dtype)
    ball = make_ball(norm, problem.x, eps=0.3)
    end = run(backend, problem, ball, algorithm="apgd", steps=100, keep_best=True)
    dual = {"linf": np.abs(w).sum(), "l2": np.linalg.norm(w), "l1": np.abs(w).max()}[norm]
    clean = REFERENCE.forward(problem.weights, problem.x, 1)[:, 0]
    share = tolerance("apgd optimum, l1" if norm == "l1" else "apgd optimum", dtype)
    np.testing.assert_allclose(end.x_best_loss - clean, 0.3 * dual, rtol=share)


@every_backend
@every_norm
@pytest.mark.parametrize("activation", ["softplus", "tanh", "gelu", "quadratic"])
def test_small_gradient_steps_never_lower_a_smooth_loss(backend, norm, activation):
    problem = make_problem(activation=activation, loss="squared", seed=31)
    ball = make_ball(norm, problem.x, boxed=True)
    step_size = np.full(len(problem.x), 0.01)  # below 1 over the curvature of these losses
    loss = run(backend, problem, ball, direction="gradient", step_size=step_size, steps=60, trace=True).trace[:, LOSS]
    gain = np.diff(loss, axis=1)
    assert (gain >= -1e-13 * (1 + np.abs(loss[:, 1:]))).all()
    assert (loss[:, -1] > loss[:, 0]).all()


@every_backend
@every_norm
def test_a_first_small_step_gains_what_the_gradient_promises(backend, norm):
    """First order: the loss rises by η ‖g‖ of the dual norm."""
    problem = make_problem(activation="softplus", seed=32)
    eta = 1e-5
    ball = make_ball(norm, problem.x)
    trace = run(
        backend, problem, ball, steps=1, step_size=np.full(len(problem.x), eta), sparse_count=1, trace=True
    ).trace
    _, gradient, _ = REFERENCE.input_gradient(problem.weights, problem.x, problem.objective, 1)
    dual = np.linalg.norm(gradient, ord={"linf": 1, "l2": 2, "l1": np.inf}[norm], axis=1)
    np.testing.assert_allclose((trace[:, LOSS, 1] - trace[:, LOSS, 0]) / eta, dual, rtol=1e-3)


@every_backend
def test_a_long_l2_attack_ends_where_the_gradient_points_outwards(backend):
    """On the sphere: g = μ δ/ε with μ >= 0, the KKT conditions of a boundary maximum."""
    problem = make_problem(activation="softplus", loss="squared", seed=33)
    ball = make_ball("l2", problem.x, eps=0.3)
    end = run(backend, problem, ball, steps=400, step_size=np.full(len(problem.x), 0.1))
    delta = end.x_adv - problem.x
    _, g, _ = backend.input_gradient(problem.weights, end.x_adv, problem.objective, 1)
    length = np.linalg.norm(g, axis=1)
    mu = np.sum(g * delta, axis=1) / 0.3
    allowed = tolerance("stationary", np.float64)
    np.testing.assert_allclose(np.linalg.norm(delta, axis=1), 0.3, rtol=1e-12)
    assert (mu > 0).all()
    assert (np.linalg.norm(g - mu[:, None] * delta / 0.3, axis=1) <= allowed * length).all()


@every_backend
def test_a_fixed_point_of_linf_is_first_order_stationary(backend):
    """At a fixed point of sign steps every coordinate with a gradient is held by ball or box."""
    problem = make_problem(activation="softplus", loss="squared", samples=33, seed=34)
    ball = make_ball("linf", problem.x, eps=0.1, boxed=True)
    end = run(backend, problem, ball, steps=60, step_size=np.full(33, 0.05), trace=True)
    fixed = end.status == Status.FIXED_POINT
    assert fixed.sum() > 20
    _, g, _ = backend.input_gradient(problem.weights, end.x_adv, problem.objective, 1)
    delta = end.x_adv - problem.x
    upper = np.minimum(0.1, ball.upper - problem.x)
    lower = np.maximum(-0.1, ball.lower - problem.x)
    held = np.where(g > 0, delta >= upper - 1e-12, delta <= lower + 1e-12) | (g == 0)
    assert held[fixed].all()
    assert (end.trace[fixed, RESIDUAL, -1] <= 1e-12).all()
