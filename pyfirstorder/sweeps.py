"""Attacks over many radii: accuracy against radius, and the smallest radius that succeeds."""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyfirstorder import ascent, validate
from pyfirstorder.attacks import ALGORITHMS, attack
from pyfirstorder.problem import Status
from pyfirstorder.results import AttackResult, MinimalRadius, RobustnessCurve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Bounds, Norm
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array
    from pyfirstorder.validate import Points


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
        Start each radius from the end points of the one below, one radius after another.
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

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.eye(2))
    >>> fo.robustness_curve(net, np.array([[1.0, 0.5]]), np.array([0]), eps=[0.1, 0.3]).robust_accuracy
    array([1., 0.])
    """
    radii = validate.increasing("eps", eps)
    arguments = _arguments(algorithm, options)
    if validate.flag("warm_start", warm_start):
        results: list[AttackResult] = []
        for radius in radii:
            results += attack(algorithm, net, x, y, radii=[radius], **arguments)
            arguments |= {"x_init": results[-1].x_adv, "random_start": False}
    else:
        results = attack(algorithm, net, x, y, radii=list(radii), **arguments)
    for below, above in pairwise(results):
        _carry_over(below, above)
    kept = ("loss", "targeted", "on_invalid", "backend", "threads")
    clean = ascent.pgd(net, x, y, eps=0.0, steps=0, **{name: arguments[name] for name in kept})
    return RobustnessCurve(
        eps=radii,
        clean_accuracy=None if clean.success is None else _withstood(clean),
        robust_accuracy=None if clean.success is None else np.array([_withstood(result) for result in results]),
        mean_loss=np.array([_mean(result.loss[_valid(result)]) for result in results]),
        results=tuple(results),
    )


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

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.eye(2))
    >>> found = fo.minimal_eps(net, np.array([[1.0, 0.5]]), np.array([0]), eps_max=1.0, tol=1e-6)
    >>> found.eps.round(3)
    array([0.25])
    """
    validate.network(net)
    norm = validate.norm(norm)
    tol = validate.real("tol", tol, np.finfo(np.float64).tiny, np.finfo(np.float64).max)
    own = sorted({"early_stop", "keep"} & set(options))
    if own:
        raise TypeError(f"minimal_eps has no argument {', '.join(own)}: it needs its own")
    arguments = _arguments(algorithm, {"norm": norm, "bounds": bounds, **options, "early_stop": True, "keep": "last"})
    points = validate.points("x", x, net.in_features, mark_invalid=arguments["on_invalid"] == "mark")
    largest = _box_size(bounds, points, norm) if eps_max is None else validate.real("eps_max", eps_max, 0.0, 1e300)
    samples = len(points.rows)
    lower, upper, x_adv = np.zeros(samples), np.full(samples, np.inf), np.array(points.rows)
    trials = [np.zeros(samples), np.full(samples, largest)]  # then bisection
    while trials:
        radius = trials.pop(0)
        # A sample that is done takes part with radius 0, at no cost: its place in the batch keys the random starts.
        result = attack(algorithm, net, x, y, radii=[radius], **arguments)[0]
        if result.success is None:
            raise ValueError("loss: expected a loss of classes, because minimal_eps must know what succeeds")
        rows = result.x_adv.reshape(points.rows.shape)
        length = np.minimum(_length(rows.astype(np.float64) - points.rows, norm), radius)
        found = result.success & (length < upper)
        x_adv[found], upper[found] = rows[found], length[found]
        lower = np.minimum(np.where(result.success, lower, np.maximum(lower, radius)), upper)
        open_bracket = np.isfinite(upper) & (upper - lower > tol)
        middle = lower + (upper - lower) / 2
        if not trials and open_bracket.any() and (middle > lower)[open_bracket].any():
            trials.append(np.where(open_bracket, middle, 0.0))
    return MinimalRadius(upper, lower, x_adv.reshape(points.shape), np.isfinite(upper))


def _arguments(algorithm: str, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an attack: its defaults, and what the caller gave instead."""
    functions: dict[str, Callable[..., AttackResult]] = {"pgd": ascent.pgd, "apgd": ascent.apgd}
    function = functions[validate.choice("algorithm", algorithm, ALGORITHMS)]
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "eps"
    }
    unknown = set(options) - set(defaults)
    if unknown:
        raise TypeError(f"{algorithm} has no argument {', '.join(sorted(unknown))}; it has {', '.join(defaults)}")
    return defaults | options


def _carry_over(below: AttackResult, above: AttackResult) -> None:
    """Where only the smaller radius succeeded, its point is also the answer of the larger one."""
    if below.success is None or above.success is None:
        return
    rows = below.success & ~above.success
    for name in ("x_adv", "loss", "output", "success", "first_success", "status", "x_best"):
        kept, better = getattr(above, name), getattr(below, name)
        if kept is not None:
            kept[rows] = better[rows]
    np.maximum(above.best_loss, below.best_loss, out=above.best_loss)


def _valid(result: AttackResult) -> Array:
    return result.status != Status.INVALID_INPUT


def _withstood(result: AttackResult) -> float:
    assert result.success is not None
    return _mean(~result.success[_valid(result)])


def _mean(values: Array) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _length(delta: Array, norm: str) -> Array:
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    return np.linalg.norm(delta, ord=order, axis=1)


def _box_size(bounds: Bounds | None, points: Points, norm: str) -> float:
    """The longest perturbation that the box allows."""
    box = validate.bounds(bounds, points)
    if box is None or not np.isfinite(np.stack(box)).all():
        raise ValueError("eps_max: expected a number, because bounds do not limit the radius, got None")
    return float(_length((box[1].astype(np.float64) - box[0])[None], norm)[0])
