"""Claim 1: the ascent finds a local maximum, and soon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyfirstorder.experiments.ascents import STATIONARY_SHARE, local_geometry, measure, random_problem
from pyfirstorder.experiments.attained import of_bound
from pyfirstorder.experiments.experiment import Cell, Experiment, Judgement, Row, Run, Table, Verdict
from pyfirstorder.experiments.figures import NAMES, figure_of_sweeps
from pyfirstorder.experiments.statistics import (
    column,
    distinct,
    mean_interval,
    repetitions_in_words,
    share_interval,
    slope_of_logs,
    steps_in_words,
    where,
)
from pyfirstorder.problem import PIECEWISE_LINEAR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

BASE = {"m": 1000, "d": 100, "ratio": 0.3, "scale": 1.0, "activation": "softplus"}
SHARE_ASKED = 0.95  # of end points that are certified
LARGEST_EXPONENT = 1.0  # of the steps in d and m: the paper says polynomial, and this asks for the first degree
# What is varied, one at a time, by size of the run; with the samples of a network, repetitions and steps.
_VARIED: dict[str, dict[str, tuple[Any, ...]]] = {
    "quick": {
        "m": (125, 500, 2000),
        "d": (25, 100, 200),
        "ratio": (0.1, 0.3, 1.0),
        "scale": (0.3, 1.0, 3.0),
        "activation": ("softplus", "tanh", "gelu", "relu"),
    },
    "default": {
        "m": (125, 250, 500, 1000, 2000, 4000),
        "d": (25, 50, 100, 200, 400),
        "ratio": (0.03, 0.1, 0.3, 0.6, 1.0),
        "scale": (0.1, 0.3, 1.0, 3.0, 10.0),
        "activation": ("softplus", "tanh", "sigmoid", "erf", "gelu", "silu", "elu", "quadratic", "relu", "leaky_relu"),
    },
}
_VARIED["full"] = _VARIED["default"] | {"m": (*_VARIED["default"]["m"], 8000, 16000)}
_COUNTS = {
    "quick": {"samples": 10, "repetitions": 3, "steps": 500},
    "default": {"samples": 30, "repetitions": 10, "steps": 2000},
    "full": {"samples": 400, "repetitions": 30, "steps": 10000},
}


def cells(size: str) -> list[Cell]:
    """The base, and one factor at a time away from it, each with all repetitions."""
    counts = dict(_COUNTS[size])
    repetitions = counts.pop("repetitions")
    settings = [{**BASE, factor: value} for factor, values in _VARIED[size].items() for value in values]
    distinct_settings = {tuple(setting.items()): setting for setting in settings}.values()
    return [
        {**setting, **counts, "repetition": repetition}
        for setting in distinct_settings
        for repetition in range(repetitions)
    ]


def run(cell: Cell, run: Run) -> list[Row]:
    """The verdicts on one network."""
    problem = random_problem(cell, run)
    measured, attack = measure(problem, local_geometry(problem, run), cell["steps"], run)
    return [{**cell, **measured, **of_bound(problem, attack, run)}]


def is_linear(activation: str) -> bool:
    """Whether the Hessian is that of a linear region alone, so that a verdict speaks of no neighbourhood."""
    return activation.partition("(")[0] in PIECEWISE_LINEAR


def sweep(rows: Sequence[Row], factor: str) -> dict[Any, list[Row]]:
    """The rows in which that factor alone was varied, by its values."""
    chosen = where(rows, **{name: value for name, value in BASE.items() if name != factor})
    values = distinct(chosen, factor)
    ordered = values if isinstance(values[0], str) else sorted(values)
    return {value: where(chosen, **{factor: value}) for value in ordered}


def judge(rows: Sequence[Row]) -> Judgement:
    """Shares of maxima of smooth networks in every setting; growth of the steps with d and m."""
    smooth = [row for row in rows if not is_linear(row["activation"])]
    shares = {"the base setting": share_interval(column(where(smooth, **BASE), "maxima"))}
    shares |= {
        f"{factor} = {value}": share_interval(column(chosen, "maxima"))
        for factor, base in BASE.items()
        for value, chosen in sweep(smooth, factor).items()
        if value != base
    }
    failing = {setting: share for setting, share in shares.items() if share.mean < SHARE_ASKED}
    exponents = {factor: _exponent(rows, factor) for factor in ("m", "d")}
    grown = ", ".join(f"{factor}^{exponent:.2f}" for factor, exponent in exponents.items())
    findings = [
        f"certified local maxima are at least {SHARE_ASKED:.0%} of the end points in {len(shares) - len(failing)} of "
        f"{len(shares)} settings with a smooth activation; the least share is "
        f"{min(shares.values(), key=lambda share: share.mean)}",
        f"the median number of steps grows like {grown}",
        f"median steps at the base setting: {steps_in_words(where(rows, **BASE))}",
    ]
    departures = [
        f"with {setting}, {share} of the end points are certified, less than {SHARE_ASKED:.0%}"
        for setting, share in failing.items()
    ]
    departures += [
        f"the median steps grow like {factor}^{exponent:.2f}, faster than linearly"
        for factor, exponent in exponents.items()
        if exponent > LARGEST_EXPONENT
    ]
    linear = [row for row in rows if is_linear(row["activation"])]
    if linear:
        told = _of_linear_regions(linear)
        is_certified = mean_interval(column(linear, "maxima")).mean >= SHARE_ASKED
        (findings if is_certified else departures).append(told)
    in_most = 2 * len(failing) <= len(shares)
    slow_growth = all(exponent <= LARGEST_EXPONENT for exponent in exponents.values())
    verdict = Verdict.DOES_NOT_HOLD
    if in_most:
        verdict = Verdict.HOLDS if slow_growth and not failing else Verdict.IN_PART
    total = share_interval(column(smooth, "maxima")).mean
    key = f"{total:.1%} of the end points of smooth networks certified; median steps ~ {grown}"
    return Judgement(verdict, key, tuple(findings), tuple(departures), _table(rows))


def _of_linear_regions(rows: Sequence[Row]) -> str:
    return (
        f"{' and '.join(distinct(rows, 'activation'))} (which the verdict leaves out, because there the Hessian is "
        f"that of the current linear region): {share_interval(column(rows, 'maxima'))} of the end points are certified "
        f"maxima of their region, {share_interval(column(rows, 'within_steps'))} stationary within the steps; the "
        f"median residual at the end is {mean_interval(column(rows, 'residual'))} of ε or ‖∇L(x)‖, where "
        f"{STATIONARY_SHARE:g} is asked. A maximum at a kink of hidden units cannot meet this test "
        "(benchmarks/relu_kinks.py)"
    )


def _exponent(rows: Sequence[Row], factor: str) -> float:
    varied = [row for chosen in sweep(rows, factor).values() for row in chosen]
    return slope_of_logs(column(varied, factor), [max(taken, 1.0) for taken in column(varied, "median_steps")])


def _table(rows: Sequence[Row]) -> Table:
    lines = []
    for factor in BASE:
        for value, chosen in sweep(rows, factor).items():
            name = f"{value} (linear region)" if factor == "activation" and is_linear(value) else f"{value}"
            share, attained = (
                f"{share_interval(column(chosen, column_name))}" for column_name in ("maxima", "of_bound")
            )
            saddles = mean_interval(column(chosen, "saddle")).mean
            lines.append((NAMES[factor], name, share, f"{saddles:.3g}", steps_in_words(chosen), attained))
    header = ("varied", "value", "certified maxima, share", "saddles, share", "median steps", "attained / bound")
    return Table(header, tuple(lines))


def draw(rows: Sequence[Row], _: Run) -> dict[str, Figure]:
    """Shares and steps against each factor."""
    quantities = {"maxima": "certified maxima, share", "median_steps": "median steps to tolerance"}
    sweeps = {}
    for factor in BASE:
        varied = [dict(row) for chosen in sweep(rows, factor).values() for row in chosen]
        for row in varied:
            row["activation"] += "*" * is_linear(row["activation"])
        sweeps[factor] = varied
    return {"convergence": figure_of_sweeps(sweeps, quantities, logarithmic=("median_steps",))}


def counts(rows: Sequence[Row], run: Run) -> str:
    """What stands behind each figure."""
    first, settings = rows[0], {tuple(row[factor] for factor in BASE) for row in rows}
    return (
        f"{len(settings)} settings. At each, networks: {repetitions_in_words(rows)}; samples of a network: "
        f"{first['samples']}; one ascent from each sample, which starts at the sample itself, of at most "
        f"{first['steps']} steps. A share is that of a network's samples, and “median steps” and “attained / bound” "
        "are medians over them; each mean and interval is over the networks of a setting. The network and samples of "
        f"a repetition come from NumPy's default generator with the seed ({run.seed}, r, d, m), so settings that "
        "differ in ρ, s or σ alone have the same weights and directions."
    )


EXPERIMENT = Experiment(
    name="convergence",
    claim="Projected gradient ascent on a two-layer network at random initialisation with squared loss finds a local "
    "maximum of the loss over the ball in a polynomial number of steps, with high probability.",
    source="Deng et al. 2020, abstract",
    design=f"Random networks (one output, W standard normal, output weights ±1/√m, no biases) and samples on the "
    f"sphere of radius s; ℓ2 ball of radius ε = ρ s; base setting m = {BASE['m']}, d = {BASE['d']}, "
    f"{BASE['activation']}, ρ = {BASE['ratio']}, s = {BASE['scale']:g}, and one of m, d, ρ, s and σ "
    "varied at a time. Ascent along the gradient with step size min(ε/‖∇L(x)‖, 0.1/|λ|), λ the largest eigenvalue of "
    "the Hessian at x by magnitude: small enough not to overshoot. An end point is certified by its first-order "
    "residual (a thousandth of ε and ‖∇L(x)‖) and the largest eigenvalue of the projected Hessian. Bars: 95% "
    "intervals, Student's t over networks. In the figure, * marks activations whose Hessian is that of a linear "
    "region, and ▲ networks whose median lies beyond all steps.",
    criterion=f"Holds: at least {SHARE_ASKED:.0%} of the end points are certified maxima in every setting with a "
    "smooth activation, and the median steps grow at most linearly in m and in d. In part: that share is reached in at "
    "least half of the settings. Else it does not hold. A finite grid can contradict the share, and can only suggest "
    "the polynomial.",
    cells=cells,
    counts=counts,
    run=run,
    judge=judge,
    draw=draw,
)
