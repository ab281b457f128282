"""The loss on a plane of the input space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Bounds, Norm
    from pyfirstorder.dynamics.planes import Plane
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array


@dataclass(frozen=True, eq=False)
class Landscape:
    """The loss at the points of a grid on a plane or line.

    Attributes
    ----------
    plane : Plane
    axes : tuple of arrays (p,)
        Coordinates of the grid along each direction; one array for a line.
    loss : array (p, p), or (p,) on a line
        ``loss[i, j]`` at ``origin + axes[0][i] u + axes[1][j] v``.
    centre : array (2,) or (1,)
        Coordinates of the sample's projection.
    feasible : bool array of the shape of loss, or None
        Whether the point lies in ball and box; None without either.
    boundary : array (n, 2) or None
        The edge of ball and box on the plane, a closed line; on a line its two ends (2, 1).
    output : array (p, p, k) or None
    gradient : array (p, p, 2) or None
        The gradient's part in the plane.
    trajectories : tuple of arrays (steps+1, 2)
        Coordinates of the projected trajectories.
    distances : tuple of arrays (steps+1,)
        How far each iterate lies from the plane.
    loss_name, eps, norm
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
    distances: tuple[Array, ...]
    loss_name: str
    eps: float | None
    norm: str


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
    points: int = 201,
    loss: str | None = None,
    targeted: bool = False,
    output: bool = False,
    gradient: bool = False,
    trajectories: Sequence[Array] = (),
    backend: str = "auto",
    threads: int | None = None,
) -> Landscape:
    """The loss of one sample (x of d numbers, y its target) on a plane; span: half-width, or ((low, high), ...)."""
    raise NotImplementedError


def landscapes(net: TwoLayerNetwork, x: Array, y: ArrayLike, planes: Sequence[Plane], **options: Any) -> list[Landscape]:
    """`landscape` of several samples x (B, ...), y (B,), one plane each."""
    raise NotImplementedError
