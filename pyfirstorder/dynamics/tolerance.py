"""How small a projected-gradient residual must be for a point to count as stationary, where nobody said.

The residual ``‖P(δ + g) - δ‖₂`` is a length in input space, so its tolerance is a share of the radius, plus what the
type of the points loses when x₀ + δ is rounded: without that, end points in float32 on the corners of a small ℓ∞ ball
would count as moving.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder import validate
from pyfirstorder.dynamics.norms import lengths

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.problem import Array

SHARE_OF_RADIUS = 1e-4
ROUNDINGS = 4.0  # units in the last place of each coordinate


def tolerances(tol: ArrayLike | None, x0: Array, eps: Array, rounding: float | None = None) -> Array:
    """One tolerance per sample (B,), float64: as given, or the default for points x0 (B, d) and radii eps (B,).

    ``rounding`` is the unit in the last place of 1 of the points that are judged, where it is not that of x0.
    """
    if tol is not None:
        return validate.per_sample("tol", tol, len(x0))
    length = lengths("l2", x0.astype(np.float64))
    radius = np.where(np.isfinite(eps), eps, np.maximum(length, 1.0))
    unit = float(np.finfo(x0.dtype).eps) if rounding is None else rounding
    return SHARE_OF_RADIUS * radius + ROUNDINGS * unit * length
