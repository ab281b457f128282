"""Figures of regularity, held against finite differences, dense eigenvalues and networks whose maxima are known."""

from __future__ import annotations

import numpy as np
import pytest
from support import ACTIVATION_NAMES, LOSS_NAMES, make_network, smallest_outputs

import pyfirstorder as fo
from pyfirstorder import dynamics
from pyfirstorder.dynamics import input_hessian, lanczos

STEP = 1e-5
# Central differences of gradients: rounding 1e-15 over the step, and third and fourth derivatives of order 10 times its
# square; eigenvalues move by no more than the matrix (Weyl), whose norm is at most d times an entry's error.
DIFFERENCE = 1e-7


def rng(*key):
    return np.random.default_rng([11, *key])


def targets(loss, k, samples):
    if loss in ("cross_entropy", "margin", "dlr"):
        return np.full(samples, k - 1)
    return np.ones(samples) if loss == "logistic" else rng(k).standard_normal((samples, k))


def hessian_by_differences(net, x, y, **options):
    """The Hessian at one point."""
    d = len(x)
    moved = np.concatenate([x + STEP * np.eye(d), x - STEP * np.eye(d)])
    slopes = fo.input_gradient(net, moved, np.repeat(np.asarray(y)[None], 2 * d, axis=0), **options)[1]
    made = (slopes[:d] - slopes[d:]) / (2 * STEP)
    return 0.5 * (made + made.T)


# ------------------------------------------------------------------ the spectrum


@pytest.mark.parametrize("size", [(8, 12), (12, 8)], ids=["d<m", "d>m"])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_the_spectrum_is_that_of_finite_differences_for_every_activation(activation, k, size):
    net = make_network(*size, k, activation)
    x, y = rng(1).standard_normal((2, size[0])), np.array([0, 3]) if k > 1 else np.array([0.3, -1.0])
    found = dynamics.curvature_spectrum(net, x, y)
    for row in range(2):
        expected = np.linalg.eigvalsh(hessian_by_differences(net, x[row], y[row]))[::-1]
        np.testing.assert_allclose(found[row], expected, atol=DIFFERENCE)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_the_spectrum_is_that_of_finite_differences_for_every_loss(loss, targeted):
    k = 1 if loss == "logistic" else max(5, smallest_outputs(loss, targeted))
    net, x = make_network(7, 9, k, "tanh"), rng(2).standard_normal((1, 7))
    y = targets(loss, k, 1)
    found = dynamics.curvature_spectrum(net, x, y, loss=loss, targeted=targeted)[0]
    expected = np.linalg.eigvalsh(hessian_by_differences(net, x[0], y[0], loss=loss, targeted=targeted))[::-1]
    np.testing.assert_allclose(found, expected, atol=DIFFERENCE)


def test_a_quadratic_network_has_the_eigenvalues_of_its_form():
    net = fo.TwoLayerNetwork(np.eye(3, 5), np.array([1.0, -5.0, 2.0]), activation="quadratic")
    found = dynamics.curvature_spectrum(net, rng(3).standard_normal((2, 5)), np.ones(2), loss="linear")
    np.testing.assert_allclose(found, [[4, 2, 0, 0, -10]] * 2, atol=1e-14)


def test_the_top_of_the_spectrum_is_its_beginning():
    net, x, y = make_network(9, 20, 3, "softplus"), rng(4).standard_normal((2, 9)), np.array([0, 2])
    whole = dynamics.curvature_spectrum(net, x, y)
    np.testing.assert_array_equal(dynamics.curvature_spectrum(net, x, y, top=3), whole[:, :3])


def test_lanczos_finds_what_the_dense_problem_has(monkeypatch):
    pytest.importorskip("scipy")
    net, x, y = make_network(40, 50, 3, "tanh"), rng(5).standard_normal((1, 40)), np.array([1])
    dense = dynamics.curvature_spectrum(net, x, y, top=3)
    plane = dynamics.hessian_plane(net, x, 1)
    monkeypatch.setattr(lanczos, "MOST_DENSE", 10)
    np.testing.assert_allclose(dynamics.curvature_spectrum(net, x, y, top=3), dense, atol=1e-12)
    large = dynamics.hessian_plane(net, x, 1)
    # ARPACK converges to machine precision in eigenvalues, in eigenvectors to its root over their gaps
    np.testing.assert_allclose(np.abs(np.sum(large.directions * plane.directions, axis=1)), 1, atol=1e-9)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_product_with_the_hessian_is_the_dense_matrix_times_the_vector(activation):
    net, x = make_network(12, 20, 3, activation), rng(6).standard_normal((1, 12))
    (hessian,) = input_hessian.input_hessians(net, x, np.array([1]), None, False, "auto", 1)
    u = rng(7).standard_normal((4, 12))
    np.testing.assert_allclose(hessian.times(u), u @ hessian.dense(), atol=1e-13)
    np.testing.assert_allclose(hessian.dense(), hessian_by_differences(net, x[0], 1), atol=DIFFERENCE)


def test_a_certain_softmax_still_bends():
    net = fo.TwoLayerNetwork(np.eye(2), np.array([[50.0, 0.0], [0.0, 1.0]]), activation="identity")
    found = dynamics.curvature_spectrum(net, np.array([[1.0, 0.0]]), np.array([0]))
    # p (1 - p) of the softmax, times the squared length of the difference of the logits' gradients
    assert found[0, 0] == pytest.approx(np.exp(-50) * (50**2 + 1), rel=1e-9)


# ------------------------------------------------------------------ distinct maxima


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 2])
def test_a_convex_bowl_has_two_maxima_at_the_ends_of_its_steepest_axis(k, dtype):
    # 3 x₁² + x₂² on the unit disc: maxima at ±e₁, saddles at ±e₂
    a = np.array([[3.0, 1.0], [0.0, 0.0]])[:k]
    net = fo.TwoLayerNetwork(np.eye(2, dtype=dtype), a.astype(dtype), activation="quadratic")
    y = np.eye(1, k).astype(dtype)
    found = dynamics.distinct_maxima(net, np.zeros((1, 2), dtype), y, eps=1.0, loss="linear", starts=20)
    assert found.distinct.tolist() == [2]
    assert found.converged.all()
    np.testing.assert_allclose(np.abs(found.x_adv[0]), np.array([[1.0, 0.0]] * 20), atol=2e-3)
    assert (found.labels[0] == found.labels[0][0]).tolist() == (found.x_adv[0, :, 0] > 0).tolist() or (
        found.labels[0] != found.labels[0][0]
    ).tolist() == (found.x_adv[0, :, 0] > 0).tolist()
    assert found.spread[0] == pytest.approx(2, abs=1e-5)


def test_a_linear_loss_has_one_maximum():
    net = make_network(12, 9, 1, "identity")
    x = rng(8).standard_normal((3, 12))
    found = dynamics.distinct_maxima(net, x, np.ones(3), eps=[0.1, 1.0, 3.0], loss="linear", starts=8)
    assert found.distinct.tolist() == [1, 1, 1]
    assert found.converged.all()
    assert (found.spread < 1e-5).all()
    gradient = fo.input_gradient(net, x, np.ones(3), loss="linear")[1]
    best = x + np.array([[0.1], [1.0], [3.0]]) * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    np.testing.assert_allclose(found.x_adv, np.repeat(best[:, None], 8, axis=1), atol=1e-5)


def test_a_convex_bowl_in_a_cube_has_a_maximum_in_each_corner():
    net = fo.TwoLayerNetwork(np.eye(3), np.array([1.0, 1.1, 1.2]), activation="quadratic")
    found = dynamics.distinct_maxima(net, np.zeros((1, 3)), np.ones(1), eps=0.5, norm="linf", loss="linear", starts=200)
    assert found.distinct.tolist() == [8]
    np.testing.assert_allclose(np.abs(found.x_adv[found.converged]), 0.5, atol=1e-9)
    assert found.spread[0] == pytest.approx(2 * np.sqrt(3))


def test_a_maximum_inside_of_the_ball_is_found_by_all():
    net = fo.TwoLayerNetwork(np.eye(2), np.array([-1.0, -2.0]), activation="quadratic")
    found = dynamics.distinct_maxima(net, np.full((1, 2), 0.2), np.ones(1), eps=1.0, loss="linear", starts=8)
    assert found.distinct.tolist() == [1]
    assert found.converged.all()
    np.testing.assert_allclose(found.x_adv, 0, atol=1e-3)


def test_starts_that_had_no_time_are_not_counted():
    net = fo.TwoLayerNetwork(np.eye(2), np.array([3.0, 1.0]), activation="quadratic")
    found = dynamics.distinct_maxima(net, np.zeros((1, 2)), np.ones(1), eps=1.0, loss="linear", starts=8, steps=0)
    assert not found.converged.any()
    assert found.distinct.tolist() == [0]
    assert (found.labels == -1).all()
    assert np.isnan(found.spread).all()


def test_clusters_are_numbered_from_the_largest_loss_down():
    # a bowl with its centre off that of the ball, so that its two maxima differ
    net = fo.TwoLayerNetwork(np.eye(2), np.array([3.0, 1.0]), np.array([0.2, 0.0]), activation="quadratic")
    found = dynamics.distinct_maxima(net, np.zeros((1, 2)), np.ones(1), eps=1.0, loss="linear", starts=16)
    assert found.distinct.tolist() == [2]
    assert found.loss[0][found.labels[0] == 0].min() > found.loss[0][found.labels[0] == 1].max()
    assert (found.x_adv[0][found.labels[0] == 0][:, 0] > 0).all()


def test_chains_of_near_points_are_one_cluster_and_gaps_part_them():
    net = fo.TwoLayerNetwork(np.eye(2), np.ones(2), activation="quadratic")  # every point of the circle is a maximum
    options = {"eps": 1.0, "loss": "linear", "starts": 64}
    dense = dynamics.distinct_maxima(net, np.zeros((1, 2)), np.ones(1), distance=1.0, **options)
    assert dense.distinct.tolist() == [1]
    apart = dynamics.distinct_maxima(net, np.zeros((1, 2)), np.ones(1), distance=0.0, **options)
    assert apart.distinct.tolist() == [64]


def test_a_box_holds_the_end_points():
    net, x = make_network(2, 6, 3), np.full((1, 1, 2), 0.5)
    bounds = (np.full((1, 2), 0.4), np.full((1, 2), 0.7))
    found = dynamics.distinct_maxima(net, x, np.array([0]), eps=1.0, norm="linf", bounds=bounds, starts=8)
    assert found.x_adv.min() >= 0.4
    assert found.x_adv.max() <= 0.7
    assert found.distinct[0] >= 1


# ------------------------------------------------------------------ the gradient's Lipschitz constant


def test_along_an_eigenvector_of_a_quadratic_the_estimate_is_its_eigenvalue():
    net = fo.TwoLayerNetwork(np.eye(3), np.array([1.0, -5.0, 2.0]), activation="quadratic")
    paths = np.stack([np.linspace(0, 1, 5)[:, None] * axis for axis in np.eye(3)])
    found = dynamics.gradient_lipschitz(net, paths, np.ones(3), loss="linear")
    np.testing.assert_allclose(found, [2, 10, 4], rtol=1e-13)


@pytest.mark.parametrize("k", [1, 10])
def test_the_estimate_is_at_most_the_largest_curvature_on_the_way(k):
    net = make_network(10, 20, k, "tanh")
    ends = rng(9).standard_normal((4, 2, 10))
    y = np.arange(4) if k > 1 else np.linspace(-1, 1, 4)
    paths = dynamics.segments(ends[:, 0], ends[:, 1], 20)
    found = dynamics.gradient_lipschitz(net, paths, y)
    fine = dynamics.segments(ends[:, 0], ends[:, 1], 400)
    for i in range(4):
        spectrum = dynamics.curvature_spectrum(net, fine[i], np.repeat(y[i], 400))
        assert found[i] <= np.abs(spectrum).max() * (1 + 1e-3)  # the largest lies between points at most 1/400 away
        assert found[i] > 0


def test_the_estimate_is_the_definition():
    net, path = make_network(6, 9, 1), rng(10).standard_normal((1, 5, 6))
    slopes = fo.input_gradient(net, path[0], np.zeros(5))[1]
    pairs = [np.linalg.norm(slopes[i] - slopes[i + 1]) / np.linalg.norm(path[0, i] - path[0, i + 1]) for i in range(4)]
    assert dynamics.gradient_lipschitz(net, path, np.zeros(1))[0] == pytest.approx(max(pairs))


def test_a_path_that_ended_early_is_what_came_before_and_one_point_has_no_estimate():
    net, paths = make_network(6, 9, 1), rng(12).standard_normal((2, 5, 6))
    paths[0, 3:] = np.nan
    paths[1] = paths[1, 0]
    found = dynamics.gradient_lipschitz(net, paths, np.zeros(2))
    assert found[0] == dynamics.gradient_lipschitz(net, paths[:1, :3], np.zeros(1))[0]
    assert found[1] == 0


def test_a_linear_network_turns_nowhere():
    net = make_network(6, 9, 1, "identity")
    found = dynamics.regularity(net, rng(13).standard_normal((2, 6)), np.ones(2), eps=0.5, loss="linear", starts=4)
    np.testing.assert_array_equal(found.lipschitz, 0)
    np.testing.assert_array_equal(found.spectrum, 0)


def test_all_figures_at_once_are_those_one_by_one():
    net, x, y = make_network(6, 9, 3, "softplus"), rng(14).standard_normal((2, 3, 2)), np.array([0, 2])
    found = dynamics.regularity(net, x, y, eps=0.5, starts=4, top=2, steps=50, seed=3)
    alone = dynamics.distinct_maxima(net, x, y, eps=0.5, starts=4, steps=50, seed=3)
    np.testing.assert_array_equal(found.maxima.x_adv, alone.x_adv)
    np.testing.assert_array_equal(found.spectrum, dynamics.curvature_spectrum(net, x, y, top=2))
    best = alone.x_adv[np.arange(2), np.argmax(alone.loss, axis=1)]
    np.testing.assert_array_equal(found.end_spectrum, dynamics.curvature_spectrum(net, best, y, top=2))


# ------------------------------------------------------------------ what is refused


NET, X = make_network(6, 8, 3), np.zeros((1, 6))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dynamics.curvature_spectrum("net", X, [0]), TypeError, "net: expected a TwoLayerNetwork"),
        (lambda: dynamics.curvature_spectrum(NET, X, [0], top=7), ValueError, "top: expected an integer from 1 to 6"),
        (lambda: dynamics.curvature_spectrum(NET, X, [3]), ValueError, "y: expected class indices"),
        (lambda: dynamics.distinct_maxima(NET, X, [0], eps=0.0), ValueError, "eps: expected finite radii above 0"),
        (lambda: dynamics.distinct_maxima(NET, X, [0], eps=np.inf), ValueError, "eps: expected finite radii above 0"),
        (lambda: dynamics.distinct_maxima(NET, X, [0], eps=1.0, starts=0), ValueError, "starts: expected an integer"),
        (lambda: dynamics.distinct_maxima(NET, X, [0], eps=1.0, tol=-1.0), ValueError, "tol: expected a number from 0"),
        (
            lambda: dynamics.distinct_maxima(NET, X, [0], eps=1.0, restarts=2),
            TypeError,
            "has no argument restarts; did you mean starts",
        ),
        (
            lambda: dynamics.distinct_maxima(NET, X, [0], eps=1.0, random_start=False),
            ValueError,
            "random_start: expected",
        ),
        (lambda: dynamics.gradient_lipschitz(NET, X, [0]), ValueError, "paths: expected shape"),
        (lambda: dynamics.gradient_lipschitz(NET, np.full((1, 2, 6), np.nan), [0]), ValueError, "first in path 0"),
        (lambda: dynamics.segments(X, X[:, :5]), ValueError, "ends: expected shape"),
        (lambda: dynamics.segments(X, X, 1), ValueError, "points: expected an integer from 2"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
