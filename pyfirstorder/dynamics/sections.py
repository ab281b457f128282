"""Where a plane cuts the ball and the box around a sample.

Both are convex, so a straight line has one interval in them.  The mask of a grid and the outline of the section are
made of such intervals, at O(d) a line instead of O(d) a point (O(d log d) for ℓ1, whose norm along a line is a
piecewise-linear function with d kinks).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pyfirstorder.dynamics.planes import Plane
    from pyfirstorder.problem import Array

# Of the radius, or of the box's width where there is no ball: region and plane are rounded, and a coordinate that is 0
# in all points of a plane is 1e-17 in its directions, so that the box would end at every point that touches it.
SLACK = 1e-9
_ANGLES = 360  # of the outline, over half a turn: a corner is cut by at most 0.4% of the radius


class Region(NamedTuple):
    """The points x with ``‖x - x0‖_norm <= eps`` and ``lower <= x <= upper``, in float64."""

    x0: Array  # (d,)
    norm: str
    eps: float  # infinity for no ball
    lower: Array | None  # (d,)
    upper: Array | None

    def chords(self, starts: Array, directions: Array) -> tuple[Array, Array]:
        """The interval of t in which ``starts + t * directions`` lies in the region, for each row.

        ``directions`` are (d,) or (n, d); an interval that is empty has its low end (infinity) above the high one.
        """
        low, high = np.full(len(starts), -np.inf), np.full(len(starts), np.inf)
        directions = np.broadcast_to(directions, starts.shape)
        slack = SLACK * self._size()
        if self.lower is not None and self.upper is not None:
            low, high = _meet((low, high), _between(starts, directions, self.lower - slack, self.upper + slack))
        if math.isfinite(self.eps):
            low, high = _meet((low, high), _IN_BALL[self.norm](starts - self.x0, directions, self.eps + slack))
        empty = low > high
        return np.where(empty, np.inf, low), np.where(empty, -np.inf, high)

    def is_bounded(self) -> bool:
        """Whether there is a ball or a box."""
        return math.isfinite(self.eps) or self.lower is not None

    def _size(self) -> float:
        if math.isfinite(self.eps) or self.lower is None or self.upper is None:
            return self.eps if math.isfinite(self.eps) else 0.0
        widths = self.upper - self.lower
        return float(np.max(widths[np.isfinite(widths)], initial=0.0))

    def mask(self, plane: Plane, axes: tuple[Array, ...]) -> Array:
        """Which points of a grid on the plane, or line, lie in the region."""
        if len(axes) == 1:
            low, high = self.chords(plane.origin[None], plane.directions[0])
            return (low <= axes[0]) & (axes[0] <= high)
        starts = plane.origin + axes[0][:, None] * plane.directions[0]
        low, high = self.chords(starts, plane.directions[1])
        return (low[:, None] <= axes[1]) & (axes[1] <= high[:, None])

    def outline(self, plane: Plane) -> Array | None:
        """The edge of the section as a closed polygon (n, 2) in the plane's coordinates, on a line its ends (2, 1).

        None where the section is not found, or not bounded.  It is looked for from the projection of x0 and from the
        plane's origin, which lies in the region where the origin is a mean of points that do.
        """
        if len(plane.directions) == 1:
            ends = np.concatenate(self.chords(plane.origin[None], plane.directions[0]))
            return ends[:, None] if np.isfinite(ends).all() else None
        for inside in (plane.coordinates(self.x0), np.zeros(2)):
            polygon = self._outline_from(inside, plane)
            if polygon is not None:  # once more from its middle: seen from its edge it would be ill resolved
                return self._outline_from(polygon[:-1].mean(axis=0), plane)
        return None

    def _outline_from(self, inside: Array, plane: Plane) -> Array | None:
        angles = np.pi / _ANGLES * np.arange(_ANGLES)
        turns = np.stack((np.cos(angles), np.sin(angles)), axis=1)
        starts = np.broadcast_to(plane.points(inside), (_ANGLES, len(plane.origin)))
        low, high = self.chords(starts, turns @ plane.directions)
        if not (np.isfinite(low).all() and np.isfinite(high).all()) or (low > 0).any() or (high < 0).any():
            return None
        polygon = inside + np.concatenate((high[:, None] * turns, low[:, None] * turns))
        return np.concatenate((polygon, polygon[:1]))


def _meet(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    return np.maximum(first[0], second[0]), np.minimum(first[1], second[1])


def _between(starts: Array, directions: Array, lower: Array | float, upper: Array | float) -> tuple[Array, Array]:
    """Where ``lower <= starts + t directions <= upper`` in every coordinate."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        one, other = (lower - starts) / directions, (upper - starts) / directions
    still = directions == 0
    inside = (lower <= starts) & (starts <= upper)
    low = np.where(still, np.where(inside, -np.inf, np.inf), np.minimum(one, other))
    high = np.where(still, np.where(inside, np.inf, -np.inf), np.maximum(one, other))
    return low.max(axis=1), high.min(axis=1)


def _in_cube(offsets: Array, directions: Array, eps: float) -> tuple[Array, Array]:
    return _between(offsets, directions, -eps, eps)


def _in_sphere(offsets: Array, directions: Array, eps: float) -> tuple[Array, Array]:
    """Roots of ``‖offset + t direction‖² = eps²``."""
    square = np.sum(directions * directions, axis=1)
    half = np.sum(offsets * directions, axis=1)
    nearest = offsets - (half / square)[:, None] * directions  # its length, where half² - square · rest would cancel
    room = eps * eps - np.sum(nearest * nearest, axis=1)
    half_chord = np.sqrt(np.maximum(room, 0) / square)
    return np.where(room < 0, np.inf, -half / square - half_chord), np.where(
        room < 0, -np.inf, -half / square + half_chord
    )


def _in_cross_polytope(offsets: Array, directions: Array, eps: float) -> tuple[Array, Array]:
    """Where ``Σ |offset + t direction| <= eps``, whose left side is convex and linear between its d kinks.

    Of coordinates that do not move, the kink is put at 0, where the slope does not change.
    """
    moves = directions != 0
    kinks = np.where(moves, -offsets / np.where(moves, directions, 1), 0)
    order = np.argsort(kinks, axis=1)
    kinks = np.take_along_axis(kinks, order, axis=1)
    jumps = 2 * np.take_along_axis(np.abs(directions), order, axis=1)
    after = np.cumsum(jumps, axis=1) - 0.5 * jumps.sum(axis=1, keepdims=True)  # slope to the right of each kink
    first = np.sum(np.abs(offsets + kinks[:, :1] * directions), axis=1, keepdims=True)
    rises = np.cumsum(after[:, :-1] * np.diff(kinks, axis=1), axis=1)
    norms = first + np.concatenate((np.zeros_like(first), rises), axis=1)
    inside = norms <= eps
    rows, width = np.arange(len(kinks)), kinks.shape[1]
    left, right = np.argmax(inside, axis=1), width - 1 - np.argmax(inside[:, ::-1], axis=1)
    before = (after - jumps)[rows, left]
    low = kinks[rows, left] + (eps - norms[rows, left]) / before
    high = kinks[rows, right] + (eps - norms[rows, right]) / after[rows, right]
    some = inside.any(axis=1)
    return np.where(some, low, np.inf), np.where(some, high, -np.inf)


_IN_BALL = {"linf": _in_cube, "l2": _in_sphere, "l1": _in_cross_polytope}
