"""Accuracy against the radius, and images before and after an attack."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyfirstorder import checks, hints, validate
from pyfirstorder.plots.styles import COLOURS, GRID, INK, NORM_SYMBOLS, new_figure, require_named, style

try:
    from matplotlib.ticker import PercentFormatter
except ImportError as error:
    raise ImportError('plots need matplotlib: pip install "pyfirstorder[cli]"') from error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from pyfirstorder.problem import Array

_CHANNELS = (1, 3, 4)  # grey, colour, colour with transparency


class Curve(NamedTuple):
    """Accuracies at increasing radii.

    Attributes
    ----------
    eps : array (E,)
        Radii.
    accuracy : array (E,)
        Shares from 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder.plots import Curve
    >>> Curve(np.array([0.0, 0.1]), np.array([0.98, 0.61])).accuracy.min()
    np.float64(0.61)
    """

    eps: Array  # (E,)
    accuracy: Array  # (E,), shares


class Examples(NamedTuple):
    """Some samples, their adversarial examples at one radius, and the predicted classes of both.

    Attributes
    ----------
    eps : float
        The radius.
    clean, adversarial : arrays (n, d)
        The samples, and their adversarial examples.
    clean_classes, adversarial_classes : arrays (n,)
        What the network predicts for them.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder.plots import Examples
    >>> x = np.zeros((3, 64))
    >>> Examples(0.1, x, x + 0.1, np.array([0, 1, 2]), np.array([0, 7, 2])).clean.shape
    (3, 64)
    """

    eps: float
    clean: Array  # (n, d)
    adversarial: Array  # (n, d)
    clean_classes: Array  # (n,)
    adversarial_classes: Array  # (n,)


@hints.knows_other_names
def accuracy_figure(curves: Mapping[str, Curve], *, norm: str, title: str, quantity: str = "accuracy") -> Figure:
    """Accuracy against the radius, a line for each named curve.

    Parameters
    ----------
    curves : mapping of str to Curve
        At least one; the names go into a legend where there are more.
    norm : "linf", "l2", "l1", inf, 2 or 1
        Of the ball whose radius it is.
    title : str
    quantity : str
        The label of the vertical axis.

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
    >>> from pyfirstorder import plots
    >>> rng = np.random.default_rng(0)
    >>> net = fo.TwoLayerNetwork(rng.standard_normal((16, 8)), rng.standard_normal((3, 16)))
    >>> x = rng.standard_normal((50, 8))
    >>> curve = fo.robustness_curve(net, x, fo.predict(net, x), eps=[0.0, 0.1, 0.2])
    >>> drawn = {"pgd": plots.Curve(curve.eps, curve.robust_accuracy)}
    >>> figure = plots.accuracy_figure(drawn, norm="linf", title="a random network")
    >>> figure.axes[0].get_xlabel()
    'radius of the ℓ∞ ball'
    """
    norm = validate.norm(norm)
    require_named("curves", curves, Curve)
    for name, curve in curves.items():
        eps, accuracy = np.shape(curve.eps), np.shape(curve.accuracy)
        if len(eps) != 1 or eps != accuracy:
            raise ValueError(
                f"curves: expected as many accuracies as radii, got shapes {accuracy} and {eps} of {name!r}"
            )
    checks.text("title", title)
    checks.text("quantity", quantity)
    figure = new_figure(6.4, 4.0)
    axes = figure.add_subplot()
    for (name, curve), colour in zip(curves.items(), _colours(len(curves))):
        line = axes.plot(curve.eps, curve.accuracy, "o-", color=colour, label=name, markersize=5, linewidth=2)[0]
        line.set(clip_on=False, zorder=3)  # points on the axes are drawn whole, above the grid
    style(axes)
    axes.set_title(title, loc="left", color=INK, fontsize=11, pad=12)
    axes.set_xlabel(f"radius of the {NORM_SYMBOLS[norm]} ball")
    axes.set_ylabel(quantity)
    axes.set_ylim(0, 1)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    if len(curves) > 1:
        axes.legend(frameon=False, labelcolor=INK)
    return figure


@hints.knows_other_names
def examples_figure(examples: Examples, *, norm: str, image_shape: tuple[int, ...]) -> Figure:
    """Clean images, adversarial ones and the perturbation, in three rows, with the predicted classes above them.

    Parameters
    ----------
    examples : Examples
        A column each.
    norm : "linf", "l2", "l1", inf, 2 or 1
        Of the ball that the adversarial examples lie in.
    image_shape : (height, width), or (height, width, channels)
        Of an image; channels are 1, 3 or 4 and come last.

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
    >>> from pyfirstorder import plots
    >>> rng = np.random.default_rng(0)
    >>> net = fo.TwoLayerNetwork(rng.standard_normal((16, 64)), rng.standard_normal((3, 16)))
    >>> x = rng.random((4, 64))
    >>> y = fo.predict(net, x)
    >>> ends = fo.pgd(net, x, y, eps=0.1, bounds=(0, 1)).x_adv
    >>> shown = plots.Examples(0.1, x, ends, y, fo.predict(net, ends))
    >>> figure = plots.examples_figure(shown, norm="linf", image_shape=(8, 8))
    >>> len(figure.axes)  # three rows of four, and the bar of colours
    13
    """
    norm = validate.norm(norm)
    shape = _image_shape(examples, image_shape)
    count = len(examples.clean)
    figure = new_figure(1.15 * count + 1.6, 4.3)
    grid = figure.subplots(3, count, squeeze=False)
    difference = examples.adversarial - examples.clean
    low, high = float(examples.clean.min()), float(examples.clean.max())
    in_pixels = norm == "linf" and np.isfinite(examples.eps)
    limit = float(examples.eps if in_pixels else np.abs(difference).max()) or 1.0
    for column in range(count):
        clean, adversarial, delta = (
            part[column].reshape(shape) for part in (examples.clean, examples.adversarial, difference)
        )
        before, after = examples.clean_classes[column], examples.adversarial_classes[column]
        grid[0, column].imshow(_shown(clean, low, high), cmap="gray", vmin=0, vmax=1)
        grid[0, column].set_title(str(before), color=INK, fontsize=10)
        grid[1, column].imshow(_shown(adversarial, low, high), cmap="gray", vmin=0, vmax=1)
        grid[1, column].set_title(str(after), color=INK if before == after else COLOURS[1], fontsize=10)
        # Of a colour image, the mean change of its channels.
        flat = delta if delta.ndim == 2 else delta.mean(axis=2)
        shown = grid[2, column].imshow(flat, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for row, label in zip(grid, ("clean", "adversarial", "difference")):
        row[0].set_ylabel(label, color=INK, fontsize=10)
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color(GRID)
    bar = figure.colorbar(shown, ax=grid[2].tolist(), shrink=0.9, aspect=12, pad=0.01)
    bar.set_ticks([-limit, 0, limit], labels=[f"−{limit:.3g}", "0", f"+{limit:.3g}"])
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=INK)
    figure.suptitle(
        f"Predicted classes before and after an attack of radius {examples.eps:g} ({NORM_SYMBOLS[norm]})",
        x=0.01,
        ha="left",
        fontsize=11,
        color=INK,
    )
    return figure


def _image_shape(examples: object, image_shape: object) -> tuple[int, ...]:
    """The shape that images are shown in, (height, width) or with 3 or 4 channels; what it is for is checked, too."""
    if not isinstance(examples, Examples):
        raise TypeError(f"examples: expected Examples, got {checks.describe(examples)}")
    if not isinstance(image_shape, (tuple, list)):
        raise TypeError(f"image_shape: expected (height, width[, channels]), got {checks.describe(image_shape)}")
    shape = tuple(checks.integer("image_shape", side, 1, 2**20) for side in image_shape)
    if len(shape) not in (2, 3) or (shape[2:] and shape[2] not in _CHANNELS):
        hint = "; channels come last" if len(shape) == 3 and shape[0] in _CHANNELS else ""
        raise ValueError(f"image_shape: expected (height, width) or (height, width, 1, 3 or 4), got {shape}{hint}")
    size = np.shape(examples.clean)
    if len(size) != 2 or not size[0] or size[1] != math.prod(shape):
        raise ValueError(
            f"examples: expected one or more images of {math.prod(shape)} numbers, as image_shape {shape} has, got "
            f"shape {size}"
        )
    others = {name: np.shape(getattr(examples, name)) for name in Examples._fields[2:]}
    for name, found in others.items():
        if found != (size if name == "adversarial" else size[:1]):
            raise ValueError(f"examples: expected {name} for {size[0]} images of {size[1]} numbers, got shape {found}")
    return shape[:2] if shape[2:] == (1,) else shape


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _shown(image: Array, low: float, high: float) -> Array:
    """The image in [0, 1], as matplotlib wants it."""
    return np.clip((image - low) / ((high - low) or 1.0), 0, 1)
