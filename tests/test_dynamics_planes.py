"""Planes and lines of the input space: orthonormal, through what they are made from, refused where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support import make_network

import pyfirstorder as fo
from pyfirstorder import dynamics


def rng(*key):
    return np.random.default_rng([7, *key])


def assert_orthonormal(plane, dimensions=2):
    directions = plane.directions
    assert directions.shape == (dimensions, len(plane.origin))
    np.testing.assert_allclose(directions @ directions.T, np.eye(dimensions), atol=1e-13)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_random_directions_are_orthonormal_and_keyed_by_their_seed(dimensions):
    x = rng(13).random((4, 5)).astype(np.float32)
    plane = dynamics.random_plane(x, seed=3, dimensions=dimensions)
    assert_orthonormal(plane, dimensions)
    np.testing.assert_array_equal(plane.directions, dynamics.random_plane(x, seed=3, dimensions=dimensions).directions)
    assert np.abs(plane.directions - dynamics.random_plane(x, seed=4, dimensions=dimensions).directions).max() > 0.01


@pytest.mark.parametrize("angle", [1.0, 1e-3, 1e-5])
def test_directions_are_orthonormal_even_where_those_given_nearly_depend(angle):
    u, v = np.linalg.qr(rng(14).standard_normal((50, 2)))[0].T
    plane = dynamics.plane_along(np.zeros(50), np.stack([3 * u, math.cos(angle) * u + math.sin(angle) * v]))
    assert_orthonormal(plane)
    np.testing.assert_allclose(plane.directions, [u, v], atol=1e-15 / angle + 1e-14)


@pytest.mark.parametrize("angle", [1.0, 1e-5])
def test_three_points_lie_on_their_plane_even_where_they_nearly_lie_on_a_line(angle):
    u, v = np.linalg.qr(rng(15).standard_normal((30, 2)))[0].T
    points = 5 + np.stack([0 * u, u, 2 * u + angle * v])
    plane = dynamics.three_point_plane(*points)
    assert_orthonormal(plane)
    np.testing.assert_allclose(plane.distances(points), 0, atol=1e-13)
    np.testing.assert_allclose(plane.points(plane.coordinates(points)), points, atol=1e-13)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: dynamics.three_point_plane(x, x + 1, x + 2),
        lambda x: dynamics.three_point_plane(x, x, x + 1),
        lambda x: dynamics.three_point_plane(x, x, x),
        lambda x: dynamics.trajectory_plane(np.stack([x, x + 1, x + 2, x + 5])),
        lambda x: dynamics.trajectory_plane(np.stack([x, x, x])),
        lambda x: dynamics.plane_along(x, np.stack([x, -2 * x])),
        lambda x: dynamics.plane_along(x, np.stack([0 * x, x])),
    ],
)
def test_what_lies_on_a_line_is_refused_as_a_plane(make):
    with pytest.raises(ValueError, match=r"spans a plane.*line_through"):
        make(rng(16).random(12))


@pytest.mark.parametrize(
    "make", [lambda x: dynamics.line_through(x, x), lambda x: dynamics.trajectory_plane(np.stack([x, x]), dimensions=1)]
)
def test_one_point_is_refused_as_a_line(make):
    with pytest.raises(ValueError, match="spans a line"):
        make(rng(17).random(12))


def test_no_plane_is_nearer_to_a_trajectory_than_its_principal_one():
    path = np.cumsum(rng(18).standard_normal((15, 10)) * np.linspace(3, 0.1, 10), axis=0)
    plane = dynamics.trajectory_plane(path)
    assert_orthonormal(plane)
    least = np.sum(plane.distances(path) ** 2)
    for seed in range(200):
        other = dynamics.plane_along(plane.origin, plane.directions + 0.1 * rng(19, seed).standard_normal((2, 10)))
        assert np.sum(other.distances(path) ** 2) >= least
    assert ((path[-1] - path[0]) @ plane.directions.T >= 0).all()


def test_a_trajectory_that_ended_early_is_the_plane_of_what_there_is():
    path = rng(20).standard_normal((6, 8))
    longer = np.concatenate([path, np.full((4, 8), np.nan)])
    np.testing.assert_array_equal(
        dynamics.trajectory_plane(longer).directions, dynamics.trajectory_plane(path).directions
    )


@pytest.mark.parametrize("size", [(20, 30), (30, 20)], ids=["d<m", "d>m"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_hessian_plane_is_that_of_finite_differences(activation, size):
    d, m = size
    net = make_network(d, m, 4, activation)
    x, y, step = rng(21).standard_normal(d), 1, 1e-5
    moved = np.concatenate([x + step * np.eye(d), x - step * np.eye(d)])
    slopes = fo.input_gradient(net, moved, np.full(2 * d, y))[1]
    hessian = (slopes[:d] - slopes[d:]) / (2 * step)
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    order = np.argsort(-np.abs(values))[:2]
    plane = dynamics.hessian_plane(net, x, y)
    assert_orthonormal(plane)
    # eigenvectors of a matrix with errors of 1e-9 and eigenvalues some 0.01 apart
    np.testing.assert_allclose(np.abs(np.sum(plane.directions * vectors[:, order].T, axis=1)), 1, atol=1e-8)


def test_a_hessian_of_one_eigenvalue_makes_a_line_and_no_plane():
    net, x = make_network(6, 8, 1, "relu"), rng(22).standard_normal(6)
    gradient = fo.input_gradient(net, x[None], np.zeros(1))[1][0]
    line = dynamics.hessian_plane(net, x, 0.0, dimensions=1)
    assert abs(line.directions[0] @ gradient) == pytest.approx(np.linalg.norm(gradient))
    with pytest.raises(ValueError, match=r"at least 2 eigenvalues that are not zero.*got 1"):
        dynamics.hessian_plane(net, x, 0.0)


def test_a_line_goes_through_both_of_its_points():
    first, second = rng(23).random((2, 7))
    line = dynamics.line_through(first, second)
    length = np.linalg.norm(second - first)
    np.testing.assert_allclose(line.points([[0.0], [length]]), [first, second], atol=1e-15)


X = np.zeros(6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dynamics.random_plane(X, dimensions=3), ValueError, "dimensions: expected an integer from 1 to 2"),
        (lambda: dynamics.random_plane(np.zeros(1)), ValueError, "dimensions: expected at most the 1 of the space"),
        (lambda: dynamics.random_plane(np.arange(6)), TypeError, "x: expected an array of float32 or float64"),
        (lambda: dynamics.random_plane(np.full(6, np.nan)), ValueError, "x: expected a point of finite numbers"),
        (lambda: dynamics.three_point_plane(X, X[:5], X), ValueError, "expected points of the same size"),
        (lambda: dynamics.plane_along(X, np.ones((3, 6))), ValueError, "directions: expected 1 or 2 directions of 6"),
        (lambda: dynamics.trajectory_plane(np.zeros((2, 6))), ValueError, "trajectory: expected more than 2 iterates"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
