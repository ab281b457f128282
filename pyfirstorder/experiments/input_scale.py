"""Claim 3, in numbers: at a fixed perturbation ratio, a smaller input scale makes the loss in the ball more regular."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder import dynamics
from pyfirstorder.experiments.ascents import ascend, local_geometry, measure, random_problem, tolerance
from pyfirstorder.experiments.experiment import Cell, Experiment, Judgement, Row, Run, Table, verdict_of
from pyfirstorder.experiments.figures import draw_intervals, logarithmic_axis
from pyfirstorder.experiments.statistics import (
    column,
    distinct,
    mean_interval,
    repetitions_in_words,
    share_interval,
    steps_in_words,
    where,
)
from pyfirstorder.plots import COLOURS, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from pyfirstorder.experiments.statistics import Interval
    from pyfirstorder.problem import Array

BASE = {"d": 50, "m": 500, "ratio": 0.3}
ACTIVATIONS = ("softplus", "tanh")
# Measures, each of which a more regular landscape has less of.
MEASURES = {
    "median_steps": "median steps to tolerance",
    "relative_curvature": "relative curvature, ε |λ| / ‖∇L‖",
    "spread": "spread of end points, share of ε",
    "distinct": "distinct end points",
}
_SCALES = {
    "quick": (0.1, 1.0, 10.0),
    "default": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    "full": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
}
_COUNTS = {
    "quick": {"samples": 5, "starts": 8, "repetitions": 3, "steps": 500},
    "default": {"samples": 30, "starts": 16, "repetitions": 10, "steps": 2000},
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
    local = local_geometry(problem, run)
    measured, _ = measure(problem, local, cell["steps"], run)
    tol = tolerance(problem, local)
    coarse = ascend(problem, local.step_to_sphere, cell["steps"], run, tol).steps_to_tolerance
    maxima = dynamics.distinct_maxima(
        problem.net,
        problem.x,
        problem.y,
        eps=problem.eps,
        norm="l2",
        starts=cell["starts"],
        steps=cell["steps"],
        direction="gradient",
        step_size=np.repeat(local.step_size, cell["starts"]),
        seed=run.seed,
        **problem.options(run),
    )
    # As many as were seen: a sample none of whose ascents converged says nothing about their number.
    seen = maxima.distinct > 0
    return [
        {
            **cell,
            **measured,
            "relative_curvature": float(np.median(local.relative_curvature)),
            "spread": _mean(maxima.spread[seen]),
            "distinct": _mean(maxima.distinct[seen].astype(np.float64)),
            "converged": float(maxima.converged.mean()),
            "coarse_within_steps": float((coarse >= 0).mean()),
        }
    ]


def _mean(values: Array) -> float | None:
    return float(values.mean()) if len(values) else None


def judge(rows: Sequence[Row]) -> Judgement:
    """Each measure at the smallest scale against that at the largest, beyond the intervals of both."""
    scales = sorted(distinct(rows, "scale"))
    findings: list[str] = []
    departures: list[str] = []
    smaller, larger = 0, 0
    activations = distinct(rows, "activation")
    for activation in activations:
        for name, label in MEASURES.items():
            small, large = (_interval(rows, activation, scale, name) for scale in (scales[0], scales[-1]))
            smaller += small.below(large)
            larger += large.below(small)
            told = f"{activation}, {label}: {small} at s = {scales[0]:g}, {large} at s = {scales[-1]:g}"
            if small.below(large):
                findings.append(told)
            else:
                why = "larger at the smaller scale" if large.below(small) else "the intervals overlap"
                departures.append(f"{told}; {why}")
        findings.append(_of_coarse_steps(rows, activation, scales))
    asked = len(MEASURES) * len(activations)
    key = f"{smaller} of {asked} measures smaller at s = {scales[0]:g} than at {scales[-1]:g}, {larger} larger"
    verdict = verdict_of(smaller, asked)
    return Judgement(
        verdict, key, (f"{key}, beyond both intervals", *findings), tuple(departures), _table(rows, scales)
    )


def _interval(rows: Sequence[Row], activation: str, scale: float, measure: str) -> Interval:
    return mean_interval(column(where(rows, activation=activation, scale=scale), measure))


def _of_coarse_steps(rows: Sequence[Row], activation: str, scales: list[float]) -> str:
    shares = (
        f"{_interval(rows, activation, scale, 'coarse_within_steps').mean:.2g} at s = {scale:g}" for scale in scales
    )
    told = f"{activation}, with the step size ε/‖∇L(x)‖ alone, share of ascents that become stationary"
    return f"{told}: {', '.join(shares)}"


def _table(rows: Sequence[Row], scales: list[float]) -> Table:
    lines = []
    for activation in distinct(rows, "activation"):
        for scale in scales:
            chosen = where(rows, activation=activation, scale=scale)
            maxima, converged = (f"{share_interval(column(chosen, name))}" for name in ("maxima", "converged"))
            measured = (f"{_interval(rows, activation, scale, name)}" for name in list(MEASURES)[1:])
            lines.append((activation, f"{scale:g}", maxima, steps_in_words(chosen), *measured, converged))
    return Table(("σ", "s", "certified maxima, share", *MEASURES.values(), "random starts that converge"), tuple(lines))


def draw(rows: Sequence[Row], _: Run) -> dict[str, Figure]:
    """Each measure against the scale, a colour for each activation."""
    figure = new_figure(3.0 * len(MEASURES), 3.2)
    panels = figure.subplots(1, len(MEASURES))
    for axes, (name, label) in zip(panels, MEASURES.items()):
        for activation, colour in zip(distinct(rows, "activation"), COLOURS):
            draw_intervals(axes, where(rows, activation=activation), "scale", name, colour, activation)
        if name in ("median_steps", "relative_curvature"):
            logarithmic_axis(axes)
        else:
            axes.set_ylim(bottom=0)  # intervals may reach below
        axes.set_title(label, fontsize=10, loc="left")
        axes.set_xlabel("input scale s", fontsize=9)
    panels[0].legend(frameon=False, fontsize=9, loc="upper left")
    return {"input-scale": figure}


def counts(rows: Sequence[Row], run: Run) -> str:
    """What stands behind each figure."""
    first = rows[0]
    samples, starts, steps = first["samples"], first["starts"], first["steps"]
    return (
        f"At each activation and scale, networks: {repetitions_in_words(rows)}; samples of a network: {samples}. "
        f"Certified maxima and steps: one ascent from each sample itself, of at most {steps} steps. End points: "
        f"{starts} ascents a sample of {steps} steps, from points drawn uniformly in the ball, {samples * starts} a "
        "network. Steps and relative curvature are medians over a network's samples; distance and number of end points "
        "are means over those of its samples of which an ascent converged. Each mean and interval is over the "
        f"networks. The network and samples of a repetition come from NumPy's default generator with the seed "
        f"({run.seed}, r, d, m); the starts from the library's, with the seed {run.seed}."
    )


EXPERIMENT = Experiment(
    name="input-scale",
    claim="At a fixed perturbation ratio, a smaller input scale makes the landscape of the loss around a sample more "
    "regular.",
    source="Deng et al. 2020, abstract",
    design="The random networks and samples of `convergence`, the same at every scale s, with m = 500 and d = 50; ε = "
    "ρ s with ρ = 0.3. Regular is taken to mean: ascents end after fewer steps; the relative curvature ε |λ|/‖∇L‖ at "
    "the sample is smaller, λ the largest eigenvalue of the Hessian by magnitude; ascents from random starts end "
    "nearer to each other, their spread, the largest distance, as a share of ε; and at fewer distinct points. The "
    "last two count ascents that converged. Bars: 95% intervals, Student's t over networks; ▲ marks networks whose "
    "median lies beyond all steps.",
    criterion="Holds: for both activations all four measures are smaller at the smallest scale than at the largest, "
    "beyond both intervals. In part: some are. Else it does not hold.",
    cells=cells,
    counts=counts,
    run=run,
    judge=judge,
    draw=draw,
)
