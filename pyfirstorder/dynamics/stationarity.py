"""What the end point of an ascent is: a local maximum, a saddle, or no stationary point at all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Bounds, Norm
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array


class Verdict(IntEnum):
    """What a point of the ball is to the loss over the ball."""

    BOUNDARY_MAXIMUM = 0  # a strict local maximum with an active constraint of ball or box
    INTERIOR_MAXIMUM = 1  # a strict local maximum with none
    SADDLE = 2  # stationary, and the loss rises to second order in an allowed direction
    DEGENERATE = 3  # stationary, and second order does not decide
    NOT_STATIONARY = 4


@dataclass(frozen=True, eq=False)
class Stationarity:
    """First- and second-order conditions at B points; float64 arrays of NumPy.

    Attributes
    ----------
    verdict : int8 array (B,)
        A `Verdict` per sample.
    residual : array (B,)
        ``‖P(δ + g) - δ‖₂``.
    tol : array (B,)
        What the residual was compared with.
    multiplier : array (B,)
        μ of the ball (ℓ2: ``g = μ δ/‖δ‖`` on the coordinates that the box leaves free; ℓ1 likewise with the signs); ℓ∞:
        the largest multiplier of its faces; 0 in the interior.
    strictness : array (B,)
        The smallest multiplier of all active constraints (ball and box); infinity where none is active.
    largest_eigenvalue : array (B,)
        λ_max of the projected and shifted Hessian; minus infinity where the constraints leave no direction.
    slack : array (B,)
        ``ε - ‖δ‖_p``, the distance to the sphere.
    free : int64 array (B,)
        Coordinates that no active constraint fixes.
    linear_region : bool
        Whether σ is piecewise linear: then the verdicts speak of the linear region around each point alone.
    """

    verdict: Array
    residual: Array
    tol: Array
    multiplier: Array
    strictness: Array
    largest_eigenvalue: Array
    slack: Array
    free: Array
    linear_region: bool


def stationarity(
    net: TwoLayerNetwork,
    x_adv: Array,
    y: ArrayLike,
    *,
    x0: Array,
    eps: ArrayLike,
    norm: Norm = "l2",
    bounds: Bounds | None = None,
    loss: str | None = None,
    targeted: bool = False,
    tol: ArrayLike | None = None,
    curvature_tol: float = 1e-9,
    method: Literal["auto", "dense", "hidden", "matrix-free"] = "auto",
    backend: str = "auto",
    threads: int | None = None,
) -> Stationarity:
    """The verdict on each end point x_adv of an ascent around x0."""
    raise NotImplementedError
