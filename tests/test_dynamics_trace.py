"""`dynamics.trace`: what is recorded against its definition, computed from the recorded points by other means."""

from __future__ import annotations

import numpy as np
import pytest
from support import (
    ACTIVATION_NAMES,
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
from pyfirstorder.dynamics import trace, trajectories
from pyfirstorder.problem import DIRECTIONS, Status

STEPS = 12


def make_case(d=9, samples=5, dtype=np.float64, activation="tanh", seed=0):
    rng = np.random.default_rng([seed, d])
    w, a = rng.standard_normal((11, d)), rng.standard_normal((3, 11))
    net = fo.TwoLayerNetwork(w.astype(dtype), a.astype(dtype), activation=activation)
    return net, rng.standard_normal((samples, d)).astype(dtype), rng.integers(0, 3, samples)


# ------------------------------------------------------------------ the points


@every_backend
@every_norm
@with_and_without_box
def test_iterates_of_every_backend_follow_the_reference(backend, norm, boxed, conformance):
    problem = make_problem(activation="softplus", seed=40)
    ball = make_ball(norm, problem.x, boxed=boxed)
    options = {"steps": 10, "retire": norm == "linf", "trace": True, "keep_iterates": True, "threads": 2}
    actual = run(backend, problem, ball, **options).iterates
    expected = run(REFERENCE, problem, ball, **options).iterates
    share = tolerance("trajectory", problem.x.dtype)
    assert actual.shape == (len(problem.x), 11, problem.x.shape[1])
    conformance.check("iterates", actual, expected, share * (1 + np.abs(expected)))


@every_backend
@every_dtype
@pytest.mark.parametrize(("activation", "early_stop"), [("relu", False), ("relu", True), ("softplus", True)])
def test_iterates_end_at_the_end_point_whatever_ended_the_row(backend, dtype, activation, early_stop):
    problem = make_problem(activation=activation, seed=41, dtype=dtype)
    ball = make_ball("linf", problem.x)
    ends = run(backend, problem, ball, steps=40, trace=True, keep_iterates=True, early_stop=early_stop)
    for row, status in enumerate(ends.status):
        recorded = ~np.isnan(ends.trace[row, 0])
        np.testing.assert_array_equal(np.isnan(ends.iterates[row]).any(axis=1), ~recorded)
        np.testing.assert_array_equal(ends.iterates[row][recorded][-1], ends.x_adv[row])
        assert recorded.all() == (status not in (Status.SUCCESS, Status.NOT_FINITE)) or recorded.sum() == 41
    assert len(set(ends.status)) > 1  # cycles and fixed points, or successes, beside rows that used up their steps


@every_backend
def test_retired_rows_have_the_iterates_of_those_that_went_on(backend):
    problem = make_problem(activation="relu", seed=42)
    ball = make_ball("linf", problem.x)
    options = {"steps": 40, "trace": True, "keep_iterates": True, "evaluation": "dense"}
    retired, whole = (run(backend, problem, ball, retire=retire, **options) for retire in (True, False))
    assert set(retired.status) & {Status.FIXED_POINT, Status.PERIOD_TWO}
    np.testing.assert_array_equal(retired.iterates, whole.iterates)


# ------------------------------------------------------------------ the quantities


@every_norm
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("activation", ACTIVATION_NAMES[::3])
def test_quantities_are_those_of_the_recorded_points(norm, direction, activation):
    net, x, y = make_case(activation=activation)
    seen = trace(net, x, y, eps=0.4, norm=norm, steps=STEPS, direction=direction, step_size=0.1, iterates=True)
    for t in range(STEPS + 1):
        points = seen.iterates[:, t].copy()
        loss, g = fo.input_gradient(net, points, y)
        delta = points - x
        lengths = np.linalg.norm(g, axis=1), np.linalg.norm(delta, axis=1)
        product = lengths[0] * lengths[1]
        moved = fo.project(delta + g, eps=0.4, norm=norm)
        # ten digits: the incremental ways of evaluation keep h and J up to rounding
        close = {"rtol": 1e-9, "atol": 1e-10}
        np.testing.assert_allclose(seen.loss[:, t], loss, **close)
        np.testing.assert_allclose(seen.gradient_norm[:, t], lengths[0], **close)
        np.testing.assert_allclose(seen.delta_norm[:, t], lengths[1], **close)
        cosine = np.sum(g * delta, axis=1) / np.where(product > 0, product, 1)
        np.testing.assert_allclose(seen.cosine[:, t], cosine, **close)
        np.testing.assert_allclose(seen.residual[:, t], np.linalg.norm(moved - delta, axis=1), **close)


@every_dtype
@every_norm
@pytest.mark.parametrize("d", [3, 16])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_gradient_that_is_not_a_number_has_no_residual_and_never_arrives(backend, d, norm, dtype):
    if fo.available_backends()[backend] != "available":
        pytest.skip(f"{backend} is not available")
    huge = np.full((2, d), np.finfo(dtype).max / 2, dtype)
    net = fo.TwoLayerNetwork(huge, np.ones((2, 2), dtype), activation="softplus")
    with pytest.warns(fo.NotFiniteWarning):
        seen = trace(
            net, np.ones((1, d), dtype), [0], eps=0.1, norm=norm, bounds=(0, 1), steps=3, iterates=True, backend=backend
        )
    assert seen.result.status[0] == Status.NOT_FINITE
    assert np.isnan(seen.residual[0]).all()
    assert seen.steps_to_tolerance[0] == -1


@every_norm
@with_and_without_box
@pytest.mark.parametrize("scale", [2.0**-530, 2.0**500])
def test_lengths_whose_squares_leave_the_range_of_doubles_keep_their_digits(norm, boxed, scale):
    rng = np.random.default_rng(8)
    w, a, x = rng.standard_normal((7, 9)), rng.standard_normal((1, 7)), rng.standard_normal((4, 9))

    def seen(unit):
        net = fo.TwoLayerNetwork(w, a * unit, activation="identity")
        box = (x.min() * unit, x.max() * unit) if boxed else None
        options = {"eps": 0.4 * unit, "norm": norm, "bounds": box, "loss": "linear", "direction": "gradient"}
        return trace(net, x * unit, np.ones(4), steps=STEPS, step_size=0.01, iterates=True, **options)

    plain, scaled = seen(1.0), seen(scale)
    for name in ("gradient_norm", "delta_norm", "residual"):
        np.testing.assert_allclose(getattr(scaled, name) / scale, getattr(plain, name), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(scaled.cosine, plain.cosine, rtol=1e-12, atol=1e-15)


@every_dtype
@pytest.mark.parametrize("d", range(1, 18))
def test_every_size_gives_the_attack_and_columns_for_every_step(d, dtype):
    net, x, y = make_case(d=d, dtype=dtype)
    options = {"eps": 0.2, "norm": "l2", "steps": 3}
    plain = trace(net, x, y, **options)
    np.testing.assert_array_equal(plain.result.x_adv, fo.pgd(net, x, y, **options).x_adv)
    # iterates are points of the loop on input coordinates, where the attack may run on hidden units otherwise
    seen = trace(net, x, y, iterates=True, **options)
    np.testing.assert_array_equal(seen.result.x_adv, fo.pgd(net, x, y, evaluation="dense", **options).x_adv)
    np.testing.assert_array_equal(seen.result.x_adv, seen.iterates[:, -1])
    # three steps: some hundred roundings of numbers of order one, which the network's curvature grows
    np.testing.assert_allclose(seen.result.x_adv, plain.result.x_adv, atol=100 * float(np.finfo(dtype).eps))
    assert seen.loss.shape == seen.cosine.shape == (5, 4)
    assert seen.iterates.shape == (5, 4, d)
    assert seen.iterates.dtype == dtype
    np.testing.assert_array_equal(seen.iterates[:, 0], x)


def test_points_keep_the_shape_of_a_sample_and_quantities_are_those_without_them():
    net, x, y = make_case(d=12)
    images = x.reshape(5, 3, 2, 2)
    seen = trace(net, images, y, eps=0.2, steps=4, iterates=True)
    assert seen.iterates.shape == (5, 5, 3, 2, 2)
    without = trace(net, images, y, eps=0.2, steps=4)
    assert without.iterates is None
    np.testing.assert_array_equal(without.residual, seen.residual)


def test_torch_tensors_are_traced_into_numpy_arrays():
    torch = pytest.importorskip("torch")
    net, x, y = make_case()
    seen = trace(net, torch.from_numpy(x), torch.from_numpy(y), eps=0.2, steps=4, iterates=True)
    assert isinstance(seen.result.x_adv, torch.Tensor)
    np.testing.assert_array_equal(seen.iterates, trace(net, x, y, eps=0.2, steps=4, iterates=True).iterates)


# ------------------------------------------------------------------ steps to tolerance


def linear_ascent(**options):
    """x₁ + x₂ from 0 in steps of 0.25 to the corner (1, 1), where the residual is 0 from step 4."""
    net = fo.TwoLayerNetwork(np.eye(2), np.ones((1, 2)), activation="identity")
    arguments = {"eps": 1.0, "loss": "linear", "steps": 8, "step_size": 0.25} | options
    return trace(net, np.zeros((1, 2)), np.ones((1, 1)), **arguments)


@pytest.mark.parametrize(("tol", "steps"), [(1e-9, 4), (0.36, 3), (0.35, 4), (2.0, 0), (np.sqrt(2), 0)])
def test_steps_to_tolerance_is_the_first_step_within(tol, steps):
    # residuals √2 (1 - t/4): 1.414, 1.061, 0.707, 0.354, 0
    seen = linear_ascent(tol=tol)
    assert seen.steps_to_tolerance[0] == steps
    assert seen.tol[0] == tol


def test_a_residual_that_ends_above_the_tolerance_never_arrived():
    assert linear_ascent(steps=2, tol=0.1).steps_to_tolerance[0] == -1


def test_a_residual_that_rises_again_counts_from_its_last_return():
    residual = np.array([[0.0, 2.0, 0.0, 0.0], [2.0, 0.0, 0.0, 2.0], [0.0, 2.0, 0.0, np.nan], [2.0, np.nan, 0.0, 0.0]])
    residual = np.vstack([residual, np.full(4, np.nan), np.zeros(4)])
    found = trajectories._steps_to_tolerance(residual, np.ones(6))
    np.testing.assert_array_equal(found, [2, -1, 2, 2, -1, 0])


def test_tol_may_be_given_for_each_sample():
    net, x, y = make_case()
    tol = np.array([0.0, 1e9, 0.0, 1e9, 0.0])
    seen = trace(net, x, y, eps=0.3, norm="l2", steps=2, tol=tol)
    np.testing.assert_array_equal(seen.steps_to_tolerance, np.where(tol > 0, 0, -1))


def test_the_default_tolerance_grows_with_the_radius_and_the_rounding_of_the_type():
    small, large, rounded = (
        trace(*make_case(dtype=dtype), eps=eps, steps=1).tol
        for eps, dtype in [(0.1, np.float64), (1.0, np.float64), (0.1, np.float32)]
    )
    np.testing.assert_allclose(large, 10 * small, rtol=1e-6)
    assert (rounded > small).all()


# ------------------------------------------------------------------ edges


def test_an_empty_batch_has_empty_trajectories():
    net, x, y = make_case(samples=0)
    seen = trace(net, x, y, eps=0.1, steps=3, iterates=True)
    assert seen.loss.shape == (0, 4)
    assert seen.iterates.shape == (0, 4, 9)
    assert seen.steps_to_tolerance.shape == (0,)


def test_iterates_that_do_not_fit_are_refused_with_their_size(monkeypatch):
    monkeypatch.setattr(trajectories, "available_memory", lambda: 1000)
    net, x, y = make_case()
    with pytest.raises(MemoryError, match=r"iterates: 5 x 5 x 9 numbers take 1.8e-06 GB"):
        trace(net, x, y, eps=0.1, steps=4, iterates=True)
    assert trace(net, x, y, eps=0.1, steps=4).iterates is None


def test_the_memory_of_this_machine_is_known_or_not_asked():
    available = trajectories.available_memory()
    assert available is None or available > 0


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"tol": -1}, ValueError, "tol: expected numbers of at least 0"),
        ({"tol": [1.0, 2.0]}, ValueError, "tol: expected a scalar or shape"),
        ({"iterates": 1}, TypeError, "iterates: expected True or False"),
        ({"iterates": True, "steps": -1}, ValueError, "steps: expected an integer"),
        ({"eps": "wide"}, TypeError, "eps: expected a number"),
        ({"norm": "l3"}, ValueError, "norm: expected"),
    ],
)
def test_errors_name_the_argument(changes, kind, words):
    net, x, y = make_case()
    with pytest.raises(kind, match=words):
        trace(net, x, y, **({"eps": 0.1} | changes))
