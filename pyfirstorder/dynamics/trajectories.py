"""The whole ascent of each sample, recorded by the engine: what `trace` gives back.

Per iterate ``δ_t`` with gradient ``g_t``: the loss, ``‖g_t‖₂``, ``‖δ_t‖₂``, ``cos∠(g_t, δ_t)`` and the
projected-gradient residual ``‖P(δ_t + g_t) - δ_t‖₂``, which is zero exactly at the first-order stationary points of the ball.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Bounds, Norm, Progress
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array
    from pyfirstorder.results import AttackResult


@dataclass(frozen=True, eq=False)
class Trajectories:
    """The recorded ascent of B samples over T steps; column t belongs to iterate t, NaN after an early end.

    Attributes
    ----------
    loss, gradient_norm, delta_norm, cosine, residual : float64 array (B, T + 1) of NumPy
        See `pyfirstorder.Trace`.
    iterates : array (B, T + 1, ...) of NumPy, or None
        The points x + δ_t themselves, in the type of x, with ``iterates=True``.
    tol : float64 array (B,)
        The tolerance of each sample.
    steps_to_tolerance : int64 array (B,)
        The first step from which on the residual is at most tol at every recorded iterate, the last one included;
        -1 where the last recorded residual is above it, or is not a number.
    result : AttackResult
        The attack itself.
    """

    loss: Array
    gradient_norm: Array
    delta_norm: Array
    cosine: Array
    residual: Array
    iterates: Array | None
    tol: Array
    steps_to_tolerance: Array
    result: AttackResult


def trace(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    eps: ArrayLike,
    norm: Norm = "linf",
    steps: int = 40,
    tol: ArrayLike | None = None,
    iterates: bool = False,
    step_size: ArrayLike | None = None,
    rel_step_size: float | None = None,
    direction: Literal["gradient", "sign", "normalized", "sparse"] | None = None,
    sparse_fraction: float = 0.05,
    loss: str | None = None,
    bounds: Bounds | None = None,
    targeted: bool = False,
    x_init: Array | None = None,
    random_start: bool | Literal["ball", "sphere"] = False,
    seed: int = 0,
    sample_offset: int = 0,
    momentum: float = 0.0,
    early_stop: bool = False,
    progress: Progress = False,
    backend: str = "auto",
    threads: int | None = None,
) -> Trajectories:
    """Projected gradient ascent with every iterate recorded; arguments as in `pyfirstorder.pgd`."""
    raise NotImplementedError
