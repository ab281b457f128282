"""Pictures of a report: bars for every workload, lines of cost against size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

try:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
except ImportError as error:
    raise ImportError('plots need matplotlib: pip install "pyfirstorder[cli]"') from error

from pyfirstorder.plots import COLOURS

if TYPE_CHECKING:
    from pyfirstorder.bench.extras import Line
    from pyfirstorder.bench.suite import Outcome

_OURS, _RIVALS = COLOURS[0], "#BBBBBB"


def bars(outcomes: Sequence[Outcome]) -> Figure | None:
    """Milliseconds of every contender, a panel for each workload."""
    if not outcomes:
        return None
    columns = min(3, len(outcomes))
    rows = -(-len(outcomes) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.2 * rows), layout="constrained")
    for panel, outcome in zip(figure.subplots(rows, columns, squeeze=False).flat, outcomes):
        entries = [entry for entry in outcome.entries if entry.seconds][::-1]
        names = [entry.contender for entry in entries]
        times = [1e3 * entry.median for entry in entries]
        drawn = panel.barh(names, times, color=[_OURS if entry.ours else _RIVALS for entry in entries])
        panel.bar_label(drawn, [f"×{outcome.ratio(entry):.1f}" for entry in entries], padding=3, fontsize=8)
        panel.set(title=f"{outcome.workload.name}: {outcome.workload.title}", xlabel="milliseconds")
        panel.title.set_fontsize(8)
        panel.tick_params(labelsize=8)
        panel.margins(x=0.15)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in figure.axes[len(outcomes) :]:
        panel.set_visible(False)
    return figure


def lines(found: Sequence[Line]) -> Figure | None:
    """Microseconds a sample and step against each axis."""
    axes = list(dict.fromkeys(line.axis for line in found))
    if not axes:
        return None
    names = list(dict.fromkeys(line.name for line in found))
    figure = Figure(figsize=(4.0 * len(axes), 3.4), layout="constrained")
    for panel, axis in zip(figure.subplots(1, len(axes), squeeze=False).flat, axes):
        for line in found:
            if line.axis == axis:
                colour = COLOURS[names.index(line.name) % len(COLOURS)]
                panel.plot(line.at, line.cost, "o-", color=colour, label=line.name, markersize=4)
        panel.set(xlabel=axis, xscale="log", yscale="log")
        points = sorted({at for line in found if line.axis == axis for at in line.at})
        panel.set_xticks(points, labels=map(str, points))
        panel.set_xticks([], minor=True)
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        panel.yaxis.set_major_formatter(ScalarFormatter())
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("microseconds a sample and step")
    figure.axes[0].legend(fontsize=8, frameon=False)
    return figure
