"""Planes and lines of the input space, on which a landscape is looked at.

A plane is ``{origin + α u + β v}`` with orthonormal u and v, a line the same with u alone.  The directions come from a
QR or a singular value decomposition in float64, whatever the type of the points, so that they are orthonormal to
rounding; where what was given does not span a plane, there is none to choose and that is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyfirstorder import checks, hints, validate
from pyfirstorder.dynamics.input_hessian import input_hessians
from pyfirstorder.dynamics.points import (
    DEPENDENT,
    iterates,
    not_spanned,
    one_point,
    one_sample,
    one_target,
    orthonormal,
    same_size,
)
from pyfirstorder.summaries import counted, summarise

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

DIMENSIONS = (1, 2)  # of a line and of a plane


class Plane(NamedTuple):
    """A plane ``{origin + α u + β v}``, or a line, as plain data.

    Attributes
    ----------
    origin : float64 array (d,)
        The point of coordinates 0.
    directions : float64 array (n, d)
        u and v, orthonormal; n = 2 for a plane and 1 for a line.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder.dynamics import Plane
    >>> plane = Plane(np.array([0.0, 0.0, 5.0]), np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    >>> plane.coordinates(np.array([[3.0, 4.0, 7.0]]))
    array([[3., 4.]])
    >>> plane.points(np.array([[3.0, 4.0]]))
    array([[3., 4., 5.]])
    """

    origin: Array
    directions: Array

    def __repr__(self) -> str:
        return summarise("Plane", counted(np.size(self.origin), "number"), counted(len(self.directions), "direction"))

    def coordinates(self, points: ArrayLike) -> Array:
        """Coordinates (..., n) of the projections of points (..., d) onto the plane."""
        return (np.asarray(points, dtype=np.float64) - self.origin) @ self.directions.T

    def points(self, coordinates: ArrayLike) -> Array:
        """The points (..., d) of the plane at coordinates (..., n)."""
        return self.origin + np.asarray(coordinates, dtype=np.float64) @ self.directions

    def distances(self, points: ArrayLike) -> Array:
        """How far points (..., d) lie from the plane, in the Euclidean norm (...)."""
        offsets = np.asarray(points, dtype=np.float64) - self.origin
        return np.linalg.norm(offsets - (offsets @ self.directions.T) @ self.directions, axis=-1)


@hints.knows_other_names
def plane_along(origin: Array, directions: Array) -> Plane:
    """The plane, or line, through a point along given directions.

    The directions are made orthonormal in their order (Gram-Schmidt by QR): u lies along the first, v in the plane of
    both, on the side of the second.

    Parameters
    ----------
    origin : float32 or float64 array of d numbers, in any shape
    directions : float32 or float64 array (n, ...)
        One or two directions of d numbers each, of any length but zero.

    Returns
    -------
    Plane

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value, or the directions are zero or lie along each other.

    References
    ----------
    Golub & Van Loan 2013, "Matrix Computations", section 5.2.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder import dynamics
    >>> dynamics.plane_along(np.zeros(3), np.array([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0]])).directions + 0.0
    array([[1., 0., 0.],
           [0., 1., 0.]])
    """
    start = one_point("origin", origin)
    rows = validate.floats("directions", directions)
    if rows.ndim < 2 or len(rows) not in DIMENSIONS or rows[0].size != start.size:
        raise ValueError(
            f"directions: expected 1 or 2 directions of {start.size} numbers, as origin has, got shape {rows.shape}"
        )
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    if not checks.all_finite(rows):
        raise ValueError("directions: expected finite numbers, got NaN or infinity")
    return Plane(start, orthonormal("directions", rows, np.linalg.norm(rows, axis=1)))


@hints.knows_other_names
def random_plane(x: Array, *, seed: int = 0, dimensions: int = 2) -> Plane:
    """A plane, or line, through a sample whose directions are uniform on the sphere.

    Parameters
    ----------
    x : float32 or float64 array of d numbers, in any shape
        One sample, the origin of the plane.  A batch would be taken for one, as an image is: take ``x[0]`` of it.
    seed : int
        Seed of NumPy's default generator, which is not shared with anyone.
    dimensions : 1 or 2
        A line or a plane.

    Returns
    -------
    Plane

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    References
    ----------
    Muller 1959 (uniform directions from normal numbers); Li et al. 2018 (arXiv 1712.09913).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder import dynamics
    >>> plane = dynamics.random_plane(np.ones((28, 28)), seed=1)
    >>> bool(np.allclose(plane.directions @ plane.directions.T, np.eye(2)))
    True
    """
    origin = one_point("x", x)
    count = _dimensions(dimensions, origin.size)
    generator = np.random.default_rng(checks.integer("seed", seed, 0, 2**64 - 1))
    rows = generator.standard_normal((count, origin.size))
    return Plane(origin, orthonormal("x", rows, np.linalg.norm(rows, axis=1)))


@hints.knows_other_names
def hessian_plane(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    dimensions: int = 2,
    loss: str | None = None,
    targeted: bool = False,
    backend: str = "auto",
    threads: int | None = None,
) -> Plane:
    """The plane, or line, through a sample along which the curvature of the loss is largest in magnitude.

    Its directions are the eigenvectors of the input Hessian ``∇²L(x)`` to the eigenvalues of largest magnitude,
    positive or negative, the largest first.  See `curvature_spectrum` for the Hessian.

    Parameters
    ----------
    net : TwoLayerNetwork
    x : float32 or float64 array of ``net.in_features`` numbers, in any shape
        One sample, the origin of the plane.
    y : number or array (k,)
        Its target.
    dimensions : 1 or 2
        A line or a plane.
    loss, targeted
        See `input_gradient`.
    backend, threads
        See `forward`.

    Returns
    -------
    Plane

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; or if the Hessian has fewer eigenvalues that are not zero than
        ``dimensions``, so that it does not choose the directions (relu with one output has at most one).
    ImportError
        If the Hessian is so large that it needs scipy, which is not installed.

    References
    ----------
    Li et al. 2018 (arXiv 1712.09913), who set eigenvalues of the Hessian beside such pictures.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder import dynamics
    >>> net = fo.TwoLayerNetwork(np.eye(3), np.array([1.0, -5.0, 2.0]), activation="quadratic")
    >>> plane = dynamics.hessian_plane(net, np.zeros(3), 1.0, loss="linear")  # the loss is x₁² - 5 x₂² + 2 x₃²
    >>> np.abs(plane.directions)
    array([[0., 1., 0.],
           [0., 0., 1.]])
    """
    validate.network(net)
    origin = one_point("x", one_sample(net, x))
    count = _dimensions(dimensions, net.in_features)
    rows = validate.points("x", origin[None], net.in_features).rows
    (hessian,) = input_hessians(net, rows, one_target(y), loss, targeted, backend, threads)
    values, vectors = hessian.largest_in_magnitude(count)
    if abs(values[-1]) <= DEPENDENT * abs(values[0]) or values[0] == 0:
        nonzero = int(np.count_nonzero(np.abs(values) > DEPENDENT * abs(values[0])))
        raise ValueError(
            f"x: expected a point where the Hessian of the loss has at least {count} eigenvalues that are not zero, to "
            f"choose as many directions, got {nonzero}; use random_plane or plane_along"
        )
    return Plane(origin, orthonormal("x", vectors, np.ones(count)))


@hints.knows_other_names
def trajectory_plane(trajectory: Array, *, dimensions: int = 2) -> Plane:
    """The principal plane, or line, of a trajectory: of all, the one that its iterates lie nearest to.

    It goes through their mean, along the leading right singular vectors of the centred iterates, and minimises the sum
    of squared distances.  u and v point the way that the trajectory goes from its first iterate to its last.

    Parameters
    ----------
    trajectory : float32 or float64 array (steps + 1, ...)
        One iterate of d numbers a row.  Rows that are NaN throughout, after an early end, are left out.
    dimensions : 1 or 2
        A line or a plane.

    Returns
    -------
    Plane

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value, or the iterates lie on one line (or are one point).

    References
    ----------
    Eckart & Young 1936; Li et al. 2018 (arXiv 1712.09913), section 7.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder import dynamics
    >>> path = np.array([[0.0, 0.0, 1.0], [2.0, 0.0, 1.0], [4.0, 1.0, 1.0]])
    >>> dynamics.trajectory_plane(path).distances(path).round(12)
    array([0., 0., 0.])
    """
    rows = iterates("trajectory", trajectory)
    count = _dimensions(dimensions, rows.shape[1])
    if len(rows) <= count:
        raise ValueError(f"trajectory: expected more than {count} iterates, got {len(rows)}")
    mean = rows.mean(axis=0)
    _, sizes, vectors = np.linalg.svd(rows - mean, full_matrices=False)
    scale = max(sizes[0], np.abs(rows).max() * np.sqrt(rows.size) * np.finfo(np.float64).eps / DEPENDENT)
    if count > len(sizes) or sizes[count - 1] <= DEPENDENT * scale:
        raise ValueError(not_spanned("trajectory", count))
    directions = vectors[:count]
    return Plane(mean, directions * np.where(directions @ (rows[-1] - rows[0]) < 0, -1.0, 1.0)[:, None])


@hints.knows_other_names
def three_point_plane(first: Array, second: Array, third: Array) -> Plane:
    """The plane through three points, such as the end points of three attacks; its origin is their mean.

    u points from the first to the second.  The mean of points of a ball (or box) lies in it, so the plane meets it.

    Parameters
    ----------
    first, second, third : float32 or float64 arrays of d numbers, in any shape

    Returns
    -------
    Plane

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value, or the points lie on one line.

    References
    ----------
    Garipov et al. 2018 (arXiv 1802.10026), who draw a loss on the plane through three points.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder import dynamics
    >>> corners = np.eye(3)
    >>> dynamics.three_point_plane(*corners).distances(corners).round(12)
    array([0., 0., 0.])
    """
    points = same_size({"first": first, "second": second, "third": third})
    spans = points[1:] - points[0]
    longest = max(np.linalg.norm(spans, axis=1).max(), np.linalg.norm(points[2] - points[1]))
    return Plane(points.mean(axis=0), orthonormal("points", spans, np.full(2, longest)))


@hints.knows_other_names
def line_through(first: Array, second: Array) -> Plane:
    """The line through two points: the first has coordinate 0, the second their distance.

    Parameters
    ----------
    first, second : float32 or float64 arrays of d numbers, in any shape

    Returns
    -------
    Plane
        With one direction.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value, or the points are the same.

    References
    ----------
    Goodfellow, Vinyals & Saxe 2015 (arXiv 1412.6544), whose profiles of a loss run along such lines.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder import dynamics
    >>> dynamics.line_through(np.zeros(2), np.array([3.0, 4.0])).coordinates([[3.0, 4.0]])
    array([[5.]])
    """
    points = same_size({"first": first, "second": second})
    span = points[1:] - points[0]
    return Plane(points[0], orthonormal("points", span, np.linalg.norm(span, axis=1)))


def _dimensions(value: object, features: int) -> int:
    count = checks.integer("dimensions", value, *DIMENSIONS)
    if count > features:
        raise ValueError(f"dimensions: expected at most the {features} of the space, got {count}")
    return count
