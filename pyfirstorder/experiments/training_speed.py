"""Claim 2: at a fixed perturbation ratio, adversarial training converges faster where the input scale is smaller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import pyfirstorder as fo
from pyfirstorder import datasets, training
from pyfirstorder.experiments.experiment import Cell, Experiment, Judgement, Row, Run, Verdict
from pyfirstorder.experiments.figures import draw_intervals
from pyfirstorder.experiments.statistics import column, distinct, mean_interval, where
from pyfirstorder.plots import COLOURS, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from pyfirstorder.experiments.statistics import Interval
    from pyfirstorder.problem import Array

BASE = {"m": 256, "ratio": 0.1, "activation": "softplus", "attack_steps": 10}
# Learning rates are these over s²: the gradient in W grows like s, and what it does to the output like s again, so
# that one rate for all scales would compare step sizes, not landscapes.
RATES = (0.03, 0.1, 0.3, 1.0)
_SCALES = {"quick": (0.3, 3.0), "default": (0.1, 0.3, 1.0, 3.0, 10.0), "full": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)}
_COUNTS = {
    "quick": {"samples": 200, "repetitions": 3, "epochs": 5},
    "default": {"samples": 1000, "repetitions": 5, "epochs": 20},
    "full": {"samples": 1797, "repetitions": 20, "epochs": 100},
}
_BATCH = 50


def cells(size: str) -> list[Cell]:
    """All scales and rates with all repetitions."""
    counts = dict(_COUNTS[size])
    repetitions = counts.pop("repetitions")
    return [
        {**BASE, "scale": scale, "rate": rate, **counts, "repetition": repetition}
        for scale in _SCALES[size]
        for rate in RATES
        for repetition in range(repetitions)
    ]


def digits_on_sphere(scale: float, samples: int, seed: list[int]) -> tuple[Array, Array]:
    """Centred digits, each brought to length s, and +1 for even and -1 for odd ones."""
    data = datasets.load("digits")
    chosen = np.random.default_rng(seed).permutation(len(data.x))[:samples]
    x = np.asarray(data.x, np.float64)[chosen]
    x -= x.mean(axis=0)
    x *= scale / np.linalg.norm(x, axis=1, keepdims=True)
    return x, np.where(np.asarray(data.y)[chosen] % 2 == 0, 1.0, -1.0)


def run(cell: Cell, run: Run) -> list[Row]:
    """One training, a row for each epoch: the adversarial loss, and its share of what it was before the first."""
    seed = [run.seed, cell["repetition"]]
    x, y = digits_on_sphere(cell["scale"], cell["samples"], seed)
    start = fo.random_network(x.shape[1], cell["m"], activation=cell["activation"], seed=sum(seed))
    adversary = {
        "eps": cell["ratio"] * cell["scale"],
        "norm": "l2",
        "steps": cell["attack_steps"],
        "direction": "normalized",
    }
    before = fo.pgd(start, x, y, loss="squared", backend=run.backend, threads=run.threads, **adversary)
    result = training.train(
        x,
        y,
        network=start,
        trained="first",
        biases=False,
        loss="squared",
        dtype=np.float64,
        optimizer="sgd",
        learning_rate=cell["rate"] / cell["scale"] ** 2,
        epochs=cell["epochs"],
        batch_size=_BATCH,
        seed=run.seed + cell["repetition"],
        adversary=adversary,
        backend=run.backend,
        threads=run.threads,
    )
    at_start = float(before.loss.mean())
    losses = [at_start, *(epoch.train_loss for epoch in result.history)]
    return [
        {**cell, "epoch": epoch, "loss": _finite(loss), "share": _finite(loss / at_start)}
        for epoch, loss in enumerate(losses)
    ]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def judge(rows: Sequence[Row]) -> Judgement:
    """The share of the loss that is left at the end, each scale at its best rate."""
    scales = sorted(distinct(rows, "scale"))
    best = {scale: best_rate(rows, scale) for scale in scales}
    findings = [
        f"s = {scale:g}: {left} of the adversarial loss is left after {rows[0]['epochs']} epochs, at its best rate {rate:g}/s²"
        for scale, (rate, left) in best.items()
    ]
    small, large = best[scales[0]][1], best[scales[-1]][1]
    verdict = Verdict.DOES_NOT_HOLD
    if small.mean < large.mean:
        verdict = Verdict.HOLDS if small.high < large.low else Verdict.IN_PART
    return Judgement(verdict, tuple(findings))


def best_rate(rows: Sequence[Row], scale: float) -> tuple[float, Interval]:
    """The rate with the least mean share left at the last epoch; a training that diverged counts as infinite."""
    last = where(rows, scale=scale, epoch=rows[0]["epochs"])
    found = {}
    for rate in distinct(last, "rate"):
        shares = column(where(last, rate=rate), "share")
        if np.isfinite(shares).all():
            found[rate] = mean_interval(shares)
    if not found:
        return float("nan"), mean_interval([])
    rate = min(found, key=lambda each: found[each].mean)
    return rate, found[rate]


def draw(rows: Sequence[Row], _: Run) -> dict[str, Figure]:
    """The share that is left against the epoch, each scale at its best rate."""
    figure = new_figure(6.4, 4.0)
    axes = figure.subplots()
    for i, scale in enumerate(sorted(distinct(rows, "scale"))):
        rate, _interval = best_rate(rows, scale)
        chosen = [row for row in where(rows, scale=scale, rate=rate) if row["share"] is not None]
        if chosen:
            label = f"s = {scale:g}, rate {rate:g}/s²"
            draw_intervals(axes, chosen, "epoch", "share", COLOURS[i % len(COLOURS)], label)
    axes.set_xscale("linear")
    axes.set_yscale("log")
    axes.set_xlabel("epoch of adversarial training")
    axes.set_ylabel("adversarial loss, share of that before")
    axes.legend(frameon=False, fontsize=8)
    return {"training": figure}


EXPERIMENT = Experiment(
    name="training",
    claim="At a fixed perturbation ratio, adversarial training of the first layer with squared loss converges faster "
    "where the input scale is smaller.",
    source="Deng et al. 2020, the theorem on adversarial training and its experiments",
    design="Even against odd digits (scikit-learn), centred, each of length s; random networks of 256 softplus units, "
    "first layer trained by SGD on ℓ2 adversaries of ten normalised steps with ε = 0.1 s; learning rates c/s² for four "
    "c, of which each scale has its best. Intervals: 95%, Student's t over networks and samples.",
    criterion="holds: the share of the adversarial loss that is left at the last epoch is smaller at the smallest scale "
    "than at the largest, beyond both intervals; in part: it is smaller within them; else it does not hold.",
    cells=cells,
    run=run,
    judge=judge,
    draw=draw,
)
