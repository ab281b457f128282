"""From the arguments of an attack to a backend call and back; `pgd`, `apgd` and the sweeps all come through here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder import backends, boxes, checks, validate
from pyfirstorder.arrays import in_main_memory, is_on_device
from pyfirstorder.problem import PIECEWISE_LINEAR, Array, AttackOptions, Ball, Objective
from pyfirstorder.progress import progress_callback
from pyfirstorder.results import AttackResult, attack_result
from pyfirstorder.settings import LARGEST, check_settings

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.backends import Backend
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.validate import Points

    Bounds = tuple[ArrayLike, ArrayLike]
    Norm = str | float
    Progress = bool | Callable[[float], None]

DEFAULT_STEPS_ACROSS = 2.5  # default step size: this * eps / steps, as in Madry et al. 2018, so every point is in reach


def attack(
    algorithm: str,
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    radii: list[Any],
    loss: str | None,
    bounds: Bounds | None,
    targeted: bool,
    x_init: Array | None,
    progress: Progress,
    backend: str,
    threads: int | None,
    step_size: ArrayLike | None = None,
    rel_step_size: float | None = None,
    **names_and_numbers: Any,
) -> list[AttackResult]:
    """Attack every sample at every radius (each a scalar or one number per sample) in one batch, without a warning.

    Arguments are those of `pgd` and `apgd`; the ones that are no arrays are listed and checked by `check_settings`.
    """
    settings = check_settings(algorithm, **names_and_numbers)
    norm, asked = settings.norm, settings.options
    validate.network(net)
    points = validate.points("x", x, net.in_features, settings.marks_invalid, on_device=True)
    samples, dtype = len(points.rows), points.rows.dtype
    box = boxes.bounds(bounds, points)
    rows = points.rows if points.invalid is None else _without_invalid(points, box)
    eps, largest = _radii(radii, points, asked)
    if x_init is not None and asked.random_start != "none":
        raise ValueError("x_init: expected None with random_start, or random_start=False with x_init")
    chosen, count = backends.get(validate.backend(backend), is_on_device(points.rows)), validate.threads(threads)
    objective = make_objective(net, rows, y, loss, targeted, chosen, count)
    if asked.early_stop and not objective.has_classes:
        raise ValueError(f"early_stop: expected False, because {objective.loss} has no classes and so no success")
    first = None if x_init is None else validate.like("x_init", x_init, points)
    if asked.momentum > validate.LARGEST[dtype]:
        validate.within_range("momentum", np.array(asked.momentum), dtype)
    _check_evaluation(net, norm, box is not None, asked, chosen)
    options = asked._replace(
        step_size=_step_size(asked, eps, largest, step_size, rel_step_size, len(radii), dtype),
        sparse_count=max(1, round(settings.sparse_fraction * net.in_features)),
        threads=count,
    )
    ball = Ball(norm, eps, *(box or (None, None)))
    if progress is False:
        arrays = chosen.attack(net.weights(dtype), rows, objective, ball, options, first)
    else:
        with progress_callback(progress) as on_progress:
            options = options._replace(on_progress=on_progress)
            arrays = chosen.attack(net.weights(dtype), rows, objective, ball, options, first)
    if settings.keep == "best":
        arrays = arrays.ending_at_best()
    return [
        attack_result(
            arrays if len(radii) == 1 else arrays.rows(i * samples, (i + 1) * samples),
            points,
            x,
            keep=settings.keep,
            has_classes=objective.has_classes,
            scalar_output=net.scalar_output,
        )
        for i in range(len(radii))
    ]


def make_objective(
    net: TwoLayerNetwork, rows: Array, y: ArrayLike, loss: str | None, targeted: bool, backend: Backend, threads: int
) -> Objective:
    """The validated objective; targeted dlr moves away from the class predicted at x, or the runner-up to y."""
    objective = validate.objective(net, y, len(rows), rows.dtype, loss, checks.flag("targeted", targeted), rows)
    if objective.loss != "dlr" or not objective.targeted:
        return objective
    output = backend.forward(net.weights(rows.dtype), rows, threads).copy()
    output[np.arange(len(rows), like=rows), objective.labels] = -np.inf
    return objective._replace(sources=np.argmax(output, axis=1).astype(np.int64))


def _without_invalid(points: Points, box: tuple[Array, Array] | None) -> Array:
    """The rows, with zeros (or the bound next to zero) for those that are not finite."""
    assert points.invalid is not None
    neutral = np.zeros(points.rows.shape[1], dtype=points.rows.dtype, like=points.rows)
    if box is not None:
        neutral = np.clip(neutral, *box)
    return np.where(points.invalid[:, None], neutral, points.rows)


def _radii(radii: list[Any], points: Points, asked: AttackOptions) -> tuple[Array, float]:
    """ε per job, and the largest of them."""
    samples, dtype = points.rows.shape[0], points.rows.dtype
    each = [validate.radii("eps", radius, samples, dtype) for radius in radii]
    eps = each[0] if len(each) == 1 else np.concatenate(each)
    largest = float(np.maximum.reduce(eps, initial=0.0))
    if math.isinf(largest) and asked.algorithm == "apgd":
        raise ValueError("eps: expected finite radii, because apgd takes its step size from them, got infinity")
    if math.isinf(largest) and asked.random_start != "none":
        raise ValueError("eps: expected finite radii for a random start, got infinity")
    if points.invalid is None:
        return eps, largest
    eps = np.where(np.tile(in_main_memory(points.invalid), len(radii)), 0.0, eps)
    return eps, float(eps.max(initial=0.0))


def _step_size(
    asked: AttackOptions,
    eps: Array,
    largest: float,
    step_size: ArrayLike | None,
    rel_step_size: float | None,
    radii: int,
    dtype: np.dtype[Any],
) -> Array:
    """η per job, in the units of the norm."""
    if asked.algorithm == "apgd":
        return np.zeros_like(eps)  # it chooses its own
    if step_size is not None and rel_step_size is not None:
        raise ValueError("rel_step_size: expected None with step_size, or the other way round")
    if step_size is not None:
        each = validate.finite_per_sample("step_size", step_size, len(eps) // radii, dtype)
        return each if radii == 1 else np.tile(each, radii)
    if math.isinf(largest):
        raise ValueError("step_size: expected a number, because eps is infinite, got None")
    name, share = "step_size", DEFAULT_STEPS_ACROSS / max(asked.steps, 1)
    if rel_step_size is not None:
        name, share = "rel_step_size", checks.real("rel_step_size", rel_step_size, 0.0, LARGEST)
    if largest * share > validate.LARGEST[dtype]:
        raise ValueError(
            f"{name}: expected a step size of at most {validate.LARGEST[dtype]:g}, the largest {dtype}, "
            f"got {share:g} * {largest:g}"
        )
    return eps * share


def _check_evaluation(net: TwoLayerNetwork, norm: str, has_box: bool, options: AttackOptions, backend: Backend) -> None:
    """A way of evaluation that was asked for must be one that the backend has and the attack allows."""
    asked = options.evaluation
    if asked not in backend.evaluations:
        raise ValueError(
            f"evaluation: expected one of {', '.join(backend.evaluations)} of {backend.name}, got {asked!r}"
        )
    if asked in ("auto", "dense"):
        return
    plain = options.algorithm == "pgd" and not options.keep_iterates and not options.momentum
    ascends = options.direction in ("gradient", "normalized")
    if asked == "hidden" and not (plain and ascends and norm == "l2" and not has_box):
        raise ValueError(
            "evaluation: 'hidden' is for l2 without bounds, direction gradient or normalized, no momentum "
            "and no iterates"
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
