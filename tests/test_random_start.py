"""Random starts: where they lie, how they are distributed, and that only seed, restart and sample decide them."""

from __future__ import annotations

import numpy as np
import pytest
from measure import ORDER, hold_points_inside
from support import (
    AWKWARD_SIZES,
    REFERENCE,
    every_backend,
    every_dtype,
    every_norm,
    make_ball,
    make_problem,
    run,
    tolerance,
    with_and_without_box,
)

import pyfirstorder as fo
from pyfirstorder.problem import Ball

SAMPLES = 4000
every_start = pytest.mark.parametrize("on_sphere", [False, True], ids=["ball", "sphere"])


def starts(backend, norm, d=3, samples=SAMPLES, on_sphere=False, dtype=np.float64, seed=9, eps=0.5) -> np.ndarray:
    """Starts around the origin with radius eps, over eps."""
    x = np.zeros((samples, d), dtype)
    return backend.random_start(x, Ball(norm, np.full(samples, eps)), on_sphere, seed, 0, 0).astype(np.float64) / eps


def hold_uniform(numbers: np.ndarray) -> None:
    """The Kolmogorov-Smirnov distance to the uniform distribution of [0, 1] is small."""
    n = len(numbers)
    ranks = np.arange(1, n + 1) / n
    distance = np.max(np.maximum(ranks - np.sort(numbers), np.sort(numbers) - ranks + 1 / n))
    assert distance < tolerance("Kolmogorov-Smirnov", np.float64) / np.sqrt(n)


@every_backend
@every_dtype
@every_norm
@every_start
@pytest.mark.parametrize("d", [n for n in AWKWARD_SIZES if n])
def test_starts_are_those_of_the_reference(backend, dtype, norm, on_sphere, d, conformance):
    x = np.random.default_rng(1).standard_normal((9, d)).astype(dtype)
    ball = make_ball(norm, x, eps=np.geomspace(1e-3, 10, 9), boxed=d % 2 == 0)
    actual = backend.random_start(x, ball, on_sphere, 2**63 + 5, 3, 2**40)
    expected = REFERENCE.random_start(x, ball, on_sphere, 2**63 + 5, 3, 2**40)
    allowed = tolerance("random start", dtype) * (np.abs(x) + ball.eps[:, None])
    conformance.check("start", actual, expected, allowed)


@every_backend
@every_dtype
@every_norm
@every_start
@with_and_without_box
def test_starts_lie_in_ball_and_box(backend, dtype, norm, on_sphere, boxed):
    x = np.random.default_rng(2).standard_normal((500, 17)).astype(dtype)
    ball = make_ball(norm, x, boxed=boxed)
    hold_points_inside(backend.random_start(x, ball, on_sphere, 0, 0, 0), x, ball)


@every_backend
@every_dtype
@every_norm
@pytest.mark.parametrize("d", [1, 2, 17])
def test_starts_on_the_sphere_have_the_length_of_the_radius(backend, dtype, norm, d):
    length = np.linalg.norm(starts(backend, norm, d, 200, on_sphere=True, dtype=dtype), ord=ORDER[norm], axis=1)
    np.testing.assert_allclose(length, 1, rtol=tolerance("projection", dtype))


@every_backend
@every_norm
@pytest.mark.parametrize("d", [1, 2, 3, 16])
def test_the_share_of_the_ball_within_a_start_is_uniform(backend, norm, d):
    """For a uniform point of the ball, (‖δ‖/ε)^d is uniform in [0, 1]."""
    hold_uniform(np.linalg.norm(starts(backend, norm, d), ord=ORDER[norm], axis=1) ** d)


@every_backend
def test_coordinates_of_the_linf_ball_are_uniform(backend):
    for column in starts(backend, "linf").T:
        hold_uniform((column + 1) / 2)


@every_backend
@every_norm
def test_two_coordinates_on_the_circle_are_evenly_spread_over_its_sides(backend, norm):
    """On the ℓ2 circle the angle is uniform; on the ℓ1 and ℓ∞ squares the place along each side."""
    a, b = starts(backend, norm, d=2, on_sphere=True).T
    if norm == "l2":
        hold_uniform((np.arctan2(b, a) / np.pi + 1) / 2)
    elif norm == "l1":
        hold_uniform(np.abs(a))
    else:
        face = np.abs(a) > 1 - 1e-9
        assert abs(face.mean() - 0.5) < tolerance("Kolmogorov-Smirnov", np.float64) / np.sqrt(SAMPLES)
        hold_uniform((b[face] + 1) / 2)


@every_backend
@every_norm
@every_start
def test_starts_have_no_preferred_sign_and_no_correlated_coordinates(backend, norm, on_sphere):
    signs = np.sign(starts(backend, norm, d=5, on_sphere=on_sphere))
    bound = tolerance("Kolmogorov-Smirnov", np.float64) * 2 / np.sqrt(SAMPLES)  # four standard deviations
    assert (np.abs(signs.mean(axis=0)) < bound).all()
    pairs = signs.T @ signs / SAMPLES - np.eye(5)
    assert (np.abs(pairs) < bound).all()


@every_backend
@every_dtype
@every_norm
@every_start
def test_a_batch_split_with_its_offset_gives_the_same_bits(backend, dtype, norm, on_sphere):
    x = np.random.default_rng(3).standard_normal((33, 17)).astype(dtype)
    ball = make_ball(norm, x)
    whole = backend.random_start(x, ball, on_sphere, 4, 1, 100)
    for rows in (slice(0, 1), slice(1, 17), slice(17, 33)):
        part = Ball(norm, ball.eps[rows])
        again = backend.random_start(x[rows], part, on_sphere, 4, 1, 100 + rows.start)
        np.testing.assert_array_equal(again, whole[rows])


@every_backend
@every_norm
def test_seeds_restarts_and_samples_each_give_other_starts(backend, norm):
    x = np.zeros((4, 5))
    ball = Ball(norm, np.ones(4))
    drawn = [
        backend.random_start(x, ball, False, seed, restart, offset)
        for seed in (0, 1, 2**32, 2**64 - 1)
        for restart in (0, 1, 2**31 - 2)
        for offset in (0, 4, 2**32, 2**61)
    ]
    rows = np.concatenate(drawn)
    assert len(np.unique(rows, axis=0)) == len(rows)


@every_backend
@every_norm
def test_an_attack_starts_where_random_start_says(backend, norm):
    problem = make_problem()
    ball = make_ball(norm, problem.x, boxed=True)
    for start in ("ball", "sphere"):
        end = run(backend, problem, ball, steps=0, random_start=start, seed=11, sample_offset=6)
        expected = backend.random_start(problem.x, ball, start == "sphere", 11, 0, 6)
        np.testing.assert_array_equal(end.x_adv, expected)


@every_backend
@every_norm
def test_restarts_of_an_attack_differ_and_the_best_is_kept(backend, norm):
    problem = make_problem(loss="squared")
    ball = make_ball(norm, problem.x)
    one, many = (run(backend, problem, ball, steps=0, random_start="ball", restarts=n) for n in (1, 8))
    assert (many.loss >= one.loss).all()
    assert (many.loss > one.loss).mean() > 0.5
    ends = [backend.random_start(problem.x, ball, False, 0, restart, 0) for restart in range(8)]
    losses = np.stack([backend.input_gradient(problem.weights, x, problem.objective, 1)[0] for x in ends])
    np.testing.assert_array_equal(many.loss, losses.max(axis=0))


def test_random_start_true_means_in_the_ball():
    net = fo.random_network(5, 8, seed=1)
    x, y = np.zeros((3, 5), np.float32), np.ones(3, np.float32)
    true, ball, sphere = (fo.pgd(net, x, y, eps=0.1, steps=0, random_start=s).x_adv for s in (True, "ball", "sphere"))
    np.testing.assert_array_equal(true, ball)
    assert (true != sphere).any()
