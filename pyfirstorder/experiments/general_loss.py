"""Claim 4: the findings carry over to other losses and to trained networks; and how good the maxima are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import pyfirstorder as fo
from pyfirstorder import datasets, training
from pyfirstorder.experiments.ascents import Problem, ascend, measure, random_problem
from pyfirstorder.experiments.experiment import Cell, Experiment, Judgement, Row, Run, verdict_of
from pyfirstorder.experiments.figures import draw_intervals
from pyfirstorder.experiments.statistics import column, distinct, mean_interval, where
from pyfirstorder.plots import COLOURS, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

BASE = {"d": 64, "m": 256, "activation": "softplus", "scale": 1.0}
SHARE_ASKED = 0.95
# Loss and network; a trained network is one of the digits with its own loss, or with that of its margin.
KINDS = (
    ("squared", "random"),
    ("logistic", "random"),
    ("cross_entropy", "random"),
    ("cross_entropy", "trained"),
    ("margin", "trained"),
    ("cross_entropy", "trained against adversaries"),
)
_RATIOS = {"quick": (0.1, 0.3), "default": (0.03, 0.1, 0.3), "full": (0.01, 0.03, 0.1, 0.3, 1.0)}
_COUNTS = {
    "quick": {"samples": 20, "repetitions": 3, "steps": 300, "epochs": 3},
    "default": {"samples": 100, "repetitions": 5, "steps": 2000, "epochs": 10},
    "full": {"samples": 400, "repetitions": 20, "steps": 10000, "epochs": 30},
}
_TRAINED_RATIO = 0.1  # of the adversary in training


def cells(size: str) -> list[Cell]:
    """All kinds and ratios with all repetitions."""
    counts = dict(_COUNTS[size])
    repetitions = counts.pop("repetitions")
    return [
        {**BASE, "loss": loss, "network": network, "ratio": ratio, **counts, "repetition": repetition}
        for loss, network in KINDS
        for ratio in _RATIOS[size]
        for repetition in range(repetitions)
    ]


def run(cell: Cell, run: Run) -> list[Row]:
    """Verdicts on the end points, and what they attained of the certified bound."""
    problem = _problem(cell, run)
    return [{**cell, **measure(problem, cell["steps"], run), "attained": attained(problem, cell["steps"], run)}]


def attained(problem: Problem, steps: int, run: Run) -> float | None:
    """The median of (attained - clean) / (bound - clean): at least this share of the maximum's rise was found."""
    options: dict[str, Any] = {"loss": problem.loss, "backend": run.backend, "threads": run.threads}
    end = ascend(problem, steps, run).trajectories.result
    clean = fo.input_gradient(problem.net, problem.x, problem.y, **options)[0]
    bound = fo.certify(problem.net, problem.x, problem.y, eps=problem.eps, norm="l2", **options).bound
    rise, room = end.best_loss - clean, bound - clean
    kept = (room > 0) & np.isfinite(room)
    return float(np.median(rise[kept] / room[kept])) if kept.any() else None


def _problem(cell: Cell, run: Run) -> Problem:
    if cell["network"] != "random":
        return _digits(cell, run)
    problem = random_problem(cell, run, cell["loss"])
    if cell["loss"] != "cross_entropy":
        return problem
    rng = np.random.default_rng([run.seed, cell["repetition"], 1])
    classes = 10
    net = fo.TwoLayerNetwork(
        problem.net.hidden_weight,
        rng.choice([-1.0, 1.0], (classes, cell["m"])) / np.sqrt(cell["m"]),
        activation=cell["activation"],
    )
    return problem._replace(net=net, y=rng.integers(0, classes, len(problem.x)))


def _digits(cell: Cell, run: Run) -> Problem:
    """Digits of length s that the network was not trained on."""
    data = datasets.load("digits")
    seed = run.seed + cell["repetition"]
    order = np.random.default_rng([run.seed, cell["repetition"]]).permutation(len(data.x))
    x: Array = np.asarray(data.x, np.float64)[order]
    x *= cell["scale"] / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.asarray(data.y)[order]
    held = cell["samples"]
    net = _trained(x[held:], y[held:], cell, seed, run)
    return Problem(net, x[:held], y[:held], cell["ratio"] * cell["scale"], cell["loss"])


def _trained(x: Array, y: Array, cell: Cell, seed: int, run: Run) -> TwoLayerNetwork:
    adversary = {"eps": _TRAINED_RATIO * cell["scale"], "norm": "l2", "steps": 7}
    return training.train(
        x,
        y,
        hidden_features=cell["m"],
        activation=cell["activation"],
        epochs=cell["epochs"],
        learning_rate=1e-2,
        dtype=np.float64,
        seed=seed,
        adversary=adversary if cell["network"].endswith("adversaries") else None,
        backend=run.backend,
        threads=run.threads,
    ).network


def judge(rows: Sequence[Row]) -> Judgement:
    """Shares of maxima for each kind and ratio; what was attained of the bound is told beside them."""
    findings, passed, asked = [], 0, 0
    for loss, network in KINDS:
        for ratio in distinct(rows, "ratio"):
            chosen = where(rows, loss=loss, network=network, ratio=ratio)
            if not chosen:
                continue
            share = mean_interval(column(chosen, "maxima"))
            steps = mean_interval(column(chosen, "median_steps"))
            of_bound = mean_interval(column(chosen, "attained"))
            asked += 1
            passed += share.mean >= SHARE_ASKED
            findings.append(
                f"{loss}, {network} network, ρ = {ratio:g}: {share} of the end points are certified maxima after {steps} "
                f"steps; they attain {of_bound} of the way to the certified bound"
            )
    return Judgement(verdict_of(passed, asked), tuple(findings))


def draw(rows: Sequence[Row], _: Run) -> dict[str, Figure]:
    """Shares of maxima and of the bound against the ratio."""
    quantities = {"maxima": "share of certified maxima", "attained": "attained, share of the way to the bound"}
    figure = new_figure(9.6, 4.2)
    for axes, (name, label) in zip(figure.subplots(1, 2), quantities.items()):
        for i, (loss, network) in enumerate(KINDS):
            chosen = where(rows, loss=loss, network=network)
            colour = COLOURS[i % len(COLOURS)]
            draw_intervals(axes, chosen, "ratio", name, colour, f"{loss.replace('_', ' ')}, {network}")
            axes.lines[-1].set_linestyle("-" if i < len(COLOURS) else "--")
        axes.set_title(label, fontsize=10, loc="left")
        axes.set_xlabel("perturbation ratio ρ")
        axes.set_ylim(-0.03, 1.03)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return {"general-loss": figure}


EXPERIMENT = Experiment(
    name="general-loss",
    claim="The findings carry over from the squared loss to others, and from random to trained networks.",
    source="Deng et al. 2020, the experiments with general losses",
    design="softplus networks of 256 units: random ones with squared, logistic and cross-entropy loss, and ones trained "
    "on digits, plainly and against ℓ2 adversaries; samples that were not trained on, of length 1; ε = ρ. End points are "
    "certified as in `convergence`, and compared with the certified upper bound of the loss. Intervals: 95%, Student's t "
    "over networks.",
    criterion=f"holds: at least {SHARE_ASKED:.0%} of the end points are certified maxima for every loss, network and "
    "ratio; in part: for some; else it does not hold.",
    cells=cells,
    run=run,
    judge=judge,
    draw=draw,
)
