"""Planes and lines of the input space, on which a landscape is looked at.

A plane is ``{origin + α u + β v}`` with orthonormal u and v, a line the same with u alone.  The directions come from a
QR or a singular value decomposition in float64, whatever the type of the points, so that they are orthonormal to
rounding; where what was given does not span a plane, there is none to choose and that is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder import checks, validate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

# Of the longest direction: one that keeps less than this of its length beside the others is within rounding of float32
# points (2⁻²⁴ of their size, in each coordinate) of lying along them.
DEPENDENT = 1e-6


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


def plane_along(origin: Array, directions: Array) -> Plane:
    """The plane, or line, through a point along given directions, which are made orthonormal in their order."""
    raise NotImplementedError


def random_plane(x: Array, *, seed: int = 0, dimensions: int = 2) -> Plane:
    """A plane (or line) through one sample x (d numbers in any shape), uniformly random in direction."""
    raise NotImplementedError


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
    """The plane through one sample x along the eigenvectors of the loss's input Hessian of largest |λ|."""
    raise NotImplementedError


def trajectory_plane(trajectory: Array, *, dimensions: int = 2) -> Plane:
    """The principal plane of the iterates (steps+1, d); its origin is their mean."""
    raise NotImplementedError


def three_point_plane(first: Array, second: Array, third: Array) -> Plane:
    """The plane through three points, such as end points; its origin is their mean."""
    raise NotImplementedError


def line_through(first: Array, second: Array) -> Plane:
    """The line through two points; ``first`` has coordinate 0."""
    raise NotImplementedError
