"""From the arguments of an attack to a backend call and back; `pgd`, `apgd` and the sweeps all come through here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder import backends, checks, validate
from pyfirstorder.problem import (
    EVALUATIONS,
    PIECEWISE_LINEAR,
    STEEPEST_DIRECTION,
    Array,
    AttackOptions,
    Ball,
    Objective,
)
from pyfirstorder.progress import progress_callback
from pyfirstorder.results import AttackResult, attack_result

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.backends import Backend
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.validate import Points

    Bounds = tuple[ArrayLike, ArrayLike]
    Norm = str | float
    Progress = bool | Callable[[float], None]

ALGORITHMS = ("pgd", "apgd")
DEFAULT_STEPS_ACROSS = 2.5  # default step size: this * eps / steps, as in Madry et al. 2018, so every point is in reach
DEFAULT_SPARSE_FRACTION = 0.01  # Tramèr & Boneh 2019
DEFAULT_RHO = 0.75  # Croce & Hein 2020
_MOST_STEPS = 2**31 - 2
_MOST_RESTARTS = 2**31 - 1
_LARGEST = float(np.finfo(np.float64).max)


def attack(
    algorithm: str,
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    radii: list[Any],
    norm: Norm,
    steps: int,
    loss: str | None,
    bounds: Bounds | None,
    targeted: bool,
    x_init: Array | None,
    random_start: bool | str,
    restarts: int,
    seed: int,
    sample_offset: int,
    early_stop: bool,
    keep: str,
    trace: bool,
    on_invalid: str,
    progress: Progress,
    backend: str,
    threads: int | None,
    step_size: ArrayLike | None = None,
    rel_step_size: float | None = None,
    direction: str | None = None,
    sparse_fraction: float = DEFAULT_SPARSE_FRACTION,
    momentum: float = 0.0,
    retire: bool = True,
    rho: float = DEFAULT_RHO,
    evaluation: str = "auto",
) -> list[AttackResult]:
    """Attack every sample at every radius (each a scalar or one number per sample) in one batch, without a warning."""
    validate.network(net)
    mark = checks.choice("on_invalid", on_invalid, ("raise", "mark")) == "mark"
    points = validate.points("x", x, net.in_features, mark_invalid=mark)
    samples, dtype = len(points.rows), points.rows.dtype
    norm = validate.norm(norm)
    box = validate.bounds(bounds, points)
    rows = points.rows if points.invalid is None else _without_invalid(points, box)
    each = [validate.radii("eps", radius, samples, dtype) for radius in radii]
    eps = each[0] if len(each) == 1 else np.concatenate(each)
    largest = float(eps.max(initial=0.0))
    if algorithm == "apgd" and math.isinf(largest):
        raise ValueError("eps: expected finite radii, because apgd takes its step size from them, got infinity")
    if points.invalid is not None:
        eps = np.where(np.tile(points.invalid, len(radii)), 0.0, eps)
    steps = checks.integer("steps", steps, 0, _MOST_STEPS)
    start = validate.random_start(random_start)
    if start != "none" and math.isinf(largest):
        raise ValueError("eps: expected finite radii for a random start, got infinity")
    if x_init is not None and start != "none":
        raise ValueError("x_init: expected None with random_start, or random_start=False with x_init")
    chosen, count = backends.get(validate.backend(backend)), validate.threads(threads)
    objective = make_objective(net, rows, y, loss, targeted, chosen, count)
    if checks.flag("early_stop", early_stop) and not objective.has_classes:
        raise ValueError(f"early_stop: expected False, because {objective.loss} has no classes and so no success")
    first = None if x_init is None else validate.like("x_init", x_init, points)
    with progress_callback(progress) as on_progress:
        options = AttackOptions(
            algorithm=checks.choice("algorithm", algorithm, ALGORITHMS),
            steps=steps,
            step_size=_step_size(algorithm, eps, steps, step_size, rel_step_size, len(radii), dtype),
            direction=STEEPEST_DIRECTION[norm] if direction is None else validate.direction(direction),
            sparse_count=_sparse_count(sparse_fraction, net.in_features),
            momentum=_momentum(momentum, dtype),
            random_start=start,
            restarts=_restarts(restarts, start),
            seed=checks.integer("seed", seed, 0, 2**64 - 1),
            sample_offset=checks.integer("sample_offset", sample_offset, 0, 2**62),
            early_stop=bool(early_stop),
            keep_best=checks.choice("keep", keep, ("last", "best", "both")) != "last",
            trace=checks.flag("trace", trace),
            rho=checks.real("rho", rho, 0.0, 1.0),
            retire=checks.flag("retire", retire),
            evaluation=checks.choice("evaluation", evaluation, EVALUATIONS),
            threads=count,
            on_progress=on_progress,
        )
        _check_evaluation(net, norm, box is not None, options, chosen)
        ball = Ball(norm, eps, *(box or (None, None)))
        arrays = chosen.attack(net.weights(dtype), rows, objective, ball, options, first)
    if keep == "best":
        arrays = arrays.ending_at_best()
    return [
        attack_result(
            arrays if len(radii) == 1 else arrays.rows(i * samples, (i + 1) * samples),
            points,
            x,
            keep=keep,
            has_classes=objective.has_classes,
            scalar_output=net.scalar_output,
        )
        for i in range(len(radii))
    ]


def make_objective(
    net: TwoLayerNetwork, rows: Array, y: ArrayLike, loss: str | None, targeted: bool, backend: Backend, threads: int
) -> Objective:
    """The validated objective; targeted dlr moves away from the class predicted at x, or the runner-up to y."""
    objective = validate.objective(net, y, len(rows), rows.dtype, loss, checks.flag("targeted", targeted))
    if objective.loss != "dlr" or not objective.targeted:
        return objective
    output = np.array(backend.forward(net.weights(rows.dtype), rows, threads))
    output[np.arange(len(rows)), objective.labels] = -np.inf
    return replace(objective, sources=np.argmax(output, axis=1).astype(np.int64))


def _without_invalid(points: Points, box: tuple[Array, Array] | None) -> Array:
    """The rows, with zeros (or the bound next to zero) for those that are not finite."""
    assert points.invalid is not None
    neutral = np.zeros(points.rows.shape[1], dtype=points.rows.dtype)
    if box is not None:
        neutral = np.clip(neutral, *box)
    return np.where(points.invalid[:, None], neutral, points.rows)


def _step_size(
    algorithm: str,
    eps: Array,
    steps: int,
    step_size: ArrayLike | None,
    rel_step_size: float | None,
    radii: int,
    dtype: np.dtype[Any],
) -> Array:
    """η per job, in the units of the norm."""
    if algorithm == "apgd":
        return np.zeros_like(eps)  # it chooses its own
    if step_size is not None and rel_step_size is not None:
        raise ValueError("rel_step_size: expected None with step_size, or the other way round")
    if step_size is not None:
        return np.tile(validate.finite_per_sample("step_size", step_size, len(eps) // radii, dtype), radii)
    largest = float(eps.max(initial=0.0))
    if math.isinf(largest):
        raise ValueError("step_size: expected a number, because eps is infinite, got None")
    name, share = "step_size", DEFAULT_STEPS_ACROSS / max(steps, 1)
    if rel_step_size is not None:
        name, share = "rel_step_size", checks.real("rel_step_size", rel_step_size, 0.0, _LARGEST)
    if largest * share > validate.LARGEST[dtype]:
        raise ValueError(
            f"{name}: expected a step size of at most {validate.LARGEST[dtype]:g}, the largest {dtype}, "
            f"got {share:g} * {largest:g}"
        )
    return eps * share


def _momentum(momentum: float, dtype: np.dtype[Any]) -> float:
    number = checks.real("momentum", momentum, 0.0, _LARGEST)
    if number > validate.LARGEST[dtype]:
        validate.within_range("momentum", np.array(number), dtype)
    return number


def _restarts(restarts: int, start: str) -> int:
    count = checks.integer("restarts", restarts, 1, _MOST_RESTARTS)
    if count > 1 and start == "none":
        raise ValueError(
            f"restarts: expected 1 without a random start, from which all would be the same, got {count}; "
            "pass random_start=True"
        )
    return count


def _check_evaluation(net: TwoLayerNetwork, norm: str, has_box: bool, options: AttackOptions, backend: Backend) -> None:
    """A way of evaluation that was asked for must be one that the backend has and the attack allows."""
    asked = options.evaluation
    if asked not in backend.evaluations:
        raise ValueError(
            f"evaluation: expected one of {', '.join(backend.evaluations)} of {backend.name}, got {asked!r}"
        )
    if asked in ("auto", "dense"):
        return
    plain = options.algorithm == "pgd" and not options.trace and not options.momentum
    ascends = options.direction in ("gradient", "normalized")
    if asked == "hidden" and not (plain and ascends and norm == "l2" and not has_box):
        raise ValueError(
            "evaluation: 'hidden' is for l2 without bounds, direction gradient or normalized, no momentum and no trace"
        )
    if (
        asked == "incremental"
        and net.activation.partition("(")[0] not in PIECEWISE_LINEAR
        and options.direction != "sign"
    ):
        raise ValueError(
            f"evaluation: 'incremental' is for direction sign or activations {', '.join(PIECEWISE_LINEAR)}, "
            f"got {options.direction} and {net.activation}"
        )


def _sparse_count(fraction: float, features: int) -> int:
    share = checks.real("sparse_fraction", fraction, 0.0, 1.0)
    return max(1, round(share * features))
