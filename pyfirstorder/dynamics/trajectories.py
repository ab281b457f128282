"""The whole ascent of each sample, recorded by the engine: what `trace` gives back.

Per iterate ``δ_t`` with gradient ``g_t``: the loss, ``‖g_t‖₂``, ``‖δ_t‖₂``, ``cos∠(g_t, δ_t)`` and the
projected-gradient residual ``‖P(δ_t + g_t) - δ_t‖₂``, which is zero exactly at first-order stationary points.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pyfirstorder import boxes, checks, hints, validate
from pyfirstorder.arrays import in_main_memory, place_of
from pyfirstorder.ascent import ascent_of
from pyfirstorder.dynamics.tolerance import tolerances
from pyfirstorder.results import as_numpy, in_kind_of, warn_of_ends
from pyfirstorder.settings import DEFAULT_SPARSE_FRACTION, MOST_STEPS
from pyfirstorder.summaries import counted, extent, summarise

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
        The first step t such that the residual is at most tol at iterate t and at all that follow to the end of the
        record, which an early end cuts short; -1 where the last recorded residual is above tol or not a number.
    result : AttackResult
        The attack itself.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder.dynamics import trace
    >>> net = fo.random_network(20, 64, seed=0)
    >>> run = trace(net, np.full((3, 20), 0.1), np.zeros(3), eps=0.1, norm="l2", loss="squared", steps=10)
    >>> run.loss.shape, bool((np.diff(run.loss) >= 0).all())
    ((3, 11), True)
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

    def __repr__(self) -> str:
        samples, iterates = self.loss.shape
        reached = self.steps_to_tolerance[self.steps_to_tolerance >= 0]
        median = f" (median step {np.median(reached):.6g})" if len(reached) else ""
        return summarise(
            "Trajectories",
            counted(samples),
            counted(iterates, "iterate") + ("" if self.iterates is None else f" of shape {self.iterates.shape[2:]}"),
            f"{len(reached)} within tolerance{median}",
            extent("loss", self.loss),
        )


@hints.knows_other_names
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
    sparse_fraction: float = DEFAULT_SPARSE_FRACTION,
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
    """Projected gradient ascent with every iterate recorded, and the steps it took to become stationary.

    The ascent is that of `pyfirstorder.pgd`, ``δ ← P(δ + step_size * direction(∇ₓL))``; at every iterate the engine
    notes L, ``‖g‖₂``, ``‖δ‖₂``, ``cos∠(g, δ)`` and ``‖P(δ + g) - δ‖₂``.

    Parameters
    ----------
    net, x, y, eps, norm, steps, step_size, rel_step_size, direction, sparse_fraction, loss, bounds, targeted
        See `pyfirstorder.pgd`.
    x_init, random_start, seed, sample_offset, momentum, early_stop, progress, backend, threads
        See `pyfirstorder.pgd`.  There are no restarts, of which only one would be left to look at: attack again with
        another seed.
    tol : float or array (B,), optional
        The residual up to which a point counts as stationary, in the units of x.  Default as in `stationarity`.
    iterates : bool
        Also record the points themselves: B (steps + 1) d numbers of the type of x.  An ℓ2 ascent without a box, which
        may run on hidden units otherwise, then runs on input coordinates; its end points agree up to rounding.

    Returns
    -------
    Trajectories

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.
    MemoryError
        If the iterates do not fit the memory that is available.

    Warns
    -----
    UserWarning, ZeroGradientWarning, NotFiniteWarning
        See `pyfirstorder.pgd`.

    References
    ----------
    Deng et al. 2020 (arXiv 2010.10650), whose theorems bound the steps to tolerance.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder.dynamics import trace
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.array([1.0, -1.0]), activation="identity")
    >>> run = trace(net, np.zeros((1, 2)), np.ones(1), eps=0.5, loss="linear", steps=4, step_size=0.25, iterates=True)
    >>> run.residual[0], run.steps_to_tolerance
    (array([0.70710678, 0.35355339, 0.        , 0.        , 0.        ]), array([2]))
    >>> run.iterates[0, :3]
    array([[ 0.  ,  0.  ],
           [ 0.25, -0.25],
           [ 0.5 , -0.5 ]])
    """
    with place_of(x):
        validate.network(net)
        points = validate.points("x", x, net.in_features, on_device=True)
        rows = in_main_memory(points.rows)
        allowed = tolerances(tol, rows, validate.radii("eps", eps, len(rows), rows.dtype))
        if checks.flag("iterates", iterates):
            length = checks.integer("steps", steps, 0, MOST_STEPS) + 1
            _require_memory(
                len(rows) * length * rows.shape[1] * rows.dtype.itemsize, (len(rows), length, rows.shape[1])
            )
        result = ascent_of(
            net,
            x,
            y,
            eps,
            norm=norm,
            steps=steps,
            step_size=step_size,
            rel_step_size=rel_step_size,
            direction=direction,
            sparse_fraction=sparse_fraction,
            loss=loss,
            bounds=bounds,
            targeted=targeted,
            x_init=x_init,
            random_start=random_start,
            seed=seed,
            sample_offset=sample_offset,
            momentum=momentum,
            early_stop=early_stop,
            trace=True,
            keep_iterates=iterates,
            progress=progress,
            backend=backend,
            threads=threads,
        )
        boxes.warn_of_radius(eps, norm, bounds)
        warn_of_ends(as_numpy(result.status)[None], stacklevel=3)  # beyond the decorator
        assert result.trace is not None
        recorded = result.trace
        return Trajectories(
            loss=as_numpy(recorded.loss),
            gradient_norm=as_numpy(recorded.gradient_norm),
            delta_norm=as_numpy(recorded.delta_norm),
            cosine=as_numpy(recorded.cosine),
            residual=as_numpy(recorded.residual),
            iterates=None if result.iterates is None else as_numpy(result.iterates),
            tol=allowed,
            steps_to_tolerance=_steps_to_tolerance(recorded.residual, allowed),
            result=in_kind_of(x, result),
        )


def _steps_to_tolerance(residual: Array, tol: Array) -> Array:
    """The step after the last one above the tolerance, among the recorded; -1 where that was the last one."""
    residual = as_numpy(residual)
    recorded = np.maximum.accumulate(~np.isnan(residual)[:, ::-1], axis=1)[:, ::-1]  # up to the end of the row
    above = recorded & ~(residual <= tol[:, None])
    last = residual.shape[1] - 1 - np.argmax(above[:, ::-1], axis=1)
    first = np.where(above.any(axis=1), last + 1, 0)
    return np.where(first < recorded.sum(axis=1), first, -1).astype(np.int64)


def _require_memory(needed: int, shape: tuple[int, ...]) -> None:
    available = available_memory()
    if available is not None and needed > available:
        raise MemoryError(
            f"iterates: {' x '.join(map(str, shape))} numbers take {needed / 1e9:.3g} GB, and {available / 1e9:.3g} GB "
            "are available; trace fewer samples or steps at once, or pass iterates=False"
        )


def available_memory() -> int | None:
    """Bytes that this machine can give without swapping; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
