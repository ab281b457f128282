"""Points that are judged must lie in ball and box: a verdict on any other would be about a different problem.

What attacks return lies inside, to the last bit, of the arrays that they were given.  What is judged may have been
through a conversion between float64 and float32 since, so a coordinate may leave its face by what that rounds, and a
point the ball by as much again as an iterate stops short of its sphere (`constraints.SHORT_OF_RADIUS`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder.dynamics.constraints import SHORT_OF_RADIUS
from pyfirstorder.dynamics.norms import lengths
from pyfirstorder.dynamics.tolerance import ROUNDINGS

if TYPE_CHECKING:
    from pyfirstorder.problem import Array

_SINGLE = float(np.finfo(np.float32).eps)


def require_feasible(norm: str, x0: Array, x_adv: Array, eps: Array, room: tuple[Array, Array]) -> None:
    """Refuse points x_adv (B, d) outside of the ball of radius eps (B,) around x0, or of the room (B, d) of the box."""
    delta = x_adv - x0
    rounding = ROUNDINGS * _SINGLE * np.maximum(np.abs(x0), np.abs(x_adv))
    length = lengths(norm, delta)
    outside_ball = length > eps * (1 + SHORT_OF_RADIUS) + lengths(norm, rounding)
    with np.errstate(invalid="ignore"):  # where δ is infinite, and so is what it may be
        beyond = np.maximum(delta - room[1], room[0] - delta)
    outside_box = beyond > rounding
    outside = outside_ball | outside_box.any(axis=1)
    if not outside.any():
        return
    row = int(np.argmax(outside))
    if outside_ball[row]:
        place = f"the {norm} ball of radius {eps[row]:g} around x0, got one at distance {length[row]:g}"
        excess = length[row] - eps[row]
        remedy = "norm and eps"
    else:
        j = int(np.argmax(np.where(outside_box[row], beyond[row], -np.inf)))
        place = f"bounds, got {x_adv[row, j]:g} at coordinate {j}"
        excess = beyond[row, j]
        remedy = "bounds"
    raise ValueError(
        f"x_adv: expected points within {place} first in row {row}, {excess:.3g} outside; pass the x0 and {remedy} of "
        "the attack that it comes from, or x0 + pyfirstorder.project(x_adv - x0, x=x0, ...)"
    )
