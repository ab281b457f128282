"""Attacks over many radii: the curve is that of separate attacks made monotone, and minimal radii are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from support import every_backend_name, every_norm, tolerance

import pyfirstorder as fo
from pyfirstorder import Status

RADII = [0.0, 0.02, 0.1, 0.3, 1.0]
ORDER = {"linf": np.inf, "l2": 2, "l1": 1}


def problem(samples: int = 30, dtype=np.float64) -> tuple[fo.TwoLayerNetwork, np.ndarray, np.ndarray]:
    """A random classifier and samples that it mostly classifies correctly."""
    rng = np.random.default_rng(60)
    net = fo.TwoLayerNetwork(
        (rng.standard_normal((20, 8)) / 3).astype(dtype), (rng.standard_normal((4, 20)) / 4).astype(dtype)
    )
    x = rng.standard_normal((samples, 8)).astype(dtype)
    y = fo.predict(net, x)
    y[:3] = (y[:3] + 1) % 4
    return net, x, y


def linear_classifier() -> tuple[fo.TwoLayerNetwork, np.ndarray, np.ndarray, np.ndarray]:
    """Two classes, divided by ⟨w, x⟩ = 0; and w."""
    rng = np.random.default_rng(61)
    w, x = rng.standard_normal(6), rng.standard_normal((12, 6))
    net = fo.TwoLayerNetwork(np.stack([w, -w]), np.eye(2), activation="identity")
    return net, x, np.where(x @ w > 0, 0, 1), w


# ------------------------------------------------------------------ robustness_curve


@every_backend_name
@every_norm
@pytest.mark.parametrize("random_start", [False, True])
def test_a_curve_is_separate_attacks_with_successes_carried_upwards(backend_name, norm, random_start):
    net, x, y = problem()
    restarts = 2 if random_start else 1
    options = {"norm": norm, "steps": 10, "random_start": random_start, "restarts": restarts, "backend": backend_name}
    curve = fo.robustness_curve(net, x, y, eps=RADII, **options)
    carried = None
    for radius, result in zip(RADII, curve.results):
        alone = fo.pgd(net, x, y, eps=radius, **options)
        kept = np.zeros(len(x), bool) if carried is None else carried.success & ~alone.success
        np.testing.assert_array_equal(result.x_adv[~kept], alone.x_adv[~kept])
        np.testing.assert_array_equal(result.loss[~kept], alone.loss[~kept])
        np.testing.assert_array_equal(result.status[~kept], alone.status[~kept])
        if carried is not None:
            np.testing.assert_array_equal(result.x_adv[kept], carried.x_adv[kept])
        carried = result


@every_backend_name
@every_norm
@pytest.mark.parametrize("algorithm", ["pgd", "apgd"])
@pytest.mark.parametrize("warm_start", [False, True])
def test_accuracy_never_rises_with_the_radius(backend_name, norm, algorithm, warm_start):
    net, x, y = problem()
    curve = fo.robustness_curve(
        net, x, y, eps=RADII, norm=norm, algorithm=algorithm, warm_start=warm_start, steps=10, backend=backend_name
    )
    assert (np.diff(curve.robust_accuracy) <= 0).all()
    assert curve.clean_accuracy == curve.robust_accuracy[0] == 0.9
    assert curve.robust_accuracy[-1] < 0.5
    for radius, result in zip(RADII, curve.results):
        assert (np.linalg.norm(result.delta, ord=ORDER[norm], axis=1) <= radius).all()


@every_backend_name
@every_norm
def test_a_carried_result_says_what_is_true_of_its_own_point(backend_name, norm):
    net, x, y = problem()
    curve = fo.robustness_curve(net, x, y, eps=RADII, norm=norm, steps=3, keep="both", backend=backend_name)
    for result in curve.results:
        np.testing.assert_array_equal(result.output, fo.forward(net, result.x_adv, backend=backend_name))
        np.testing.assert_array_equal(result.success, fo.predict(net, result.x_adv, backend=backend_name) != y)
        assert (result.best_loss >= result.loss).all()


@every_backend_name
def test_a_warm_start_begins_where_the_smaller_radius_ended(backend_name):
    net, x, y = problem()
    warm = fo.robustness_curve(net, x, y, eps=[0.1, 0.3], warm_start=True, steps=5, backend=backend_name)
    first = fo.pgd(net, x, y, eps=0.1, steps=5, backend=backend_name)
    second = fo.pgd(net, x, y, eps=0.3, steps=5, x_init=first.x_adv, backend=backend_name)
    kept = first.success & ~second.success
    np.testing.assert_array_equal(warm.results[0].x_adv, first.x_adv)
    np.testing.assert_array_equal(warm.results[1].x_adv[~kept], second.x_adv[~kept])


@every_backend_name
def test_the_mean_loss_is_that_of_the_results(backend_name):
    net, x, y = problem()
    curve = fo.robustness_curve(net, x, y, eps=RADII, backend=backend_name)
    np.testing.assert_array_equal(curve.mean_loss, [result.loss.mean() for result in curve.results])


def test_a_curve_without_classes_has_losses_but_no_accuracy():
    net, x, _ = problem()
    curve = fo.robustness_curve(net, x, np.zeros((30, 4)), eps=RADII, loss="squared")
    assert curve.clean_accuracy is None
    assert curve.robust_accuracy is None
    assert (np.diff(curve.mean_loss) > 0).all()


def test_rows_that_are_not_finite_do_not_count():
    net, x, y = problem()
    x[5] = np.nan
    curve = fo.robustness_curve(net, x, y, eps=[0.0, 0.1], on_invalid="mark")
    assert curve.clean_accuracy == curve.robust_accuracy[0] == pytest.approx(26 / 29)
    assert np.isfinite(curve.mean_loss).all()
    assert all(result.status[5] == Status.INVALID_INPUT for result in curve.results)


@every_backend_name
def test_the_curve_of_an_empty_batch_is_undefined_but_no_error(backend_name):
    net, x, y = problem()
    curve = fo.robustness_curve(net, x[:0], y[:0], eps=[0.1, 0.2], random_start=True, backend=backend_name)
    assert np.isnan(curve.robust_accuracy).all()
    assert curve.results[1].x_adv.shape == (0, 8)


@pytest.mark.parametrize(
    ("change", "error", "pattern"),
    [
        ({"eps": []}, ValueError, "eps: expected a list of increasing numbers"),
        ({"eps": [0.2, 0.1]}, ValueError, "eps: expected a list of increasing numbers"),
        ({"eps": [0.1, 0.1]}, ValueError, "eps: expected a list of increasing numbers"),
        ({"eps": [-0.1, 0.1]}, ValueError, "eps: expected a list of increasing numbers"),
        ({"eps": 0.1}, ValueError, "eps: expected a list of increasing numbers"),
        ({"eps": ["a"]}, TypeError, "eps: expected a list of numbers"),
        ({"algorithm": "fgsm"}, ValueError, "algorithm: expected one of 'pgd', 'apgd', got 'fgsm'"),
        ({"warm_start": 1}, TypeError, "warm_start: expected True or False"),
        ({"stepsize": 0.1}, TypeError, r"pgd has no argument stepsize; did you mean step_size\?"),
    ],
)
def test_a_curve_refuses(change, error, pattern):
    net, x, y = problem(2)
    with pytest.raises(error, match=pattern):
        fo.robustness_curve(net, x, y, **{"eps": [0.1]} | change)


@every_backend_name
@pytest.mark.parametrize("algorithm", ["pgd", "apgd"])
def test_a_warm_start_leaves_marked_rows_and_restarts_to_the_smallest_radius(backend_name, algorithm):
    net, x, y = problem()
    x[5] = np.nan
    options = {"algorithm": algorithm, "random_start": True, "restarts": 2, "steps": 5, "backend": backend_name}
    curve = fo.robustness_curve(net, x, y, eps=[0.1, 0.3], warm_start=True, on_invalid="mark", **options)
    assert all(result.status[5] == Status.INVALID_INPUT for result in curve.results)
    assert (np.diff(curve.robust_accuracy) <= 0).all()


def test_a_carried_row_is_the_whole_row_of_the_smaller_radius():
    net, x, y = problem(200)
    options = {"rel_step_size": 2.0, "steps": 4, "trace": True}  # jumps from side to side of the ball, so it overshoots
    below, above = fo.robustness_curve(net, x, y, eps=[0.5, 1.0], **options).results
    alone = fo.pgd(net, x, y, eps=1.0, **options)
    kept = below.success & ~alone.success
    assert (below.steps != alone.steps)[kept].any()
    for name in ("x_adv", "loss", "output", "first_success", "steps", "status"):
        np.testing.assert_array_equal(getattr(above, name)[kept], getattr(below, name)[kept], err_msg=name)
    for got, wanted in zip(above.trace, below.trace):
        np.testing.assert_array_equal(got[kept], wanted[kept])


@pytest.mark.parametrize("warm_start", [False, True])
def test_a_curve_warns_once_of_all_points_with_a_zero_gradient(warm_start):
    dead, x, y = dead_network()
    with pytest.warns(fo.ZeroGradientWarning, match="the gradient of 6 of 6 attacked points") as seen:
        fo.robustness_curve(dead, x, y, eps=[0.1, 0.3], warm_start=warm_start)
    assert [warning.filename for warning in seen] == [__file__]


def dead_network() -> tuple[fo.TwoLayerNetwork, np.ndarray, np.ndarray]:
    """A network that is flat at three samples, all of its class 0."""
    net = fo.TwoLayerNetwork(np.eye(4), np.eye(3, 4), hidden_bias=np.full(4, -10.0))
    return net, np.zeros((3, 4)), np.zeros(3, int)


# ------------------------------------------------------------------ minimal_eps


def test_a_search_warns_once_of_the_samples_with_a_zero_gradient():
    dead, x, y = dead_network()
    with pytest.warns(fo.ZeroGradientWarning, match="the gradient of 3 of 3 attacked points") as seen:
        fo.minimal_eps(dead, x, y, eps_max=1.0)
    assert [warning.filename for warning in seen] == [__file__]


@every_backend_name
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_search_ends_where_no_number_is_left_between_the_ends(backend_name, dtype):
    net = fo.TwoLayerNetwork(np.eye(2), np.eye(2))
    x = np.array([[1.0, 0.5]], dtype)
    found = fo.minimal_eps(net, x, np.array([0]), eps_max=1.0, tol=1e-300, steps=3, backend=backend_name)
    assert found.lower <= found.eps
    np.testing.assert_allclose(found.eps, 0.25, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_marked_row_has_no_minimal_radius(bad):
    net, x, y = problem(4)
    x[1, 2] = bad
    found = fo.minimal_eps(net, x, y, eps_max=2.0, on_invalid="mark")
    np.testing.assert_array_equal(np.isnan(found.eps), [False, True, False, False])
    np.testing.assert_array_equal(np.isnan(found.lower), [False, True, False, False])
    assert not found.success[1]
    np.testing.assert_array_equal(found.x_adv[1], x[1])


@every_backend_name
@every_norm
def test_on_a_linear_classifier_the_minimal_radius_is_the_distance_to_the_boundary(backend_name, norm):
    net, x, y, w = linear_classifier()
    dual = {"linf": np.abs(w).sum(), "l2": np.linalg.norm(w), "l1": np.abs(w).max()}[norm]
    distance = np.abs(x @ w) / dual
    found = fo.minimal_eps(net, x, y, norm=norm, eps_max=20.0, tol=1e-5, steps=30, backend=backend_name)
    assert found.success.all()
    assert (found.eps >= distance * (1 - tolerance("closed form", np.float64))).all()
    assert (found.eps - distance <= 1.1e-5).all()
    assert (found.lower <= distance * (1 + tolerance("closed form", np.float64))).all()


@every_backend_name
@every_norm
@pytest.mark.parametrize("algorithm", ["pgd", "apgd"])
def test_a_minimal_radius_comes_with_a_bracket_and_a_point_that_succeeds(backend_name, norm, algorithm):
    net, x, y = problem()
    found = fo.minimal_eps(
        net, x, y, norm=norm, eps_max=2.0, tol=1e-3, steps=10, algorithm=algorithm, backend=backend_name
    )
    length = np.linalg.norm(found.x_adv - x, ord=ORDER[norm], axis=1)
    done = found.success
    assert done.sum() > 20
    assert (found.eps[done] - found.lower[done] <= 1e-3).all()
    assert (found.lower <= found.eps).all()
    np.testing.assert_allclose(length[done], found.eps[done], rtol=1e-14, atol=1e-15)
    assert (fo.predict(net, found.x_adv, backend=backend_name) != y)[done].all()
    np.testing.assert_array_equal(found.x_adv[~done], x[~done])
    assert np.isinf(found.eps[~done]).all()


def test_a_sample_that_is_wrong_already_has_the_minimal_radius_zero():
    net, x, y = problem()
    found = fo.minimal_eps(net, x, y, eps_max=1.0)
    np.testing.assert_array_equal(found.eps == 0, fo.predict(net, x) != y)
    assert (found.lower[:3] == 0).all()
    np.testing.assert_array_equal(found.x_adv[:3], x[:3])


def test_a_sample_that_withstands_the_largest_radius_has_an_infinite_one():
    net, x, y, _ = linear_classifier()
    found = fo.minimal_eps(net, x, y, eps_max=1e-9)
    assert np.isinf(found.eps).all()
    assert (found.lower == 1e-9).all()
    assert not found.success.any()


def test_without_eps_max_the_box_limits_the_search():
    net, x, y, _ = linear_classifier()
    found = fo.minimal_eps(net, x, y, bounds=(-5.0, 5.0), tol=1e-4)
    wide = fo.minimal_eps(net, x, y, bounds=(-5.0, 5.0), eps_max=10.0, tol=1e-4)
    np.testing.assert_array_equal(found.eps, wide.eps)
    with pytest.raises(ValueError, match="eps_max: expected a number, because bounds do not limit the radius"):
        fo.minimal_eps(net, x, y)


def test_minimal_radii_of_targets_are_those_to_reach_the_target_class():
    net, x, y, w = linear_classifier()
    found = fo.minimal_eps(net, x, 1 - y, norm="l2", eps_max=20.0, tol=1e-5, targeted=True)
    np.testing.assert_allclose(found.eps, np.abs(x @ w) / np.linalg.norm(w), atol=1.1e-5)


@every_backend_name
def test_minimal_radii_of_an_empty_batch_are_an_empty_array(backend_name):
    net, x, y = problem()
    found = fo.minimal_eps(net, x[:0], y[:0], eps_max=1.0, backend=backend_name)
    assert found.eps.shape == found.lower.shape == found.success.shape == (0,)


@pytest.mark.parametrize(
    ("change", "error", "pattern"),
    [
        ({"tol": 0.0}, ValueError, "tol: "),
        ({"tol": -1.0}, ValueError, "tol: "),
        ({"tol": np.nan}, ValueError, "tol: "),
        ({"eps_max": -1.0}, ValueError, "eps_max: "),
        ({"eps_max": np.inf}, ValueError, "eps_max: "),
        ({"eps_max": 10**400}, ValueError, "eps_max: .*got an integer of 1329 bits"),
        ({"norm": "l7"}, ValueError, "norm: "),
        ({"loss": "squared", "y": np.zeros((2, 4))}, ValueError, "success|classes"),
        ({"early_stop": False}, TypeError, "early_stop"),
        ({"keep": "best"}, TypeError, "keep"),
    ],
)
def test_minimal_eps_refuses(change, error, pattern):
    net, x, y = problem(2)
    arguments = {"eps_max": 1.0, "y": y} | change
    with pytest.raises(error, match=pattern):
        fo.minimal_eps(net, x, arguments.pop("y"), **arguments)


def test_results_of_sweeps_print_as_one_line():
    net, x, y = fo.TwoLayerNetwork(np.eye(2), np.eye(2)), np.array([[1.0, 0.5], [0.0, 1.0]]), np.array([0, 1])
    assert repr(fo.robustness_curve(net, x, y, eps=[0.1, 0.3])) == (
        "RobustnessCurve(2 samples, eps [0.1, 0.3], robust accuracy [1, 0.5])"
    )
    many = repr(fo.robustness_curve(net, x, y, eps=np.linspace(0.01, 0.2, 20)))
    assert "eps [0.01, 0.02, 0.03, ..., 0.18, 0.19, 0.2]" in many
    assert repr(fo.minimal_eps(net, x, y, eps_max=1.0)).startswith("MinimalRadius(2 samples, 2 successful, median eps ")


def test_radii_that_fall_are_shown():
    net, x, y = fo.TwoLayerNetwork(np.eye(2), np.eye(2)), np.array([[1.0, 0.5]]), np.array([0])
    with pytest.raises(ValueError, match=r"increasing numbers of at least 0, got 0\.1 after 0\.2"):
        fo.robustness_curve(net, x, y, eps=[0.2, 0.1])
