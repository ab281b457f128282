"""`dynamics.stationarity` against float64 finite differences, closed forms, and dense eigenvalues by other means."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support import ACTIVATION_NAMES

import pyfirstorder as fo
from pyfirstorder.dynamics import Verdict, stationarity
from pyfirstorder.dynamics.curvature import curvature, largest_eigenvalue
from pyfirstorder.dynamics.feasibility import lengths, require_feasible
from pyfirstorder.gradients import hessian_vector_product
from pyfirstorder.validate import objective as make_objective

METHODS = ("dense", "hidden", "matrix-free")
CASES = [
    ("squared", False),
    ("logistic", False),
    ("logistic", True),
    ("cross_entropy", False),
    ("cross_entropy", True),
    ("margin", False),
    ("dlr", False),
    ("dlr", True),
    ("linear", False),
]
# Central differences of gradients over 1e-5 err by third derivatives times 1e-10 and by rounding over 1e-5.
DIFFERENCE = 1e-5
ACCURACY_OF_DIFFERENCES = 1e-7
EIGENVALUE_ACCURACY = (
    1e-9  # of the norm of the Hessian; Lanczos stops at 1e-12 of a bound of it, which may be some times larger
)


def make_network(d, m, k, activation="tanh", seed=0):
    rng = np.random.default_rng([seed, d, m, k])
    w = rng.standard_normal((m, d)) / np.sqrt(d)
    a = rng.standard_normal((k, m)) / np.sqrt(m)
    return fo.TwoLayerNetwork(w, a, rng.standard_normal(m) / 4, rng.standard_normal(k) / 4, activation)


def make_targets(loss, k, samples, seed=0):
    rng = np.random.default_rng([seed, 7])
    if loss in ("squared", "linear"):
        return rng.standard_normal((samples, k))
    return rng.integers(0, 2, samples) * 2 - 1 if loss == "logistic" else rng.integers(0, k, samples)


def outputs_of(loss):
    return 1 if loss == "logistic" else 5


def hessian_by_differences(net, x, y, loss, targeted=False):
    """The symmetric part of the central differences of the engine's gradients at one point x (d,)."""
    d = len(x)
    nearby = np.concatenate([x + DIFFERENCE * np.eye(d), x - DIFFERENCE * np.eye(d)])
    gradient = fo.input_gradient(net, nearby, np.repeat(y, 2 * d, axis=0), loss=loss, targeted=targeted)[1]
    found = (gradient[:d] - gradient[d:]) / (2 * DIFFERENCE)
    return (found + found.T) / 2


def projected_eigenvalue(hessian, free, normal):
    """By an orthonormal basis of the free directions, from a singular value decomposition."""
    basis = np.eye(len(hessian))[:, free]
    if np.any(normal):
        basis = basis @ np.linalg.svd((basis.T @ normal)[None])[2][1:].T
    return np.linalg.eigvalsh(basis.T @ hessian @ basis)[-1] if basis.shape[1] else -np.inf


def terms_of(net, x, y, loss, targeted=False):
    weights = net.weights(np.float64)
    wanted = make_objective(net, y, len(x), x.dtype, loss, targeted)
    if loss == "dlr" and targeted:
        output = fo.forward(net, x)
        output[np.arange(len(x)), y] = -np.inf
        wanted = wanted._replace(sources=output.argmax(axis=1))
    return curvature(weights, x, wanted, np.matmul)


# ------------------------------------------------------------------ the Hessian


@pytest.mark.parametrize(("loss", "targeted"), CASES)
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_hessian_vector_products_are_the_differences_of_gradients(activation, loss, targeted):
    k = outputs_of(loss)
    net = make_network(6, 9, k, activation)
    x = np.random.default_rng(3).standard_normal((1, 6))
    y = make_targets(loss, k, 1)
    terms = terms_of(net, x, y, loss, targeted)
    rows = [part.repeat(6, axis=0) for part in (terms.slope, terms.unit_curvature, terms.output)]
    found = hessian_vector_product(terms.weights, *rows, np.eye(6))
    expected = hessian_by_differences(net, x[0], y, loss, targeted)
    np.testing.assert_allclose(found, expected, atol=ACCURACY_OF_DIFFERENCES * (1 + np.abs(expected).max()))


@pytest.mark.parametrize("loss", ["squared", "cross_entropy", "margin"])
@pytest.mark.parametrize("activation", ["softplus", "relu", "quadratic"])
@pytest.mark.parametrize(("d", "m"), [(40, 13), (40, 40), (40, 90)])
def test_the_methods_agree_on_free_coordinates_and_across_a_normal(d, m, activation, loss):
    net = make_network(d, m, 5, activation)
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((1, d)), make_targets(loss, 5, 1)
    terms = terms_of(net, x, y, loss)
    hessian = hessian_vector_product(
        terms.weights,
        *(part.repeat(d, axis=0) for part in (terms.slope, terms.unit_curvature, terms.output)),
        np.eye(d),
    )
    bound = EIGENVALUE_ACCURACY * max(np.linalg.norm(hessian, 2), 1)
    for free in (np.ones(d, bool), rng.random(d) < 0.8, rng.random(d) < 0.6):
        for normal in (np.zeros(d), rng.standard_normal(d)):
            across = np.where(free, normal, 0) / max(np.linalg.norm(np.where(free, normal, 0)), 1e-300)
            expected = projected_eigenvalue(hessian, free, across)
            for method in METHODS:
                # below its number of directions, the hidden problem is one of the free columns of W, and as good
                assert abs(largest_eigenvalue(terms, 0, free, across, method) - expected) <= bound, method


def test_no_direction_has_no_eigenvalue():
    terms = terms_of(make_network(3, 4, 1), np.zeros((1, 3)), make_targets("linear", 1, 1), "linear")
    axis = np.eye(3)[0]
    assert largest_eigenvalue(terms, 0, np.zeros(3, bool), np.zeros(3), "dense") == -np.inf
    assert largest_eigenvalue(terms, 0, axis > 0, axis, "hidden") == -np.inf


# ------------------------------------------------------------------ constructed points of quadratic networks


def quadratic(eigenvalues, seed=0):
    """⟨x, Q x⟩ as a network, with Q = V diag(eigenvalues) Vᵀ; and V."""
    d = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    return fo.TwoLayerNetwork(basis.T.copy(), np.array([eigenvalues], float), activation="quadratic"), basis


def judge(net, ends, *, center=None, **arguments):
    center = np.zeros_like(ends) if center is None else np.broadcast_to(center, ends.shape).copy()
    return stationarity(net, ends, np.ones((len(ends), 1)), x0=center, loss="linear", **arguments)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d", range(2, 18))
def test_eigenvectors_of_a_quadratic_form_on_the_sphere(d, method):
    values = np.linspace(-1.0, 3.0, d)
    net, basis = quadratic(values)
    eps = 0.7
    found = judge(net, eps * basis.T.copy(), eps=eps, norm="l2", method=method)
    # g = 2 v_i δ, so μ = 2 v_i ε; the shifted Hessian has 2 (v_j - v_i) across δ
    stationary = values >= 0  # else the point would gain by moving inwards
    gaps = np.array([np.max(np.delete(values, i) - v) for i, v in enumerate(values)])
    np.testing.assert_allclose(found.multiplier, 2 * values * eps, atol=1e-12)
    np.testing.assert_allclose(found.largest_eigenvalue[stationary], 2 * gaps[stationary], atol=1e-8)
    expected = np.where(gaps < 0, Verdict.BOUNDARY_MAXIMUM, Verdict.SADDLE)
    expected = np.where(stationary, expected, Verdict.NOT_STATIONARY)
    weak = np.abs(values) < 1e-4  # its multiplier is zero, and the loss is flat along it
    np.testing.assert_array_equal(found.verdict[~weak], expected[~weak])


def trust_region_maximum(values, linear, eps):
    """The global maximum of ½⟨x, diag(values) x⟩ + ⟨linear, x⟩ over the ball, by bisection on its multiplier."""
    low, high = max(values.max(), 0) + 1e-14, values.max() + np.linalg.norm(linear) / eps + 1
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(linear / (middle - values)) > eps else (low, middle)
    return linear / (high - values), high


@pytest.mark.parametrize("d", [1, 2, 3, 5, 16, 17])
def test_the_global_maximum_of_a_trust_region_problem_is_a_boundary_maximum(d):
    rng = np.random.default_rng(d)
    values, linear, eps = rng.standard_normal(d), rng.standard_normal(d), 0.5
    # unit j: (x_j)² values_j / 2, and one identity-like term by (x + t)² - x² = 2 t x + t²
    weight = np.concatenate([np.eye(d), np.eye(d)])
    shift = np.concatenate([np.zeros(d), np.ones(d)])
    output = np.concatenate([values / 2 - linear / 2, linear / 2])[None]
    net = fo.TwoLayerNetwork(weight, output, shift, activation="quadratic")
    point, shifted = trust_region_maximum(values, linear, eps)
    found = judge(net, point[None], eps=eps, norm="l2")
    assert found.verdict[0] == Verdict.BOUNDARY_MAXIMUM
    np.testing.assert_allclose(found.multiplier[0], shifted * eps, rtol=1e-9)
    expected = projected_eigenvalue(np.diag(values - shifted), np.ones(d, bool), point / np.linalg.norm(point))
    np.testing.assert_allclose(found.largest_eigenvalue[0], expected, rtol=1e-9)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("method", METHODS)
def test_the_center_of_a_quadratic_form_is_what_its_eigenvalues_say(norm, method):
    signs = {(-1.0, -2.0, -3.0): "INTERIOR_MAXIMUM", (1.0, -2.0, -3.0): "SADDLE", (0.0, -2.0, -3.0): "DEGENERATE"}
    for values, name in signs.items():
        found = judge(quadratic(values)[0], np.zeros((1, 3)), eps=1.0, norm=norm, method=method)
        assert Verdict(found.verdict[0]).name == name
        assert found.slack[0] == 1
        assert found.strictness[0] == np.inf
        assert found.multiplier[0] == 0
        np.testing.assert_allclose(found.largest_eigenvalue, 2 * max(values), atol=1e-12)


def test_two_largest_eigenvalues_that_are_equal_are_degenerate():
    net, basis = quadratic([3.0, 3.0, 1.0])
    found = judge(net, basis.T[:1].copy(), eps=1.0, norm="l2")
    assert found.verdict[0] == Verdict.DEGENERATE
    assert abs(found.largest_eigenvalue[0]) < 1e-12


def test_fewer_units_than_coordinates_leave_an_interior_point_flat():
    net = fo.TwoLayerNetwork(np.array([[1.0, 0, 0]]), np.array([[-1.0]]), activation="quadratic")
    found = judge(net, np.zeros((1, 3)), eps=1.0, norm="l2")
    assert found.verdict[0] == Verdict.DEGENERATE
    assert found.largest_eigenvalue[0] == 0


# ------------------------------------------------------------------ faces of ℓ∞ and box


def diagonal(values, linear=None):
    """Σ values_j x_j² + linear_j x_j."""
    d = len(values)
    linear = np.zeros(d) if linear is None else np.asarray(linear, float)
    weight, shift = np.concatenate([np.eye(d), np.eye(d)]), np.concatenate([np.zeros(d), np.ones(d)])
    output = np.concatenate([np.asarray(values) - linear / 2, linear / 2])[None]
    return fo.TwoLayerNetwork(weight, output, shift, activation="quadratic")


@pytest.mark.parametrize("norm", ["linf", "box"])
@pytest.mark.parametrize("free_curvature", [-1.0, 0.0, 1.0])
def test_only_the_free_coordinates_decide_at_a_face(norm, free_curvature):
    net = diagonal([4.0, 4.0, free_curvature])
    ends = np.array([[0.5, -0.5, 0.0]])
    where = {"norm": "linf", "eps": 0.5} if norm == "linf" else {"norm": "l2", "eps": np.inf, "bounds": (-0.5, 0.5)}
    found = judge(net, ends, **where)
    kinds = {-1.0: Verdict.BOUNDARY_MAXIMUM, 0.0: Verdict.DEGENERATE, 1.0: Verdict.SADDLE}
    assert found.verdict[0] == kinds[free_curvature]
    assert found.free[0] == 1
    np.testing.assert_allclose(found.largest_eigenvalue, 2 * free_curvature, atol=1e-12)
    np.testing.assert_allclose(found.strictness, 4.0)  # 2 * 4 * 0.5
    np.testing.assert_allclose(found.multiplier, 8.0 if norm == "linf" else 0.0)


def test_a_corner_with_every_sign_right_is_a_maximum_without_directions():
    found = judge(diagonal([1.0, 1.0]), np.array([[0.5, 0.5]]), eps=0.5)
    assert found.verdict[0] == Verdict.BOUNDARY_MAXIMUM
    assert found.largest_eigenvalue[0] == -np.inf


def test_a_corner_with_a_wrong_sign_is_not_stationary():
    found = judge(diagonal([1.0, -1.0]), np.array([[0.5, 0.5]]), eps=0.5)
    assert found.verdict[0] == Verdict.NOT_STATIONARY
    assert found.strictness[0] == -1
    np.testing.assert_allclose(found.residual, 1.0)  # the second coordinate moves by its gradient, -2 * 0.5


@pytest.mark.parametrize(("curvature_there", "name"), [(-1.0, "BOUNDARY_MAXIMUM"), (1.0, "DEGENERATE")])
def test_a_multiplier_of_zero_is_decided_by_the_curvature_it_would_allow(curvature_there, name):
    # at x₂ = 0.5 the slope 2 c x₂ - c is zero
    net = diagonal([1.0, curvature_there], [0.0, -curvature_there])
    found = judge(net, np.array([[0.5, 0.5]]), eps=0.5)
    assert Verdict(found.verdict[0]).name == name
    assert found.strictness[0] == 0


def test_a_box_cuts_the_sphere_to_the_tangent_space_of_free_coordinates():
    # maximise ½ Σ v_j x_j² + 5 x₁ on ‖x‖ = 1 with x₁ <= 0.6: δ = (0.6, 0.8, 0, 0)
    values = np.array([0.0, 3.0, 1.0, 2.0])
    net = diagonal(values / 2, [5.0, 0, 0, 0])
    found = judge(net, np.array([[0.6, 0.8, 0.0, 0.0]]), eps=1.0, norm="l2", bounds=(-2.0, np.array([0.6, 2, 2, 2])))
    assert found.verdict[0] == Verdict.BOUNDARY_MAXIMUM
    np.testing.assert_allclose(found.multiplier, 3.0)  # g₂ = 3 * 0.8 = μ * 0.8
    np.testing.assert_allclose(found.strictness, 3.0)  # the face has 5 - 3 * 0.6
    np.testing.assert_allclose(found.largest_eigenvalue, 2.0 - 3.0)  # x₄; the tangent space has no x₂
    assert found.free[0] == 3


# ------------------------------------------------------------------ ℓ1


def test_a_vertex_of_the_l1_ball_with_the_largest_slope_is_a_maximum():
    found = judge(diagonal([0.0, 0.0, 9.0], [3.0, 1.0, 0.0]), np.array([[1.0, 0.0, 0.0]]), eps=1.0, norm="l1")
    assert found.verdict[0] == Verdict.BOUNDARY_MAXIMUM
    np.testing.assert_allclose(found.multiplier, 3.0)
    np.testing.assert_allclose(found.strictness, 2.0)  # 3 - |1|
    assert found.largest_eigenvalue[0] == -np.inf


@pytest.mark.parametrize(("curvature_along", "verdict"), [(-1.0, Verdict.BOUNDARY_MAXIMUM), (1.0, Verdict.SADDLE)])
def test_an_edge_of_the_l1_ball_is_decided_along_the_edge(curvature_along, verdict):
    net = diagonal(
        [curvature_along, curvature_along, 0.0], [3.0 - curvature_along, 3.0 - curvature_along, 0.5]
    )  # slope 3 in both where x = ½
    found = judge(net, np.array([[0.5, 0.5, 0.0]]), eps=1.0, norm="l1")
    assert found.verdict[0] == verdict
    np.testing.assert_allclose(found.multiplier, 3.0)
    np.testing.assert_allclose(found.largest_eigenvalue, 2 * curvature_along)


def test_a_coordinate_at_the_box_leaves_the_l1_edge():
    net = diagonal([0.0, -1.0, -1.0], [9.0, 3.0, 3.0])
    ends = np.array([[0.4, 0.3, 0.3]])
    found = judge(net, ends, eps=1.0, norm="l1", bounds=(-1.0, np.array([0.4, 1.0, 1.0])))
    assert found.verdict[0] == Verdict.BOUNDARY_MAXIMUM
    np.testing.assert_allclose(found.multiplier, 2.4)  # 3 - 2 * 0.3
    np.testing.assert_allclose(found.largest_eigenvalue, -2.0)


# ------------------------------------------------------------------ whole ascents


@pytest.mark.parametrize(("loss", "targeted"), [("squared", False), ("cross_entropy", True), ("logistic", False)])
@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_ends_of_ascents_are_what_a_hessian_by_differences_says(norm, boxed, loss, targeted):
    k, d = outputs_of(loss), 12
    net, y = make_network(d, 30, k, "softplus"), make_targets(loss, k, 6)
    x = np.random.default_rng(5).standard_normal((6, d)) / 4
    options = {"eps": 0.5, "norm": norm, "loss": loss, "targeted": targeted, "bounds": (-1.0, 0.9) if boxed else None}
    ends = fo.pgd(net, x.clip(-1, 0.9), y, steps=3000, direction="gradient", step_size=0.5, **options).x_adv
    found = stationarity(net, ends, y, x0=x.clip(-1, 0.9), **options)
    assert (found.residual <= found.tol).all()
    faces = boxed * (np.abs(ends + 0.05) > 0.95 - 1e-6)
    for i, end in enumerate(ends):
        hessian = hessian_by_differences(net, end, y[i : i + 1], loss, targeted)
        delta, normal, shift = end - x.clip(-1, 0.9)[i], np.zeros(d), 0.0
        held = faces[i] | ((norm == "linf") & (np.abs(delta) > 0.5 - 1e-6))
        if norm == "l2" and np.linalg.norm(delta) > 0.5 - 1e-6:
            normal = np.where(held, 0, delta) / np.linalg.norm(np.where(held, 0, delta))
            shift = found.multiplier[i] / 0.5
        expected = projected_eigenvalue(hessian, ~held, normal) - shift
        np.testing.assert_allclose(found.largest_eigenvalue[i], expected, atol=1e-6)
        assert (found.verdict[i] <= Verdict.INTERIOR_MAXIMUM) == (expected < 0)


def test_float32_ends_on_a_corner_count_as_stationary():
    net = fo.random_network(784, 32, "identity")
    x = np.random.default_rng(0).random((8, 784)).astype(np.float32)
    y = np.zeros(8, np.float32)
    ends = fo.pgd(net, x, y + 1, eps=0.01, loss="linear", steps=10).x_adv
    found = stationarity(net, ends, y + 1, x0=x, eps=0.01, loss="linear")
    assert 0 < found.residual.max() <= found.tol.min()  # what rounding left of the way to the face
    assert (found.verdict == Verdict.BOUNDARY_MAXIMUM).all()


# ------------------------------------------------------------------ tolerances, errors, shapes


def test_tol_separates_stationary_points_from_others():
    net, basis = quadratic([3.0, 1.0])
    angle = 1e-3
    ends = (np.cos(angle) * basis[:, 0] + np.sin(angle) * basis[:, 1])[None]
    exact = judge(net, ends, eps=1.0, norm="l2", tol=1e-5)
    assert exact.verdict[0] == Verdict.NOT_STATIONARY
    near = judge(net, ends, eps=1.0, norm="l2", tol=np.array([float(exact.residual[0])]))
    assert near.verdict[0] == Verdict.BOUNDARY_MAXIMUM


def test_a_radius_of_zero_leaves_no_direction():
    for norm in ("linf", "l2", "l1"):
        found = judge(quadratic([1.0, 2.0])[0], np.ones((1, 2)), center=1.0, eps=0.0, norm=norm)
        assert found.verdict[0] == Verdict.BOUNDARY_MAXIMUM
        assert found.free[0] == 0


# ------------------------------------------------------------------ points outside of ball or box


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_point_outside_of_the_ball_is_refused_with_its_row_and_what_to_do(norm):
    center, direction = np.full((3, 4), 0.5), np.array([0.2, 0.0, 0.0, 0.0])
    ends = center + np.array([[0.5], [2.0], [3.0]]) * direction  # half, twice and three times the radius
    words = f"x_adv: .* {norm} ball of radius 0.2 around x0, got one at distance 0.4 first in row 1, 0.2 outside; "
    with pytest.raises(ValueError, match=words):
        judge(make_network(4, 5, 1), ends, center=center, eps=0.2, norm=norm)
    moved = fo.project(ends - center, eps=0.2, norm=norm, x=center)  # what the message says to do
    assert judge(make_network(4, 5, 1), center + moved, center=center, eps=0.2, norm=norm).slack.min() > -1e-9


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_point_outside_of_the_box_is_refused_with_its_row_and_coordinate(norm):
    center = np.full((3, 4), 0.9)
    ends = center.copy()
    ends[2, 1] = 1.05
    with pytest.raises(ValueError, match=r"x_adv: .* bounds, got 1.05 at coordinate 1 first in row 2, 0.05 outside; "):
        judge(make_network(4, 5, 1), ends, center=center, eps=0.2, norm=norm, bounds=(0, 1))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_what_lies_outside_by_more_than_is_rounded_is_refused(norm):
    """The tolerance is a hundred-thousandth of the radius and what float32 rounds: ten times as much lies outside."""
    center, eps = np.zeros((1, 3)), 0.5
    for share, is_refused in ((1 + 5e-6, False), (1 + 1e-4, True)):
        ends = np.array([[eps * share, 0.0, 0.0]])
        if is_refused:
            with pytest.raises(ValueError, match="first in row 0"):
                judge(make_network(3, 5, 1), ends, center=center, eps=eps, norm=norm)
        else:
            assert judge(make_network(3, 5, 1), ends, center=center, eps=eps, norm=norm).verdict.shape == (1,)


@pytest.mark.parametrize("attack", ["pgd", "apgd", "minimal_eps", "evaluate"])
@pytest.mark.parametrize("bounds", [None, (0.1, 0.6)])  # float32(0.6) is above 0.6
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_no_point_of_an_attack_is_refused_nor_after_a_conversion(norm, bounds, attack):
    net, rng = make_network(12, 9, 3), np.random.default_rng(5)
    y = rng.integers(0, 3, 20)
    eps = {"linf": 0.03, "l2": 0.2, "l1": 1.0}[norm]
    task = {"norm": norm, "bounds": bounds}
    for dtype in (np.float32, np.float64):
        x = rng.uniform(0.05, 0.65, (20, 3, 2, 2)).clip(0.1, 0.6).astype(dtype)
        if attack == "minimal_eps":
            found = fo.minimal_eps(net, x, y, eps_max=eps, steps=5, **task)
            radii, ends = np.where(np.isfinite(found.eps), found.eps, eps), found.x_adv
        elif attack == "evaluate":
            radii, ends = eps, fo.evaluate(net, x, y, eps=eps, restarts=1, steps=5, **task).x_adv
        else:
            run = getattr(fo, attack)(net, x, y, eps=eps, steps=15, random_start=True, **task)
            radii, ends = eps, run.x_adv
        for other in (np.float32, np.float64):
            # to the other type and back, and beside samples that were never rounded to the narrower one
            for start, end in (
                (x, ends.astype(other).astype(dtype)),
                (x.astype(other), ends.astype(other)),
                (x, ends.astype(other)),
            ):
                found = stationarity(net, end, y, x0=start, eps=radii, **task)
                assert found.verdict.shape == (20,)


@pytest.mark.parametrize("narrow", ["x0", "x_adv"])
def test_points_of_two_types_are_judged_as_those_of_the_narrower(narrow):
    net, rng = fo.random_network(784, 32, "identity", dtype=np.float64), np.random.default_rng(0)
    x, y = rng.random((4, 784)), np.ones(4)
    ends = fo.pgd(net, x, y, eps=0.01, loss="linear", steps=10).x_adv
    points = {"x0": x, "x_adv": ends}
    mixed = points | {narrow: points[narrow].astype(np.float32)}
    both = {name: part.astype(np.float32) for name, part in points.items()}
    found, same = (stationarity(net, y=y, eps=0.01, loss="linear", **each) for each in (mixed, both))
    np.testing.assert_array_equal(found.verdict, Verdict.BOUNDARY_MAXIMUM)
    np.testing.assert_allclose(found.tol, same.tol, rtol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("size", [1e-300, 1e200, 1e307])
def test_radii_of_any_size_are_measured_without_overflow(size, norm):
    x = size * np.random.default_rng(1).standard_normal((4, 6))
    delta = fo.project(size * np.ones((4, 6)), eps=size, norm=norm, x=x)
    room, eps = (np.full_like(x, -np.inf), np.full_like(x, np.inf)), np.full(4, size)
    require_feasible(norm, x, x + delta, eps, room)
    np.testing.assert_allclose(lengths(norm, delta), eps, rtol=1e-5)
    words = re.escape(f"radius {size:g} around x0, got one at distance {2 * size:g} first in row 0")
    with pytest.raises(ValueError, match=words):
        require_feasible(norm, np.zeros((1, 6)), 2 * size * np.eye(1, 6), eps[:1], tuple(side[:1] for side in room))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("size", [1e-300, 1e-160, 1.0, 1e160, 1e200, 1e307])
def test_a_linear_loss_has_its_maximum_where_theory_says_in_balls_of_any_size(size, norm):
    slope = np.array([3.0, -4.0, 1.0])
    net = fo.TwoLayerNetwork(slope[None], np.ones(1), activation="identity")
    end = {"linf": np.sign(slope), "l2": slope / np.linalg.norm(slope), "l1": np.array([0.0, -1.0, 0.0])}[norm]
    found = stationarity(
        net, size * end[None], np.ones(1), x0=np.zeros((1, 3)), eps=size, norm=norm, loss="linear", tol=1e-3 * size
    )
    # On faces, a tolerance above the gradient makes multipliers weak.
    decides = norm == "l2" or 1e-3 * size < 1
    assert found.verdict[0] == (Verdict.BOUNDARY_MAXIMUM if decides else Verdict.DEGENERATE)
    expected = {"linf": 8.0, "l2": np.linalg.norm(slope), "l1": 4.0}[norm]
    np.testing.assert_allclose(found.multiplier, expected, rtol=1e-12)


@pytest.mark.parametrize("size", [1e160, 1e200])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_loss_that_overflows_in_a_huge_ball_is_no_warning_of_numpy(size, norm):
    net, x = fo.random_network(8, 16, dtype=np.float64), np.random.default_rng(0).standard_normal((5, 8))
    found = stationarity(net, x + size / 10 * np.sign(x), np.zeros(5), x0=x, eps=size, norm=norm, loss="squared")
    assert (found.verdict == Verdict.NOT_STATIONARY).all()
    assert np.isfinite(found.residual).all()
    assert (found.residual > 0).all()


def test_a_curvature_that_overflows_is_warned_of_and_decides_nothing():
    net = fo.TwoLayerNetwork(1e100 * np.eye(2), 1e200 * np.ones(2), activation="quadratic")
    x = np.array([[0.0, 0.0], [1e50, 0.0]])
    with pytest.warns(fo.NotFiniteWarning, match="the gradient or curvature of 2 of 2 points is not finite") as seen:
        found = stationarity(net, x, np.ones(2), x0=x, eps=1e100, norm="l2", loss="linear")
    assert [warning.filename for warning in seen] == [__file__]
    assert [Verdict(verdict).name for verdict in found.verdict] == ["DEGENERATE", "NOT_STATIONARY"]
    assert np.isnan(found.largest_eigenvalue).all()


@pytest.mark.parametrize(("activation", "linear"), [("relu", True), ("leaky_relu(0.1)", True), ("tanh", False)])
def test_piecewise_linear_networks_say_so(activation, linear):
    net = make_network(4, 5, 3, activation)
    assert stationarity(net, np.ones((1, 4)), [0], x0=np.ones((1, 4)), eps=0.1).linear_region is linear


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_an_empty_batch_gives_empty_arrays(norm):
    nothing = np.zeros((0, 4))
    found = stationarity(make_network(4, 5, 3), nothing, np.zeros(0, int), x0=nothing, eps=0.1, norm=norm)
    assert found.verdict.shape == found.largest_eigenvalue.shape == found.strictness.shape == (0,)


@pytest.mark.parametrize("d", range(1, 18))
def test_images_are_rows_and_a_batch_is_its_samples(d):
    net, rng = make_network(d, 8, 3), np.random.default_rng(d)
    x, y = rng.standard_normal((3, d)), np.array([0, 1, 2])
    ends = fo.pgd(net, x, y, eps=0.3, norm="l2").x_adv
    whole = stationarity(net, ends.reshape(3, 1, d), y, x0=x.reshape(3, 1, d), eps=0.3, norm="l2")
    for i in range(3):
        one = stationarity(net, ends[i : i + 1], y[i : i + 1], x0=x[i : i + 1], eps=0.3, norm="l2")
        assert one.verdict[0] == whole.verdict[i]
        np.testing.assert_allclose(one.largest_eigenvalue[0], whole.largest_eigenvalue[i], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"method": "lanczos"}, ValueError, "method: expected one of 'auto', 'dense', 'hidden', 'matrix-free'"),
        ({"tol": -1.0}, ValueError, "tol: expected numbers of at least 0"),
        ({"curvature_tol": "small"}, TypeError, "curvature_tol: expected a number"),
        ({"x0": np.ones((2, 4))}, ValueError, "x_adv: expected shape"),
        ({"x_adv": np.full((1, 4), np.nan)}, ValueError, "x_adv: expected finite numbers"),
        (
            {"x0": np.full((1, 4), 1.5), "bounds": (0, 1)},
            ValueError,
            "x0: expected values within bounds, got 1.5 outside",
        ),
        ({"norm": 3}, ValueError, "norm: expected"),
        ({"eps": -0.1}, ValueError, "eps: expected numbers of at least 0"),
    ],
)
def test_errors_name_the_argument(changes, kind, words):
    arguments = {"x_adv": np.ones((1, 4)), "x0": np.ones((1, 4)), "eps": 0.1} | changes
    with pytest.raises(kind, match=words):
        stationarity(make_network(4, 5, 3), y=[0], **arguments)
