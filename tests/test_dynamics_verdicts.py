"""Verdicts of `dynamics.stationarity` against a search around the point, on every kind of face, and in hard cases."""

from __future__ import annotations

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder.dynamics import Verdict, curvature, curvature_spectrum, lanczos, stationarity

METHODS = ("dense", "hidden", "matrix-free")
RADIUS, SIDE = 1.0, 0.4
FREE, LOWER, UPPER = 0, -1, 1
# A search in steps of 1e-3 sees second-order gains of 1e-7 where eigenvalues are of order 0.1; losses round by 1e-15.
STEP, DECIDED, NOISE = 1e-3, 0.2, 1e-11


def quadratic(form, linear):
    """``½ xᵀ Q x + ⟨b, x⟩`` (up to a constant) as a network: ``(⟨b, x⟩ + 1)² - ⟨b, x⟩² = 2 ⟨b, x⟩ + 1``."""
    values, basis = np.linalg.eigh(form)
    weight, shift = np.vstack([basis.T, linear, linear]), np.append(np.zeros(len(values)), [1.0, 0.0])
    return fo.TwoLayerNetwork(weight, np.append(values / 2, [0.5, -0.5])[None], shift, activation="quadratic")


def kkt_point(norm, boxed, generator, d=5):
    """A point on a random face and a gradient there that meets the first-order conditions with room to spare.

    Also the coordinates that are free, and μ/ε of the ℓ2 sphere.
    """
    push, slack = generator.uniform(0.5, 2.0, d), generator.uniform(0.5, 2.0)
    on_box = generator.choice([FREE, FREE, LOWER, UPPER], d) if boxed else np.zeros(d, int)
    on_box[:2] = FREE
    if norm == "linf":
        states = generator.choice([FREE, FREE, LOWER, UPPER], d)
        states[0] = FREE
        states = np.where(on_box == FREE, states, on_box)
        inside = generator.uniform(-0.3, 0.3, d)
        # coordinates at a face of the box stand at SIDE, those at one of the ball at RADIUS
        delta = np.where(states == FREE, inside, np.where(on_box != FREE, SIDE, RADIUS) * states)
        return delta, push * states, states == FREE, on_box, 0.0
    if norm == "l2":
        room = RADIUS**2 - SIDE**2 * np.count_nonzero(on_box)
        if room <= 0.1:
            on_box, room = np.zeros(d, int), RADIUS**2
        inside = np.where(on_box == FREE, generator.standard_normal(d), 0)
        delta = inside * np.sqrt(room) / np.linalg.norm(inside) + SIDE * on_box
        return delta, slack * delta + push * on_box, on_box == FREE, on_box, slack
    support = np.where(on_box == FREE, generator.random(d) < 0.6, True)
    support[:2] = True
    sign = np.where(on_box == FREE, generator.choice([-1, 1], d), on_box)
    room = RADIUS - SIDE * np.count_nonzero(on_box)
    if room <= 0.1:
        on_box, room = np.zeros(d, int), RADIUS
    shares = np.where(support & (on_box == FREE), generator.uniform(0.5, 1.0, d), 0)
    delta = sign * shares * room / shares.sum() + SIDE * on_box
    mu = slack + 0.5
    off = generator.uniform(-slack, slack, d)  # at least 0.5 below μ
    gradient = np.where(support, sign * mu + push * on_box, off)
    return delta, gradient, support & (on_box == FREE), on_box, 0.0


def case(norm, boxed, seed):
    """A quadratic network, a stationary point of it, and bounds of which some are active there."""
    generator = np.random.default_rng([seed, boxed, len(norm)])
    delta, gradient, free, on_box, shift = kkt_point(norm, boxed, generator)
    d = len(delta)
    form = generator.standard_normal((d, d))
    form = (form + form.T) / 2 - generator.uniform(0, 2) * np.eye(d)
    lower, upper = np.where(on_box == LOWER, -SIDE, -3.0), np.where(on_box == UPPER, SIDE, 3.0)
    normal = {"linf": np.zeros(d), "l2": delta, "l1": np.sign(delta)}[norm] * free
    basis = np.eye(d)[:, free]
    if np.any(normal):
        basis = basis @ np.linalg.svd((basis.T @ normal)[None])[2][1:].T
    largest = np.linalg.eigvalsh(basis.T @ form @ basis)[-1] - shift if basis.shape[1] else -np.inf
    return quadratic(form, gradient - form @ delta), delta, (lower, upper) if boxed else None, largest


def largest_gain(net, end, norm, bounds, generator):
    """Over feasible points near the end: those off it by a random step and a push along the gradient, projected."""
    one = np.ones((1, 1))
    loss, gradient = fo.input_gradient(net, end, one, loss="linear")
    steps = generator.standard_normal((4000, end.shape[1]))
    steps *= STEP / np.linalg.norm(steps, axis=1, keepdims=True)
    box = None if bounds is None else bounds
    origin = np.zeros((len(steps), end.shape[1]))
    near = fo.project(end + steps + 3 * STEP * gradient, eps=RADIUS, norm=norm, x=origin, bounds=box)
    return np.max(fo.input_gradient(net, near, np.ones((len(near), 1)), loss="linear")[0] - loss)


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_search_around_a_point_finds_what_the_verdict_says(norm, boxed):
    seen = set()
    for seed in range(40):
        net, delta, bounds, largest = case(norm, boxed, seed)
        end, origin = delta[None], np.zeros((1, len(delta)))
        found = stationarity(
            net, end, np.ones((1, 1)), x0=origin, eps=RADIUS, norm=norm, bounds=bounds, loss="linear", tol=1e-9
        )
        assert found.strictness[0] > 0.4
        np.testing.assert_allclose(found.largest_eigenvalue[0], largest, atol=1e-10)
        if abs(largest) < DECIDED:
            continue
        gain = largest_gain(net, end, norm, bounds, np.random.default_rng(seed))
        assert found.verdict[0] == (Verdict.BOUNDARY_MAXIMUM if largest < 0 else Verdict.SADDLE)
        assert (gain > NOISE) == (found.verdict[0] == Verdict.SADDLE), (seed, gain, largest)
        seen.add(Verdict(found.verdict[0]))
    assert seen == {Verdict.BOUNDARY_MAXIMUM, Verdict.SADDLE}


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_multiplier_of_the_wrong_sign_is_found_by_the_search_and_by_the_residual(norm):
    for seed in range(10):
        net, delta, _, _ = case(norm, False, seed)
        if np.abs(delta).max() < RADIUS and norm == "linf":
            continue  # in the interior, where no sign is wrong
        turned = fo.TwoLayerNetwork(net.hidden_weight, -net.output_weight, net.hidden_bias, activation="quadratic")
        end = delta[None]
        found = stationarity(turned, end, np.ones((1, 1)), x0=0 * end, eps=RADIUS, norm=norm, loss="linear")
        assert found.verdict[0] == Verdict.NOT_STATIONARY
        assert found.strictness[0] < 0
        assert largest_gain(turned, end, norm, None, np.random.default_rng(seed)) > NOISE


# ------------------------------------------------------------------ hard cases of second order


@pytest.mark.parametrize("method", METHODS)
def test_a_flat_interior_maximum_is_degenerate_by_every_method(method):
    # 10 units of 60 coordinates: 50 directions in which nothing changes, so that λ_max is zero
    weight = np.random.default_rng(0).standard_normal((10, 60))
    net = fo.TwoLayerNetwork(weight, -np.ones((1, 10)), activation="quadratic")
    end = np.zeros((1, 60))
    found = stationarity(net, end, np.ones((1, 1)), x0=end, eps=1.0, norm="l2", loss="linear", method=method)
    assert found.verdict[0] == Verdict.DEGENERATE
    assert abs(found.largest_eigenvalue[0]) < 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_a_sphere_of_equal_eigenvalues_is_degenerate_by_every_method(method):
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((40, 40)))[0]
    net = fo.TwoLayerNetwork(basis, np.full((1, 40), 3.0), activation="quadratic")
    end = basis[:1].copy()
    found = stationarity(net, end, np.ones((1, 1)), x0=0 * end, eps=1.0, norm="l2", loss="linear", method=method)
    assert found.verdict[0] == Verdict.DEGENERATE


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize(("d", "m"), [(60, 20), (20, 60)])
def test_the_top_of_a_large_spectrum_has_the_zeros_that_it_must_have(monkeypatch, d, m, sign):
    weight = np.random.default_rng(2).standard_normal((m, d))
    net = fo.TwoLayerNetwork(weight, np.full((1, m), sign), activation="quadratic")
    at, one = np.zeros((1, d)), np.ones((1, 1))
    dense = curvature_spectrum(net, at, one, loss="linear", top=4)
    monkeypatch.setattr(lanczos, "MOST_DENSE", 10)
    found = curvature_spectrum(net, at, one, loss="linear", top=4)
    np.testing.assert_allclose(found, dense, atol=1e-8 * np.abs(net.hidden_weight).sum())


@pytest.mark.filterwarnings("ignore::pyfirstorder.ZeroGradientWarning")
@pytest.mark.parametrize(("d", "m"), [(1, 1), (1, 4), (4, 1), (2, 2)])
@pytest.mark.parametrize("activation", ["tanh", "relu", "quadratic"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_smallest_networks_have_verdicts_by_every_method(norm, activation, d, m):
    generator = np.random.default_rng([d, m])
    net = fo.TwoLayerNetwork(generator.standard_normal((m, d)), generator.standard_normal(m), activation=activation)
    x, y = generator.standard_normal((6, d)), np.zeros(6)
    ends = fo.pgd(net, x, y, eps=0.3, norm=norm, steps=200, step_size=0.05, loss="squared").x_adv
    found = [stationarity(net, ends, y, x0=x, eps=0.3, norm=norm, loss="squared", method=way) for way in METHODS]
    for other in found[1:]:
        np.testing.assert_array_equal(other.verdict, found[0].verdict)
        np.testing.assert_allclose(other.largest_eigenvalue, found[0].largest_eigenvalue, atol=1e-12)


def test_a_batch_in_blocks_is_the_batch_in_one(monkeypatch):
    generator = np.random.default_rng(3)
    net = fo.TwoLayerNetwork(generator.standard_normal((9, 6)), generator.standard_normal((5, 9)), activation="tanh")
    x, y = generator.standard_normal((7, 6)), generator.integers(0, 5, 7)
    ends = fo.pgd(net, x, y, eps=0.3, norm="l2", steps=100).x_adv
    whole = stationarity(net, ends, y, x0=x, eps=0.3, norm="l2")
    spectrum = curvature_spectrum(net, ends, y)
    monkeypatch.setattr(curvature, "_BLOCK_BYTES", 2 * 8 * (5 * 5 + 9))
    parts = stationarity(net, ends, y, x0=x, eps=0.3, norm="l2")
    np.testing.assert_array_equal(parts.verdict, whole.verdict)
    np.testing.assert_allclose(parts.largest_eigenvalue, whole.largest_eigenvalue, rtol=1e-12)
    np.testing.assert_allclose(curvature_spectrum(net, ends, y), spectrum, rtol=1e-9, atol=1e-12)
