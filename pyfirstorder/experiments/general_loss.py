"""Claim 4: the findings carry over to other losses and to trained networks; and how good the maxima are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import pyfirstorder as fo
from pyfirstorder import datasets, training
from pyfirstorder.experiments.ascents import Problem, local_geometry, measure, random_problem
from pyfirstorder.experiments.attained import EXACT, EXACT_STARTS, EXACT_STEPS, of_bound, of_maximum
from pyfirstorder.experiments.experiment import Cell, Experiment, Judgement, Row, Run, Table, verdict_of
from pyfirstorder.experiments.figures import SHARES, draw_intervals, logarithmic_axis
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

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

BASE = {"d": 64, "m": 256, "activation": "softplus", "scale": 1.0}
SHARE_ASKED = 0.95
RANDOM, TRAINED, ROBUST, SMALL = "random", "trained", "adversarially trained", "small relu"
# Loss and network; trained ones classify digits, and were trained with cross-entropy.
KINDS = (
    ("squared", RANDOM),
    ("logistic", RANDOM),
    ("cross_entropy", RANDOM),
    ("cross_entropy", TRAINED),
    ("margin", TRAINED),
    ("cross_entropy", ROBUST),
)
_RATIOS = {"quick": (0.1, 0.3), "default": (0.03, 0.1, 0.3), "full": (0.01, 0.03, 0.1, 0.3, 1.0)}
_COUNTS = {
    "quick": {"samples": 10, "repetitions": 3, "steps": 500, "epochs": 3},
    "default": {"samples": 100, "repetitions": 6, "steps": 2000, "epochs": 10},
    "full": {"samples": 400, "repetitions": 20, "steps": 10000, "epochs": 30},
}
_CLASSES = 10
_MOST_PROGRAMS = 30  # samples of a small network whose maximum is computed
_TRAINED_RATIO = 0.1  # of the adversary in training


def cells(size: str) -> list[Cell]:
    """All kinds and ratios with all repetitions; then the small networks, of which the maximum is computed."""
    counts = dict(_COUNTS[size])
    repetitions = counts.pop("repetitions")
    kinds = [({**BASE, **counts}, loss, network) for loss, network in KINDS]
    kinds.append(({**EXACT, "samples": min(counts["samples"], _MOST_PROGRAMS)}, "squared", SMALL))
    return [
        {**shared, "loss": loss, "network": network, "ratio": ratio, "repetition": repetition}
        for shared, loss, network in kinds
        for ratio in _RATIOS[size]
        for repetition in range(repetitions)
    ]


def run(cell: Cell, run: Run) -> list[Row]:
    """Verdicts on the end points, and what they attained of the certified bound or of the maximum."""
    if cell["network"] == SMALL:
        return [{**cell, **of_maximum(cell, run)}]
    problem = _random(cell, run) if cell["network"] == RANDOM else _digits(cell, run)
    measured, attack = measure(problem, local_geometry(problem, run), cell["steps"], run)
    return [{**cell, **measured, **of_bound(problem, attack, run)}]


def _random(cell: Cell, run: Run) -> Problem:
    """The paper's random network; with cross-entropy it has an output for each of ten classes."""
    problem = random_problem(cell, run, cell["loss"])
    if cell["loss"] != "cross_entropy":
        return problem
    rng = np.random.default_rng([run.seed, cell["repetition"], _CLASSES])
    output = rng.choice([-1.0, 1.0], (_CLASSES, cell["m"])) / np.sqrt(cell["m"])
    net = fo.TwoLayerNetwork(problem.net.hidden_weight, output, activation=cell["activation"])
    return problem._replace(net=net, y=rng.integers(0, _CLASSES, len(problem.x)))


def _digits(cell: Cell, run: Run) -> Problem:
    """Digits of length s that the network was not trained on."""
    data = datasets.load("digits")
    rng = np.random.default_rng([run.seed, cell["repetition"]])
    order = rng.permutation(len(data.x))
    x: Array = np.asarray(data.x, np.float64)[order]
    x *= cell["scale"] / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.asarray(data.y)[order]
    held = cell["samples"]
    net = _trained(x[held:], y[held:], cell, int(rng.integers(2**31)), run)
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
        adversary=adversary if cell["network"] == ROBUST else None,
        backend=run.backend,
        threads=run.threads,
    ).network


def judge(rows: Sequence[Row]) -> Judgement:
    """Shares of maxima for each kind and ratio; what was attained of bound and maximum is told beside them."""
    shares, lines, departures = [], [], []
    for loss, network in KINDS:
        for ratio in distinct(rows, "ratio"):
            chosen = where(rows, loss=loss, network=network, ratio=ratio)
            share = share_interval(column(chosen, "maxima"))
            shares.append(share)
            if share.mean < SHARE_ASKED:
                departures.append(f"{_name(loss, network)}, ρ = {ratio:g}: {share} of the end points are certified")
            told = (f"{share_interval(column(chosen, name))}" for name in ("of_bound", "relative_increase"))
            lines.append((_name(loss, network), f"{ratio:g}", f"{share}", steps_in_words(chosen), *told))
    passed = sum(share.mean >= SHARE_ASKED for share in shares)
    least = min(shares, key=lambda share: share.mean)
    findings = [
        f"certified local maxima are at least {SHARE_ASKED:.0%} of the end points in {passed} of {len(shares)} "
        f"settings; the least share is {least}",
        *(_of_maximum(where(rows, network=SMALL, ratio=ratio)) for ratio in distinct(rows, "ratio")),
    ]
    ratios = sorted(distinct(rows, "ratio"))
    attained = [mean_interval(column(where(rows, ratio=ratio), "of_bound")).mean for ratio in (ratios[0], ratios[-1])]
    key = f"{SHARE_ASKED:.0%} certified in {passed} of {len(shares)} settings; attained/bound "
    key += f"{attained[0]:.2f} at ρ = {ratios[0]:g}, {attained[1]:.2f} at ρ = {ratios[-1]:g}"
    header = ("loss, network", "ρ", "certified maxima, share", "median steps", "attained / bound", "relative increase")
    return Judgement(
        verdict_of(passed, len(shares)), key, tuple(findings), tuple(departures), Table(header, tuple(lines))
    )


def _of_maximum(rows: Sequence[Row]) -> str:
    names = ("of_maximum", "of_maximum_many", "maximum_attained", "maximum_of_bound")
    one, many, share, bound = (f"{share_interval(column(rows, name))}" for name in names)
    return (
        f"small relu networks, ℓ∞ ball, ρ = {rows[0]['ratio']:g}: one ascent attains {one} of the exact maximum, the "
        f"best of {EXACT_STARTS} random starts {many} (within a thousandth for a share of {share} of the samples); the "
        f"maximum is {bound} of the bound"
    )


def _name(loss: str, network: str) -> str:
    return f"{loss.replace('_', '-')}, {network}"


def draw(rows: Sequence[Row], _: Run) -> dict[str, Figure]:
    """Shares of maxima, steps and what was attained against the ratio."""
    quantities = {
        "maxima": "share of certified maxima",
        "median_steps": "median steps to tolerance",
        "relative_increase": "(attained - clean) / (bound - clean)",
    }
    figure = new_figure(11.4, 4.4)
    for axes, (name, label) in zip(figure.subplots(1, len(quantities)), quantities.items()):
        for i, (loss, network) in enumerate(KINDS):
            chosen = where(rows, loss=loss, network=network)
            draw_intervals(axes, chosen, "ratio", name, COLOURS[i % len(COLOURS)], _name(loss, network))
        axes.set_title(label, fontsize=10, loc="left")
        axes.set_xlabel("perturbation ratio ρ")
        if name == "median_steps":
            logarithmic_axis(axes)
        else:
            axes.set_ylim(*SHARES)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return {"general-loss": figure}


def counts(rows: Sequence[Row], run: Run) -> str:
    """What stands behind each figure."""
    first, small = rows[0], where(rows, network=SMALL)[0]
    return (
        f"At each loss, network and ratio, networks: {repetitions_in_words(rows)}; samples of a network: "
        f"{first['samples']}; one ascent from each sample itself, of at most {first['steps']} steps. Trained networks "
        f"saw all other digits in {first['epochs']} epochs. Small relu networks: {small['samples']} samples of each; "
        f"ascents of {EXACT_STEPS} steps, one from each sample itself and {EXACT_STARTS} from points drawn uniformly "
        "in the ball. A share is that of a network's samples, all other figures are medians over them, and each mean "
        "and interval is over the networks. Random networks and their samples come from NumPy's default generator "
        f"with the seed ({run.seed}, r, d, m), the output layer and classes of cross-entropy with ({run.seed}, r, "
        f"{_CLASSES}), the order of the digits and the training with ({run.seed}, r), random starts from the library's "
        f"with {run.seed}."
    )


EXPERIMENT = Experiment(
    name="general-loss",
    claim="The findings carry over from the squared loss to general losses, and from random to trained networks.",
    source="Deng et al. 2020, the part on general losses; trained networks are an extension",
    design="softplus networks of 256 units: random ones with squared, logistic and cross-entropy loss, and ones "
    "trained on digits, plainly and against ℓ2 adversaries with ε = 0.1; samples that were not trained on, of length "
    "1; ε = ρ. Ascent and certificate as in `convergence`. “attained / bound” is the median of the largest loss of "
    "the ascent over the certified upper bound; “relative increase” is that of (attained - clean)/(bound - clean), "
    "the increase over the loss at the sample beside the largest that the bound allows; neither exceeds 1. For small "
    "relu networks (m = 16, d = 8, ℓ∞) the maximum itself is computed by mixed-integer programming. Bars: 95% "
    "intervals, Student's t over networks.",
    criterion=f"Holds: at least {SHARE_ASKED:.0%} of the end points are certified maxima for every loss, network and "
    "ratio. In part: for some. Else it does not hold. What is attained of bound and maximum has no part in it.",
    cells=cells,
    counts=counts,
    run=run,
    judge=judge,
    draw=draw,
)
