"""Figures of experiments: a figure of each repetition against what was varied, with the interval of its mean."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder.experiments.statistics import column, distinct, mean_interval, where
from pyfirstorder.plots import COLOURS, new_figure, style

try:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
except ImportError as error:
    raise ImportError('experiments need matplotlib: pip install "pyfirstorder[lab]"') from error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pyfirstorder.experiments.experiment import Row

SHARES = (-0.04, 1.04)  # the ends of an axis of shares, with room for dots
NAMES = {
    "m": "hidden units m",
    "d": "inputs d",
    "ratio": "perturbation ratio ρ",
    "activation": "activation σ",
    "scale": "input scale s",
}
_DPI = 90
_TOP = 4  # the means lie above all else


def png_of(figure: Figure) -> bytes:
    """The figure as it is written; to be called once, because laying it out again moves it by a little."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI, metadata={"Software": None})  # the same bytes in every run
    return content.getvalue()


def figure_of_sweeps(
    sweeps: Mapping[str, Sequence[Row]], quantities: Mapping[str, str], logarithmic: tuple[str, ...] = ()
) -> Figure:
    """A row of panels for each quantity, a column for each factor that was varied."""
    widths = [2.2 if isinstance(rows[0][factor], str) else 1.6 for factor, rows in sweeps.items()]
    figure = new_figure(1.35 * sum(widths), 2.4 * len(quantities) + 0.4)
    grid = figure.subplots(len(quantities), len(sweeps), squeeze=False, sharey="row", width_ratios=widths)
    for panels, (name, label) in zip(grid, quantities.items()):
        for axes, (factor, rows) in zip(panels, sweeps.items()):
            draw_intervals(axes, rows, factor, name, COLOURS[0])
            axes.set_xlabel(NAMES.get(factor, factor), fontsize=9)
        panels[0].set_ylabel(label, fontsize=9)
        if name in logarithmic:
            logarithmic_axis(*panels)
        else:
            panels[0].set_ylim(*SHARES)
    return figure


def logarithmic_axis(axes: Axes, *sharing: Axes) -> None:
    """A logarithmic vertical axis with plain numbers, and none below the smallest mean of those who share it."""
    axes.set_yscale("log", nonpositive="clip")
    means = [
        np.asarray(line.get_ydata(), dtype=np.float64)
        for each in (axes, *sharing)
        for line in each.lines
        if line.get_zorder() == _TOP
    ]
    drawn = [float(value) for part in means for value in part if math.isfinite(value) and value > 0]
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    if drawn:
        axes.set_ylim(bottom=min(drawn) / 1.5)  # an interval may reach below zero, which has no place here


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
    axes.plot(places, means, line, color=colour, markersize=4.5, linewidth=1.4, label=label, zorder=_TOP)
    style(axes)
    axes.tick_params(labelsize=8)
    if named:
        axes.set_xticks(places, values, rotation=60, ha="right")
    else:
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
