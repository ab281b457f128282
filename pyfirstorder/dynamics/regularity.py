"""How regular the loss is over the ball: its curvature, how many maxima ascent finds, how fast its gradient changes.

Deng et al. 2020 (arXiv 2010.10650) show that a smaller input scale makes the landscape more regular; these are figures
that can say by how much.  Each is measured at points that were visited: none bounds what lies between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder import api, checks, hints, validate
from pyfirstorder.dynamics.input_hessian import input_hessians
from pyfirstorder.dynamics.maxima import Maxima, distinct_maxima
from pyfirstorder.summaries import extent, summarise

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Norm
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

_SEGMENT_POINTS = 33  # of the segments that `regularity` looks along
_LOSS_OPTIONS = ("loss", "targeted", "backend", "threads")


class Regularity(NamedTuple):
    """The figures of `regularity`, per sample.

    Attributes
    ----------
    spectrum : float64 array (B, n)
        `curvature_spectrum` at x.
    end_spectrum : float64 array (B, n)
        The same at the end point of largest loss, whether it converged or not.
    maxima : Maxima
        Where ascents from random starts end.
    lipschitz : float64 array (B,)
        `gradient_lipschitz` along the segments from x to the end points, the largest of a sample.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder import dynamics
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.array([3.0, 1.0]), activation="quadratic")
    >>> found = dynamics.regularity(net, np.zeros((1, 2)), np.ones(1), eps=1.0, loss="linear", top=2)
    >>> found.spectrum, found.end_spectrum
    (array([[6., 2.]]), array([[6., 2.]]))
    """

    spectrum: Array
    end_spectrum: Array
    maxima: Maxima
    lipschitz: Array

    def __repr__(self) -> str:
        largest = [(name, part[:, :1]) for name, part in (("x", self.spectrum), ("the ends", self.end_spectrum))]
        curvatures = [extent(f"largest eigenvalue at {name}", values) for name, values in largest]
        return summarise("Regularity", *curvatures, extent("lipschitz", self.lipschitz), repr(self.maxima))


@hints.knows_other_names
def curvature_spectrum(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    top: int | None = None,
    loss: str | None = None,
    targeted: bool = False,
    backend: str = "auto",
    threads: int | None = None,
) -> Array:
    """Eigenvalues of the loss's input Hessian ``∇²L = Wᵀ [diag(σ''(h) ⊙ Aᵀr) + (A diag σ'(h))ᵀ R (A diag σ'(h))] W``.

    r and R are the loss's first and second derivatives in the output.  Exact up to float64, through the smaller of the
    m × m (for piecewise-linear activations k × k) and the d × d problem; where even that has more than 2048 rows, by
    Lanczos' method.

    Parameters
    ----------
    net : TwoLayerNetwork
    x : float32 or float64 array (B, ...)
        Points, such as clean samples or the end points of an attack.
    y : array (B,) or (B, k)
        Their targets, see `input_gradient`.
    top : int, optional
        How many of the largest, by value and not by magnitude; all d if left out.
    loss, targeted
        See `input_gradient`.
    backend, threads
        See `forward`.

    Returns
    -------
    float64 array (B, top)
        In descending order; of networks with m < d, d - m of all d are zero.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.
    ImportError
        If the problem is so large that it needs scipy, which is not installed.

    Notes
    -----
    The Hessian of the ascended loss: a negative one all through is that of a maximum without constraint.  On the edge
    of the ball the multiplier shifts it, which this does not look at.  At points where a piecewise-linear σ has a kink,
    and where margin or dlr change the logit that they choose, it is that of one side.  It is the curvature at the
    point, and bounds nothing beyond.

    References
    ----------
    Deng et al. 2020 (arXiv 2010.10650); Moosavi-Dezfooli et al. 2019 (arXiv 1811.09716), on curvature in
    the input and adversaries.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder import dynamics
    >>> net = fo.TwoLayerNetwork(np.eye(2, 3), np.array([1.0, -5.0]), activation="quadratic")
    >>> dynamics.curvature_spectrum(net, np.zeros((1, 3)), np.ones(1), loss="linear") + 0.0
    array([[  2.,   0., -10.]])
    """
    validate.network(net)
    points = validate.points("x", x, net.in_features)
    d = net.in_features
    count = d if top is None else checks.integer("top", top, 1, d)
    found = input_hessians(net, points.rows, y, loss, targeted, backend, threads)
    return np.array([hessian.eigenvalues(count) for hessian in found]).reshape(len(points.rows), count)


@hints.knows_other_names
def gradient_lipschitz(
    net: TwoLayerNetwork,
    paths: Array,
    y: ArrayLike,
    *,
    loss: str | None = None,
    targeted: bool = False,
    backend: str = "auto",
    threads: int | None = None,
) -> Array:
    """How fast the gradient changes along each path: ``‖∇L(a) - ∇L(b)‖₂ / ‖a - b‖₂``, of consecutive points a and b.

    The largest of each path.

    Parameters
    ----------
    net : TwoLayerNetwork
    paths : float32 or float64 array (B, n, d)
        The points of each path in their order: the iterates of an ascent, or points of `segments`.  After a point that
        is NaN, as after an early end, the path is over.
    y : array (B,) or (B, k)
        The target of each path.
    loss, targeted
        See `input_gradient`.
    backend, threads
        See `forward`.

    Returns
    -------
    float64 array (B,)
        Zero for a path whose points are all the same, which are left out.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    Notes
    -----
    A lower bound of the gradient's Lipschitz constant on any set that holds the path; not an upper bound, because the
    gradient may change faster elsewhere, or change and change back between two points.  Of a smooth loss it is at most
    the largest ``‖∇²L‖₂`` on the segments between consecutive points.  Where σ has a kink, or the loss changes the
    logit that it chooses, the gradient jumps: the figure then grows without limit as the points come closer.

    References
    ----------
    Nesterov 2004, "Introductory Lectures on Convex Optimization", section 1.2.2: the constant that bounds step sizes.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder import dynamics
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.array([1.0, -5.0]), activation="quadratic")
    >>> path = np.array([[[0.0, 0.0], [1.0, 0.0], [1.0, 0.5]]])
    >>> dynamics.gradient_lipschitz(net, path, np.ones(1), loss="linear")
    array([10.])
    """
    validate.network(net)
    points = validate.floats("paths", paths)
    if points.ndim != 3 or points.shape[1] < 2 or points.shape[2] != net.in_features:
        raise ValueError(f"paths: expected shape (paths, at least 2 points, {net.in_features}), got {points.shape}")
    over = np.logical_or.accumulate(np.isnan(points).any(axis=2), axis=1)
    if over[:, 0].any():
        raise ValueError(f"paths: expected finite points, got NaN first in path {np.argmax(over[:, 0])}")
    rows, n, d = points.shape
    points = np.where(over[:, :, None], points[:, :1], points)
    each = np.repeat(checks.array("y", y), n, axis=0)
    options: dict[str, Any] = {"loss": loss, "targeted": targeted, "backend": backend, "threads": threads}
    _, slopes = api.input_gradient(net, points.reshape(-1, d), each, **options)
    turned = np.linalg.norm(np.diff(slopes.reshape(rows, n, d).astype(np.float64), axis=1), axis=2)
    length = np.linalg.norm(np.diff(points.astype(np.float64), axis=1), axis=2)
    compared = (length > 0) & ~over[:, 1:]
    return np.where(compared, turned / np.where(compared, length, 1), 0.0).max(axis=1)


@hints.knows_other_names
def segments(starts: Array, ends: Array, points: int = _SEGMENT_POINTS) -> Array:
    """Equally spaced points of the segments from starts to ends, for `gradient_lipschitz`.

    Parameters
    ----------
    starts, ends : float32 or float64 arrays (B, d)
    points : int
        Of each segment, its ends among them.

    Returns
    -------
    array (B, points, d)

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    References
    ----------
    Goodfellow, Vinyals & Saxe 2015 (arXiv 1412.6544).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder import dynamics
    >>> dynamics.segments(np.array([[0.0, 0.0]]), np.array([[2.0, 4.0]]), 3)
    array([[[0., 0.],
            [1., 2.],
            [2., 4.]]])
    """
    first, last = validate.floats("starts", starts), validate.floats("ends", ends)
    if first.ndim != 2 or first.shape != last.shape or first.dtype != last.dtype:
        raise ValueError(
            f"ends: expected shape (segments, d) and type of starts, {first.shape} and {first.dtype}, got {last.shape} "
            f"and {last.dtype}"
        )
    share = np.linspace(0, 1, checks.integer("points", points, 2, 2**20)).astype(first.dtype)[:, None]
    return first[:, None] * (1 - share) + last[:, None] * share


@hints.knows_other_names
def regularity(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    eps: ArrayLike,
    norm: Norm = "l2",
    starts: int = 16,
    top: int | None = 10,
    **options: Any,
) -> Regularity:
    """All figures of regularity at once.

    Parameters
    ----------
    net : TwoLayerNetwork
    x : float32 or float64 array (B, ...)
    y : array (B,) or (B, k)
    eps, norm
        The ball, see `pgd`.
    starts : int
        Random starts a sample.
    top : int, optional
        Eigenvalues of each Hessian, at most d; None for all.
    **options
        Any other of `distinct_maxima`, such as steps, loss, targeted, bounds or seed.

    Returns
    -------
    Regularity

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    Notes
    -----
    See `curvature_spectrum`, `distinct_maxima` and `gradient_lipschitz` for what each figure says and what it does not.

    References
    ----------
    Deng et al. 2020 (arXiv 2010.10650), whose claim these figures measure.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder import dynamics
    >>> net = fo.random_network(20, 64, seed=0)
    >>> found = dynamics.regularity(net, np.full((2, 20), 0.1), np.zeros(2), eps=0.3, top=3)
    >>> found.maxima.distinct, found.spectrum.shape, found.lipschitz.shape
    (array([1, 1]), (2, 3), (2,))
    """
    maxima = distinct_maxima(net, x, y, eps=eps, norm=norm, starts=starts, **options)
    shared = {name: options[name] for name in _LOSS_OPTIONS if name in options}
    rows = validate.points("x", x, net.in_features).rows
    count = None if top is None else min(checks.integer("top", top, 1, 2**31 - 1), net.in_features)
    best = maxima.x_adv[np.arange(len(rows)), np.argmax(maxima.loss, axis=1)]
    ends = maxima.x_adv.reshape(-1, rows.shape[1])
    paths = segments(np.repeat(rows, starts, axis=0), ends)
    estimates = gradient_lipschitz(net, paths, np.repeat(checks.array("y", y), starts, axis=0), **shared)
    return Regularity(
        curvature_spectrum(net, rows, y, top=count, **shared),
        curvature_spectrum(net, best, y, top=count, **shared),
        maxima,
        estimates.reshape(len(rows), starts).max(axis=1),
    )
