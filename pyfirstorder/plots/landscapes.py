"""The loss on planes and lines, with ball, box and trajectories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder import checks, hints
from pyfirstorder.plots.styles import COLOURS, GRID, INK, NORM_SYMBOLS, new_figure, require_named, style

try:
    from matplotlib.colors import Normalize
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ImportError('plots need matplotlib: pip install "pyfirstorder[cli]"') from error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pyfirstorder.dynamics import Landscape

_LEVELS = 24  # contours of a landscape
_PANELS_A_ROW = 3
_MOST_ASCENTS_TOLD = 4  # whose off-plane distances stand below a picture
_NOTE_HEIGHT = 0.16  # inches of a line
_ON_PLANE = 1e-6  # of what is shown: nearer is the rounding of float32


@hints.knows_other_names
def landscape_figure(surfaces: Mapping[str, Landscape], *, title: str, same_scale: bool = False) -> Figure:
    """The loss on planes as filled contours, and on lines as curves, a panel for each named landscape.

    Outside of ball and box the surface is pale, and the edge is a line.  A cross is the projection of the sample onto
    the plane; projections of trajectories go from a ring to a dot.  Below each panel stand the off-plane distances of
    the sample and of each trajectory: the largest, and that of its end.  They are shares of the radius ε if there is a
    ball, else in the units of x.

    Parameters
    ----------
    surfaces : mapping of str to Landscape
        At least one.
    title : str
    same_scale : bool
        Whether all panels have the colours, or the axis, of one range of losses.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder import dynamics, plots
    >>> net, x = fo.random_network(10, 32), np.full(10, 0.3)
    >>> surface = dynamics.landscape(net, x, 0.0, dynamics.random_plane(x), eps=0.5, points=41)
    >>> figure = plots.landscape_figure({"a random plane": surface}, title="squared loss")
    >>> print(figure.axes[0].get_xlabel())
    along u
    ℓ2 ball, ε = 0.5
    off-plane distances: the sample 0
    """
    require_named("surfaces", surfaces, "Landscape")
    checks.text("title", title)
    checks.flag("same_scale", same_scale)
    columns = min(len(surfaces), _PANELS_A_ROW)
    rows = -(-len(surfaces) // columns)
    notes = max(len(_notes(surface)) for surface in surfaces.values())
    figure = new_figure(4.6 * columns + 0.4, (4.3 + _NOTE_HEIGHT * notes) * rows + 0.8)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    ends = [(float(s.loss.min()), float(s.loss.max())) for s in surfaces.values()]
    shared = (min(low for low, _ in ends), max(high for _, high in ends))
    for (name, surface), axes, own in zip(surfaces.items(), grid, ends):
        draw = _surface if len(surface.axes) == 2 else _profile
        draw(figure, axes, surface, shared if same_scale else own)
        axes.set_title(name, loc="left", color=INK, fontsize=10)
    for axes in grid[len(surfaces) :]:
        axes.set_axis_off()
    handles = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels())}
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=5, frameon=False, labelcolor=INK
        )
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    return figure


def _surface(figure: Figure, axes: Axes, surface: Landscape, ends: tuple[float, float]) -> None:
    """Filled contours of a plane, ball, box and trajectories above them."""
    low, high = ends if ends[0] < ends[1] else (ends[0] - 0.5, ends[0] + 0.5)
    levels = MaxNLocator(_LEVELS).tick_values(low, high)
    first, second = surface.axes
    colours = Normalize(levels[0], levels[-1])
    filled = axes.contourf(first, second, surface.loss.T, levels=levels, cmap="viridis", norm=colours)
    axes.contour(first, second, surface.loss.T, levels=levels[::4], colors="white", linewidths=0.4, alpha=0.6)
    limits = ((first[0], first[-1]), (second[0], second[-1]))
    if surface.boundary is not None:
        corners = [(limits[0][i], limits[1][j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))]
        outside = Path.make_compound_path(Path(corners, closed=True), Path(surface.boundary[::-1], closed=True))
        axes.add_patch(PathPatch(outside, facecolor="white", alpha=0.5, linewidth=0, zorder=2))
        axes.plot(*surface.boundary.T, color=INK, linewidth=1.4, label="edge of ball and box", zorder=3)
    halo = [Stroke(linewidth=3.2, foreground="white"), Normal()]
    for number, path in enumerate(surface.trajectories, 1):
        ascent: dict[str, Any] = {"color": COLOURS[1], "path_effects": halo, "zorder": 4}
        axes.plot(*path.T, linewidth=1.5, label="ascent, projected", **ascent)
        ring: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 1.4, "zorder": 5, "linestyle": "none"}
        axes.plot(*path[0], marker="o", color=COLOURS[1], markersize=5.5, label="its start", **ring)
        axes.plot(*path[-1], "o", color=COLOURS[1], markeredgecolor="white", markersize=7, label="its end", zorder=5)
        if len(surface.trajectories) > 1:  # the notes name them so
            at_end: dict[str, Any] = {"textcoords": "offset points", "path_effects": halo, "fontsize": 9, "zorder": 6}
            axes.annotate(f"{number}", path[-1], (5, 5), color=INK, **at_end)
    axes.plot(*surface.centre, "x", color="white", markersize=9, markeredgewidth=4, zorder=5)
    cross: dict[str, Any] = {"markersize": 7, "markeredgewidth": 1.8, "label": "the sample, projected", "zorder": 6}
    axes.plot(*surface.centre, "x", color=INK, **cross)
    axes.set(xlim=limits[0], ylim=limits[1], aspect="equal")
    axes.xaxis.set_major_locator(MaxNLocator(5))  # more of them run into each other where the scale is small
    _label(axes, "\n".join(("along u", *_notes(surface))), "along v")
    bar = figure.colorbar(filled, ax=axes, shrink=0.85, aspect=24, pad=0.02)
    bar.locator = MaxNLocator(6)
    bar.update_ticks()
    bar.set_label(_loss_name(surface), color=INK, fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=INK, length=0)


def _profile(figure: Figure, axes: Axes, surface: Landscape, ends: tuple[float, float]) -> None:
    """The curve of a line, and what of it lies in ball and box."""
    (coordinates,) = surface.axes
    if surface.boundary is not None:
        low, high = surface.boundary[:, 0]
        axes.axvspan(low, high, color=GRID, alpha=0.5, linewidth=0, label="within ball and box")
    axes.plot(coordinates, surface.loss, color=COLOURS[0], linewidth=2, zorder=3)
    axes.axvline(float(surface.centre[0]), color=INK, linewidth=1, linestyle=":", label="the sample, projected")
    for path in surface.trajectories:
        heights = np.interp(path[:, 0], coordinates, surface.loss)
        axes.plot(path[:, 0], heights, "o-", color=COLOURS[1], markersize=3, label="ascent, projected", zorder=4)
    room = 0.05 * ((ends[1] - ends[0]) or 1.0)
    axes.set(xlim=(coordinates[0], coordinates[-1]), ylim=(ends[0] - room, ends[1] + room))
    style(axes)
    _label(axes, "\n".join(("along the line", *_notes(surface))), _loss_name(surface))


def _label(axes: Axes, horizontal: str, vertical: str) -> None:
    axes.set_xlabel(horizontal, color=INK, fontsize=9)
    axes.set_ylabel(vertical, color=INK, fontsize=9)
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[:].set_color(GRID)


def _notes(surface: Landscape) -> list[str]:
    """What ball it is, and how far sample and trajectories lie off the plane, of which projections are shown."""
    unit = " ε" if surface.eps else ""
    place = "line" if len(surface.axes) == 1 else "plane"

    size = max(float(np.ptp(axis)) for axis in surface.axes)

    def told(distance: float) -> str:
        return f"{distance / (surface.eps or 1.0):.2g}{unit}" if distance > _ON_PLANE * size else "0"

    lines = [] if surface.eps is None else [f"{NORM_SYMBOLS[surface.norm]} ball, ε = {surface.eps:.3g}"]
    lines.append(f"off-{place} distances: the sample {told(surface.centre_off_plane_distance)}")
    distances = surface.off_plane_distances
    for i, path in enumerate(distances[:_MOST_ASCENTS_TOLD]):
        name = "the ascent" if len(distances) == 1 else f"ascent {i + 1}"
        lines.append(f"{name} at most {told(path.max())}, at its end {told(path[-1])}")
    rest = distances[_MOST_ASCENTS_TOLD:]
    if rest:
        lines.append(f"{len(rest)} more ascents at most {told(max(path.max() for path in rest))}")
    return lines


def _loss_name(surface: Landscape) -> str:
    name = surface.loss_name.replace("_", " ") + " loss"
    return f"negative {name}" if surface.targeted else name
