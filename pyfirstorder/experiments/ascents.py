"""The paper's ascent on the paper's problems, and what is measured of it.

Networks are `random_network`; samples lie on the sphere of radius s, the *input scale*; the radius of the ball is
ε = ρ s, ρ the *perturbation ratio*.  The ascent follows the gradient itself.  The step size of a sample is
``min(ε / ‖∇L(x)‖, 0.1 / |λ|)``, λ the eigenvalue of largest magnitude of the Hessian at x: one step reaches the sphere
where the gradient hardly changes within the ball, and elsewhere it is far below 2/|λ|, beyond which ascent overshoots.
The tenth leaves room for the curvature to grow along the way, as the residual of the loss does.  A point counts as
stationary where the residual is at most a thousandth of ‖∇L(x)‖ and of ε.  So neither the scale of the loss nor that of
the input decides what is a step or a stationary point.  All of it is float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import pyfirstorder as fo
from pyfirstorder import dynamics
from pyfirstorder.experiments.statistics import median_of

if TYPE_CHECKING:
    from pyfirstorder.experiments.experiment import Row, Run
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array
    from pyfirstorder.results import AttackResult

STATIONARY_SHARE = 1e-3  # of ε and of the gradient at the sample
CURVATURE_SHARE = 0.1  # of 1/|λ|, see above
_TINY = float(np.finfo(np.float64).tiny)


class Problem(NamedTuple):
    """Samples of one network, with the radius of their balls."""

    net: TwoLayerNetwork
    x: Array  # (B, d)
    y: Array
    eps: float
    loss: str
    norm: str = "l2"

    def options(self, run: Run) -> dict[str, Any]:
        """Arguments that all functions of the library share."""
        return {"loss": self.loss, "backend": run.backend, "threads": run.threads}


def random_problem(cell: dict[str, Any], run: Run, loss: str = "squared", norm: str = "l2") -> Problem:
    """The paper's random network and samples on the sphere, keyed by sizes and repetition alone.

    So all scales, ratios and activations of one repetition meet the same weights and directions.
    """
    d, m, repetition = cell["d"], cell["m"], cell["repetition"]
    rng = np.random.default_rng([run.seed, repetition, d, m])
    net = fo.random_network(d, m, activation=cell["activation"], seed=int(rng.integers(2**31)))
    x = rng.standard_normal((cell["samples"], d))
    x *= cell["scale"] / np.linalg.norm(x, axis=1, keepdims=True)
    y = rng.choice([-1.0, 1.0], len(x))
    return Problem(net, x, y, cell["ratio"] * cell["scale"], loss, norm)


class LocalGeometry(NamedTuple):
    """First and second order at the samples."""

    gradient_norm: Array  # (B,), ‖∇L(x)‖
    spectral_norm: Array  # (B,), ‖∇²L(x)‖ = |λ|
    step_to_sphere: Array  # (B,), ε / ‖∇L(x)‖

    @property
    def step_size(self) -> Array:
        """The step size of each sample."""
        return np.minimum(self.step_to_sphere, CURVATURE_SHARE / np.maximum(self.spectral_norm, _TINY))

    @property
    def relative_curvature(self) -> Array:
        """``ε |λ| / ‖∇L(x)‖`` of each sample."""
        return self.spectral_norm * self.step_to_sphere


def local_geometry(problem: Problem, run: Run) -> LocalGeometry:
    """Gradient and curvature at the samples."""
    options = problem.options(run)
    _, gradient = fo.input_gradient(problem.net, problem.x, problem.y, **options)
    length: Array = np.linalg.norm(gradient, axis=1)
    eigenvalues = dynamics.curvature_spectrum(problem.net, problem.x, problem.y, **options)
    return LocalGeometry(length, np.abs(eigenvalues).max(axis=1), problem.eps / np.maximum(length, _TINY))


def ascend(
    problem: Problem, step_size: Array, steps: int, run: Run, tol: Array | None = None, **options: Any
) -> dynamics.Trajectories:
    """The ascent of all samples, recorded."""
    return dynamics.trace(
        problem.net,
        problem.x,
        problem.y,
        eps=problem.eps,
        norm="l2",
        steps=steps,
        step_size=step_size,
        direction="gradient",
        tol=tol,
        seed=run.seed,
        **problem.options(run),
        **options,
    )


def tolerance(problem: Problem, local: LocalGeometry) -> Array:
    """The residual up to which a point counts as stationary."""
    return STATIONARY_SHARE * np.minimum(np.where(local.gradient_norm > 0, local.gradient_norm, np.inf), problem.eps)


def measure(problem: Problem, local: LocalGeometry, steps: int, run: Run) -> tuple[Row, AttackResult]:
    """Shares of the verdicts over end points, median steps to tolerance and residual at the end; and the attack."""
    tol = tolerance(problem, local)
    found = ascend(problem, local.step_size, steps, run, tol)
    verdicts = dynamics.stationarity(
        problem.net,
        found.result.x_adv,
        problem.y,
        x0=problem.x,
        eps=problem.eps,
        norm="l2",
        tol=tol,
        **problem.options(run),
    )
    taken = found.steps_to_tolerance
    shares = {kind.name.lower(): float((verdicts.verdict == kind).mean()) for kind in dynamics.Verdict}
    row = {
        "maxima": shares["boundary_maximum"] + shares["interior_maximum"],
        **shares,
        "median_steps": median_of(taken, taken < 0),
        "within_steps": float((taken >= 0).mean()),
        "residual": float(np.median(verdicts.residual / tol)) * STATIONARY_SHARE,
    }
    return row, found.result
