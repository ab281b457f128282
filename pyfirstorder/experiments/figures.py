"""Figures of experiments: a figure of each repetition against what was varied, with the interval of its mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pyfirstorder.experiments.statistics import column, distinct, mean_interval, where
from pyfirstorder.plots import COLOURS, new_figure, style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pyfirstorder.experiments.experiment import Row

_LABELS = {
    "m": "hidden units m",
    "d": "inputs d",
    "ratio": "perturbation ratio ρ",
    "activation": "activation σ",
    "scale": "input scale s",
}


def figure_of_sweeps(
    rows: Sequence[Row], factors: tuple[str, ...], quantities: Mapping[str, str], logarithmic: tuple[str, ...] = ()
) -> Figure:
    """A row of panels for each quantity, a column for each factor that was varied."""
    figure = new_figure(2.7 * len(factors), 2.6 * len(quantities) + 0.4)
    grid = figure.subplots(len(quantities), len(factors), squeeze=False, sharey="row")
    for panels, (name, label) in zip(grid, quantities.items()):
        for axes, factor in zip(panels, factors):
            draw_intervals(axes, where(rows, factor=factor), factor, name, COLOURS[0])
            axes.set_xlabel(_LABELS.get(factor, factor), fontsize=9)
        panels[0].set_ylabel(label, fontsize=9)
        if name in logarithmic:
            panels[0].set_yscale("log")
    return figure


def draw_intervals(
    axes: Axes, rows: Sequence[Row], factor: str, quantity: str, colour: str, label: str | None = None
) -> None:
    """The mean of a quantity at each value of the factor, its interval, and every repetition as a dot.

    A repetition whose median of steps lies beyond all steps is drawn at their number, as a triangle.
    """
    values = distinct(rows, factor)
    named = isinstance(values[0], str)
    places: list[Any] = list(range(len(values))) if named else values
    means = []
    for place, value in zip(places, values):
        chosen = where(rows, **{factor: value})
        numbers = column(chosen, quantity)
        found = mean_interval(numbers)
        means.append(found.mean)
        for row, number in zip(chosen, numbers):
            axes.plot(place, number, "." if row[quantity] is not None else "^", color=colour, alpha=0.3, markersize=4)
        if math.isfinite(found.high):
            axes.plot([place, place], [found.low, found.high], color=colour, linewidth=1.5, zorder=3)
    line = "o" if named else "o-"
    axes.plot(places, means, line, color=colour, markersize=4.5, linewidth=1.4, label=label, zorder=4)
    style(axes)
    axes.tick_params(labelsize=8)
    if named:
        axes.set_xticks(places, values, rotation=60, ha="right")
    else:
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
