"""What planes are made from: single points, trajectories, targets and bounds as arrays, and orthonormal bases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder import checks, validate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

# A direction of which less than this share is at right angles to the others lies along them within the rounding of
# float32 points (2⁻²⁴ of each coordinate, some times over): the plane would be that rounding's.
DEPENDENT = 1e-6


def one_target(y: ArrayLike) -> Array:
    """The target of one sample, a number or k of them, as a batch of one."""
    array = checks.array("y", y)
    return array.reshape(1) if array.size == 1 else array.reshape(1, -1)


def iterates(name: str, trajectory: Array) -> Array:
    """The iterates (n, d) of a trajectory in float64, without the rows of NaN after its end."""
    rows = validate.floats(name, trajectory)
    if rows.ndim < 2 or not rows.size:
        raise ValueError(f"{name}: expected shape (steps + 1, ...), got {rows.shape}")
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    rows = rows[~np.isnan(rows).all(axis=1)]
    if not len(rows) or not checks.all_finite(rows):
        raise ValueError(f"{name}: expected finite iterates, got NaN or infinity")
    return rows


def flat_bounds(bounds: Any, shape: tuple[int, ...]) -> Any:
    """Bounds of the shape of the sample, as those of a row."""
    if not isinstance(bounds, (tuple, list)):
        return bounds
    return tuple(np.reshape(side, -1) if np.ndim(side) and np.shape(side) == shape else side for side in bounds)


def orthonormal(name: str, rows: Array, scales: Array) -> Array:
    """Orthonormal rows that span the same; refused where a part at right angles is nothing beside its scale."""
    if len(rows) > rows.shape[1]:
        raise ValueError(f"{name}: expected points of at least {len(rows)} numbers, got {rows.shape[1]}")
    basis, triangle = np.linalg.qr(rows.T)
    parts = np.diag(triangle)
    if not (np.abs(parts) > DEPENDENT * scales).all():
        raise ValueError(not_spanned(name, len(rows)))
    return np.ascontiguousarray((basis * np.sign(parts)).T)


def not_spanned(name: str, dimensions: int) -> str:
    """What to say where there is no plane, or no line."""
    if dimensions == 1:
        return f"{name}: expected what spans a line, got points that are the same, or a direction of zero"
    return (
        f"{name}: expected what spans a plane, got what lies on one line (to {DEPENDENT:g} of its length); "
        "for a line use dimensions=1, line_through or one direction"
    )


def one_point(name: str, value: Array) -> Array:
    """One point of d numbers, in float64."""
    point = validate.floats(name, value).reshape(-1).astype(np.float64)
    if not point.size or not checks.all_finite(point):
        raise ValueError(f"{name}: expected a point of finite numbers, got {checks.describe(value)}")
    return point


def one_sample(net: TwoLayerNetwork, value: Array) -> Array:
    """One sample of the network's, in any shape, and not a batch of several."""
    sample = validate.floats("x", value)
    if sample.size != net.in_features:
        several = sample.ndim > 1 and sample[0].size == net.in_features
        hint = "; take one of the batch, x[0] with y[0]; landscapes takes several" if several else ""
        raise ValueError(f"x: expected one sample of {net.in_features} numbers, got shape {sample.shape}{hint}")
    return sample


def same_size(points: dict[str, Array]) -> Array:
    """Points of equal size as rows, in float64."""
    rows = [one_point(name, value) for name, value in points.items()]
    sizes = [row.size for row in rows]
    if len(set(sizes)) > 1:
        raise ValueError(f"{', '.join(points)}: expected points of the same size, got {sizes}")
    return np.stack(rows)
