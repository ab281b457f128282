"""The paper's ascent on the paper's problems, and what is measured of it.

Networks are `random_network`; samples lie on the sphere of radius s, the *input scale*; the radius of the ball is
ε = ρ s, ρ the *perturbation ratio*.  The ascent follows the gradient itself, with the step size ε / ‖∇L(x)‖ of each
sample, so that neither the scale of the loss nor that of the input matters: its first step reaches the sphere.  A point
counts as stationary where the residual is at most a thousandth of ‖∇L(x)‖ and of ε.  All of it is float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import pyfirstorder as fo
from pyfirstorder import dynamics
from pyfirstorder.experiments.statistics import median_of

if TYPE_CHECKING:
    from pyfirstorder.experiments.experiment import Run
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

STATIONARY_SHARE = 1e-3  # of ε and of the gradient at the sample


class Problem(NamedTuple):
    """Samples of one network, with the radius of their balls."""

    net: TwoLayerNetwork
    x: Array  # (B, d)
    y: Array
    eps: float
    loss: str


def random_problem(cell: dict[str, Any], run: Run, loss: str = "squared") -> Problem:
    """The paper's random network and samples on the sphere, keyed by the repetition alone.

    So all scales, ratios and activations of one repetition meet the same weights and directions.
    """
    d, m, repetition = cell["d"], cell["m"], cell["repetition"]
    rng = np.random.default_rng([run.seed, repetition, d, m])
    net = fo.random_network(d, m, activation=cell["activation"], seed=int(rng.integers(2**31)))
    x = rng.standard_normal((cell["samples"], d))
    x *= cell["scale"] / np.linalg.norm(x, axis=1, keepdims=True)
    y = rng.choice([-1.0, 1.0], len(x))
    return Problem(net, x, y, cell["ratio"] * cell["scale"], loss)


class Ascent(NamedTuple):
    """One run of the ascent: the trajectories, the step size of each sample, the residuals that count as zero."""

    trajectories: dynamics.Trajectories
    step_size: Array
    tol: Array


def ascend(problem: Problem, steps: int, run: Run, iterates: bool = False, random_start: bool = False) -> Ascent:
    """The ascent of all samples, recorded."""
    options: dict[str, Any] = {"loss": problem.loss, "backend": run.backend, "threads": run.threads}
    _, gradient = fo.input_gradient(problem.net, problem.x, problem.y, **options)
    lengths: Array = np.linalg.norm(gradient, axis=1)
    step_size = np.divide(problem.eps, lengths, out=np.full_like(lengths, problem.eps), where=lengths > 0)
    tol = STATIONARY_SHARE * np.where(lengths > 0, np.minimum(lengths, problem.eps), problem.eps)
    trajectories = dynamics.trace(
        problem.net,
        problem.x,
        problem.y,
        eps=problem.eps,
        norm="l2",
        steps=steps,
        step_size=step_size,
        direction="gradient",
        tol=tol,
        iterates=iterates,
        random_start=random_start,
        seed=run.seed,
        **options,
    )
    return Ascent(trajectories, step_size, tol)


def measure(problem: Problem, steps: int, run: Run) -> dict[str, Any]:
    """Shares of the verdicts over end points, and the median of the steps to tolerance."""
    found = ascend(problem, steps, run)
    verdicts = dynamics.stationarity(
        problem.net,
        found.trajectories.result.x_adv,
        problem.y,
        x0=problem.x,
        eps=problem.eps,
        norm="l2",
        loss=problem.loss,
        tol=found.tol,
        backend=run.backend,
        threads=run.threads,
    )
    taken = found.trajectories.steps_to_tolerance
    kinds = dynamics.Verdict
    maxima = np.isin(verdicts.verdict, (kinds.BOUNDARY_MAXIMUM, kinds.INTERIOR_MAXIMUM))
    return {
        "maxima": float(maxima.mean()),
        "boundary": float((verdicts.verdict == kinds.BOUNDARY_MAXIMUM).mean()),
        "saddles": float((verdicts.verdict == kinds.SADDLE).mean()),
        "degenerate": float((verdicts.verdict == kinds.DEGENERATE).mean()),
        "not_stationary": float((verdicts.verdict == kinds.NOT_STATIONARY).mean()),
        "median_steps": median_of(taken, taken < 0),
        "share_within_steps": float((taken >= 0).mean()),
    }
