"""The answers in float64, and how far from them rounding may carry a backend.

A backend computes in T (float32 or float64).  The truth is the reference backend in float64 on the same numbers, and a
standard forward error analysis bounds the difference: each intermediate has a *size*, the sum of the magnitudes that
were added to make it, and its error is a small multiple of the unit roundoff times that size, plus the errors of its
inputs times the derivatives.  Where a function jumps (σ' at a kink, the sign of a gradient near zero, the choice of the
largest coordinates) the bound covers both sides of the jump for values within rounding of it, and only for those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from support import Problem, reweigh, tolerance

from pyfirstorder.backends.reference import network, projections
from pyfirstorder.backends.reference.activations import ACTIVATIONS

if TYPE_CHECKING:
    from pyfirstorder.problem import Ball

_SECOND_DERIVATIVE = 2.0  # at least |σ''| of every activation here


class Truth(NamedTuple):
    """Values in float64 with the error that T may make; direction is the gradient of the rescaled residual."""

    output: np.ndarray
    output_error: np.ndarray
    loss: np.ndarray
    loss_error: np.ndarray
    direction: np.ndarray
    direction_error: np.ndarray
    gradient: np.ndarray
    gradient_error: np.ndarray
    decisive: np.ndarray  # rows whose loss does not choose between logits that rounding could swap


def widen(problem: Problem) -> Problem:
    """The same numbers in float64."""
    w, o = problem.weights, problem.objective
    arrays = {name: part.astype(np.float64) for name, part in w._asdict().items() if isinstance(part, np.ndarray)}
    values = None if o.values is None else o.values.astype(np.float64)
    return Problem(reweigh(w, **arrays), problem.x.astype(np.float64), o._replace(values=values))


def widen_ball(ball: Ball) -> Ball:
    """The same ball and box in float64."""
    lower, upper = (None if side is None else side.astype(np.float64) for side in (ball.lower, ball.upper))
    return ball._replace(lower=lower, upper=upper)


def evaluate(problem: Problem, x: np.ndarray | None = None) -> Truth:
    """The truth at x (by default the problem's own points), and the errors that the problem's type may make there."""
    dtype = problem.x.dtype
    unit, tiny = tolerance("evaluation", dtype), float(np.finfo(dtype).tiny)
    wide = widen(problem if x is None else problem._replace(x=x))
    w, x64, objective = wide.weights, wide.x, wide.objective
    activation = ACTIVATIONS[w.activation]
    h = x64 @ w.hidden_weight.T + w.hidden_bias
    h_size = np.abs(x64) @ np.abs(w.hidden_weight).T + np.abs(w.hidden_bias)
    slope = np.abs(activation.derivative(h, w.parameter))
    value = np.abs(activation.value(h, w.parameter))
    z_size = (np.maximum(slope, 2) * h_size + value) @ np.abs(w.output_weight).T + np.abs(w.output_bias)
    true = network.input_gradient(w, x64, objective)
    scale = true.scale[:, None]
    z_max = z_size.max(axis=1, keepdims=True)

    residual = _residual(wide, true.output)
    r_size = np.abs(residual) + _residual_sensitivity(objective.loss, residual, z_size, z_max, scale)
    back, back_size = np.abs(residual @ w.output_weight), r_size @ np.abs(w.output_weight)
    jump = np.abs(np.diff(activation.derivative(np.array([-1e-300, 1e-300]), w.parameter)))
    on_kink = (np.abs(h) <= unit * h_size) * jump
    s_error = unit * (slope + 1 + _SECOND_DERIVATIVE * h_size) * back_size + on_kink * back
    direction_error = s_error @ np.abs(w.hidden_weight) + tiny
    relative = unit * (1 + 4 * z_max * np.maximum(scale, 1))  # of the scale
    gradient = scale * true.direction
    return Truth(
        true.output,
        unit * z_size + tiny,
        true.loss,
        unit * (np.abs(true.loss) + np.sum(scale * np.abs(residual) * z_size, axis=1) + 1) + tiny,
        true.direction,
        direction_error,
        gradient,
        scale * direction_error + relative * np.abs(gradient) + tiny,
        _decisive(objective.loss, true.output, unit * z_size),
    )


def _residual(wide: Problem, output: np.ndarray) -> np.ndarray:
    from pyfirstorder.backends.reference.losses import evaluate as evaluate_loss

    return np.broadcast_to(evaluate_loss(output, wide.objective)[1], output.shape)


def _residual_sensitivity(
    loss: str, residual: np.ndarray, z_size: np.ndarray, z_max: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """How much errors of the logits, of the given size, move the rescaled residual."""
    if loss == "squared":
        return z_size
    if loss == "cross_entropy":
        return 2 * z_max * np.abs(residual)
    if loss == "dlr":  # only the logits that it chose have a residual
        return 4 * z_max * scale * (residual != 0)
    return np.zeros_like(residual)


def _decisive(loss: str, output: np.ndarray, error: np.ndarray) -> np.ndarray:
    if loss not in ("margin", "dlr") or output.shape[1] < 2:
        return np.ones(len(output), dtype=bool)
    order = np.argsort(output, axis=1)
    gaps = np.diff(np.take_along_axis(output, order, axis=1), axis=1)
    return np.all(gaps > 2 * np.max(error, axis=1, keepdims=True), axis=1)


class Step(NamedTuple):
    """Where one step leads, the error per coordinate, and which rows cannot be told (within rounding of a jump)."""

    x: np.ndarray
    error: np.ndarray
    undecided: np.ndarray


def advance(
    problem: Problem,
    ball: Ball,
    x: np.ndarray,
    g: np.ndarray,
    g_error: np.ndarray,
    name: str,
    step_size: np.ndarray,
    count: int,
) -> Step:
    """The step of one direction along g from the backend's own point x."""
    dtype, x0 = problem.x.dtype, problem.x.astype(np.float64)
    wide = widen_ball(ball)
    eta = step_size[:, None]
    x = x.astype(np.float64)
    direction, doubt, undecided = _direction(name, g, g_error, count, *projections.movable(x, x0, wide))
    start, step = x - x0, eta * direction
    with np.errstate(invalid="ignore"):  # as the reference does around its loop
        delta = projections.project(start + step, x0, wide)
    rounding = tolerance("step", dtype) * (np.abs(x0) + np.abs(start) + np.abs(step) + np.finfo(dtype).tiny)
    if ball.norm != "linf":
        rounding += tolerance("projection", dtype) * (np.abs(delta) * amplification(delta, x0, wide)[:, None])
    return Step(x0 + delta, eta * doubt + rounding, undecided)


def amplification(delta: np.ndarray, x0: np.ndarray, ball: Ball) -> np.ndarray:
    """How much a change of the radius moves the projection: ε over the length of what the box does not hold fast."""
    if ball.norm != "l2" or ball.lower is None:
        return np.ones(len(delta))
    lowest, highest = projections.box_room(x0, ball)
    free = np.where((delta > lowest) & (delta < highest), delta, 0)
    length, whole = np.linalg.norm(free, axis=1), np.linalg.norm(delta, axis=1)
    return np.where(length > 0, np.maximum(whole / np.where(length > 0, length, 1), 1), 1)


def _direction(
    name: str, g: np.ndarray, error: np.ndarray, count: int, can_rise: np.ndarray, can_fall: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    nothing = np.zeros(len(g), dtype=bool)
    if name == "gradient":
        return g, error, nothing
    if name == "sign":
        return np.sign(g), np.where(np.abs(g) <= error, 2.0, 0.0), nothing
    if name == "normalized":
        length = np.linalg.norm(g, axis=1, keepdims=True)
        divisor = np.where(length > 0, length, 1)
        unit = g / divisor
        spread = np.linalg.norm(error, axis=1, keepdims=True) / divisor
        return unit, 2 * (error / divisor + np.abs(unit) * spread), (length <= 2 * spread * divisor)[:, 0]
    return _sparse(g, error, count, can_rise, can_fall)


def _sparse(
    g: np.ndarray, error: np.ndarray, count: int, can_rise: np.ndarray, can_fall: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    eligible = ((g > 0) & can_rise) | ((g < 0) & can_fall)
    magnitude = np.where(eligible, np.abs(g), 0)
    order = np.argsort(-magnitude, axis=1, kind="stable")
    chosen = (np.argsort(order, axis=1) < count) & (magnitude > 0)
    moving = np.sum(chosen, axis=1, keepdims=True)
    highest = np.where(eligible, magnitude + error, np.where(np.abs(g) <= error, error, 0))
    surest = np.min(np.where(chosen, magnitude - error, np.inf), axis=1)
    undecided = surest <= np.max(np.where(chosen, 0, highest), axis=1, initial=0)
    return np.where(chosen, np.sign(g) / np.maximum(moving, 1), 0), np.zeros_like(g), undecided
