"""Whole attacks of every backend against the reference, in float64; and what every field of a result must be.

Ten steps in float64 amplify rounding to about 1e-12, so end points, bests, traces, counts and statuses are compared as
they are.  Early ends (fixed points, cycles) depend on the last bit, except under the sign steps of ℓ∞; elsewhere they
are switched off here, and test_promises.py holds that they change nothing.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import truth
from support import (
    ACTIVATION_NAMES,
    LOSS_NAMES,
    REFERENCE,
    every_backend,
    every_dtype,
    every_norm,
    make_ball,
    make_problem,
    reweigh,
    run,
    tolerance,
    with_and_without_box,
)

from pyfirstorder.problem import DIRECTIONS, NORMS, TRACE_QUANTITIES, AttackArrays, Status

EXACT = ("success", "steps", "first_success", "status", "x_best_success")


def hold_attack(conformance, backend, problem, ball, x_init=None, **options) -> AttackArrays:
    """Run an attack here and in the reference and compare every field."""
    options = {"steps": 10, "retire": ball.norm == "linf", "keep_best": True, "trace": True, "threads": 2} | options
    actual = run(backend, problem, ball, x_init, **options)
    expected = run(REFERENCE, problem, ball, x_init, **options)
    share = tolerance("trajectory", problem.x.dtype)
    for name in AttackArrays._fields:
        got, wanted = getattr(actual, name), getattr(expected, name)
        if name in EXACT:
            np.testing.assert_array_equal(got, wanted, err_msg=name)
        elif wanted is not None:
            assert got.dtype == wanted.dtype, name
            conformance.check(name, got, wanted, share * (1 + np.abs(wanted)))
        else:
            assert got is None, name
    return actual


@every_backend
@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_every_activation_and_loss_follows_the_reference_trajectory(backend, activation, loss, conformance):
    index = ACTIVATION_NAMES.index(activation) + 2 * LOSS_NAMES.index(loss)
    problem = make_problem(activation=activation, loss=loss, targeted=index % 4 == 3, seed=10)
    hold_attack(conformance, backend, problem, make_ball(NORMS[index % 3], problem.x, boxed=index % 2 == 0))


@every_backend
@pytest.mark.parametrize("momentum", [0.0, 0.75])
@pytest.mark.parametrize(("norm", "direction", "boxed"), list(product(NORMS, DIRECTIONS, [False, True])))
def test_every_ball_and_direction_follows_the_reference_trajectory(
    backend, norm, direction, boxed, momentum, conformance
):
    problem = make_problem(activation="tanh", seed=11)
    ball = make_ball(norm, problem.x, boxed=boxed)
    hold_attack(conformance, backend, problem, ball, direction=direction, momentum=momentum)


@every_backend
@every_norm
@with_and_without_box
@pytest.mark.parametrize("activation", ["relu", "softplus", "gelu"])
@pytest.mark.parametrize("steps", [1, 4, 8])
def test_apgd_follows_the_reference_trajectory(backend, norm, boxed, activation, steps, conformance):
    problem = make_problem(activation=activation, loss=LOSS_NAMES[len(activation) % 6], seed=12)
    ball = make_ball(norm, problem.x, boxed=boxed)
    hold_attack(
        conformance,
        backend,
        problem,
        ball,
        algorithm="apgd",
        steps=steps,
        step_size=np.zeros_like(ball.eps),
        random_start="ball",
        seed=5,
    )


@every_backend
@every_norm
@with_and_without_box
@pytest.mark.parametrize("activation", ["relu", "softplus", "gelu"])
def test_long_apgd_reaches_the_losses_of_the_reference(backend, norm, boxed, activation, conformance):
    """Once it has converged, the last bit decides whether a loss has risen and a step size is halved."""
    problem = make_problem(activation=activation, seed=12)
    ball = make_ball(norm, problem.x, boxed=boxed)
    options = {"algorithm": "apgd", "steps": 60, "keep_best": True}
    actual, expected = (run(which, problem, ball, **options).x_best_loss for which in (backend, REFERENCE))
    conformance.check("best loss", actual, expected, tolerance("apgd loss", np.float64) * (1 + np.abs(expected)))


@every_backend
@every_norm
def test_apgd_in_float32_reaches_the_losses_of_float64(backend, norm):
    losses = {}
    for dtype, runner in ((np.float32, backend), (np.float64, REFERENCE)):
        problem = make_problem(activation="softplus", samples=40, dtype=dtype, seed=13)
        ball = make_ball(norm, problem.x, boxed=True)
        end = run(runner, problem, ball, algorithm="apgd", steps=40, step_size=np.zeros_like(ball.eps), keep_best=True)
        losses[dtype] = float(end.x_best_loss.mean())
    allowed = tolerance("apgd loss", np.float32) * losses[np.float64]
    assert losses[np.float32] == pytest.approx(losses[np.float64], abs=allowed)


@every_backend
@every_norm
@pytest.mark.parametrize("start", ["ball", "sphere"])
@pytest.mark.parametrize("algorithm", ["pgd", "apgd"])
def test_restarts_keep_what_the_reference_keeps(backend, norm, start, algorithm, conformance):
    problem = make_problem(activation="silu", samples=17, seed=14)
    ball = make_ball(norm, problem.x, boxed=start == "ball")
    options = {"restarts": 4, "random_start": start, "seed": 2**40 + 7, "sample_offset": 2**33, "steps": 4}
    hold_attack(conformance, backend, problem, ball, algorithm=algorithm, **options)


@every_backend
@every_norm
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_early_stop_ends_where_the_reference_ends(backend, norm, momentum, conformance):
    problem = make_problem(samples=33, seed=15)
    ball = make_ball(norm, problem.x)
    end = hold_attack(conformance, backend, problem, ball, early_stop=True, momentum=momentum)
    stopped = end.status == Status.SUCCESS
    assert 0 < np.count_nonzero(stopped) < len(stopped)
    np.testing.assert_array_equal(end.steps[stopped], end.first_success[stopped])


@every_backend
@every_norm
def test_radii_of_a_sweep_are_jobs_over_the_same_samples(backend, norm, conformance):
    problem = make_problem(samples=5, seed=16, activation="elu")
    radii = np.repeat([0.0, 0.01, 0.3, 4.0], len(problem.x))
    ball = make_ball(norm, problem.x, boxed=True)
    ball = type(ball)(norm, radii, ball.lower, ball.upper)
    hold_attack(conformance, backend, problem, ball, random_start="ball", restarts=2, seed=1)


@every_backend
@every_dtype
@every_norm
def test_a_sweep_gives_the_bits_of_separate_attacks(backend, dtype, norm):
    problem = make_problem(samples=5, seed=16, dtype=dtype)
    radii = [0.01, 0.3, 4.0]
    together = run(backend, problem, make_ball(norm, np.tile(problem.x, (3, 1)), eps=np.repeat(radii, 5)), threads=2)
    for i, radius in enumerate(radii):
        alone = run(backend, problem, make_ball(norm, problem.x, eps=radius))
        np.testing.assert_array_equal(together.x_adv[5 * i : 5 * i + 5], alone.x_adv)


@every_backend
@every_dtype
@pytest.mark.parametrize("algorithm", ["pgd", "apgd"])
def test_an_empty_batch_gives_empty_fields(backend, dtype, algorithm):
    problem = make_problem(samples=0, dtype=dtype)
    end = run(backend, problem, make_ball("l2", problem.x), algorithm=algorithm, keep_best=True, trace=True, restarts=2)
    assert end.x_adv.shape == (0, 17)
    assert end.output.shape == (0, 5)
    assert end.trace.shape == (0, len(TRACE_QUANTITIES), 7)


@every_backend
@every_dtype
@every_norm
def test_no_steps_give_the_values_at_the_start(backend, dtype, norm, conformance):
    problem = make_problem(dtype=dtype)
    end = run(backend, problem, make_ball(norm, problem.x), steps=0, keep_best=True, trace=True)
    true = truth.evaluate(problem)
    np.testing.assert_array_equal(end.x_adv, problem.x)
    assert (end.steps == 0).all()
    assert (end.status == Status.STEPS_USED_UP).all()
    conformance.check("loss", end.loss, true.loss, true.loss_error)


@every_backend
@every_dtype
@every_norm
def test_a_zero_radius_returns_the_samples_to_the_bit(backend, dtype, norm):
    problem = make_problem(dtype=dtype)
    ball = make_ball(norm, problem.x, eps=0.0)
    for start in ("none", "ball", "sphere"):
        end = run(backend, problem, ball, step_size=np.full(len(problem.x), 0.1), random_start=start)
        np.testing.assert_array_equal(end.x_adv, problem.x)


@every_backend
@every_dtype
@every_norm
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_zero_gradient_ends_the_sample_where_it_is(backend, dtype, norm, direction):
    problem = make_problem(dtype=dtype)
    bias = np.full_like(problem.weights.hidden_bias, -100)
    dead = problem._replace(weights=reweigh(problem.weights, hidden_bias=bias))
    end = run(backend, dead, make_ball(norm, dead.x), direction=direction, trace=True)
    assert (end.status == Status.ZERO_GRADIENT).all()
    assert (end.steps == 0).all()
    np.testing.assert_array_equal(end.x_adv, dead.x)
    np.testing.assert_array_equal(end.trace, np.broadcast_to(end.trace[:, :, :1], end.trace.shape))


@every_backend
@every_dtype
def test_a_loss_that_is_not_finite_ends_the_sample_where_it_is(backend, dtype):
    problem = make_problem(activation="quadratic", loss="squared", dtype=dtype)
    huge = float(np.finfo(dtype).max) ** 0.75
    x = problem.x.copy()
    x[3] *= dtype(huge)
    end = run(backend, problem._replace(x=x), make_ball("linf", x))
    assert end.status[3] == Status.NOT_FINITE
    assert not end.success[3]
    np.testing.assert_array_equal(end.x_adv[3], x[3])
    np.testing.assert_array_equal(
        np.delete(end.x_adv, 3, axis=0), np.delete(run(backend, problem, make_ball("linf", problem.x)).x_adv, 3, axis=0)
    )


@every_backend
@every_dtype
@every_norm
@with_and_without_box
def test_the_trace_holds_what_its_names_say_at_the_backends_own_iterates(backend, dtype, norm, boxed, conformance):
    problem = make_problem(activation="softplus", dtype=dtype, seed=17)
    ball = make_ball(norm, problem.x, boxed=boxed)
    trace = run(backend, problem, ball, trace=True, steps=5).trace
    x0, wide = problem.x.astype(np.float64), truth.widen_ball(ball)
    share = tolerance("trace", dtype)
    for t in range(6):
        now = run(backend, problem, ball, steps=t)
        true = truth.evaluate(problem, now.x_adv)
        delta = now.x_adv.astype(np.float64) - x0
        g, delta_norm = np.linalg.norm(true.gradient, axis=1), np.linalg.norm(delta, axis=1)
        step = truth.advance(
            problem, ball, now.x_adv, true.gradient, true.gradient_error, "gradient", np.ones(len(x0)), 1
        )
        moved = np.linalg.norm(step.x - now.x_adv, axis=1)
        divisor = np.where(delta_norm > 0, delta_norm, 1)
        expected = {
            "loss": (true.loss, true.loss_error),
            "gradient_norm": (g, np.linalg.norm(true.gradient_error, axis=1)),
            "delta_norm": (delta_norm, share * delta_norm),
            "cosine": (
                np.sum(true.gradient * delta, axis=1) / g / divisor,
                share + 2 * np.linalg.norm(true.gradient_error, axis=1) / g,
            ),
            "residual": (moved, np.linalg.norm(step.error, axis=1) + share * (wide.eps + moved)),
        }
        for index, name in enumerate(TRACE_QUANTITIES):
            conformance.check(f"{name} at {t}", trace[:, index, t], *expected[name])
