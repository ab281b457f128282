"""Claim 3, in numbers: at a fixed perturbation ratio, a smaller input scale makes the ascent's landscape more regular."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import pyfirstorder as fo
from pyfirstorder import dynamics
from pyfirstorder.experiments.ascents import ascend, random_problem
from pyfirstorder.experiments.experiment import Cell, Experiment, Judgement, Row, Run, verdict_of
from pyfirstorder.experiments.figures import draw_intervals
from pyfirstorder.experiments.statistics import column, distinct, mean_interval, median_of, where
from pyfirstorder.plots import COLOURS, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from pyfirstorder.experiments.ascents import Problem
    from pyfirstorder.problem import Array

BASE = {"d": 50, "m": 500, "ratio": 0.3}
ACTIVATIONS = ("softplus", "tanh")
# Measures, each of which a more regular landscape has less of.
MEASURES = {
    "median_steps": "median steps to tolerance",
    "bend": "curvature across the ball, ε |λ| / ‖g‖",
    "spread": "distance of end points, share of ε",
    "distinct": "distinct end points of many starts",
}
_SCALES = {
    "quick": (0.1, 1.0, 10.0),
    "default": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    "full": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
}
_COUNTS = {
    "quick": {"samples": 10, "starts": 8, "repetitions": 3, "steps": 300},
    "default": {"samples": 40, "starts": 16, "repetitions": 10, "steps": 2000},
    "full": {"samples": 100, "starts": 64, "repetitions": 30, "steps": 10000},
}


def cells(size: str) -> list[Cell]:
    """All scales with all repetitions."""
    counts = dict(_COUNTS[size])
    repetitions = counts.pop("repetitions")
    return [
        {**BASE, "activation": activation, "scale": scale, **counts, "repetition": repetition}
        for activation in ACTIVATIONS
        for scale in _SCALES[size]
        for repetition in range(repetitions)
    ]


def run(cell: Cell, run: Run) -> list[Row]:
    """The measures of one network at one scale."""
    problem = random_problem(cell, run)
    found = ascend(problem, cell["steps"], run)
    taken = found.trajectories.steps_to_tolerance
    maxima = dynamics.distinct_maxima(
        problem.net,
        problem.x,
        problem.y,
        eps=problem.eps,
        norm="l2",
        starts=cell["starts"],
        steps=cell["steps"],
        loss=problem.loss,
        seed=run.seed,
        backend=run.backend,
        threads=run.threads,
    )
    return [
        {
            **cell,
            "median_steps": median_of(taken, taken < 0),
            "bend": float(np.median(bends(problem, run))),
            "spread": _mean(maxima.spread),
            "distinct": float(maxima.distinct.mean()),
            "converged": float(maxima.converged.mean()),
        }
    ]


def bends(problem: Problem, run: Run) -> Array:
    """``ε |λ| / ‖g‖`` at each sample, λ the eigenvalue of largest magnitude: how much the gradient turns in the ball."""
    options = {"loss": problem.loss, "backend": run.backend, "threads": run.threads}
    _, gradient = fo.input_gradient(problem.net, problem.x, problem.y, **options)
    spectrum = dynamics.curvature_spectrum(problem.net, problem.x, problem.y, **options)
    lengths = np.maximum(np.linalg.norm(gradient, axis=1), np.finfo(np.float64).tiny)
    return np.asarray(problem.eps * np.abs(spectrum).max(axis=1) / lengths)


def _mean(values: Array) -> float | None:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else None


def judge(rows: Sequence[Row]) -> Judgement:
    """Each measure at the smallest scale below that at the largest, beyond the intervals of both."""
    scales = sorted(distinct(rows, "scale"))
    findings, passed, asked = [], 0, 0
    for activation in distinct(rows, "activation"):
        for measure, label in MEASURES.items():
            ends = []
            for scale in (scales[0], scales[-1]):
                chosen = where(rows, activation=activation, scale=scale)
                ends.append(mean_interval([_or_all(row, measure) for row in chosen]))
            small, large = ends
            asked += 1
            passed += small.high < large.low
            findings.append(f"{activation}, {label}: {small} at s = {scales[0]:g}, {large} at s = {scales[-1]:g}")
    findings.append(f"{passed} of {asked} measures are smaller at the smallest scale, beyond both intervals")
    return Judgement(verdict_of(passed, asked), tuple(findings))


def _or_all(row: Row, measure: str) -> float:
    """Steps that were not enough count as all of them."""
    if row[measure] is None:
        return float(row["steps"]) if measure == "median_steps" else float("nan")
    return float(row[measure])


def draw(rows: Sequence[Row], _: Run) -> dict[str, Figure]:
    """Each measure against the scale, a colour for each activation."""
    figure = new_figure(3.1 * len(MEASURES), 3.2)
    panels = figure.subplots(1, len(MEASURES))
    for axes, (measure, label) in zip(panels, MEASURES.items()):
        for activation, colour in zip(distinct(rows, "activation"), COLOURS):
            chosen = where(rows, activation=activation)
            draw_intervals(axes, chosen, "scale", measure, colour, activation)
        if max(column(rows, measure)) > 50 * max(min(column(rows, measure)), 1e-12):
            axes.set_yscale("log")
        axes.set_title(label, fontsize=9, loc="left")
        axes.set_xlabel("input scale s", fontsize=9)
    panels[0].legend(frameon=False, fontsize=8)
    return {"input-scale": figure}


EXPERIMENT = Experiment(
    name="input-scale",
    claim="At a fixed perturbation ratio, a smaller input scale makes the landscape of the loss around a sample more "
    "regular: ascents end sooner, the gradient turns less, and different starts end at the same point.",
    source="Deng et al. 2020, the discussion of input scale",
    design="The random networks and samples of `convergence`, the same at every scale s; ε = ρ s with ρ = 0.3. Measured: "
    "median steps to tolerance; ε |λ|/‖g‖ at the sample with λ the Hessian's eigenvalue of largest magnitude; the largest "
    "distance of converged end points of random starts as a share of ε; how many of them are distinct. Intervals: 95%, "
    "Student's t over networks.",
    criterion="holds: each of the four measures is smaller at the smallest scale than at the largest, beyond both "
    "intervals, for both activations; in part: some are; else it does not hold.",
    cells=cells,
    run=run,
    judge=judge,
    draw=draw,
)
