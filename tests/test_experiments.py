"""Experiments: intervals, verdicts on made-up rows, small cells of each, and what a report holds."""

from __future__ import annotations

import base64
import math
import re
from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest

stats = pytest.importorskip("scipy.stats", reason="experiments need scipy")
pytest.importorskip("matplotlib", reason="experiments draw")
pytest.importorskip("sklearn", reason="experiments train on its digits")

import pyfirstorder as fo  # noqa: E402
from pyfirstorder import dynamics, experiments  # noqa: E402
from pyfirstorder.experiments import EXPERIMENTS, Outcome, Verdict, ascents, attained, training_speed  # noqa: E402
from pyfirstorder.experiments.convergence import BASE, is_linear, sweep  # noqa: E402
from pyfirstorder.experiments.experiment import DEFAULT, FULL, QUICK, SIZES, Run  # noqa: E402
from pyfirstorder.experiments.figures import png_of  # noqa: E402
from pyfirstorder.experiments.report import write_outcome, write_report  # noqa: E402
from pyfirstorder.experiments.statistics import (  # noqa: E402
    column,
    mean_interval,
    median_of,
    share_interval,
    slope_of_logs,
    steps_in_words,
)

RUN = Run(seed=3, backend="auto", threads=1)
NAMES = ("convergence", "input-scale", "landscape", "training", "general-loss")


# ------------------------------------------------------------------ statistics


@pytest.mark.parametrize("count", [2, 3, 10])
def test_intervals_are_those_of_students_t(count):
    values = np.random.default_rng(count).standard_normal(count)
    found = mean_interval([*values, math.nan])
    low, high = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose([found.mean, found.low, found.high], [values.mean(), low, high], rtol=1e-12)


def test_intervals_hold_the_mean_as_often_as_they_say():
    draws = np.random.default_rng(0).standard_normal((500, 5))
    inside = np.mean([found.low <= 0 <= found.high for found in map(mean_interval, draws)])
    assert abs(inside - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 500)


def test_one_repetition_says_nothing_of_the_spread_and_none_says_nothing():
    assert mean_interval([2.0]) == (2.0, -math.inf, math.inf)
    assert math.isnan(mean_interval([math.nan]).mean)
    assert not mean_interval([]).below(mean_interval([1.0, 1.1]))
    assert not mean_interval([1.0, 1.1]).below(mean_interval([]))


def test_a_training_that_diverged_makes_the_mean_infinite():
    diverged = mean_interval([1.0, math.inf])
    assert diverged == (math.inf, math.inf, math.inf)
    assert mean_interval([1.0, 1.1]).below(diverged)
    assert not diverged.below(diverged)


def test_shares_have_no_interval_beyond_0_and_1():
    assert share_interval([1.0, 0.9, 1.0])[2] == 1.0
    assert share_interval([0.0, 0.1, 0.0])[1] == 0.0


def test_the_slope_of_logarithms_is_the_exponent_of_a_power_law():
    sizes = [2.0, 4.0, 8.0, 8.0]
    assert slope_of_logs(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5, rel=1e-12)
    assert math.isnan(slope_of_logs([2.0, 2.0], [1.0, 3.0]))


def test_steps_that_were_not_enough_lie_above_all_others():
    taken = np.array([3, -1, 5])
    assert median_of(taken, taken < 0) == 5.0
    taken = np.array([-1, -1, 5])
    assert median_of(taken, taken < 0) is None
    rows = [{"median_steps": None, "steps": 70}, {"median_steps": 10.0, "steps": 70}]
    assert column(rows, "median_steps") == [70.0, 10.0]
    assert "more than 70 in 1 of 2 networks" in steps_in_words(rows)


# ------------------------------------------------------------------ cells


def test_the_experiments_are_those_of_the_command():
    assert tuple(EXPERIMENTS) == NAMES
    for name, experiment in EXPERIMENTS.items():
        assert experiment.name == name
        assert experiment.claim.count(". ") == 0, "a claim is one sentence"
        assert experiment.claim.endswith(".")


def test_no_experiment_is_left_out_of_the_catalogue():
    modules = [import_module(f"pyfirstorder.experiments.{found.name}") for found in iter_modules(experiments.__path__)]
    written = [module.EXPERIMENT for module in modules if hasattr(module, "EXPERIMENT")]
    assert {experiment.name for experiment in written} == set(EXPERIMENTS)
    assert len(written) == len(EXPERIMENTS)


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_distinct_and_larger_sizes_have_more(name):
    counts = []
    for size in SIZES:
        cells = EXPERIMENTS[name].cells(size)
        assert len({tuple(sorted(cell.items())) for cell in cells}) == len(cells)
        counts.append(sum(cell["samples"] for cell in cells))
    assert counts == sorted(set(counts))


def test_only_the_base_is_in_all_sweeps():
    for size in (QUICK, DEFAULT, FULL):
        cells = EXPERIMENTS["convergence"].cells(size)
        swept = [cell for factor in BASE for chosen in sweep(cells, factor).values() for cell in chosen]
        repetitions = 1 + max(cell["repetition"] for cell in cells)
        assert len(swept) == len(cells) + (len(BASE) - 1) * repetitions
        assert {tuple(sorted(cell.items())) for cell in swept} == {tuple(sorted(cell.items())) for cell in cells}


# ------------------------------------------------------------------ verdicts on made-up rows


def measured(cell, **values):
    """A row of any experiment: a little apart in each repetition, so that intervals have a width."""
    shift = 1 + 0.01 * cell["repetition"]
    common = {
        "maxima": 1.0,
        "saddle": 0.0,
        "within_steps": 1.0,
        "residual": 1e-4,
        "of_bound": 0.5,
        "relative_increase": 0.4,
    }
    common |= {"converged": 1.0, "coarse_within_steps": 1.0, "of_maximum": 0.9, "of_maximum_many": 0.99}
    common |= {"maximum_attained": 0.8, "maximum_of_bound": 0.7, "median_steps": 10.0 * shift}
    scaled = {name: value * shift for name, value in values.items() if name not in ("maxima", "median_steps")}
    return {**cell, **common, **values, **scaled}


def convergence_rows(share=1.0, exponent=0.1, failing=1.0, slow_only_for=math.inf):
    rows = []
    for cell in EXPERIMENTS["convergence"].cells(QUICK):
        steps = 10 * (cell["m"] / 500) ** exponent
        told = None if cell["m"] >= slow_only_for else steps
        is_off = cell["scale"] > 1
        maxima = 0.0 if is_linear(cell["activation"]) else failing if is_off else share
        rows.append(measured(cell, maxima=maxima, median_steps=told))
    return rows


def scale_rows(name, small, large):
    """The measures at the smallest scale, and at all others."""
    cells = EXPERIMENTS[name].cells(QUICK)
    least = min(cell["scale"] for cell in cells)
    return [measured(cell, **(small if cell["scale"] == least else large)) for cell in cells]


REGULAR = {"median_steps": 5.0, "relative_curvature": 0.1, "spread": 0.1, "distinct": 1.0}
ROUGH = {"median_steps": 50.0, "relative_curvature": 3.0, "spread": 1.0, "distinct": 4.0}


def surface_rows(shares):
    cells = EXPERIMENTS["landscape"].cells(QUICK)
    scales = sorted({cell["scale"] for cell in cells})
    return [measured(cell, residual_variance=shares[scales.index(cell["scale"])]) for cell in cells]


def training_rows(small, large, at_start=(1.0, 1.0)):
    """Losses that fall at these rates at the second of the learning rates, more slowly at others; the last diverges."""
    rows = []
    cells = EXPERIMENTS["training"].cells(QUICK)
    least, bad = min(cell["scale"] for cell in cells), max(cell["rate"] for cell in cells)
    best = sorted({cell["rate"] for cell in cells if cell["rates"] == training_speed.OWN})[1]
    for cell in cells:
        is_small = cell["scale"] == least
        before = at_start[0 if is_small else 1] * (1 + 0.01 * cell["repetition"])
        for epoch in range(cell["epochs"] + 1):
            slower = 1.0 if cell["rate"] == best else 0.9
            share = math.exp(-epoch * (small if is_small else large) * slower)
            if cell["rate"] == bad and epoch:
                share = math.inf
            rows.append({**cell, "epoch": epoch, "loss": share * before, "share": share})
    return rows


def loss_rows(shares):
    """Shares of maxima, by ratio."""
    cells = EXPERIMENTS["general-loss"].cells(QUICK)
    return [measured(cell, maxima=shares[cell["ratio"]]) for cell in cells]


MADE_UP = {
    "convergence, all certified": ("convergence", convergence_rows(), Verdict.HOLDS),
    "convergence, too fast a growth": ("convergence", convergence_rows(exponent=1.3), Verdict.IN_PART),
    "convergence, some settings": ("convergence", convergence_rows(failing=0.5), Verdict.IN_PART),
    "convergence, hardly any": ("convergence", convergence_rows(share=0.6), Verdict.DOES_NOT_HOLD),
    "input scale, all": ("input-scale", scale_rows("input-scale", REGULAR, ROUGH), Verdict.HOLDS),
    "input scale, against": (
        "input-scale",
        scale_rows("input-scale", REGULAR | {"relative_curvature": 9.0}, ROUGH),
        Verdict.IN_PART,
    ),
    "input scale, one of four": (
        "input-scale",
        scale_rows("input-scale", REGULAR, REGULAR | {"relative_curvature": 9.0}),
        Verdict.IN_PART,
    ),
    "input scale, reversed": ("input-scale", scale_rows("input-scale", ROUGH, REGULAR), Verdict.DOES_NOT_HOLD),
    "landscape, rising": ("landscape", surface_rows((0.1, 0.2, 0.4)), Verdict.HOLDS),
    "landscape, a dip": ("landscape", surface_rows((0.1, 0.05, 0.4)), Verdict.IN_PART),
    "landscape, level": ("landscape", surface_rows((0.4, 0.4, 0.4)), Verdict.DOES_NOT_HOLD),
    "training, faster": ("training", training_rows(0.5, 0.2), Verdict.HOLDS),
    "training, only less to begin with": ("training", training_rows(0.2, 0.25, (0.3, 2.0)), Verdict.IN_PART),
    "training, slower": ("training", training_rows(0.2, 0.5), Verdict.DOES_NOT_HOLD),
    "losses, all": ("general-loss", loss_rows({0.1: 1.0, 0.3: 0.97}), Verdict.HOLDS),
    "losses, some": ("general-loss", loss_rows({0.1: 1.0, 0.3: 0.5}), Verdict.IN_PART),
    "losses, none": ("general-loss", loss_rows({0.1: 0.9, 0.3: 0.5}), Verdict.DOES_NOT_HOLD),
}


@pytest.mark.parametrize("case", MADE_UP)
def test_a_verdict_follows_from_the_rows_alone(case):
    name, rows, expected = MADE_UP[case]
    found = EXPERIMENTS[name].judge(rows)
    assert found.verdict is expected
    assert found == EXPERIMENTS[name].judge(list(rows))
    if expected is not Verdict.HOLDS:
        assert found.departures, "what does not bear out the paper is said"
    assert all(len(line) == len(found.table.header) for line in found.table.lines)


def test_every_verdict_of_every_experiment_is_tried():
    assert {(name, verdict) for name, _, verdict in MADE_UP.values()} == {(n, v) for n in NAMES for v in Verdict}


def test_every_setting_is_counted_once():
    rows = convergence_rows()
    smooth = {tuple(row[factor] for factor in BASE) for row in rows if not is_linear(row["activation"])}
    assert f"in {len(smooth)} of {len(smooth)} settings" in EXPERIMENTS["convergence"].judge(rows).findings[0]


def test_medians_beyond_the_steps_count_and_are_told():
    rows = convergence_rows(exponent=0.0, slow_only_for=2000)
    found = EXPERIMENTS["convergence"].judge(rows)
    slow = [line for line in found.table.lines if line[:2] == ("hidden units m", "2000")]
    assert "more than 500 in 3 of 3 networks" in slow[0][4]
    assert found.verdict is Verdict.IN_PART, "500 steps at m = 2000 beside 10 at 500 is faster than linear growth"


def test_piecewise_linear_networks_are_told_apart():
    found = EXPERIMENTS["convergence"].judge(convergence_rows())
    assert any("linear region" in departure and "relu" in departure for departure in found.departures)
    assert any("relu (linear region)" in line for line in found.table.lines)


def test_a_rate_that_diverges_is_never_the_best():
    rows = training_rows(0.5, 0.2)
    rates = {row["rate"] for row in rows if row["rates"] == training_speed.OWN}
    best = training_speed.best_rate(rows, 0.3, 8, "loss")
    assert best.rate == sorted(rates)[1]
    assert math.isfinite(best.interval.mean)
    assert not best.at_edge


@pytest.mark.parametrize("place", ["smallest", "largest"])
def test_a_best_rate_at_the_edge_of_the_grid_is_said_and_does_not_count_in_favour(place):
    rows = training_rows(0.5, 0.2)
    rates = sorted({row["rate"] for row in rows if row["rates"] == training_speed.OWN})
    swapped = (
        {rates[1]: rates[0], rates[0]: rates[1]} if place == "smallest" else {rates[1]: rates[-1], rates[-1]: rates[1]}
    )
    for row in rows:
        if row["rates"] == training_speed.OWN and row["scale"] == 3.0:
            row["rate"] = swapped.get(row["rate"], row["rate"])
    found = EXPERIMENTS["training"].judge(rows)
    assert training_speed.best_rate(rows, 3.0, 12, "loss").at_edge
    assert found.verdict is Verdict.DOES_NOT_HOLD, "the larger scale may be faster at a rate that was not tried"
    assert all("beyond the edge of the grid" in departure for departure in found.departures)
    assert any("at an edge" in finding for finding in found.findings)


def test_a_speed_that_stands_on_overshooting_rates_does_not_count_in_favour():
    rows = training_rows(0.5, 0.2)
    for row in rows:  # the small scale is fast only where its first epoch is a hundred times the loss before
        if row["scale"] == 0.3 and row["rates"] == training_speed.OWN and math.isfinite(row["loss"]):
            if row["rate"] == 3.0:
                row["loss"], row["share"] = (v * (100 if row["epoch"] == 1 else 1) for v in (row["loss"], row["share"]))
            elif row["epoch"]:
                row["loss"] = row["share"] = 0.9
    assert training_speed.best_rate(rows, 0.3, 12, "loss").rate == 3.0
    assert training_speed.best_rate(rows, 0.3, 12, "loss", without_overshoot=True).rate != 3.0
    found = EXPERIMENTS["training"].judge(rows)
    assert found.verdict is Verdict.DOES_NOT_HOLD
    assert all("at the best rate without overshoot" in each.rpartition("favour: ")[2] for each in found.departures)


@pytest.mark.parametrize("size", SIZES)
def test_no_loss_of_a_first_epoch_is_compared(size):
    rows = [{**EXPERIMENTS["training"].cells(size)[0], "epoch": 0}]
    early, late = training_speed.moments_of(rows)
    assert 1 < early < late == rows[0]["epochs"]


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_behind_the_figures_is_counted_from_the_rows(name):
    rows = next(rows for each, rows, _ in MADE_UP.values() if each == name)
    told = EXPERIMENTS[name].counts(rows, RUN)
    assert "3 (repetitions r = 0 to 2)" in told
    assert f"({RUN.seed}, r" in told
    for key in ("samples", "steps", "starts", "points", "epochs", "attack_steps"):
        if key in rows[0]:
            assert re.search(rf"\b{rows[0][key]}\b", told), key
    others = [row | {"samples": 77, "repetition": row["repetition"] + 4} for row in rows]
    told = EXPERIMENTS[name].counts(others, RUN._replace(seed=9))
    assert "77" in told
    assert "r = 4 to 6" in told
    assert "(9, r" in told


# ------------------------------------------------------------------ small cells

SMALL = {"samples": 2, "steps": 60, "starts": 3, "points": 9, "epochs": 2}


def small_cells(name):
    """The first cell of each setting that is computed in its own way, with few samples and steps."""
    chosen = {}
    for cell in EXPERIMENTS[name].cells(QUICK):
        kind = (cell.get("network"), cell.get("loss"), cell.get("rates"), cell["activation"])
        small = {key: min(value, SMALL[key]) if key in SMALL else value for key, value in cell.items()}
        small |= {key: min(cell[key], most) for key, most in (("m", 30), ("d", 64)) if key in cell}
        chosen.setdefault(kind, small)
    return list(chosen.values())


@pytest.mark.parametrize("name", NAMES)
def test_cells_give_rows_of_plain_numbers(name):
    for cell in small_cells(name):
        for row in EXPERIMENTS[name].run(cell, RUN):
            assert {key: row[key] for key in cell} == cell
            assert all(value is None or type(value) in (int, float, str) for value in row.values()), row
            shares = [row.get(key) for key in ("maxima", "within_steps", "converged", "of_bound", "of_maximum")]
            assert all(share is None or 0 <= share <= 1 for share in shares), row


def test_a_training_that_diverges_is_told_and_not_an_error():
    cell = {**training_speed.cells(QUICK)[0], "activation": "quadratic", "rate": 1e12, "samples": 60, "epochs": 3}
    rows = training_speed.run(cell, RUN)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert math.isfinite(rows[0]["loss"])
    assert rows[-1]["loss"] == rows[-1]["share"] == math.inf


def test_the_same_network_and_directions_at_every_scale():
    cells = [
        {"d": 5, "m": 9, "activation": "tanh", "ratio": 0.3, "samples": 4, "repetition": 2} | {"scale": s}
        for s in (1, 10)
    ]
    one, ten = (ascents.random_problem(cell, RUN) for cell in cells)
    np.testing.assert_array_equal(one.net.hidden_weight, ten.net.hidden_weight)
    np.testing.assert_allclose(10 * one.x, ten.x, rtol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(ten.x, axis=1), 10, rtol=1e-12)
    assert (one.eps, ten.eps) == (0.3, 3.0)
    other = ascents.random_problem({**cells[0], "repetition": 3}, RUN)
    assert not np.array_equal(other.net.hidden_weight, one.net.hidden_weight)


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_ascents_do_not_overshoot_and_end_in_certified_maxima(scale):
    cell = {"d": 10, "m": 60, "activation": "tanh", "ratio": 0.3, "scale": scale, "samples": 8, "repetition": 0}
    problem = ascents.random_problem(cell, RUN)
    local = ascents.local_geometry(problem, RUN)
    found = ascents.ascend(problem, local.step_size, 2000, RUN, ascents.tolerance(problem, local))
    rises = np.diff(found.loss, axis=1)
    assert np.nanmin(rises) > -1e-9 * np.nanmax(found.loss)
    row, attack = ascents.measure(problem, local, 2000, RUN)
    assert row["maxima"] == row["within_steps"] == 1.0
    assert row["residual"] <= ascents.STATIONARY_SHARE
    kinds = [kind.name.lower() for kind in dynamics.Verdict]
    assert sum(row[kind] for kind in kinds) == pytest.approx(1)
    bound = attained.of_bound(problem, attack, RUN)
    assert 0 < bound["relative_increase"] <= 1
    assert 0 < bound["of_bound"] <= 1


def test_many_starts_attain_the_maximum_of_a_small_network_and_the_bound_is_above():
    cell = {**attained.EXACT, "d": 3, "m": 5, "ratio": 0.3, "samples": 4, "loss": "squared", "repetition": 0}
    row = attained.of_maximum(cell, RUN)
    assert row["of_maximum"] <= row["of_maximum_many"] <= 1
    assert row["of_maximum_many"] > 0.99
    assert 0 < row["maximum_of_bound"] <= 1


# ------------------------------------------------------------------ the report


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of made-up rows: the verdicts that the paper would not like."""
    folder = tmp_path_factory.mktemp("report")
    outcomes = []
    for name in NAMES:
        experiment = EXPERIMENTS[name]
        rows = next(rows for each, rows, verdict in MADE_UP.values() if each == name and verdict is Verdict.IN_PART)
        figures = {figure: png_of(drawn) for figure, drawn in experiment.draw(rows, RUN).items()}
        outcomes.append(Outcome(experiment, rows, experiment.judge(rows), experiment.counts(rows, RUN), figures, 1.0))
    for outcome in outcomes:
        write_outcome(outcome, folder)
    write_report(outcomes, "pyfirstorder reproduce all --seed 3", folder)
    return folder, outcomes


def test_the_report_has_every_claim_verdict_figure_and_departure(report):
    folder, outcomes = report
    text = (folder / "report.md").read_text(encoding="utf-8")
    page = (folder / "report.html").read_text(encoding="utf-8")
    for outcome in outcomes:
        experiment, judgement = outcome.experiment, outcome.judgement
        summary = next(line for line in text.splitlines() if line.startswith(f"| {experiment.name} |"))
        for words in (experiment.claim, judgement.verdict.value, judgement.key):
            assert words in summary
        for words in (experiment.design, experiment.criterion, outcome.counts, *judgement.findings):
            assert words in text
        for departure in judgement.departures:
            assert text.count(departure) == 2, "in the summary at the top and in its section"
        for name in outcome.figures:
            assert name.startswith(experiment.name)
            assert f"]({name}.png)" in text
            assert f"alt='{name}'" in page
    assert fo.__version__ in text
    assert "reproduce all --seed 3" in text


def test_the_page_needs_no_other_file(report):
    folder, outcomes = report
    page = (folder / "report.html").read_text(encoding="utf-8")
    images = re.findall(r"<img[^>]* src='data:image/png;base64,([^']+)'", page)
    assert [base64.b64decode(image) for image in images] == [
        (folder / f"{name}.png").read_bytes() for outcome in outcomes for name in outcome.figures
    ]
    assert not re.search(r"(src|href)='(?!data:|#)", page)


def test_tables_of_the_report_have_as_many_cells_in_every_line(report):
    text = (report[0] / "report.md").read_text(encoding="utf-8")
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
