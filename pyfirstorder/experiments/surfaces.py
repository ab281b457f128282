"""Claim 3, as pictures: the loss on planes through a sample, with ascents on them, against the input scale."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder import dynamics, plots
from pyfirstorder.experiments.ascents import ascend, local_geometry, random_problem
from pyfirstorder.experiments.experiment import Cell, Experiment, Judgement, Row, Run, Table, Verdict
from pyfirstorder.experiments.figures import draw_intervals, logarithmic_axis
from pyfirstorder.experiments.statistics import column, distinct, repetitions_in_words, share_interval, where
from pyfirstorder.plots import COLOURS, new_figure

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
_PICTURE_STEPS, _PICTURE_POINTS = 300, 81


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
        **problem.options(run),
    )
    return [{**cell, "residual_variance": float(np.median([residual_variance(surface) for surface in surfaces]))}]


def residual_variance(surface: Landscape) -> float:
    """1 - R² of the best linear fit to the loss within the ball: the share of its variance that the fit leaves."""
    assert surface.feasible is not None
    first, second = np.meshgrid(*surface.axes, indexing="ij")
    inside = surface.feasible
    values = surface.loss[inside].astype(np.float64)
    terms = np.stack([np.ones(len(values)), first[inside], second[inside]], axis=1)
    rest: Array = values - terms @ np.linalg.lstsq(terms, values, rcond=None)[0]
    return float(rest.var() / values.var()) if values.var() > 0 else 0.0


def judge(rows: Sequence[Row]) -> Judgement:
    """1 - R² at neighbouring scales, and at the ends."""
    scales = sorted(distinct(rows, "scale"))
    found = [share_interval(column(where(rows, scale=scale), "residual_variance")) for scale in scales]
    rises = all(below.mean < above.mean for below, above in pairwise(found))
    apart = found[0].below(found[-1])
    verdict = Verdict.HOLDS if rises and apart else Verdict.IN_PART if apart else Verdict.DOES_NOT_HOLD
    key = f"1 - R² of a linear fit is {found[0].mean:.2g} at s = {scales[0]:g}, {found[-1].mean:.2g} at {scales[-1]:g}"
    steps = sum(below.mean < above.mean for below, above in pairwise(found))
    findings = (
        f"1 - R² rises in {steps} of {len(scales) - 1} steps from one scale to the next",
        f"it is {found[0]} at the smallest scale, s = {scales[0]:g}, {found[-1]} at the largest, s = {scales[-1]:g}",
    )
    lines = tuple((f"{scale:g}", f"{share}") for scale, share in zip(scales, found))
    departures = [] if apart else ["the intervals of the smallest and the largest scale overlap"]
    if not rises:
        departures.append("1 - R² does not rise at every step of the scale")
    table = Table(("s", "residual variance of a linear fit, 1 - R²"), lines)
    return Judgement(verdict, key, findings, tuple(departures), table)


def draw(rows: Sequence[Row], run: Run) -> dict[str, Figure]:
    """The share against the scale; and one sample of the first network at three scales, with an ascent."""
    figure = new_figure(4.8, 3.2)
    axes = figure.subplots()
    draw_intervals(axes, rows, "scale", "residual_variance", COLOURS[0])
    logarithmic_axis(axes)
    axes.set_xlabel("input scale s")
    axes.set_ylabel("residual variance, 1 - R²")
    pictures = {}
    scales = sorted(distinct(rows, "scale"))
    for scale in (scales[0], scales[len(scales) // 2], scales[-1]):
        problem = random_problem({**where(rows, scale=scale)[0], "samples": 1}, run)
        pictures[f"input scale s = {scale:g}"] = picture(problem, run)
    title = "The same network, sample and ratio ρ at three input scales"
    return {"landscape": figure, "landscape-surfaces": plots.landscape_figure(pictures, title=title)}


def picture(problem: Problem, run: Run) -> Landscape:
    """The principal plane of an ascent, with the ascent on it."""
    step_size = local_geometry(problem, run).step_size
    path = ascend(problem, step_size, _PICTURE_STEPS, run, iterates=True, random_start="sphere").iterates
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


def counts(rows: Sequence[Row], run: Run) -> str:
    """What stands behind each figure."""
    first = rows[0]
    points = first["points"]
    return (
        f"At each scale, networks: {repetitions_in_words(rows)}; samples of a network: {first['samples']}, each with "
        f"one random plane, on which the loss is known at the points within the ball of a grid of {points} x {points}. "
        "1 - R² is the median over a network's samples, and each mean and interval is over the networks. The network "
        f"and samples of a repetition come from NumPy's default generator with the seed ({run.seed}, r, d, m), the "
        f"planes with ({run.seed}, r). Second figure: the first sample of repetition {first['repetition']} and one "
        f"ascent of {_PICTURE_STEPS} steps, whose start the library draws with the seed {run.seed}; "
        f"{_PICTURE_POINTS} x {_PICTURE_POINTS} points."
    )


EXPERIMENT = Experiment(
    name="landscape",
    claim="At a fixed perturbation ratio, the surface of the loss within the ball is flatter and simpler at a smaller "
    "input scale.",
    source="Deng et al. 2020, abstract: “more regular” landscape",
    design="tanh networks as in `convergence` (m = 500, d = 50, ρ = 0.3), the same at every scale; random planes "
    "through the samples; the residual variance of the best linear fit to the loss on the plane within the ball, as a "
    "share of the variance there (1 - R², R² the explained variance): 0 on a plane surface. Bars: 95% intervals, "
    "Student's t over networks. The second figure shows, at three scales, the principal plane of one ascent, which "
    "starts at a random point of the sphere. Sample and ascent are drawn by their projections onto that plane; below "
    "each picture stand their off-plane distances. The verdict does not use the second figure.",
    criterion="Holds: 1 - R² rises with the scale at every step, and its intervals at both ends are apart. In part: "
    "the intervals at both ends are apart. Else it does not hold.",
    cells=cells,
    counts=counts,
    run=run,
    judge=judge,
    draw=draw,
)
