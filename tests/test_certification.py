"""Certified bounds: sound against attacks and roundings, exact where the maximum has a closed form, tight near x."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import ACTIVATION_NAMES, LOSS_NAMES

import pyfirstorder as fo
from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.certification import certificate, gap, lines
from pyfirstorder.network import parse_activation

SMOOTH = ("softplus", "sigmoid", "tanh", "erf", "gelu", "gelu_tanh", "silu", "quadratic")


def made(activation, outputs, dtype=np.float64, samples=12, seed=0, hidden=6, features=5):
    generator = np.random.default_rng(seed)
    shapes = ((hidden, features), (outputs, hidden), (hidden,), (outputs,))
    net = fo.TwoLayerNetwork(*(generator.standard_normal(s).astype(dtype) for s in shapes), activation=activation)
    return net, generator.random((samples, features)).astype(dtype), generator


def targets(loss, outputs, samples, dtype, generator):
    if loss == "logistic":
        return generator.choice([-1, 1], samples)
    if loss in ("squared", "linear"):
        return generator.standard_normal((samples, outputs)).astype(dtype)
    return generator.integers(0, outputs, samples)


@pytest.mark.filterwarnings("ignore::pyfirstorder.ZeroGradientWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_no_attack_exceeds_the_bound_or_fools_a_certified_sample(activation, loss, norm, dtype):
    outputs = 1 if loss == "logistic" else 4
    net, x, generator = made(activation, outputs, dtype)
    y = targets(loss, outputs, len(x), dtype, generator)
    eps = np.logspace(-6, 0, len(x))
    for bounds, targeted in itertools.product((None, (0.0, 1.0)), (False, True)):
        task = {"eps": eps, "norm": norm, "bounds": bounds, "loss": loss, "targeted": targeted, "threads": 1}
        attack = fo.pgd(net, x, y, steps=8, random_start=True, **task)
        interval, linear = (fo.certify(net, x, y, method=method, **task) for method in ("interval", "linear"))
        assert (gap(linear, attack) >= 0).all()
        assert (linear.bound <= interval.bound).all()
        if attack.success is not None:
            assert not (linear.certified & attack.success).any()


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2), ("l1", np.inf)])
def test_the_bound_of_a_linear_network_is_the_dual_norm(norm, dual):
    net, x, _ = made("identity", 1)
    ones = np.ones((len(x), 1))
    found = fo.certify(net, x, ones, eps=0.3, norm=norm, loss="linear").bound
    direction = (net.output_weight @ net.hidden_weight)[0]
    expected = fo.forward(net, x)[:, 0] + 0.3 * np.linalg.norm(direction, ord=dual)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)  # allowances of some 40 terms of size 10


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("loss", ["squared", "cross_entropy", "linear"])
def test_the_gap_shrinks_with_the_square_of_the_radius(activation, loss):
    net, x, generator = made(activation, 3)
    y = targets(loss, 3, len(x), np.float64, generator)
    gaps = []
    for eps in (1e-3, 1e-4):
        task = {"eps": eps, "norm": "l2", "loss": loss}
        attack = fo.pgd(net, x, y, steps=100, **task)
        gaps.append(gap(fo.certify(net, x, y, **task), attack))
    # Of all samples together: one may still be nearer to the bound by margins, which is of first order.  100 in the
    # limit, 10 if the gap were of first order; 1e-9 for the allowances of rounding.
    assert gaps[1].sum() <= gaps[0].sum() / 50 + 1e-9


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_lines_hold_on_dense_grids_of_intervals_of_every_size(activation):
    name, parameter = parse_activation(activation)
    middles = np.array([-40.0, -3.0, -1.4, -0.1, 0.0, 0.7, 1.5, 2.4, 30.0])
    widths = np.array([0.0, 1e-12, 1e-6, 1e-2, 1.0, 7.0, 100.0])
    low, high = (a.ravel() for a in np.broadcast_arrays(middles[:, None] - widths / 2, middles[:, None] + widths / 2))
    grid = np.clip(low[:, None] + np.linspace(0, 1, 2001) * (high - low)[:, None], low[:, None], high[:, None])
    value = ACTIVATIONS[name].value(grid, parameter)
    for slope in (np.zeros_like(low), lines.chord(name, parameter, low, high), np.full_like(low, 0.3)):
        below, above = lines.offsets(name, parameter, low, high, slope)
        line = slope[:, None] * grid
        assert (line + below[:, None] <= value).all()
        assert (line + above[:, None] >= value).all()
        short = high - low <= 7
        reached = (value - line).max(axis=1)
        # What the grid misses of a maximum: curvature (below 3 after softplus(5)) times the square of its spacing.
        assert (above - reached <= 1e-4 + 1e-9 * np.abs(value).max())[short].all()


def enumerated(net, x, eps, norm):
    """The maximum of one output over the ball: a linear program for each pattern of active units."""
    from scipy.optimize import linprog

    w, b, a = net.hidden_weight, net.hidden_bias, net.output_weight[0]
    m, d = w.shape
    wide, h = np.hstack([w, -w]), w @ x + b
    best = -np.inf
    for pattern in itertools.product((0.0, 1.0), repeat=m):
        on = np.array(pattern)
        sign = 1 - 2 * on
        rows, right = sign[:, None] * wide, -sign * h
        if norm == "l1":
            rows, right = np.vstack([rows, np.ones(2 * d)]), np.r_[right, eps]
        found = linprog(-(a * on) @ wide, rows, right, bounds=(0, eps))
        if found.status == 0:
            best = max(best, -found.fun + (a * on) @ h + net.output_bias[0])
    return best


@pytest.mark.filterwarnings("ignore::pyfirstorder.ZeroGradientWarning")
@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_the_exact_maximum_is_that_of_all_patterns_of_active_units(norm):
    pytest.importorskip("scipy")
    net, x, _ = made("relu", 1, samples=2, hidden=5, features=4)
    task = {"eps": 0.8, "norm": norm, "loss": "linear"}
    ones = np.ones((len(x), 1))
    exact, linear = (fo.certify(net, x, ones, method=method, **task) for method in ("exact", "linear"))
    attack = fo.pgd(net, x, ones, steps=40, random_start=True, restarts=20, **task)
    expected = [enumerated(net, row, 0.8, norm) for row in x]
    np.testing.assert_allclose(exact.bound, expected, rtol=0, atol=1e-4)  # 1e-6 of each unit's interval is allowed for
    assert (attack.best_loss <= exact.bound).all()
    assert (exact.bound <= linear.bound).all()
    np.testing.assert_allclose(fo.forward(net, exact.x_max)[:, 0], expected, rtol=0, atol=1e-4)


def test_exact_refuses_what_it_cannot_solve():
    net, x, _ = made("tanh", 1)
    with pytest.raises(ValueError, match="method: 'exact' is for activations"):
        fo.certify(net, x, np.ones((len(x), 1)), eps=0.1, loss="linear", method="exact")


@pytest.mark.parametrize("target", [-8.0, -0.5, 0.0, 8.0])
@pytest.mark.parametrize(
    ("activation", "bounds"), [("relu", None), ("leaky_relu(0.2)", (0.0, 1.0)), ("relu", (0.2, 0.9))]
)
def test_the_exact_maximiser_of_a_squared_loss_attains_its_bound(activation, bounds, target):
    """Whether the largest or the smallest output is the worst depends on the target."""
    pytest.importorskip("scipy")
    net, x, _ = made(activation, 1, samples=4, hidden=6, features=4)
    x, y = np.clip(x, 0.2, 0.9), np.full((4, 1), target)
    task = {"eps": 0.4, "norm": "linf", "bounds": bounds, "loss": "squared"}
    exact = fo.certify(net, x, y, method="exact", **task)
    attained = fo.input_gradient(net, exact.x_max, y, loss="squared")[0]
    np.testing.assert_allclose(attained, exact.bound, rtol=1e-5, atol=1e-4)
    attack = fo.pgd(net, x, y, steps=40, random_start=True, restarts=10, **task)
    assert (attack.best_loss <= exact.bound).all()
    assert np.abs(exact.x_max - x).max() <= 0.4 + 1e-7


@pytest.mark.parametrize("loss", ["margin", "cross_entropy"])
def test_the_exact_maximum_over_two_classes_is_attained(loss):
    pytest.importorskip("scipy")
    net, x, generator = made("relu", 2, samples=4)
    y = generator.integers(0, 2, 4)
    exact = fo.certify(net, x, y, eps=0.3, loss=loss, method="exact")
    np.testing.assert_allclose(fo.input_gradient(net, exact.x_max, y, loss=loss)[0], exact.bound, rtol=1e-5, atol=1e-4)
    assert (exact.margin <= fo.certify(net, x, y, eps=0.3, loss=loss).margin).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_a_radius_of_zero_is_bounded_by_the_loss_itself(loss, norm):
    outputs = 1 if loss == "logistic" else 4
    net, x, generator = made("softplus", outputs)
    y = targets(loss, outputs, len(x), np.float64, generator)
    clean = fo.input_gradient(net, x, y, loss=loss)[0]
    bound = fo.certify(net, x, y, eps=0.0, norm=norm, loss=loss).bound
    assert (bound >= clean).all()
    np.testing.assert_allclose(bound, clean, rtol=1e-9, atol=1e-9)  # allowances of rounding; dlr divides by a width


@pytest.mark.parametrize("method", ["interval", "linear", "exact"])
@pytest.mark.parametrize(("features", "hidden"), [(1, 1), (1, 5), (5, 1)])
def test_the_smallest_networks_and_empty_batches_have_bounds(features, hidden, method):
    if method == "exact":
        pytest.importorskip("scipy")
    net, x, generator = made("relu", 1, samples=3, hidden=hidden, features=features)
    task = {"eps": 0.3, "norm": "linf", "loss": "squared", "method": method}
    y = generator.standard_normal((3, 1))
    grid = np.linspace(-0.3, 0.3, 61)
    for i in range(3):
        bound = fo.certify(net, x[i : i + 1], y[i : i + 1], **task).bound[0]
        corners = (
            itertools.product(grid, repeat=features) if features == 1 else itertools.product((-0.3, 0.3), repeat=5)
        )
        near = x[i] + np.array(list(corners))
        reached = fo.input_gradient(net, near, np.repeat(y[i : i + 1], len(near), axis=0), loss="squared")[0].max()
        assert reached <= bound
    empty = fo.certify(net, x[:0], y[:0], **task)
    assert empty.bound.shape == (0,)


def test_thousands_of_samples_are_bounded_as_each_alone(monkeypatch):
    net, x, generator = made("gelu", 4, samples=3000)
    y = generator.integers(0, 4, 3000)
    whole = fo.certify(net, x, y, eps=0.1)
    monkeypatch.setattr(certificate, "_BLOCK_BYTES", 100_000)
    parts = fo.certify(net, x, y, eps=0.1)
    np.testing.assert_array_equal(parts.certified, whole.certified)
    np.testing.assert_allclose(parts.bound, whole.bound, rtol=1e-12)
    assert whole.certified_accuracy == np.mean(whole.certified)


def test_a_result_of_other_samples_has_no_gap():
    net, x, generator = made("tanh", 3)
    y = generator.integers(0, 3, len(x))
    with pytest.raises(ValueError, match="result: expected 12 samples, got 2"):
        gap(fo.certify(net, x, y, eps=0.1), fo.pgd(net, x[:2], y[:2], eps=0.1))


@pytest.mark.parametrize("eps", [1e-3, 1e-6, 1e-9, 1e-300])
@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_exact_maxima_stay_tight_in_the_smallest_balls(capfd, norm, eps):
    """Around a kink the loss bends within any ball; the solver's tolerances are absolute, and must not decide."""
    pytest.importorskip("scipy")
    net, x, generator = made("relu", 1, samples=3)
    weight, shift = net.hidden_weight, net.hidden_bias - net.hidden_weight @ x[0] - net.hidden_bias
    net = fo.TwoLayerNetwork(weight, net.output_weight, shift)  # every unit has its kink at x[0]
    task = {"eps": eps, "norm": norm, "loss": "linear"}
    one = np.ones((1, 1))
    exact = fo.certify(net, x[:1], one, method="exact", **task).bound[0]
    corners = np.eye(5) if norm == "l1" else np.array(list(itertools.product((-1.0, 1.0), repeat=5)))
    corners = np.vstack([corners, -corners])
    slopes = np.maximum(corners @ weight.T, 0) @ net.output_weight[0]  # homogeneous around the kink
    grid = generator.uniform(-1, 1, (2000, 5))
    grid /= np.abs(grid).sum(axis=1, keepdims=True) if norm == "l1" else 1.0
    slopes = np.append(slopes, np.maximum(grid @ weight.T, 0) @ net.output_weight[0])
    clean = float(fo.forward(net, x[:1])[0, 0])
    rounding = 1e-11  # of float64 sums of magnitudes of some 10
    assert exact >= clean + eps * slopes.max() - rounding
    assert exact <= clean + eps * 1.5 * max(slopes.max(), 1.0) + rounding
    assert "Highs" not in capfd.readouterr().out
