"""How regular the loss is over the ball: its curvature, its maxima, how fast its gradient turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Norm
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array


class Maxima(NamedTuple):
    """Where ascents from many starts end, per sample."""

    count: Array  # int (B,), clusters of the end points that converged
    labels: Array  # int (B, S), the cluster of each end point, -1 where it did not converge
    converged: Array  # bool (B, S)
    residual: Array  # float (B, S), see `distinct_maxima`
    loss: Array  # (B, S), at the end points
    x_adv: Array  # (B, S, d), the end points
    spread: Array  # float (B,), the largest distance between end points that converged


class Regularity(NamedTuple):
    """The figures of `regularity`, per sample."""

    spectrum: Array  # (B, n), eigenvalues of the Hessian at x, descending
    end_spectrum: Array  # (B, n), the same at the best end point
    maxima: Maxima
    lipschitz: Array  # (B,), along the segments from x to the end points


def curvature_spectrum(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    top: int | None = None,
    loss: str | None = None,
    targeted: bool = False,
    backend: str = "auto",
    threads: int | None = None,
) -> Array:
    """Eigenvalues (B, top) of the loss's input Hessian at points x (B, ...), descending; all d if top is None."""
    raise NotImplementedError


def distinct_maxima(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    eps: ArrayLike,
    norm: Norm = "l2",
    starts: int = 32,
    steps: int = 500,
    distance: float = 1e-2,
    tol: float = 1e-3,
    **options: Any,
) -> Maxima:
    """How many distinct maxima `pgd` finds from random starts, and which starts converged."""
    raise NotImplementedError


def gradient_lipschitz(
    net: TwoLayerNetwork, paths: Array, y: ArrayLike, *, loss: str | None = None, targeted: bool = False, **options: Any
) -> Array:
    """The largest ``‖∇L(a) - ∇L(b)‖/‖a - b‖`` of consecutive points of each path (B, n, d), as (B,)."""
    raise NotImplementedError


def regularity(
    net: TwoLayerNetwork, x: Array, y: ArrayLike, *, eps: ArrayLike, norm: Norm = "l2", **options: Any
) -> Regularity:
    """All figures at once: spectra at x and at the best end point, distinct maxima, gradient Lipschitz estimate."""
    raise NotImplementedError
