"""How many maxima ascent finds: end points of many random starts, those that converged, and how they cluster."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder import api, boxes, checks, hints, validate
from pyfirstorder.ascent import ascent_of
from pyfirstorder.dynamics.points import flat_bounds
from pyfirstorder.summaries import counted, extent, summarise

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Bounds, Norm
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array
    from pyfirstorder.results import AttackResult

# Of `pgd`, those that leave every start its own way to its end.
_OPTIONS = frozenset(
    ("seed", "random_start", "direction", "step_size", "rel_step_size", "momentum", "retire", "evaluation", "progress")
)
_LARGEST = float(np.finfo(np.float64).max)


class Maxima(NamedTuple):
    """Where ascents from S random starts of each sample end; `distinct_maxima` defines each figure.

    Attributes
    ----------
    distinct : int64 array (B,)
        Clusters of the end points that converged.
    labels : int64 array (B, S)
        The cluster of each end point, numbered from the largest loss down; -1 where it did not converge.
    converged : bool array (B, S)
    residual : float64 array (B, S)
        What convergence was decided by.
    loss : array (B, S)
        At the end points.
    x_adv : array (B, S, d)
        The end points.
    spread : float64 array (B,)
        The largest distance between two end points that converged, as a share of eps; NaN without one.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder import dynamics
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.array([3.0, 1.0]), activation="quadratic")
    >>> found = dynamics.distinct_maxima(net, np.zeros((1, 2)), np.ones(1), eps=1.0, loss="linear", starts=8)
    >>> found.labels.shape, found.x_adv.shape
    ((1, 8), (1, 8, 2))
    """

    distinct: Array
    labels: Array
    converged: Array
    residual: Array
    loss: Array
    x_adv: Array
    spread: Array

    def __repr__(self) -> str:
        samples, starts = self.labels.shape
        share = f"{np.count_nonzero(self.converged)} of {self.converged.size} ends converged"
        return summarise("Maxima", counted(samples), counted(starts, "start"), share, extent("distinct", self.distinct))


@hints.knows_other_names
def distinct_maxima(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    eps: ArrayLike,
    norm: Norm = "l2",
    starts: int = 32,
    steps: int = 500,
    distance: float = 1e-2,
    tol: float = 1e-3,
    loss: str | None = None,
    targeted: bool = False,
    bounds: Bounds | None = None,
    backend: str = "auto",
    threads: int | None = None,
    **options: Any,
) -> Maxima:
    """How many distinct maxima ascent finds over ball and box, from many random starts in one batch.

    `pgd` runs from ``starts`` random points of each sample's ball.  An end point x + δ with gradient g *converged* if
    ``‖P(δ + t g) - δ‖₂ <= tol * eps`` with ``t = eps / G``, G the largest ``‖g‖₂`` at the sample's starts, and P the
    projection onto ball and box: the residual of first order, in units in which neither the loss's nor the input's
    scale matters.  End points that converged are one maximum if a chain of them, each
    within ``distance * eps`` (ℓ2) of the next, leads from one to the other (single linkage).

    Parameters
    ----------
    net : TwoLayerNetwork
    x : float32 or float64 array (B, ...)
    y : array (B,) or (B, k)
        Targets, see `input_gradient`.
    eps : float or array (B,)
        Finite radius above zero.
    norm : "linf", "l2", "l1", inf, 2 or 1
    starts : int
        S, starts a sample.
    steps : int
        Steps of each ascent: δ ← P(δ + t g), the paper's ascent with the step size above, unless ``direction``,
        ``step_size`` or ``rel_step_size`` is given, see `pgd`.
    distance, tol : float
        The tolerances above, as shares of eps.
    loss, targeted, bounds, backend, threads
        See `pgd`.
    **options
        Of `pgd`: seed, random_start (``"sphere"`` starts on the boundary), direction, step_size, rel_step_size,
        momentum, retire, evaluation or progress.

    Returns
    -------
    Maxima

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    Warns
    -----
    UserWarning
        If an ℓ∞ radius reaches all of the box [0, 1]: see `pgd`.

    Notes
    -----
    The count is a lower bound of the number of first-order points that attract the ascent, up to ``distance``: what no
    start was drawn to is not counted.  Convergence is of first order and relative to the steepest start, so a saddle
    that an ascent got stuck at counts, too, and so does a place that is flat beside the others; `stationarity` tells
    them apart.  Around a maximum inside of the ball where the curvature of the loss exceeds 2/t, ascent with step
    size t does not converge, and its end points do not count: give it a smaller step size.  Two maxima nearer than
    ``distance * eps``, and a ridge of maxima that is sampled densely, are one.

    References
    ----------
    Deng et al. 2020 (arXiv 2010.10650); Madry et al. 2018 (arXiv 1706.06083), section 3.1, where random starts
    reach similar losses.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder import dynamics
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.array([3.0, 1.0]), activation="quadratic")
    >>> found = dynamics.distinct_maxima(net, np.zeros((1, 2)), np.ones(1), eps=1.0, loss="linear")  # 3 x₁² + x₂²
    >>> found.distinct, found.spread.round(6), int(found.converged.sum())
    (array([2]), array([2.]), 32)
    """
    validate.network(net)
    points = validate.points("x", x, net.in_features)
    samples, d = points.rows.shape
    count = checks.integer("starts", starts, 1, 2**20)
    shares = [checks.real(name, value, 0.0, _LARGEST) for name, value in (("distance", distance), ("tol", tol))]
    radii = validate.radii("eps", eps, samples, points.rows.dtype)
    if not (np.isfinite(radii).all() and (radii > 0).all()):
        raise ValueError(f"eps: expected finite radii above 0, got {checks.describe(eps)}")
    rows, targets = np.repeat(points.rows, count, axis=0), np.repeat(checks.array("y", y), count, axis=0)
    each = np.repeat(radii, count)
    objective: dict[str, Any] = {"loss": loss, "targeted": targeted, "backend": backend, "threads": threads}
    unknown = set(options) - _OPTIONS
    if unknown:
        own = [name for name in inspect.signature(distinct_maxima).parameters if name != "options"]
        raise TypeError(hints.no_argument("distinct_maxima", sorted(unknown), [*own, *sorted(_OPTIONS)]))
    if options.get("random_start") is False:
        raise ValueError("random_start: expected True, 'ball' or 'sphere', because all starts would be x, got False")
    box = flat_bounds(bounds, points.shape[1:])
    how = {"random_start": True, "seed": 0, **options}

    def ascend(steps: int, **options: Any) -> AttackResult:  # without a warning: a gradient of zero is an end sought
        return ascent_of(net, rows, targets, each, norm=norm, bounds=box, steps=steps, **objective, **options)

    begun = ascend(0, **how).x_adv
    step = _steps_through_the_ball(net, begun, targets, each, count, objective)
    if not {"direction", "step_size", "rel_step_size"} & set(options):
        how |= {"direction": "gradient", "step_size": step}
    ended = ascend(steps, **how)
    g = api.input_gradient(net, ended.x_adv, targets, **objective)[1].astype(np.float64)
    is_finite: Array = np.logical_and.reduce(np.isfinite(g), axis=1)
    delta, wide = ended.x_adv.astype(np.float64) - rows, rows.astype(np.float64)
    ahead = delta + step[:, None] * np.where(is_finite[:, None], g, 0)
    moved = api.project(ahead, eps=each, norm=norm, x=wide, bounds=box, backend=backend, threads=threads)
    residual: Array = np.where(is_finite, np.linalg.norm(moved - delta, axis=1) / each, np.inf)
    shape = (samples, count)
    ends = ended.x_adv.reshape(*shape, d)
    converged = residual.reshape(shape) <= shares[1]
    found = [_clusters(*sample, shares[0]) for sample in zip(ends, ended.loss.reshape(shape), converged, radii)]
    boxes.warn_of_radius(eps, norm, bounds)
    return Maxima(
        distinct=np.array([labels.max(initial=-1) + 1 for labels, _ in found], dtype=np.int64),
        labels=np.array([labels for labels, _ in found], dtype=np.int64).reshape(shape),
        converged=converged,
        residual=residual.reshape(shape),
        loss=ended.loss.reshape(shape),
        x_adv=ends,
        spread=np.array([spread for _, spread in found]),
    )


def _steps_through_the_ball(
    net: TwoLayerNetwork, begun: Array, targets: Array, radii: Array, starts: int, objective: dict[str, Any]
) -> Array:
    """``t = eps / G`` of each row, G the largest length of a gradient at the starts of its sample."""
    slopes = api.input_gradient(net, begun, targets, **objective)[1].astype(np.float64)
    lengths: Array = np.linalg.norm(slopes, axis=1)
    lengths = np.where(np.isfinite(lengths), lengths, 0.0)
    steepest = lengths.reshape(-1, starts).max(axis=1, initial=0.0).repeat(starts)
    step = np.divide(radii, steepest, out=np.zeros_like(radii), where=steepest > 0)
    return np.minimum(step, validate.LARGEST[begun.dtype])


def _clusters(ends: Array, loss: Array, converged: Array, eps: float, distance: float) -> tuple[Array, float]:
    """The cluster of each end point, from the largest loss down, and the largest distance over eps."""
    labels = np.full(len(ends), -1, dtype=np.int64)
    kept = np.flatnonzero(converged)
    kept = kept[np.argsort(-loss[kept], kind="stable")]
    if not len(kept):
        return labels, math.nan
    points = ends[kept].astype(np.float64)
    apart = np.stack([np.linalg.norm(points - point, axis=1) for point in points]) / eps
    near, names = apart <= distance, np.arange(len(kept))
    while True:  # each takes the smallest name among its neighbours, until none changes
        smallest = np.where(near, names, len(names)).min(axis=1)
        if (smallest == names).all():
            break
        names = smallest
    labels[kept] = np.unique(names, return_inverse=True)[1]
    return labels, float(apart.max())
