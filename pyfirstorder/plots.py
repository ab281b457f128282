"""Figures of an attack: accuracy against the radius, and what the adversarial examples look like.

Figures are `matplotlib.figure.Figure` objects of their own: no pyplot, no global state, no window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

try:
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter
except ImportError as error:
    raise ImportError('plots need matplotlib: pip install "pyfirstorder[cli]"') from error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from pyfirstorder.problem import Array

NORM_SYMBOLS = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1"}
# Okabe & Ito 2008: told apart with any colour vision, and in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_INK, _GRID = "#333333", "#DDDDDD"


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


def accuracy_figure(curves: Mapping[str, Curve], *, norm: str, title: str, quantity: str = "accuracy") -> Figure:
    """Accuracy against the radius, a line for each named curve."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for (name, curve), colour in zip(curves.items(), _colours(len(curves))):
        line = axes.plot(curve.eps, curve.accuracy, "o-", color=colour, label=name, markersize=5, linewidth=2)[0]
        line.set(clip_on=False, zorder=3)  # points on the axes are drawn whole, above the grid
    _style(axes)
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
    figure = Figure(figsize=(1.15 * count + 1.6, 4.3), layout="constrained")
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


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _shown(image: Array, low: float, high: float) -> Array:
    """The image in [0, 1], as matplotlib wants it."""
    return np.clip((image - low) / ((high - low) or 1.0), 0, 1)


def _style(axes: Axes) -> None:
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRID)
    axes.tick_params(colors=_INK, length=0, pad=6)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(_INK)
