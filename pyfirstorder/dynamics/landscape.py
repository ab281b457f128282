"""The loss on a plane of the input space: a two-layer network with two inputs.

At ``x = origin + α u + β v`` the hidden units are ``h = (W origin + b) + α W u + β W v``, so the loss on the plane is
that of the network with hidden weight ``W [u v]`` (m, 2), hidden bias ``W origin + b`` and the same output layer.  A
point costs O(m) after three products with W, whatever the number of inputs, and is computed by the backend's own
forward pass or gradient.  What a plane shows of a landscape of d dimensions, and what not: Li et al. 2018 (arXiv
1712.09913).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder import backends, boxes, checks, hints, validate
from pyfirstorder.attacks import make_objective
from pyfirstorder.backends.reference.losses import evaluate
from pyfirstorder.dynamics.frames import checked_planes, frame_of
from pyfirstorder.dynamics.planes import Plane
from pyfirstorder.dynamics.points import flat_bounds, iterates, one_sample, one_target
from pyfirstorder.dynamics.sections import Region
from pyfirstorder.problem import Objective, Weights
from pyfirstorder.summaries import extent, summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Bounds, Norm
    from pyfirstorder.backends import Backend
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

DEFAULT_POINTS = 201
_MOST_POINTS = 2**15  # along an axis: 2**30 numbers in a grid


@dataclass(frozen=True, eq=False)
class Landscape:
    """The loss of one sample at the points of a grid on a plane, or a line.

    Attributes
    ----------
    plane : Plane
    axes : tuple of float64 arrays (p,)
        Coordinates of the grid along each direction; one array for a line.
    loss : array (p, p), or (p,) on a line
        ``loss[i, j]`` is the ascended loss (negative where ``targeted``) at ``origin + axes[0][i] u + axes[1][j] v``.
    centre : float64 array (2,) or (1,)
        Coordinates of the sample's projection onto the plane.
    feasible : bool array of the shape of loss, or None
        Whether each point of the grid lies in ball and box, to 1e-9 of the radius; None without ball and box.
    boundary : float64 array (n, 2), (2, 1) or None
        The edge of ball and box on the plane, as a closed polygon, or the two ends of what a line has in them; None
        without ball and box, and where the plane does not meet them or the edge is not bounded.
    output : array (p, p, k) or (p, k), or None
        The network's outputs, with ``output=True``.
    gradient : array (p, p, 2) or (p, 1), or None
        Derivatives of the loss along the directions, with ``gradient=True``: the input gradient's part in the plane.
    trajectories : tuple of float64 arrays (steps + 1, 2) or (steps + 1, 1)
        Coordinates of the trajectories' projections onto the plane.
    off_plane_distances : tuple of float64 arrays (steps + 1,)
        Distance of each iterate from the plane, of which ``trajectories`` are projections: these show the loss of the
        iterates only where the distance is small.
    centre_off_plane_distance : float
        The same of the sample, whose projection ``centre`` is; 0 where the plane goes through it.
    loss_name, targeted, eps, norm
        What the loss and the ball are; eps is None without a ball.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder import dynamics
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.array([1.0, 1.0]), activation="quadratic")  # x₁² + x₂²
    >>> plane = dynamics.plane_along(np.zeros(2), np.eye(2))
    >>> dynamics.landscape(net, np.zeros(2), 1.0, plane, loss="linear", span=1.0, points=3).loss
    array([[2., 1., 2.],
           [1., 0., 1.],
           [2., 1., 2.]])
    """

    plane: Plane
    axes: tuple[Array, ...]
    loss: Array
    centre: Array
    feasible: Array | None
    boundary: Array | None
    output: Array | None
    gradient: Array | None
    trajectories: tuple[Array, ...]
    off_plane_distances: tuple[Array, ...]
    centre_off_plane_distance: float
    loss_name: str
    targeted: bool
    eps: float | None
    norm: str

    def __repr__(self) -> str:
        size = " x ".join(str(len(axis)) for axis in self.axes)
        return summarise("Landscape", f"{size} points", extent(self.loss_name, self.loss))


@hints.knows_other_names
def landscape(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    plane: Plane,
    *,
    span: Any = None,
    eps: float | None = None,
    norm: Norm = "l2",
    bounds: Bounds | None = None,
    points: int = DEFAULT_POINTS,
    loss: str | None = None,
    targeted: bool = False,
    output: bool = False,
    gradient: bool = False,
    trajectories: Sequence[Array] = (),
    backend: str = "auto",
    threads: int | None = None,
) -> Landscape:
    """The loss of one sample on a plane, or a line, at a grid of points.

    Parameters
    ----------
    net : TwoLayerNetwork
    x : float32 or float64 array of ``net.in_features`` numbers, in any shape
        The sample, at the centre of the ball.  Its type is that of the computation.
    y : number or array (k,)
        Its target, see `input_gradient`.
    plane : Plane
        See `random_plane`, `hessian_plane`, `trajectory_plane`, `three_point_plane`, `line_through`, `plane_along`.
    span : float, or a pair (low, high) for each direction, optional
        Half the width of the grid, around x's projection, in each direction; or its lowest and highest coordinates.
        Left out, a square that holds the section of ball and box, and the trajectories, with a margin.
    eps, norm, bounds
        Ball and box around x, see `pgd`: they make the mask, the boundary and the default span, not the loss.
    points : int
        p, along each direction.
    loss, targeted
        See `input_gradient`.
    output, gradient : bool
        Whether to give back the outputs, and the gradient in the plane.
    trajectories : sequence of arrays (steps + 1, ...)
        Recorded iterates, to be projected onto the plane; rows of NaN after an early end are left out.
    backend, threads
        See `forward`.

    Returns
    -------
    Landscape
        Its arrays are NumPy's, whatever the kind of x.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; or if there is nothing to take the span from.

    Notes
    -----
    A point costs O(m) and O(km) for the outputs, after three products with W.  The mask costs O(pd), and O(pd log d)
    for ℓ1.

    References
    ----------
    Li et al. 2018 (arXiv 1712.09913), on what a plane shows of a landscape and what it hides; Deng et al.
    2020 (arXiv 2010.10650), whose figures these are.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder import dynamics
    >>> net = fo.random_network(784, 1024, seed=1)
    >>> x = np.full(784, 1 / 28)
    >>> plane = dynamics.random_plane(x)
    >>> surface = dynamics.landscape(net, x, 0.0, plane, eps=0.5, points=101)
    >>> surface.loss.shape, float(surface.axes[0][50]), bool(surface.feasible[50, 50])
    ((101, 101), 0.0, True)
    """
    validate.network(net)
    sample = one_sample(net, x)
    if not isinstance(plane, Plane):
        raise TypeError(f"plane: expected a Plane, as random_plane and its like give, got {checks.describe(plane)}")
    return landscapes(
        net,
        sample.reshape(1, -1),
        one_target(y),
        [plane],
        span=span,
        eps=eps,
        norm=norm,
        bounds=flat_bounds(bounds, sample.shape),
        points=points,
        loss=loss,
        targeted=targeted,
        output=output,
        gradient=gradient,
        trajectories=[trajectories],
        backend=backend,
        threads=threads,
    )[0]


@hints.knows_other_names
def landscapes(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    planes: Sequence[Plane],
    *,
    span: Any = None,
    eps: ArrayLike | None = None,
    norm: Norm = "l2",
    bounds: Bounds | None = None,
    points: int = DEFAULT_POINTS,
    loss: str | None = None,
    targeted: bool = False,
    output: bool = False,
    gradient: bool = False,
    trajectories: Sequence[Sequence[Array]] | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> list[Landscape]:
    """The `landscape` of several samples, each on a plane of its own; the products with W are those of one batch.

    Parameters are those of `landscape`, but for these.

    Parameters
    ----------
    x : float32 or float64 array (B, ...)
        Samples.
    y : array (B,) or (B, k)
        Their targets.
    eps : float or array (B,), optional
    planes : sequence of B planes
    trajectories : sequence of B sequences of arrays (steps + 1, ...), optional
        The trajectories to project onto each plane.

    Returns
    -------
    list of Landscape

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    References
    ----------
    See `landscape`.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder import dynamics
    >>> net = fo.random_network(5, 16)
    >>> x = np.eye(2, 5)
    >>> planes = [dynamics.random_plane(row) for row in x]
    >>> [surface.loss.shape for surface in dynamics.landscapes(net, x, np.zeros(2), planes, span=1.0, points=3)]
    [(3, 3), (3, 3)]
    """
    validate.network(net)
    samples = validate.points("x", x, net.in_features)
    rows, count = samples.rows, len(samples.rows)
    chosen, workers = backends.get(validate.backend(backend)), validate.threads(threads)
    objective = make_objective(net, rows, y, loss, targeted, chosen, workers)
    planes = checked_planes(planes, count, net.in_features)
    box = boxes.bounds(bounds, samples)
    radii = validate.radii("eps", math.inf if eps is None else eps, count, rows.dtype)
    paths = [()] * count if trajectories is None else list(trajectories)
    if len(paths) != count:
        raise ValueError(f"trajectories: expected a sequence for each of {count} samples, got {len(paths)}")
    number = checks.integer("points", points, 2, _MOST_POINTS)
    wanted = _Wanted(checks.flag("output", output), checks.flag("gradient", gradient))
    ball = validate.norm(norm)
    networks = plane_networks(net, planes, rows.dtype, chosen, workers)
    made = []
    for i in range(count):
        low, high = (None, None) if box is None else (side.astype(np.float64) for side in box)
        region = Region(rows[i].astype(np.float64), ball, float(radii[i]), low, high)
        frame = frame_of(planes[i], region, [iterates("trajectories", path) for path in paths[i]], span, number)
        values = _on_grid(networks[i], _of_sample(objective, i), frame.axes, wanted, chosen, workers)
        made.append(
            Landscape(
                planes[i],
                frame.axes,
                values.loss,
                frame.centre,
                region.mask(planes[i], frame.axes) if region.is_bounded() else None,
                frame.boundary,
                values.output,
                values.gradient,
                frame.trajectories,
                frame.off_plane_distances,
                frame.centre_off_plane_distance,
                objective.loss,
                objective.targeted,
                None if math.isinf(region.eps) else region.eps,
                ball,
            )
        )
    return made


def plane_networks(
    net: TwoLayerNetwork, planes: Sequence[Plane], dtype: np.dtype[Any], backend: Backend, threads: int
) -> list[Weights]:
    """The network of each plane: its inputs are coordinates on it."""
    weights = net.weights(dtype)
    vectors = np.concatenate([part for plane in planes for part in (plane.origin[None], plane.directions)])
    products = backend.multiply(np.ascontiguousarray(vectors, dtype=dtype), weights.hidden_weight.T, threads)
    made, first = [], 0
    for plane in planes:
        end = first + 1 + len(plane.directions)
        slopes = np.ascontiguousarray(products[first + 1 : end].T)
        made.append(
            weights._replace(hidden_weight=slopes, hidden_bias=products[first] + weights.hidden_bias, prepared={})
        )
        first = end
    return made


class _Wanted(NamedTuple):
    output: bool
    gradient: bool


class _Values(NamedTuple):
    loss: Array
    output: Array | None
    gradient: Array | None


def _on_grid(
    weights: Weights, objective: Objective, axes: tuple[Array, ...], wanted: _Wanted, backend: Backend, threads: int
) -> _Values:
    """Loss, outputs and gradient at every point of the grid, by the backend."""
    dtype, shape = weights.hidden_bias.dtype, tuple(map(len, axes))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes)).astype(dtype)
    everywhere = Objective(
        objective.loss,
        objective.targeted,
        *(None if p is None else np.repeat(p, len(grid), axis=0) for p in objective[2:]),
    )
    gradient = None
    if wanted.gradient:
        loss, slopes, output = backend.input_gradient(weights, grid, everywhere, threads)
        gradient = slopes.reshape(*shape, len(axes))
    else:
        output = backend.forward(weights, grid, threads)
        loss = evaluate(output, everywhere)[0].astype(dtype, copy=False)
    return _Values(loss.reshape(shape), output.reshape(*shape, -1) if wanted.output else None, gradient)


def _of_sample(objective: Objective, i: int) -> Objective:
    return Objective(*objective[:2], *(None if part is None else part[i : i + 1] for part in objective[2:]))
