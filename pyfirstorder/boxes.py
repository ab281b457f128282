"""The argument ``bounds``: the box that adversarial examples stay in, checked and rounded inwards to the type of x.

A radius that makes the ball hold all of the box is warned of here as well.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder import arrays, checks, hints, validate
from pyfirstorder.backends import level_of_caller

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyfirstorder.problem import Array
    from pyfirstorder.validate import Points


_NOT_AN_OVERSHOOT = 2  # points of [0, 1] that were moved stay below it


def bounds(value: object, points: Points, name: str = "x") -> tuple[Array, Array] | None:
    """Lower and upper bound per coordinate, rounded inwards to the type of the points, which must lie inside.

    ``name`` is what the points are called in a message.
    """
    if value is None:
        return None
    rows = points.rows
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"bounds: expected None or a pair (lower, upper), got {checks.describe(value)}")
    try:
        if type(value[0]) in (int, float) and type(value[1]) in (int, float):
            box = _box_of_numbers(value[0], value[1], rows.shape[1], rows.dtype)
        else:
            box = _box(value, points.shape[1:], rows.shape[1], rows.dtype)
    except MemoryError as error:
        raise checks.out_of_memory("bounds", error) from None
    _require_inside(name, points, box)
    return arrays.beside(box.lower, rows), arrays.beside(box.upper, rows)


class _Box(NamedTuple):
    """A box per coordinate: as it was given, rounded to the nearest numbers of a type, and rounded inwards."""

    exact: tuple[Array, Array]
    nearest: tuple[Array, Array]
    lower: Array
    upper: Array


@lru_cache(maxsize=8, typed=True)
def _box_of_numbers(lower: float, upper: float, features: int, dtype: np.dtype[Any]) -> _Box:
    """The box of two numbers, kept for the calls that follow."""
    box = _box((lower, upper), (features,), features, dtype)
    for array in (box.lower, box.upper):
        array.flags.writeable = False
    return box


def _box(value: Sequence[object], sample_shape: tuple[int, ...], features: int, dtype: np.dtype[Any]) -> _Box:
    sides = []
    for which, side in zip(("lower", "upper"), value):
        array = arrays.in_main_memory(checks.array("bounds", side, on_device=True))
        if array.dtype.kind not in "iuf":
            raise TypeError(f"bounds: expected numbers for the {which} bound, got {checks.describe(side)}")
        if array.shape not in ((), sample_shape, (features,)):
            raise ValueError(
                f"bounds: expected a scalar or an array of shape {sample_shape} for the {which} bound, "
                f"got shape {array.shape}"
            )
        if np.isnan(array).any():
            raise ValueError(f"bounds: expected numbers, got NaN in the {which} bound")
        sides.append(np.broadcast_to(array.reshape(-1).astype(np.float64) + 0.0, features))  # no zero with a sign
    lower, upper = sides
    if (lower > upper).any():
        j = int(np.argmax(lower > upper))
        raise ValueError(f"bounds: expected lower <= upper, got {lower[j]} > {upper[j]} at coordinate {j}")
    with np.errstate(over="ignore"):
        near_lower, near_upper = lower.astype(dtype), upper.astype(dtype)
    inside = _inwards(near_lower, lower, np.inf), _inwards(near_upper, upper, -np.inf)
    return _Box((lower, upper), (near_lower, near_upper), *inside)


def _require_inside(name: str, points: Points, box: _Box) -> None:
    """The points, but for those that are marked, must lie between the nearest numbers to the bounds."""
    rows = points.rows
    lower, upper = (arrays.beside(side, rows) for side in box.nearest)
    if checks.every((rows >= lower) & (rows <= upper)):
        return
    outside = (rows < lower) | (rows > upper)
    if points.invalid is not None:
        outside[points.invalid] = False
    if outside.any():
        row, j = divmod(int(np.argmax(outside)), outside.shape[1])
        raise ValueError(
            f"{name}: expected values within bounds, got {rows[row, j]} outside "
            f"[{shown(box.exact[0][j])}, {shown(box.exact[1][j])}] "
            f"first in row {row}, coordinate {j}; {_into_the_box(name, points, box)}"
        )


def shown(bound: float) -> str:
    """The shortest text that is the number itself: a point may lie outside by less than six digits show."""
    short = f"{bound:g}"
    return short if float(short) == bound else repr(float(bound))


def _into_the_box(name: str, points: Points, box: _Box) -> str:
    """What makes points lie inside: images of 0 to 255, or to another number, are divided, others are clipped."""
    rows = points.rows if points.invalid is None else points.rows[~points.invalid]
    largest = float(rows.max())
    is_unit = (box.exact[0] == 0).all() and (box.exact[1] == 1).all()
    divisor = hints.divisor(largest)
    if is_unit and rows.min() >= 0 and largest > _NOT_AN_OVERSHOOT and divisor.is_integer():
        return f"scale {name} into them, {name} / {divisor:g}"
    return f"scale {name} into them, or clip it to them"


def _inwards(rounded: Array, exact: Array, inside: float) -> Array:
    beyond = rounded < exact if inside > 0 else rounded > exact
    return np.ascontiguousarray(np.where(beyond, np.nextafter(rounded, rounded.dtype.type(inside)), rounded))


def warn_of_radius(eps: Any, norm: Any, bounds: Any) -> None:
    """Warn of an ℓ∞ radius that reaches all of the box [0, 1]: that of 8/255 is often written 8.

    Called when the arguments are known to be right.  What it advises is true of every function that has them.
    """
    if bounds is None or (type(eps) in (int, float) and eps <= 1) or validate.norm(norm) != "linf":
        return
    largest = _largest_finite(eps)
    if largest > 1 and all(_is_everywhere(side, value) for side, value in zip(bounds, (0, 1))):
        warnings.warn(
            f"eps: every point of the box [0, 1] is within {largest:g}, which is in units of x: {largest:g} grey "
            f"levels of 255 are eps={largest:g}/255, and the box alone is eps=1",
            stacklevel=level_of_caller(),
        )


def _largest_finite(values: Any) -> float:
    """The largest finite number; 0 where there is none, or where NumPy cannot look at them."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):  # such as numbers on a GPU
        return 0.0
    return float(np.max(array, initial=0.0, where=np.isfinite(array)))


def _is_everywhere(side: Any, value: float) -> bool:
    try:
        return bool(np.all(np.asarray(side) == value))
    except (TypeError, ValueError, RuntimeError):
        return False
