"""Weights, biases, inputs, targets, radii and steps of 1e±30 and beyond: the right answer, or one said to be none.

The truth comes from numbers of eighty bits, whose range nothing here leaves.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest
from support import every_backend_name_and_stand_in, every_dtype

import pyfirstorder as fo
from pyfirstorder.problem import Status

WIDE = np.longdouble
ACTIVATIONS = {
    "relu": lambda h: np.maximum(h, 0),
    "identity": lambda h: h,
    "quadratic": lambda h: h * h,
    "tanh": np.tanh,
}
LOSSES = ("squared", "cross_entropy", "margin", "dlr", "linear")
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}
CASES = 60
D, M, K, SAMPLES = 7, 9, 4, 5

pytestmark = pytest.mark.skipif(np.finfo(WIDE).maxexp < 16000, reason="this machine has no wider type than float64")


class Case(NamedTuple):
    """A problem with numbers of any size."""

    net: fo.TwoLayerNetwork
    x: np.ndarray
    y: np.ndarray
    delta: np.ndarray
    bounds: tuple[float, float] | None
    attack: dict[str, Any]


def cases(dtype, activation):
    """Each size is drawn for itself: one, or 1e±15, 1e±30 or, in float64, 1e±150."""
    rng = np.random.default_rng([len(activation), np.dtype(dtype).itemsize])
    sizes = [1.0, 1.0, 1e30, 1e-30, *((1e15, 1e-15) if dtype == np.float32 else (1e150, 1e-150))]
    for _ in range(CASES):
        w, a, b, c, at, radius, step, target, moved = rng.choice(sizes, 9)
        parts = [
            (M, D, w),
            (K, M, a),
            (1, M, b),
            (1, K, c),
            (SAMPLES, D, at),
            (SAMPLES, D, moved),
            (SAMPLES, K, target),
        ]
        drawn = [(rng.standard_normal(shape) * size).astype(dtype) for *shape, size in parts]
        net = fo.TwoLayerNetwork(drawn[0], drawn[1], drawn[2][0], drawn[3][0], activation)
        loss = str(rng.choice(LOSSES))
        y = drawn[6] if loss in ("squared", "linear") else rng.integers(0, K, SAMPLES)
        largest = float(np.abs(drawn[4]).max())
        attack = {
            "eps": radius,
            "step_size": step,
            "norm": str(rng.choice(list(ORDERS))),
            "direction": str(rng.choice(["gradient", "sign", "normalized", "sparse"])),
            "loss": loss,
        }
        yield Case(net, drawn[4], y, drawn[5], (-largest, largest) if rng.integers(2) else None, attack)


def outputs(case):
    """The truth, the sum of the magnitudes that it is made of, and the largest number on the way to it."""
    w, a, b, c = (
        part.astype(WIDE)
        for part in (case.net.hidden_weight, case.net.output_weight, case.net.hidden_bias, case.net.output_bias)
    )
    x = case.x.astype(WIDE)
    h, h_size = x @ w.T + b, np.abs(x) @ np.abs(w).T + np.abs(b)
    value = ACTIVATIONS[case.net.activation](h)
    value_size = {"quadratic": h_size * h_size}.get(
        case.net.activation, np.minimum(h_size, 1) if case.net.activation == "tanh" else h_size
    )
    size = value_size @ np.abs(a).T + np.abs(c)
    return value @ a.T + c, size, np.maximum(np.maximum(h_size, value_size).max(axis=1), size.max(axis=1))


def hold_inside(points, case):
    """Finite, within the ball and the box."""
    assert np.isfinite(points).all()
    delta = np.abs(points.astype(WIDE) - case.x.astype(WIDE))
    norms = np.linalg.norm(delta, ord=ORDERS[case.attack["norm"]], axis=1) if len(delta) else np.zeros(0)
    assert (norms <= WIDE(case.attack["eps"])).all()
    if case.bounds is not None:
        assert (points.min() >= case.bounds[0]) & (points.max() <= case.bounds[1])


def hold_losses(result):
    """Whatever is not finite has the status that says so, and is no success."""
    said = result.status == Status.NOT_FINITE
    finite = np.isfinite(result.loss) & np.isfinite(result.output).all(axis=1)
    assert (finite | said).all()
    if result.success is not None:
        assert not (result.success & ~finite).any()
    return said


@every_backend_name_and_stand_in
@every_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_outputs_of_any_size_are_right_or_said_to_be_none(backend_name, dtype, activation):
    info, right, beyond = np.finfo(dtype), 0, 0
    for case in cases(dtype, activation):
        truth, size, on_the_way = outputs(case)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            got = fo.forward(case.net, case.x, backend=backend_name)
        finite = np.isfinite(got).all(axis=1)
        assert any(w.category is fo.NotFiniteWarning for w in caught) == (not finite.all())
        assert finite[on_the_way < info.max / 4].all()
        tiny = info.tiny * (1 + np.abs(case.net.output_weight).astype(WIDE).sum(axis=1)) * D
        with np.errstate(invalid="ignore"):
            assert (np.abs(got - truth) <= 64 * info.eps * size + tiny)[finite].all()
        right, beyond = right + finite.sum(), beyond + (~finite).sum()
    assert right > CASES
    print(f"{right} right, {beyond} beyond the range of {np.dtype(dtype)}")


@every_backend_name_and_stand_in
@every_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_attacks_of_any_size_stay_inside_and_say_what_overflowed(backend_name, dtype, activation):
    for case in cases(dtype, activation):
        options = {**case.attack, "bounds": case.bounds, "backend": backend_name}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = fo.pgd(case.net, case.x, case.y, steps=5, keep="both", **options)
        said = hold_losses(result)
        assert any(w.category is fo.NotFiniteWarning for w in caught) == said.any()
        for points in (result.x_adv, result.x_best):
            hold_inside(points, case)
        del options["step_size"], options["direction"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adaptive = fo.apgd(case.net, case.x, case.y, steps=5, **options)
        hold_losses(adaptive)
        hold_inside(adaptive.x_adv, case)


@every_backend_name_and_stand_in
@every_dtype
def test_gradients_of_any_size_are_finite_or_said_not_to_be(backend_name, dtype):
    finite_ones = 0
    for case in cases(dtype, "quadratic"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loss, gradient = fo.input_gradient(case.net, case.x, case.y, loss=case.attack["loss"], backend=backend_name)
        finite = np.isfinite(loss).all() and np.isfinite(gradient).all()
        assert any(w.category is fo.NotFiniteWarning for w in caught) == (not finite)
        finite_ones += finite
    assert CASES / 3 < finite_ones < CASES


@every_backend_name_and_stand_in
@every_dtype
def test_projections_of_any_size_are_finite_and_inside(backend_name, dtype):
    for case in cases(dtype, "identity"):
        moved = fo.project(
            case.delta,
            eps=case.attack["eps"],
            norm=case.attack["norm"],
            x=case.x,
            bounds=case.bounds,
            backend=backend_name,
        )
        assert np.isfinite(moved).all()
        norms = np.linalg.norm(np.abs(moved.astype(WIDE)), ord=ORDERS[case.attack["norm"]], axis=1)
        assert (norms <= WIDE(case.attack["eps"])).all()
