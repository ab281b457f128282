"""Which part of a plane a landscape shows: its axes, the section of ball and box, and what is projected onto it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder import checks
from pyfirstorder.dynamics.planes import DIMENSIONS, Plane

if TYPE_CHECKING:
    from pyfirstorder.dynamics.sections import Region
    from pyfirstorder.problem import Array

_MARGIN = 1.15  # of the section and the trajectories that the default span shows
_ORTHONORMAL = 1e-6  # of scalar products: directions that somebody rounded to float32


class Frame(NamedTuple):
    """What of a plane is looked at, in its coordinates."""

    axes: tuple[Array, ...]
    centre: Array
    boundary: Array | None
    trajectories: tuple[Array, ...]
    off_plane_distances: tuple[Array, ...]
    centre_off_plane_distance: float


def frame_of(plane: Plane, region: Region, paths: list[Array], span: Any, points: int) -> Frame:
    """Axes, and all that is drawn on them, of one plane; ``span`` as in `landscape`."""
    for path in paths:
        if path.shape[1] != len(plane.origin):
            raise ValueError(f"trajectories: expected iterates of {len(plane.origin)} numbers, got {path.shape[1]}")
    centre, boundary = plane.coordinates(region.x0), region.outline(plane)
    projected = tuple(plane.coordinates(path) for path in paths)
    shown = [part for part in (boundary, *projected) if part is not None]
    sides = _sides(span, centre, shown, region.is_bounded())
    axes = tuple(np.linspace(low, high, points) for low, high in sides)
    away = tuple(plane.distances(path) for path in paths)
    return Frame(axes, centre, boundary, projected, away, float(plane.distances(region.x0)))


def _sides(span: Any, centre: Array, shown: list[Array], is_bounded: bool) -> list[tuple[float, float]]:
    """The ends of each axis."""
    if span is None:
        if not shown:
            why = (
                "the plane does not meet ball and box"
                if is_bounded
                else "there is no ball, box or trajectory to take it from"
            )
            raise ValueError(f"span: expected a number, half the width of the grid, because {why}; got None")
        corners = np.concatenate((centre[None], *shown))
        middle = 0.5 * (corners.min(axis=0) + corners.max(axis=0))
        half = _MARGIN * float(np.abs(corners - middle).max())
        if half == 0:
            raise ValueError(
                "span: expected a number, half the width of the grid, because ball and trajectories are one point; "
                "got None"
            )
        return [(float(c) - half, float(c) + half) for c in middle]
    pairs = ", ".join(["(low, high)"] * len(centre))
    wanted = f"a number, half the width of the grid, or lowest and highest coordinates, [{pairs}]"
    array = checks.array("span", span)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"span: expected {wanted}, got {checks.describe(span)}")
    if array.shape not in ((), (len(centre), 2)):
        raise ValueError(f"span: expected {wanted}, got shape {array.shape}")
    sides = np.stack((centre - array, centre + array), axis=1) if array.ndim == 0 else array.astype(np.float64)
    if not np.isfinite(sides).all() or not (sides[:, 0] < sides[:, 1]).all():
        said = "above 0" if array.ndim == 0 else "each low below its high"
        raise ValueError(f"span: expected finite numbers, {said}, got {checks.describe(span)}")
    return [(float(low), float(high)) for low, high in sides]


def checked_planes(planes: Any, count: int, features: int) -> list[Plane]:
    """A checked plane for each sample."""
    if isinstance(planes, Plane) or not all(isinstance(plane, Plane) for plane in planes):
        raise TypeError(f"planes: expected a sequence of {count} planes, got {checks.describe(planes)}")
    if len(planes) != count:
        raise ValueError(f"planes: expected one for each of {count} samples, got {len(planes)}")
    for plane in planes:
        directions = np.asarray(plane.directions)
        if np.shape(plane.origin) != (features,) or directions.shape not in [(n, features) for n in DIMENSIONS]:
            size = np.size(plane.origin)
            is_batch = size > features and size % features == 0
            of_a_batch = "; a plane goes through one sample, x[0] of a batch" if is_batch else ""
            raise ValueError(
                f"plane: expected an origin of {features} numbers and 1 or 2 directions of as many, got shapes "
                f"{np.shape(plane.origin)} and {directions.shape}{of_a_batch}"
            )
        if not np.allclose(directions @ directions.T, np.eye(len(directions)), atol=_ORTHONORMAL, rtol=0):
            raise ValueError("plane: expected orthonormal directions; make them so with plane_along")
    return list(planes)
