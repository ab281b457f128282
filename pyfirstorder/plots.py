"""Figures of an attack: accuracy against the radius, what adversarial examples look like, the loss on planes.

Figures are `matplotlib.figure.Figure` objects of their own: no pyplot, no global state, no window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

try:
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.ticker import MaxNLocator, PercentFormatter
except ImportError as error:
    raise ImportError('plots need matplotlib: pip install "pyfirstorder[cli]"') from error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from pyfirstorder.dynamics import Landscape
    from pyfirstorder.problem import Array

NORM_SYMBOLS = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1"}
# Okabe & Ito 2008: told apart with any colour vision, and in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK, _GRID = "#333333", "#DDDDDD"
_LEVELS = 24  # contours of a landscape
_PANELS_A_ROW = 3


class Curve(NamedTuple):
    """Accuracies at increasing radii."""

    eps: Array  # (E,)
    accuracy: Array  # (E,), shares


class Examples(NamedTuple):
    """Some samples, their adversarial examples at one radius, and the predicted classes of both."""

    eps: float
    clean: Array  # (n, d)
    adversarial: Array  # (n, d)
    clean_classes: Array  # (n,)
    adversarial_classes: Array  # (n,)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, laid out without overlaps."""
    return Figure(figsize=(width, height), layout="constrained")


def accuracy_figure(curves: Mapping[str, Curve], *, norm: str, title: str, quantity: str = "accuracy") -> Figure:
    """Accuracy against the radius, a line for each named curve."""
    figure = new_figure(6.4, 4.0)
    axes = figure.add_subplot()
    for (name, curve), colour in zip(curves.items(), _colours(len(curves))):
        line = axes.plot(curve.eps, curve.accuracy, "o-", color=colour, label=name, markersize=5, linewidth=2)[0]
        line.set(clip_on=False, zorder=3)  # points on the axes are drawn whole, above the grid
    style(axes)
    axes.set_title(title, loc="left", color=_INK, fontsize=11, pad=12)
    axes.set_xlabel(f"radius of the {NORM_SYMBOLS[norm]} ball")
    axes.set_ylabel(quantity)
    axes.set_ylim(0, 1)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    if len(curves) > 1:
        axes.legend(frameon=False, labelcolor=_INK)
    return figure


def examples_figure(examples: Examples, *, norm: str, image_shape: tuple[int, ...]) -> Figure:
    """Clean images, adversarial ones and the perturbation, in three rows, with the predicted classes above them."""
    shape = image_shape[:2] if image_shape[2:] == (1,) else image_shape
    count = len(examples.clean)
    figure = new_figure(1.15 * count + 1.6, 4.3)
    grid = figure.subplots(3, count, squeeze=False)
    difference = examples.adversarial - examples.clean
    low, high = float(examples.clean.min()), float(examples.clean.max())
    in_pixels = norm == "linf" and np.isfinite(examples.eps)
    reach = float(examples.eps if in_pixels else np.abs(difference).max()) or 1.0
    for column in range(count):
        clean, adversarial, delta = (
            part[column].reshape(shape) for part in (examples.clean, examples.adversarial, difference)
        )
        before, after = examples.clean_classes[column], examples.adversarial_classes[column]
        grid[0, column].imshow(_shown(clean, low, high), cmap="gray", vmin=0, vmax=1)
        grid[0, column].set_title(str(before), color=_INK, fontsize=10)
        grid[1, column].imshow(_shown(adversarial, low, high), cmap="gray", vmin=0, vmax=1)
        grid[1, column].set_title(str(after), color=_INK if before == after else COLOURS[1], fontsize=10)
        # Of a colour image, the mean change of its channels.
        flat = delta if delta.ndim == 2 else delta.mean(axis=2)
        shown = grid[2, column].imshow(flat, cmap="RdBu_r", vmin=-reach, vmax=reach)
    for row, label in zip(grid, ("clean", "adversarial", "difference")):
        row[0].set_ylabel(label, color=_INK, fontsize=10)
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color(_GRID)
    bar = figure.colorbar(shown, ax=grid[2].tolist(), shrink=0.9, aspect=12, pad=0.01)
    bar.set_ticks([-reach, 0, reach], labels=[f"−{reach:.3g}", "0", f"+{reach:.3g}"])
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=_INK)
    figure.suptitle(
        f"Predicted classes before and after an attack of radius {examples.eps:g} ({NORM_SYMBOLS[norm]})",
        x=0.01,
        ha="left",
        fontsize=11,
        color=_INK,
    )
    return figure


def landscape_figure(surfaces: Mapping[str, Landscape], *, title: str, same_scale: bool = False) -> Figure:
    """The loss on planes as filled contours, and on lines as curves, a panel for each named landscape.

    Outside of ball and box the surface is pale, and the edge is a line.  Trajectories go from a ring to a dot; the
    sample is a cross.  With ``same_scale`` all panels have the colours, or the axis, of one range of losses.
    """
    columns = min(len(surfaces), _PANELS_A_ROW)
    rows = -(-len(surfaces) // columns)
    figure = new_figure(4.6 * columns + 0.4, 4.3 * rows + 0.8)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    ends = [(float(s.loss.min()), float(s.loss.max())) for s in surfaces.values()]
    shared = (min(low for low, _ in ends), max(high for _, high in ends))
    for (name, surface), axes, own in zip(surfaces.items(), grid, ends):
        draw = _surface if len(surface.axes) == 2 else _profile
        draw(figure, axes, surface, shared if same_scale else own)
        axes.set_title(name, loc="left", color=_INK, fontsize=10)
    for axes in grid[len(surfaces) :]:
        axes.set_axis_off()
    handles = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels())}
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=5, frameon=False, labelcolor=_INK
        )
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=_INK)
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
        axes.plot(*surface.boundary.T, color=_INK, linewidth=1.4, label="edge of ball and box", zorder=3)
    halo = [Stroke(linewidth=3.2, foreground="white"), Normal()]
    for path in surface.trajectories:
        ascent: dict[str, Any] = {"color": COLOURS[1], "path_effects": halo, "zorder": 4}
        axes.plot(*path.T, linewidth=1.5, label="ascent, projected", **ascent)
        ring: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 1.4, "zorder": 5, "linestyle": "none"}
        axes.plot(*path[0], marker="o", color=COLOURS[1], markersize=5.5, label="its start", **ring)
        axes.plot(*path[-1], "o", color=COLOURS[1], markeredgecolor="white", markersize=7, label="its end", zorder=5)
    axes.plot(*surface.centre, "x", color="white", markersize=9, markeredgewidth=4, zorder=5)
    axes.plot(*surface.centre, "x", color=_INK, markersize=7, markeredgewidth=1.8, label="the sample", zorder=6)
    axes.set(xlim=limits[0], ylim=limits[1], aspect="equal")
    axes.xaxis.set_major_locator(MaxNLocator(5))  # more of them run into each other where the scale is small
    _label(axes, "\n".join(("along u", _note(surface))).strip(), "along v")
    bar = figure.colorbar(filled, ax=axes, shrink=0.85, aspect=24, pad=0.02)
    bar.locator = MaxNLocator(6)
    bar.update_ticks()
    bar.set_label(_loss_name(surface), color=_INK, fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=_INK, length=0)


def _profile(figure: Figure, axes: Axes, surface: Landscape, ends: tuple[float, float]) -> None:
    """The curve of a line, and what of it lies in ball and box."""
    (coordinates,) = surface.axes
    if surface.boundary is not None:
        low, high = surface.boundary[:, 0]
        axes.axvspan(low, high, color=_GRID, alpha=0.5, linewidth=0, label="within ball and box")
    axes.plot(coordinates, surface.loss, color=COLOURS[0], linewidth=2, zorder=3)
    axes.axvline(float(surface.centre[0]), color=_INK, linewidth=1, linestyle=":", label="the sample")
    for path in surface.trajectories:
        heights = np.interp(path[:, 0], coordinates, surface.loss)
        axes.plot(path[:, 0], heights, "o-", color=COLOURS[1], markersize=3, label="ascent, projected", zorder=4)
    room = 0.05 * ((ends[1] - ends[0]) or 1.0)
    axes.set(xlim=(coordinates[0], coordinates[-1]), ylim=(ends[0] - room, ends[1] + room))
    style(axes)
    _label(axes, "along the line", _loss_name(surface))


def _label(axes: Axes, horizontal: str, vertical: str) -> None:
    axes.set_xlabel(horizontal, color=_INK, fontsize=9)
    axes.set_ylabel(vertical, color=_INK, fontsize=9)
    axes.tick_params(labelsize=8, colors=_INK)
    axes.spines[:].set_color(_GRID)


def _note(surface: Landscape) -> str:
    """What ball it is, and how far from the plane the trajectories went: a projection is not on the surface."""
    lines = [] if surface.eps is None else [f"{NORM_SYMBOLS[surface.norm]} ball, ε = {surface.eps:.3g}"]
    if surface.distances:
        lines.append(f"ascents up to {max(part.max() for part in surface.distances):.2g} off the plane")
    return "; ".join(lines)


def _loss_name(surface: Landscape) -> str:
    name = surface.loss_name.replace("_", " ") + " loss"
    return f"negative {name}" if surface.targeted else name


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _shown(image: Array, low: float, high: float) -> Array:
    """The image in [0, 1], as matplotlib wants it."""
    return np.clip((image - low) / ((high - low) or 1.0), 0, 1)


def style(axes: Axes) -> None:
    """A pale grid, no frame at the top and right."""
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRID)
    axes.tick_params(colors=_INK, length=0, pad=6)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(_INK)
