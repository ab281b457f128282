"""Projections of every backend held to their definition, to an oracle, and to exactness at every scale.

``p = P(v)`` minimises ``‖p - v‖₂`` over ball ∩ box, a convex set.  That is to say: p is in the set, points of the set
stay where they are, and ``⟨v - p, z - p⟩ <= 0`` for every z of the set.  Exactness at every scale, by the million, is
held in test_exactness.py.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import truth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from measure import hold_inside, inside_margin
from support import (
    AWKWARD_SIZES,
    every_backend,
    every_dtype,
    every_fast_backend,
    every_norm,
    make_ball,
    tolerance,
    with_and_without_box,
)

import pyfirstorder as fo
from pyfirstorder.problem import Ball

ORDER = {"linf": np.inf, "l2": 2, "l1": 1}


def make_case(norm, dtype, boxed, samples=40, d=17, seed=0) -> tuple[np.ndarray, np.ndarray, Ball]:
    """Random δ inside and far outside of balls of many radii."""
    rng = np.random.default_rng([seed, d, samples])
    x = rng.standard_normal((samples, d)).astype(dtype)
    v = (rng.standard_normal((samples, d)) * np.geomspace(0.01, 100, samples)[:, None]).astype(dtype)
    return v, x, make_ball(norm, x, eps=rng.uniform(0.1, 3, samples), boxed=boxed)


def length(delta: np.ndarray, norm: str) -> np.ndarray:
    return np.linalg.norm(delta.astype(np.float64), ord=ORDER[norm], axis=1)


def nearest(v: np.ndarray, x: np.ndarray, ball: Ball) -> np.ndarray:
    """The projection by bisection of its multiplier, in the widest floating type: an oracle that shares no code."""
    v, x = v.astype(np.longdouble), x.astype(np.longdouble)
    eps = ball.eps.astype(np.longdouble)[:, None]
    low = -np.inf if ball.lower is None else np.minimum(ball.lower - x, 0)
    high = np.inf if ball.upper is None else np.maximum(ball.upper - x, 0)
    if ball.norm == "linf":
        return np.clip(np.clip(v, -eps, eps), low, high)
    size = np.abs(v)
    smallest, largest = np.zeros((2, len(v), 1), np.longdouble)
    largest += 1 if ball.norm == "l2" else size.max(axis=1, keepdims=True, initial=0)
    for _ in range(110):  # halvings: 64 bits, and the range of the magnitudes
        middle = (smallest + largest) / 2  # l2: the share of v that is kept; l1: what is taken off every coordinate
        moved = middle * size if ball.norm == "l2" else np.maximum(size - middle, 0)
        p = np.clip(np.copysign(moved, v), low, high)
        total = np.sum(p * p, axis=1, keepdims=True) if ball.norm == "l2" else np.sum(np.abs(p), axis=1, keepdims=True)
        outside = total > (eps * eps if ball.norm == "l2" else eps)
        shrink = outside if ball.norm == "l2" else ~outside
        smallest, largest = np.where(shrink, smallest, middle), np.where(shrink, middle, largest)
    clipped = np.clip(v, low, high)
    whole = np.linalg.norm(clipped, ord=ORDER[ball.norm], axis=1, keepdims=True)
    return np.where(whole <= eps, clipped, p)


@cache
def allowed_points(norm, dtype, boxed) -> np.ndarray:
    """Points (60, samples, d) of the set: its interior, vertices and faces, most of them beside the projection."""
    v, x, ball = make_case(norm, dtype, boxed)
    away = v - nearest(v, x, ball).astype(np.float64)
    rng = np.random.default_rng(1)
    points = []
    for i in range(60):
        corner = away * rng.integers(0, 2, v.shape) * 10.0 ** rng.uniform(-3, 4)
        z = nearest((corner, corner + v, rng.standard_normal(v.shape))[i % 3], x, ball).astype(np.float64)
        points.append(z * (ball.eps / np.maximum(length(z, norm), ball.eps))[:, None])  # the oracle's own rounding
    return np.stack(points)


# ------------------------------------------------------------------ the definition


@every_backend
@every_dtype
@every_norm
@with_and_without_box
def test_projections_are_inside_ball_and_box(backend, dtype, norm, boxed):
    v, x, ball = make_case(norm, dtype, boxed)
    hold_inside(backend.project(v, x, ball, 2), x, ball)


@every_backend
@every_dtype
@every_norm
@with_and_without_box
def test_projecting_twice_changes_no_bit(backend, dtype, norm, boxed):
    v, x, ball = make_case(norm, dtype, boxed, samples=300)
    once = backend.project(v, x, ball, 1)
    np.testing.assert_array_equal(backend.project(once, x, ball, 1), once)


@every_backend
@every_dtype
@every_norm
@with_and_without_box
def test_allowed_points_stay_where_they_are_to_the_bit(backend, dtype, norm, boxed):
    v, x, ball = make_case(norm, dtype, boxed)
    inside = nearest(v, x, ball) * (1 - inside_margin(dtype, v.shape[1]))
    inside = np.where(np.abs(inside) > np.abs(v), v, inside).astype(dtype)
    np.testing.assert_array_equal(backend.project(inside, x, ball, 1), inside)


@every_backend
@every_dtype
@every_norm
@with_and_without_box
def test_no_allowed_point_lies_on_the_outer_side_of_a_projection(backend, dtype, norm, boxed):
    """The variational inequality ⟨v - p, z - p⟩ <= 0."""
    v, x, ball = make_case(norm, dtype, boxed)
    p = backend.project(v, x, ball, 1).astype(np.float64)
    away = v - p
    allowed = tolerance("projection", dtype) * ball.eps * np.linalg.norm(away, axis=1)
    inner = np.sum(away * (allowed_points(norm, dtype, boxed) - p), axis=2)
    assert (inner <= allowed).all()
    assert (inner > -0.01 * np.linalg.norm(away, axis=1) * ball.eps).any()  # some of them come near


@every_backend
@every_dtype
@every_norm
@with_and_without_box
def test_projecting_brings_no_two_points_further_apart(backend, dtype, norm, boxed):
    v, x, ball = make_case(norm, dtype, boxed)
    rng = np.random.default_rng(2)
    p = backend.project(v, x, ball, 1).astype(np.float64)
    for scale in np.geomspace(1e-6, 10, 30):
        u = (v + scale * rng.standard_normal(v.shape)).astype(dtype)
        apart = np.linalg.norm(backend.project(u, x, ball, 1) - p, axis=1)
        before = np.linalg.norm(u.astype(np.float64) - v, axis=1)
        assert (apart <= before + tolerance("projection", dtype) * ball.eps).all()


@every_backend
@every_dtype
@every_norm
@with_and_without_box
@pytest.mark.parametrize("d", [n for n in AWKWARD_SIZES if n])
def test_projections_are_the_nearest_points(backend, dtype, norm, boxed, d, conformance):
    v, x, ball = make_case(norm, dtype, boxed, d=d)
    expected = nearest(v, x, ball).astype(np.float64)
    spread = truth.amplification(expected, x.astype(np.float64), truth.widen_ball(ball)) * ball.eps
    distance = np.linalg.norm(backend.project(v, x, ball, 1) - expected, axis=1)
    conformance.check("projection", distance, np.zeros_like(distance), tolerance("projection", dtype) * spread)


@every_backend
@every_dtype
@every_norm
@with_and_without_box
def test_a_projection_does_not_depend_on_batch_or_threads(backend, dtype, norm, boxed):
    v, x, ball = make_case(norm, dtype, boxed, samples=33)
    whole = backend.project(v, x, ball, 1)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(backend.project(v, x, ball, threads), whole)
    for row in (0, 16, 32):
        part = Ball(norm, ball.eps[row : row + 1], ball.lower, ball.upper)
        one = backend.project(v[row : row + 1], x[row : row + 1], part, 1)
        np.testing.assert_array_equal(one[0], whole[row])


@every_backend
@every_dtype
@every_norm
def test_an_empty_batch_projects_to_an_empty_batch(backend, dtype, norm):
    v, x, ball = make_case(norm, dtype, boxed=True, samples=0)
    assert backend.project(v, x, ball, 2).shape == (0, 17)


# ------------------------------------------------------------------ exactness


def exactly_inside(delta: np.ndarray, norm: str, eps: float) -> bool:
    """Whether ``‖delta‖ <= eps`` in rational arithmetic."""
    parts, radius = [abs(Fraction(float(part))) for part in delta], Fraction(eps)
    if norm == "linf":
        return max(parts) <= radius
    return sum(parts) <= radius if norm == "l1" else sum(part**2 for part in parts) <= radius**2


@every_backend
@every_dtype
@every_norm
@with_and_without_box
def test_norms_in_exact_arithmetic_never_exceed_the_radius(backend, dtype, norm, boxed):
    for d in (1, 2, 3, 8, 33):
        v, x, ball = make_case(norm, dtype, boxed, d=d, seed=3)
        p = backend.project(v, x, ball, 1)
        assert all(exactly_inside(row, norm, eps) for row, eps in zip(p, ball.eps))


SMALL = st.integers(min_value=1, max_value=9)


def numbers(width: int) -> st.SearchStrategy[float]:
    """Any finite number whose square is finite in float64, denormals and negative zero included."""
    largest = 2.0**120 if width == 32 else 2.0**500
    return st.floats(-largest, largest, width=width, allow_nan=False)


@every_fast_backend
@every_dtype
@every_norm
def test_projections_of_arbitrary_numbers_are_inside_and_stay(backend, dtype, norm):
    width = 32 if dtype == np.float32 else 64

    @settings(max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data(), d=SMALL, boxed=st.booleans())
    def hold(data, d, boxed):
        def draw_row():
            return np.array([data.draw(st.lists(numbers(width), min_size=d, max_size=d))], dtype)

        v, x = draw_row(), draw_row()
        eps = np.array([abs(data.draw(numbers(64)))])
        ball = Ball(norm, eps)
        if boxed:
            first, second = draw_row(), draw_row()
            ball = Ball(norm, eps, np.minimum(first, x)[0], np.maximum(second, x)[0])
        p = backend.project(v, x, ball, 1)
        hold_inside(p, x, ball)
        assert exactly_inside(p[0], norm, eps[0])
        np.testing.assert_array_equal(backend.project(p, x, ball, 1), p)
        assert (np.abs(p) <= np.abs(v)).all()
        assert ((np.sign(p) == np.sign(v)) | (p == 0)).all()

    hold()


@every_backend
def test_a_threshold_many_orders_below_the_largest_coordinate_is_found_beside_a_box(backend):
    # one coordinate has all of its room used up, the other's threshold is 1e385 radii below it
    x, v = np.zeros((1, 3)), np.array([[-6.629779346847005e79, 0, 6.631326552736045e79]])
    ball = Ball("l1", np.array([2.1223387951587302e-306]), np.array([-9160.0, 0, 0]), np.zeros(3))
    p = backend.project(v, x, ball, 1)
    hold_inside(p, x, ball)
    np.testing.assert_allclose(p, [[-ball.eps[0], 0, 0]], rtol=1e-13, atol=0)
    np.testing.assert_array_equal(backend.project(p, x, ball, 1), p)


@every_backend
@every_dtype
@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("room", [0.0, 2.0**-10])
@pytest.mark.parametrize("huge", [1e3, 1e8, 1e16, 1e30])
def test_a_huge_coordinate_without_room_leaves_the_radius_to_the_others(backend, dtype, norm, room, huge):
    v, x = np.array([[1, huge]], dtype), np.zeros((1, 2), dtype)
    box = np.array([1, room], dtype)
    if norm == "l2" and huge > 1e3:
        v[0, 0] = huge / 8  # l2 keeps proportions, so the other has to be huge too
    p = backend.project(v, x, Ball(norm, np.array([0.25]), -box, box), 1)
    rest = 0.25 - room if norm == "l1" else np.sqrt(0.25**2 - room**2)
    np.testing.assert_allclose(p, [[rest, room]], rtol=tolerance("projection", dtype))


@every_backend
@every_dtype
@every_norm
def test_an_infinite_radius_projects_onto_the_box_alone(backend, dtype, norm):
    v, x, ball = make_case(norm, dtype, boxed=True)
    free = Ball(norm, np.full(len(v), np.inf), ball.lower, ball.upper)
    p = backend.project(v, x, free, 1)
    exact = np.clip(v, ball.lower.astype(np.float64) - x, ball.upper.astype(np.float64) - x)
    assert (np.abs(p) <= np.abs(exact)).all()
    np.testing.assert_allclose(p, exact, rtol=tolerance("step", dtype), atol=0)


@every_backend
@every_dtype
@every_norm
def test_a_radius_of_zero_projects_everything_to_zero(backend, dtype, norm):
    v, x, ball = make_case(norm, dtype, boxed=True)
    p = backend.project(v, x, Ball(norm, np.zeros(len(v)), ball.lower, ball.upper), 1)
    assert not p.any()


@every_backend
@every_dtype
@every_norm
def test_a_box_without_room_projects_everything_to_zero(backend, dtype, norm):
    v, x, _ = make_case(norm, dtype, boxed=False, samples=1)
    p = backend.project(v, x, Ball(norm, np.ones(1), x[0], x[0]), 1)
    assert not p.any()


@every_backend
@every_dtype
@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_equal_coordinates_stay_equal(backend, dtype, norm):
    v = np.array([[3, 3, -3, 3, 1, 1, 0, 0]], dtype)
    p = backend.project(v, np.zeros_like(v), Ball(norm, np.ones(1)), 1)[0]
    assert len(set(np.abs(p[:4]))) == len(set(p[4:6])) == 1
    assert not p[6:].any()


@every_backend
@every_dtype
def test_l1_drops_small_coordinates_where_a_rescaling_keeps_them(backend, dtype):
    v = np.array([[3, 1, 0.5]], dtype)
    p = backend.project(v, np.zeros_like(v), Ball("l1", np.array([2.0])), 1)
    np.testing.assert_allclose(p, [[2, 0, 0]], rtol=tolerance("projection", dtype))
    assert (p[0, 1:] == 0).all()


# ------------------------------------------------------------------ through the public function


@every_norm
@with_and_without_box
def test_the_public_projection_warns_of_nothing(norm, boxed):
    delta = np.array([[3.0, 4.0, -1.0], [0.1, 0.0, 0.0], [0.0, 0.0, 0.0]])
    for name, state in fo.available_backends().items():
        if state == "available":
            moved = fo.project(delta, eps=1.0, norm=norm, bounds=(-0.5, 2.0) if boxed else None, backend=name)
            assert moved.shape == delta.shape


@every_norm
def test_the_public_projection_keeps_shape_and_rows_of_images(norm):
    delta = np.random.default_rng(4).standard_normal((5, 2, 3, 4)).astype(np.float32)
    moved = fo.project(delta, eps=np.linspace(0, 1, 5), norm=norm, bounds=(-0.5, 0.5), backend="reference")
    assert moved.shape == delta.shape
    rows = delta.reshape(5, 24)
    flat = fo.project(rows, eps=np.linspace(0, 1, 5), norm=norm, bounds=(-0.5, 0.5), backend="reference")
    np.testing.assert_array_equal(moved.reshape(5, 24), flat)


@every_backend
@pytest.mark.parametrize("radius", [1e-250, 1e-20, 1.0, 1e20])
@pytest.mark.parametrize("boxed", [False, True])
def test_a_point_many_orders_beyond_an_l2_ball_keeps_its_direction(backend, radius, boxed):
    x = np.zeros((1, 3))
    ball = Ball("l2", np.array([radius]), *([np.full(3, -radius), np.full(3, 0.1 * radius)] if boxed else []))
    direction = np.array([-3.0, 0.4, -4.0])
    moved = backend.project(1e307 * direction[None], x, ball, 1)
    np.testing.assert_allclose(moved[0] / radius, direction / np.linalg.norm(direction), rtol=1e-9)
