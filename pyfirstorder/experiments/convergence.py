"""Claim 1: the ascent finds a local maximum, and soon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyfirstorder.experiments.ascents import measure, random_problem
from pyfirstorder.experiments.experiment import Cell, Experiment, Judgement, Row, Run, verdict_of
from pyfirstorder.experiments.figures import figure_of_sweeps
from pyfirstorder.experiments.statistics import column, distinct, mean_interval, slope_of_logs, where
from pyfirstorder.problem import PIECEWISE_LINEAR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

BASE = {"d": 100, "m": 1000, "activation": "softplus", "ratio": 0.3, "scale": 1.0}
SHARE_ASKED = 0.95  # of end points that are certified
LARGEST_EXPONENT = 1.0  # of the steps in d and m: polynomial, and no worse than linear
# What is varied, one at a time, by size of the run; with the samples of a network, repetitions and steps.
_VARIED: dict[str, dict[str, tuple[Any, ...]]] = {
    "quick": {
        "m": (125, 500, 2000),
        "d": (25, 100, 200),
        "ratio": (0.1, 0.3, 1.0),
        "activation": ("softplus", "tanh", "gelu", "relu"),
        "scale": (0.3, 1.0, 3.0),
    },
    "default": {
        "m": (125, 250, 500, 1000, 2000, 4000),
        "d": (25, 50, 100, 200, 400),
        "ratio": (0.03, 0.1, 0.3, 0.6, 1.0),
        "activation": ("softplus", "tanh", "sigmoid", "erf", "gelu", "silu", "elu", "quadratic", "relu", "leaky_relu"),
        "scale": (0.1, 0.3, 1.0, 3.0, 10.0),
    },
}
_VARIED["full"] = _VARIED["default"] | {"m": (*_VARIED["default"]["m"], 8000, 16000)}
_COUNTS = {
    "quick": {"samples": 20, "repetitions": 3, "steps": 300},
    "default": {"samples": 100, "repetitions": 10, "steps": 2000},
    "full": {"samples": 400, "repetitions": 30, "steps": 10000},
}


def cells(size: str) -> list[Cell]:
    """One factor at a time away from the base, each with all repetitions."""
    counts = dict(_COUNTS[size])
    repetitions = counts.pop("repetitions")
    return [
        {**BASE, factor: value, **counts, "factor": factor, "repetition": repetition}
        for factor, values in _VARIED[size].items()
        for value in values
        for repetition in range(repetitions)
    ]


def run(cell: Cell, run: Run) -> list[Row]:
    """The verdicts on one network."""
    return [{**cell, **measure(random_problem(cell, run), cell["steps"], run)}]


def judge(rows: Sequence[Row]) -> Judgement:
    """Shares of maxima of smooth networks in every setting; growth of the steps with d and m."""
    findings, failing, settings = [], [], 0
    for factor in distinct(rows, "factor"):
        for value in distinct(where(rows, factor=factor), factor):
            chosen = where(rows, factor=factor, **{factor: value})
            if chosen[0]["activation"].partition("(")[0] in PIECEWISE_LINEAR:
                continue
            settings += 1
            share = mean_interval(column(chosen, "maxima"))
            if share.mean < SHARE_ASKED:
                failing.append(f"{factor} = {value}: {share}")
    findings.append(
        f"certified local maxima are at least {SHARE_ASKED:.0%} of the end points in {settings - len(failing)} of "
        f"{settings} settings with a smooth activation"
    )
    findings += [f"below it, {line}" for line in failing]
    exponents = {}
    for factor in ("m", "d"):
        chosen = where(rows, factor=factor)
        steps = [_steps(row) for row in chosen]
        exponents[factor] = slope_of_logs(column(chosen, factor), steps)
        findings.append(f"the median number of steps grows like {factor}^{exponents[factor]:.2f}")
    base = where(rows, factor="m", m=BASE["m"]) or where(rows, factor="ratio", ratio=BASE["ratio"])
    findings.append(f"median steps at the base setting: {mean_interval(column(base, 'median_steps'))}")
    rectified = [row for row in rows if row["activation"].partition("(")[0] in PIECEWISE_LINEAR]
    if rectified:
        findings.append(
            "piecewise-linear activations, whose Hessian is that of the linear region: "
            f"{mean_interval(column(rectified, 'maxima'))} of the end points are maxima of their region"
        )
    shares_hold = 2 * (settings - len(failing)) >= settings
    parts = [not failing, all(exponent <= LARGEST_EXPONENT for exponent in exponents.values())]
    passed = sum(parts) if shares_hold else 0
    return Judgement(verdict_of(passed, len(parts)), tuple(findings))


def _steps(row: Row) -> float:
    """Steps that were not enough count as all of them."""
    return float(row["steps"] if row["median_steps"] is None else max(row["median_steps"], 1.0))


def draw(rows: Sequence[Row], _: Run) -> dict[str, Figure]:
    """Shares and steps against each factor."""
    quantities = {"maxima": "share of certified maxima", "median_steps": "median steps to tolerance"}
    return {"convergence": figure_of_sweeps(rows, tuple(distinct(rows, "factor")), quantities)}


EXPERIMENT = Experiment(
    name="convergence",
    claim="Projected gradient ascent on a random two-layer network with squared loss finds a local maximum of the loss "
    "over the ball in few steps, with high probability.",
    source="Deng et al. 2020, abstract and the theorems on projected gradient ascent",
    design="Random networks (k = 1, W standard normal, output weights ±1/√m) and samples on the sphere of radius s; "
    "ℓ2 ball of radius ε = ρ s; gradient ascent with step size ε/‖∇L(x)‖; one of m, d, ρ, σ and s varied at a time. An "
    "end point is certified by the first-order residual and the largest eigenvalue of the projected Hessian. "
    "Intervals: 95%, Student's t over networks.",
    criterion=f"holds: at least {SHARE_ASKED:.0%} of the end points are certified maxima in every setting with a smooth "
    "activation, and the median steps grow no faster than linearly in m and in d; in part: one of both, and the first "
    "in at least half of the settings; else it does not hold.",
    cells=cells,
    run=run,
    judge=judge,
    draw=draw,
)
