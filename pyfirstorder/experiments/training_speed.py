"""Claim 2: at a fixed perturbation ratio, adversarial training converges faster where the input scale is smaller."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import pyfirstorder as fo
from pyfirstorder import datasets, training
from pyfirstorder.experiments.experiment import Cell, Experiment, Judgement, Row, Run, Table, verdict_of
from pyfirstorder.experiments.figures import draw_intervals, logarithmic_axis
from pyfirstorder.experiments.statistics import (
    Interval,
    column,
    distinct,
    mean_interval,
    repetitions_in_words,
    where,
)
from pyfirstorder.plots import COLOURS, new_figure, style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from pyfirstorder.problem import Array
    from pyfirstorder.training import Epoch

# tanh, whose outputs stay of the same order at every scale: losses before training would be thousands of times apart.
BASE = {"m": 256, "ratio": 0.1, "activation": "tanh", "attack_steps": 10}
# A learning rate is c / s²: the gradient in W grows like s, and what it does to the output like s again, so that the
# same few c serve all scales.  They go beyond the best c of each scale on both sides (of 24 epochs: 0.3 or 100 at
# s = 0.1, without overshoot or with it, 3000 to 30000 at s = 10); one rate for all scales is shown beside them.
OWN, SHARED = "own", "shared"
_SHARED_RATE = 0.3
_RATES = {
    "quick": (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0),
    "default": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0, 30000.0, 100000.0),
    "full": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0, 30000.0, 100000.0, 300000.0),
}
_SCALES = {"quick": (0.3, 3.0), "default": (0.1, 0.3, 1.0, 3.0, 10.0), "full": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)}
_COUNTS = {
    "quick": {"samples": 200, "repetitions": 3, "epochs": 12},
    "default": {"samples": 1000, "repetitions": 6, "epochs": 24},
    "full": {"samples": 1797, "repetitions": 20, "epochs": 100},
}
_BATCH = 50
# The losses before training are not the same at all scales, so neither is fair alone: the loss favours those that begin
# with less, its share those that begin with more.
MEASURES = {"loss": "adversarial loss", "share": "adversarial loss, share of that before training"}
_INITIAL_PHASE = 4  # a fourth of the epochs, but more than the first
_WITHOUT_OUTPUT = 0.5  # the squared loss of an output of zero


def cells(size: str) -> list[Cell]:
    """All scales and rates with all repetitions."""
    counts = dict(_COUNTS[size])
    repetitions = counts.pop("repetitions")
    return [
        {**BASE, "scale": scale, "rates": rates, "rate": rate, **counts, "repetition": repetition}
        for scale in _SCALES[size]
        for rates, values in ((OWN, _RATES[size]), (SHARED, (_SHARED_RATE,)))
        for rate in values
        for repetition in range(repetitions)
    ]


def digits_on_sphere(scale: float, samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Centred digits, each brought to length s, and +1 for even and -1 for odd ones."""
    data = datasets.load("digits")
    chosen = rng.permutation(len(data.x))[:samples]
    x = np.asarray(data.x, np.float64)[chosen]
    x -= x.mean(axis=0)
    x *= scale / np.linalg.norm(x, axis=1, keepdims=True)
    return x, np.where(np.asarray(data.y)[chosen] % 2 == 0, 1.0, -1.0)


def run(cell: Cell, run: Run) -> list[Row]:
    """One training, a row for each epoch: the mean adversarial loss; that before the first is of epoch 0."""
    rng = np.random.default_rng([run.seed, cell["repetition"]])
    x, y = digits_on_sphere(cell["scale"], cell["samples"], rng)
    start = fo.random_network(x.shape[1], cell["m"], activation=cell["activation"], seed=int(rng.integers(2**31)))
    adversary = {"eps": cell["ratio"] * cell["scale"], "norm": "l2", "steps": cell["attack_steps"]}
    before = fo.pgd(start, x, y, loss="squared", backend=run.backend, threads=run.threads, **adversary)
    own = cell["rates"] == OWN
    history: list[Epoch] = []
    try:
        training.train(
            x,
            y,
            network=start,
            trained="first",
            biases=False,
            loss="squared",
            dtype=np.float64,
            optimizer="sgd",
            learning_rate=cell["rate"] / cell["scale"] ** 2 if own else cell["rate"],
            epochs=cell["epochs"],
            batch_size=_BATCH,
            seed=int(rng.integers(2**31)),
            adversary=adversary,
            on_epoch=history.append,
            backend=run.backend,
            threads=run.threads,
        )
    except ValueError as error:  # it diverged, and what it had reached before does not count
        if not str(error).startswith("learning_rate:"):
            raise
    losses = [float(before.loss.mean()), *(epoch.train_loss for epoch in history)]
    losses += [math.inf] * (cell["epochs"] + 1 - len(losses))
    return [{**cell, "epoch": epoch, "loss": loss, "share": loss / losses[0]} for epoch, loss in enumerate(losses)]


class Best(NamedTuple):
    """The learning rate of a scale with the least mean of a measure at an epoch."""

    rate: float  # c; NaN where there is none
    interval: Interval
    at_edge: bool  # it is the smallest or largest that was tried, so that another may be better

    def __str__(self) -> str:
        return f"{self.interval} (c = {self.rate:g}{', at the edge of the grid' if self.at_edge else ''})"


def moments_of(rows: Sequence[Row]) -> tuple[int, int]:
    """The epochs after which losses are compared, none of them the first.

    The loss of an epoch is a mean over its mini-batches, so that of the first has the overshoot in it with which large
    learning rates begin.
    """
    last = rows[0]["epochs"]
    return max(2, last // _INITIAL_PHASE), last


def judge(rows: Sequence[Row]) -> Judgement:
    """Each measure in the initial phase and at the end, each scale at its best rate for that moment."""
    scales = sorted(distinct(rows, "scale"))
    moments = moments_of(rows)
    findings: list[str] = []
    departures: list[str] = []
    for name, label in MEASURES.items():
        for epoch in moments:
            told, objections = _compared(rows, scales, epoch, name)
            told = f"{label}, after {epoch} epochs: {told}"
            if objections:
                departures.append(f"{told}. Not in favour: {'; '.join(objections)}")
            else:
                findings.append(told)
    passed, asked = len(findings), len(findings) + len(departures)
    rates = sorted(distinct(where(rows, rates=OWN), "rate"))
    edges = [
        f"{label}, {epoch} epochs, s = {scale:g} (c = {best.rate:g}{', without overshoot' if without else ''})"
        for name, label in MEASURES.items()
        for epoch in moments
        for scale in scales
        for without in (False, True)
        if (best := best_rate(rows, scale, epoch, name, without)).at_edge
    ]
    grid = f"the grid of learning rates, c = {rates[0]:g} to {rates[-1]:g},"
    findings.append(
        f"{grid} has the best c at an edge, beyond which a better one may lie, for: {'; '.join(edges)}"
        if edges
        else f"{grid} has the best c of every comparison inside"
    )
    shared = (f"{_shared(rows, scale, moments[-1]).mean:.3g} at s = {scale:g}" for scale in scales)
    findings.append(f"with one learning rate of {_SHARED_RATE:g}, loss after {moments[-1]} epochs: {', '.join(shared)}")
    key = f"{passed} of {asked} comparisons of s = {scales[0]:g} with {scales[-1]:g} in favour of the smaller"
    table = _table(rows, scales, moments)
    return Judgement(verdict_of(passed, asked), key, tuple(findings), tuple(departures), table)


def _compared(rows: Sequence[Row], scales: list[float], epoch: int, name: str) -> tuple[str, list[str]]:
    """The smallest scale beside the largest at an epoch, and what speaks against the smaller one's being faster."""
    told, objections = [], []
    for without_overshoot in (False, True):
        kind = "at the best rate without overshoot" if without_overshoot else "at the best rate"
        small, large = (best_rate(rows, scale, epoch, name, without_overshoot) for scale in (scales[0], scales[-1]))
        told.append(f"{kind}, {small} for s = {scales[0]:g} and {large} for s = {scales[-1]:g}")
        if large.interval.below(small.interval):
            objections.append(f"{kind} it is larger for the smaller scale")
        elif not small.interval.below(large.interval):
            objections.append(f"{kind} the intervals overlap")
        elif large.at_edge:
            objections.append(f"{kind} the larger scale may be faster still, beyond the edge of the grid")
    return "; ".join(told), objections


def best_rate(rows: Sequence[Row], scale: float, epoch: int, name: str, without_overshoot: bool = False) -> Best:
    """The scale's rate with the least mean at an epoch; one at which a training diverged is infinite.

    A rate overshoots if the mean loss of some epoch is above that before training.
    """
    trainings = where(rows, rates=OWN, scale=scale)
    rates = sorted(distinct(trainings, "rate"))
    found = {
        rate: mean_interval(column(where(trainings, rate=rate, epoch=epoch), name))
        for rate in rates
        if not (without_overshoot and overshoots(where(trainings, rate=rate)))
    }
    if not found:
        return Best(math.nan, mean_interval([]), at_edge=False)
    rate = min(found, key=lambda each: found[each].mean)
    return Best(rate, found[rate], rate in (rates[0], rates[-1]))


def overshoots(trainings: Sequence[Row]) -> bool:
    """Whether the loss, averaged over the trainings at one rate, exceeds that before training in some epoch."""
    epochs = distinct(trainings, "epoch")
    means = [float(np.mean(column(where(trainings, epoch=epoch), "loss"))) for epoch in sorted(epochs)]
    return max(means) > means[0]


def _shared(rows: Sequence[Row], scale: float, epoch: int) -> Interval:
    return mean_interval(column(where(rows, rates=SHARED, scale=scale, epoch=epoch), "loss"))


def _table(rows: Sequence[Row], scales: list[float], moments: tuple[int, ...]) -> Table:
    lines = []
    for scale in scales:
        told = (f"{best_rate(rows, scale, epoch, name)}" for name in MEASURES for epoch in moments)
        lines.append((f"{scale:g}", f"{_shared(rows, scale, 0)}", *told, f"{_shared(rows, scale, moments[-1])}"))
    after = (f"{name}, {epoch} epochs" for name in MEASURES for epoch in moments)
    return Table(("s", "loss before", *after, f"loss, {moments[-1]} epochs, rate {_SHARED_RATE:g}"), tuple(lines))


def draw(rows: Sequence[Row], _: Run) -> dict[str, Figure]:
    """The adversarial loss against the epoch: each scale at its best rates, and all at one rate."""
    figure = new_figure(13.2, 4.0)
    panels = figure.subplots(1, 3, sharey=True)
    last = rows[0]["epochs"]
    for i, scale in enumerate(sorted(distinct(rows, "scale"))):
        best, steady = (best_rate(rows, scale, last, "loss", without) for without in (False, True))
        for axes, chosen, label in (
            (panels[0], where(rows, rates=OWN, scale=scale, rate=best.rate), f"s = {scale:g}, c = {best.rate:g}"),
            (panels[1], where(rows, rates=OWN, scale=scale, rate=steady.rate), f"s = {scale:g}, c = {steady.rate:g}"),
            (panels[2], where(rows, rates=SHARED, scale=scale), f"s = {scale:g}"),
        ):
            kept = [row for row in chosen if math.isfinite(row["loss"])]
            if kept:
                draw_intervals(axes, kept, "epoch", "loss", COLOURS[i % len(COLOURS)], label)
    titles = (
        "best rate c/s² of each scale for the last epoch",
        "the same, of rates without overshoot",
        f"rate {_SHARED_RATE:g} at every scale",
    )
    for axes, title in zip(panels, titles):
        axes.set_xscale("linear")
        axes.axhline(_WITHOUT_OUTPUT, color="#666666", linewidth=1, linestyle=":", label="an output of zero")
        style(axes)
        axes.set_xticks(range(0, last + 1, max(1, last // 5)))
        axes.set_xticklabels([f"{epoch}" for epoch in range(0, last + 1, max(1, last // 5))])
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("epoch of adversarial training")
        axes.legend(frameon=False, fontsize=8, loc="upper right")
    panels[0].set_ylabel("mean adversarial loss")
    logarithmic_axis(*panels)
    return {"training": figure}


def counts(rows: Sequence[Row], run: Run) -> str:
    """What stands behind each figure."""
    first = rows[0]
    rates = sorted(distinct(where(rows, rates=OWN), "rate"))
    batches = math.ceil(first["samples"] / _BATCH)
    return (
        f"At each scale, {len(rates)} learning rates c/s² with c from {rates[0]:g} to {rates[-1]:g}, and one of "
        f"{_SHARED_RATE:g}; at each scale and rate, trainings: {repetitions_in_words(rows)}, each of its own network "
        f"and its own draw of {first['samples']} of the digits, {first['epochs']} epochs of {batches} mini-batches of "
        f"{_BATCH}. The adversary of a sample is one ascent of {first['attack_steps']} steps from the sample itself. A "
        "loss is the mean over the samples: in an epoch, of each under the network of its mini-batch; before training, "
        "under the initial one. Each mean and interval is over the trainings of a scale and rate. Samples, network and "
        f"order come from NumPy's default generator with the seed ({run.seed}, r), the same at every scale and rate."
    )


EXPERIMENT = Experiment(
    name="training",
    claim="At a fixed perturbation ratio, a smaller input scale makes adversarial training converge faster in its "
    "initial phase.",
    source="Deng et al. 2020, abstract",
    design="Even against odd digits (scikit-learn), centred, each of length s, targets ±1; random networks of 256 "
    "tanh units, first layer trained with squared loss by SGD (batches of 50) on ℓ2 adversaries of ten normalised "
    "steps with ε = 0.1 s; learning rates c/s² for several c, of which each scale has the best for what is compared. "
    "Compared are the mean loss of the adversaries that are trained on, and its share of that before training: the "
    "former favours scales that begin with less, the latter those that begin with more. Large learning rates begin "
    "with an overshoot: the loss of the first epoch may be many times that before training. So no first epoch is "
    "compared, and every comparison is made twice, with the best of all rates and with the best of those at which no "
    "epoch's mean loss exceeds that before training. An output of zero has the loss ½ at every scale; a training that "
    "diverges has an infinite one. Bars: 95% intervals, Student's t over networks and samples.",
    criterion="Four comparisons: both measures, after a fourth of the epochs (the initial phase; never after the "
    "first alone) and after all. One is in favour if the measure is smaller at the smallest scale than at the "
    "largest, beyond both intervals, with both choices of the rate, and the best c of the largest scale is not at the "
    "edge of the grid. Holds: all four are in favour. In part: some are. Else it does not hold.",
    cells=cells,
    run=run,
    counts=counts,
    judge=judge,
    draw=draw,
)
