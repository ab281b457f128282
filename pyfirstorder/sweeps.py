"""Attacks over many radii: accuracy against radius, and the smallest radius that succeeds."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyfirstorder import arrays, ascent, boxes, checks, hints, validate
from pyfirstorder.arrays import beside, in_main_memory
from pyfirstorder.attacks import attack
from pyfirstorder.problem import Status
from pyfirstorder.results import AttackResult, MinimalRadius, RobustnessCurve, as_numpy, in_kind_of, warn_of_ends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Bounds, Norm
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array
    from pyfirstorder.validate import Points


@hints.knows_other_names
def robustness_curve(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    eps: Sequence[float] | Array,
    algorithm: Literal["pgd", "apgd"] = "pgd",
    warm_start: bool = False,
    **options: Any,
) -> RobustnessCurve:
    """Attack every sample at every radius, all of them in one batch.

    Parameters
    ----------
    net, x, y
        See `pgd`.
    eps : increasing floats (E,)
        The radii.
    algorithm : "pgd" or "apgd"
    warm_start : bool
        Start each radius from the end points of the one below, one radius after another; a random start, and restarts,
        are those of the smallest radius.
    **options
        Any other argument of `pgd` (or `apgd`); a ``step_size`` is used at every radius, the default and
        ``rel_step_size`` follow it.

    Returns
    -------
    RobustnessCurve

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    Warns
    -----
    UserWarning, ZeroGradientWarning, NotFiniteWarning
        See `pgd`; once, with the count of samples times radii.

    References
    ----------
    Madry et al. 2018 (arXiv 1706.06083), whose figures show accuracy against the radius.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.eye(2))
    >>> fo.robustness_curve(net, np.array([[1.0, 0.5]]), np.array([0]), eps=[0.1, 0.3]).robust_accuracy
    array([1., 0.])
    """
    with arrays.place_of(x):
        radii = validate.increasing("eps", eps)
        arguments = ascent.arguments(algorithm, options)
        if checks.flag("warm_start", warm_start):
            results: list[AttackResult] = []
            for radius in radii:
                results += attack(algorithm, net, x, y, radii=[radius], **arguments)
                arguments |= {"x_init": results[-1].x_adv, "random_start": False, "restarts": 1}
        else:
            results = attack(algorithm, net, x, y, radii=list(radii), **arguments)
        statuses = np.concatenate([as_numpy(result.status) for result in results])
        boxes.warn_of_radius(radii, arguments["norm"], arguments["bounds"])
        warn_of_ends(statuses[None], stacklevel=3)  # beyond the decorator
        for below, above in pairwise(results):
            _carry_over(below, above)
        kept = ("loss", "targeted", "on_invalid", "backend", "threads")
        at_rest = ascent.arguments("pgd", {"steps": 0, **{name: arguments[name] for name in kept}})
        clean = attack("pgd", net, x, y, radii=[0.0], **at_rest)[0]
        return RobustnessCurve(
            eps=radii,
            clean_accuracy=None if clean.success is None else _withstood(clean),
            robust_accuracy=None if clean.success is None else np.array([_withstood(result) for result in results]),
            mean_loss=np.array([_mean(result.loss[_valid(result)]) for result in results]),
            results=tuple(in_kind_of(x, result) for result in results),
        )


@hints.knows_other_names
def minimal_eps(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    norm: Norm = "linf",
    eps_max: float | None = None,
    tol: float = 1e-3,
    bounds: Bounds | None = None,
    algorithm: Literal["pgd", "apgd"] = "pgd",
    **options: Any,
) -> MinimalRadius:
    """The smallest radius at which the attack succeeds, bisected for every sample at once.

    Parameters
    ----------
    net, x, y, norm, bounds
        See `pgd`; the loss must have classes.
    eps_max : float, optional
        Radius at which the search begins; a sample that withstands it gets infinity.  Left out, it is the size of the
        box given by bounds, which must then be finite.
    tol : float
        Width of the final bracket [lower, eps].
    algorithm : "pgd" or "apgd"
    **options
        Any other argument of `pgd` (or `apgd`) but early_stop and keep.

    Returns
    -------
    MinimalRadius
        An upper bound of the true minimal radius: what this attack found.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    Warns
    -----
    ZeroGradientWarning, NotFiniteWarning
        See `pgd`; once, with the count of samples.

    References
    ----------
    Carlini & Wagner 2017 (arXiv 1608.04644) for the smallest perturbation as the measure of robustness.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.eye(2))
    >>> found = fo.minimal_eps(net, np.array([[1.0, 0.5]]), np.array([0]), eps_max=1.0, tol=1e-6)
    >>> found.eps.round(3)
    array([0.25])
    """
    with arrays.place_of(x):
        validate.network(net)
        norm = validate.norm(norm)
        tol = checks.real("tol", tol, np.finfo(np.float64).tiny, np.finfo(np.float64).max)
        own = sorted({"early_stop", "keep"} & set(options))
        if own:
            raise TypeError(f"minimal_eps has no argument {', '.join(own)}: it needs its own")
        radii = sorted(filter(hints.is_radius, options))
        if radii:
            raise TypeError(
                f"minimal_eps has no argument {', '.join(radii)}, because it searches for the radius; did you mean "
                "eps_max, at which the search begins?"
            )
        arguments = ascent.arguments(
            algorithm, {"norm": norm, "bounds": bounds, **options, "early_stop": True, "keep": "last"}
        )
        points = validate.points(
            "x", x, net.in_features, mark_invalid=arguments["on_invalid"] == "mark", on_device=True
        )
        largest = _largest_radius(eps_max, bounds, points, norm)
        samples = len(points.rows)
        lower, upper, x_adv = np.zeros(samples), np.full(samples, np.inf), points.rows
        trials = [np.zeros(samples), np.full(samples, largest)]  # then bisection
        statuses = []
        while trials:
            radius = trials.pop(0)
            # A sample that is done takes part with radius 0, at no cost: its place in the batch keys the random starts.
            result = attack(algorithm, net, x, y, radii=[radius], **arguments)[0]
            if result.success is None:
                raise ValueError("loss: expected a loss of classes, because minimal_eps must know what succeeds")
            statuses.append(as_numpy(result.status))
            rows, success = result.x_adv.reshape(points.rows.shape), as_numpy(result.success)
            with np.errstate(
                invalid="ignore", over="ignore"
            ):  # rows that hold infinity; norms that float64 cannot hold
                length = np.minimum(as_numpy(_length(rows.astype(np.float64) - points.rows, norm)), radius)
            found = success & (length < upper)
            x_adv, upper = np.where(beside(found, rows)[:, None], rows, x_adv), np.where(found, length, upper)
            lower = np.minimum(np.where(success, lower, np.maximum(lower, radius)), upper)
            middle, is_open = _bisect(lower, upper, tol)
            if not trials and is_open.any():
                trials.append(np.where(is_open, middle, 0.0))
        warn_of_ends(np.stack(statuses), stacklevel=3)  # beyond the decorator
        success = np.isfinite(upper)
        if points.invalid is not None:
            invalid = in_main_memory(points.invalid)
            lower[invalid] = upper[invalid] = np.nan
        return in_kind_of(x, MinimalRadius(upper, lower, x_adv.reshape(points.shape), success))


def _bisect(lower: Array, upper: Array, tol: float) -> tuple[Array, Array]:
    """The middle of each bracket, and whether it is to be tried: no longer where it rounds to an end."""
    with np.errstate(invalid="ignore"):  # infinity: no success yet
        middle = lower + (upper - lower) / 2
        return middle, np.isfinite(upper) & (upper - lower > tol) & (lower < middle) & (middle < upper)


def _carry_over(below: AttackResult, above: AttackResult) -> None:
    """Where only the smaller radius succeeded, its attack is also the answer of the larger one."""
    if below.success is None or above.success is None:
        return
    rows = below.success & ~above.success
    for name in ("x_adv", "loss", "output", "success", "first_success", "steps", "status", "x_best"):
        kept, better = getattr(above, name), getattr(below, name)
        if kept is not None:
            kept[rows] = better[rows]
    for kept, better in zip(above.trace or (), below.trace or ()):
        kept[rows] = better[rows]
    np.fmax(above.best_loss, below.best_loss, out=above.best_loss)


def _valid(result: AttackResult) -> Array:
    return result.status != Status.INVALID_INPUT


def _withstood(result: AttackResult) -> float:
    assert result.success is not None
    return _mean(~result.success[_valid(result)])


def _mean(values: Array) -> float:
    with np.errstate(over="ignore"):
        return float(np.mean(values, dtype=np.float64)) if len(values) else float("nan")


def _length(delta: Array, norm: str) -> Array:
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    return np.linalg.norm(delta, ord=order, axis=1)


def _largest_radius(eps_max: float | None, bounds: Bounds | None, points: Points, norm: str) -> float:
    """Where the search begins: at what was asked for, or at the size of the box."""
    dtype = points.rows.dtype
    if eps_max is None:
        return min(_box_size(bounds, points, norm), float(np.finfo(dtype).max))
    radius = checks.real("eps_max", eps_max, 0.0, float(np.finfo(np.float64).max))
    validate.within_range("eps_max", np.array(radius), dtype)
    return radius


def _box_size(bounds: Bounds | None, points: Points, norm: str) -> float:
    """The longest perturbation that the box allows."""
    box = boxes.bounds(bounds, points)
    sides = None if box is None else [in_main_memory(side).astype(np.float64) for side in box]
    if sides is None or not np.isfinite(np.stack(sides)).all():
        raise ValueError("eps_max: expected a number, because bounds do not limit the radius, got None")
    return float(_length((sides[1] - sides[0])[None], norm)[0])
