"""Claim 3, as pictures: the loss on planes through a sample, with ascents on them, against the input scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder import dynamics, plots
from pyfirstorder.experiments.ascents import ascend, random_problem
from pyfirstorder.experiments.experiment import Cell, Experiment, Judgement, Row, Run, Verdict
from pyfirstorder.experiments.statistics import column, distinct, mean_interval, where

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from pyfirstorder.dynamics import Landscape
    from pyfirstorder.experiments.ascents import Problem
    from pyfirstorder.problem import Array

BASE = {"d": 50, "m": 500, "ratio": 0.3, "activation": "tanh"}
_SCALES = {"quick": (0.3, 1.0, 10.0), "default": (0.1, 0.3, 1.0, 3.0, 10.0), "full": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)}
_COUNTS = {
    "quick": {"samples": 5, "repetitions": 3, "points": 41},
    "default": {"samples": 30, "repetitions": 10, "points": 101},
    "full": {"samples": 100, "repetitions": 30, "points": 201},
}
_PICTURE_STEPS, _PICTURE_POINTS = 100, 121


def cells(size: str) -> list[Cell]:
    """All scales with all repetitions."""
    counts = dict(_COUNTS[size])
    repetitions = counts.pop("repetitions")
    return [
        {**BASE, "scale": scale, **counts, "repetition": repetition}
        for scale in _SCALES[size]
        for repetition in range(repetitions)
    ]


def run(cell: Cell, run: Run) -> list[Row]:
    """How far the loss on random planes of the ball is from a plane itself."""
    problem = random_problem(cell, run)
    rng = np.random.default_rng([run.seed, cell["repetition"]])
    planes = [dynamics.random_plane(x, seed=int(rng.integers(2**31))) for x in problem.x]
    surfaces = dynamics.landscapes(
        problem.net,
        problem.x,
        problem.y,
        planes,
        eps=problem.eps,
        points=cell["points"],
        loss=problem.loss,
        backend=run.backend,
        threads=run.threads,
    )
    return [{**cell, "unexplained": float(np.median([unexplained(surface) for surface in surfaces]))}]


def unexplained(surface: Landscape) -> float:
    """The share of the variance of the loss within the ball that its best linear fit leaves."""
    assert surface.feasible is not None
    first, second = np.meshgrid(*surface.axes, indexing="ij")
    inside = surface.feasible
    values = surface.loss[inside].astype(np.float64)
    terms = np.stack([np.ones(len(values)), first[inside], second[inside]], axis=1)
    rest: Array = values - terms @ np.linalg.lstsq(terms, values, rcond=None)[0]
    return float(rest.var() / values.var()) if values.var() > 0 else 0.0


def judge(rows: Sequence[Row]) -> Judgement:
    """The unexplained share at neighbouring scales, and at the ends."""
    scales = sorted(distinct(rows, "scale"))
    found = [mean_interval(column(where(rows, scale=scale), "unexplained")) for scale in scales]
    findings = [f"share of the variance that a linear fit leaves at s = {s:g}: {i}" for s, i in zip(scales, found)]
    rises = all(below.mean <= above.mean for below, above in zip(found, found[1:]))
    apart = found[0].high < found[-1].low
    verdict = Verdict.HOLDS if rises and apart else Verdict.IN_PART if apart else Verdict.DOES_NOT_HOLD
    return Judgement(verdict, tuple(findings))


def draw(rows: Sequence[Row], run: Run) -> dict[str, Figure]:
    """One sample of the first network at every scale: a plane through the end points of three ascents."""
    pictures = {}
    for scale in sorted(distinct(rows, "scale")):
        problem = random_problem({**where(rows, scale=scale)[0], "samples": 1}, run)
        pictures[f"input scale s = {scale:g}"] = picture(problem, run)
    return {"landscape": plots.landscape_figure(pictures, title="the same sample and ratio ρ at every input scale")}


def picture(problem: Problem, run: Run) -> Landscape:
    """The principal plane of an ascent, with the ascent on it."""
    path = ascend(problem, _PICTURE_STEPS, run, iterates=True, random_start=True).trajectories.iterates
    assert path is not None
    return dynamics.landscape(
        problem.net,
        problem.x[0],
        problem.y[0],
        dynamics.trajectory_plane(path[0]),
        eps=problem.eps,
        points=_PICTURE_POINTS,
        loss=problem.loss,
        trajectories=[path[0]],
        backend=run.backend,
        threads=run.threads,
    )


EXPERIMENT = Experiment(
    name="landscape",
    claim="At a fixed perturbation ratio, the surface of the loss in the ball becomes flatter and simpler as the input "
    "scale falls.",
    source="Deng et al. 2020, the figures of loss surfaces",
    design="tanh networks as in `convergence`, the same at every scale; random planes through the samples; the share of "
    "the variance of the loss within the ball that the best linear fit leaves. The picture shows the principal plane of "
    "one ascent from a random start. Intervals: 95%, Student's t over networks.",
    criterion="holds: the share rises with the scale at every step and its intervals at both ends are apart; in part: "
    "the intervals at both ends are apart; else it does not hold.",
    cells=cells,
    run=run,
    judge=judge,
    draw=draw,
)
