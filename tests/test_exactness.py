"""Ten million projected coordinates a native instruction set, and not one of them outside ball or box.

Random and adversarial cases at every scale: numbers of order 1, of 1e30, of 1e-30 and denormal ones; points on the
bounds, perturbations that already have the length of the radius to within an ulp, radii of zero, below one ulp of the
point, and infinite.  Held for `project` and for the end points of attacks.  The Python backends run the same cases with
fewer rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from measure import ORDER, hold_inside, hold_points_inside
from support import (
    AWKWARD_SIZES,
    Problem,
    every_dtype,
    every_fast_backend,
    every_norm,
    label_of,
    make_network,
    run,
)

from pyfirstorder.problem import STEEPEST_DIRECTION, Ball, Objective

COORDINATES = {"cpu": 10_000_000, "numba": 2_000_000, "reference": 400_000}  # the reference projects row by row
PARTS = 12  # tests of one backend: two types, three norms, projections and attacks
SCALES = {
    np.float32: (1.0, 1e30, 1e-30, 1e-42),
    np.float64: (1.0, 1e30, 1e-30, 1e-310, 1e-200, 1e200),
}


class Case(NamedTuple):
    x: np.ndarray
    v: np.ndarray
    ball: Ball


def share_of(backend) -> int:
    """The coordinates of one of this backend's tests."""
    return COORDINATES.get(label_of(backend).split("-")[0], COORDINATES["cpu"]) // PARTS


def cases(norm: str, dtype, coordinates: int, seed: int):
    """Batches of all scales and widths, with and without a box, that have at least so many coordinates together."""
    rng = np.random.default_rng([seed, ORDER[norm] == 1, ORDER[norm] == 2])
    widths = [d for d in AWKWARD_SIZES if d]
    kinds = [(scale, boxed) for scale in SCALES[dtype] for boxed in (False, True)]
    rounds = 3 * len(kinds)
    for i in range(rounds):
        scale, boxed = kinds[i % len(kinds)]
        d = widths[(5 * i + seed) % len(widths)]
        yield make_case(norm, dtype, scale, boxed, -(-coordinates // (rounds * d)), d, rng)


def make_case(norm: str, dtype, scale: float, boxed: bool, samples: int, d: int, rng: np.random.Generator) -> Case:
    shape = (samples, d)
    x = (scale * rng.standard_normal(shape)).astype(dtype)
    v = scale * rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 3, (samples, 1))
    v *= rng.random(shape) < 0.9  # zeros, of both signs
    eps = scale * 10.0 ** rng.uniform(-12, 1, samples)
    kind = rng.random(samples)
    eps[kind < 0.05] = 0
    eps[kind > 0.95] = np.inf
    # A quarter already has the length of the radius, give or take an ulp.
    length = np.linalg.norm(v / scale, ord=ORDER[norm], axis=1) * scale
    grazing = (kind > 0.4) & (kind < 0.65) & (length > 0)
    ulps = 1 + rng.integers(-2, 3, samples) * float(np.finfo(dtype).eps)
    v[grazing] *= (eps * ulps / np.where(length > 0, length, 1))[grazing, None]
    if not boxed:
        return Case(x, v.astype(dtype), Ball(norm, eps))
    upper = np.abs(scale * rng.standard_normal(d)).astype(dtype)
    lower = -np.where(rng.random(d) < 0.3, 0, np.abs(scale * rng.standard_normal(d))).astype(dtype)
    lower[0], upper[0] = 0, 0  # no room at all
    x = np.clip(x, lower, upper)
    x = np.where(rng.random(shape) < 0.2, upper, np.where(rng.random(shape) < 0.2, lower, x))
    return Case(np.ascontiguousarray(x), v.astype(dtype), Ball(norm, eps, lower, upper))


@every_fast_backend
@every_dtype
@every_norm
def test_no_projected_coordinate_leaves_ball_or_box(backend, dtype, norm, projected):
    for case in cases(norm, dtype, share_of(backend), seed=1):
        delta = backend.project(case.v, case.x, case.ball, 2)
        hold_inside(delta, case.x, case.ball)
        projected[1] += delta.size


@every_fast_backend
@every_dtype
@every_norm
def test_no_end_point_of_an_attack_leaves_ball_or_box(backend, dtype, norm, projected):
    for i, case in enumerate(cases(norm, dtype, share_of(backend), seed=2)):
        samples, d = case.x.shape
        weights = make_network(d, 3, 1, "identity", dtype).weights(dtype)
        problem = Problem(weights, case.x, Objective("linear", False, None, np.ones((samples, 1), dtype)))
        finite = np.where(np.isinf(case.ball.eps), np.float64(np.abs(case.x).max(initial=0)), case.ball.eps)
        options = {
            "steps": 2,
            "step_size": finite * (0.7, 5.0)[i % 2],
            "direction": "gradient" if i % 4 == 3 else STEEPEST_DIRECTION[norm],
            "threads": 2,
        }
        start = np.ascontiguousarray(case.x + case.v) if i % 2 else None
        end = run(backend, problem, case.ball, start, **options)
        hold_points_inside(end.x_adv, case.x, case.ball)
        projected[1] += end.x_adv.size


@every_fast_backend
@every_dtype
@every_norm
@pytest.mark.parametrize("start", ["ball", "sphere"])
def test_no_random_start_leaves_ball_or_box(backend, dtype, norm, start, projected):
    for case in cases(norm, dtype, share_of(backend) // 4, seed=3):
        ball = Ball(norm, np.where(np.isinf(case.ball.eps), 0, case.ball.eps), case.ball.lower, case.ball.upper)
        x = backend.random_start(case.x, ball, start == "sphere", 1, 0, 0)
        hold_points_inside(x, case.x, ball)
        projected[1] += x.size


@every_fast_backend
@every_dtype
@every_norm
def test_a_radius_below_one_ulp_of_the_point_leaves_it_where_it_is(backend, dtype, norm):
    x = np.full((1, 3), 1000, dtype)
    weights = make_network(3, 3, 1, "identity", dtype).weights(dtype)
    problem = Problem(weights, x, Objective("linear", False, None, np.ones_like(x[:, :1])))
    end = run(backend, problem, Ball(norm, np.array([1000 * float(np.finfo(dtype).eps) / 8])))
    np.testing.assert_array_equal(end.x_adv, x)


@every_fast_backend
@every_dtype
@every_norm
def test_a_step_that_overflows_stays_inside(backend, dtype, norm):
    big = float(np.finfo(dtype).max)
    problem = Problem(
        make_network(4, 3, 1, "identity", dtype).weights(dtype),
        np.array([[0, 1, -1, 0.5]], dtype),
        Objective("linear", False, None, np.ones((1, 1), dtype)),
    )
    ball = Ball(norm, np.array([0.5]), np.full(4, -1, dtype), np.full(4, 1, dtype))
    end = run(backend, problem, ball, direction="gradient", step_size=np.array([big]))
    hold_points_inside(end.x_adv, problem.x, ball)
