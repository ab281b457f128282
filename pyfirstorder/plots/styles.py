"""What all figures share: colours, sizes, grids; and the check of what is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyfirstorder import checks

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError('plots need matplotlib: pip install "pyfirstorder[cli]"') from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NORM_SYMBOLS = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1"}
# Okabe & Ito 2008: told apart with any colour vision, and in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, GRID = "#333333", "#DDDDDD"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, laid out without overlaps.

    Parameters
    ----------
    width, height : float
        In inches.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> from pyfirstorder.plots import new_figure
    >>> new_figure(6.4, 4.0).get_size_inches()
    array([6.4, 4. ])
    """
    return Figure(figsize=(width, height), layout="constrained")


def style(axes: Axes) -> None:
    """A pale grid, no frame at the top and right.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Changed in place.

    Examples
    --------
    >>> from pyfirstorder.plots import new_figure, style
    >>> axes = new_figure(4.0, 3.0).add_subplot()
    >>> style(axes)
    >>> axes.spines["top"].get_visible()
    False
    """
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=INK, length=0, pad=6)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)


def require_named(name: str, value: object, kind: type | str) -> None:
    """A mapping with something in it, all of one kind; a kind that is not imported here is known by its name."""
    wanted = kind if isinstance(kind, str) else kind.__name__
    if not isinstance(value, Mapping):
        hint = f'; name it: {{"a name": {name}}}' if type(value).__name__ == wanted else ""
        raise TypeError(f"{name}: expected a mapping of names to {wanted}, got {checks.describe(value)}{hint}")
    for key, part in value.items():
        checks.text(name, key)
        if type(part).__name__ != wanted:
            raise TypeError(f"{name}: expected a {wanted}, got {checks.describe(part)} as {key!r}")
    if not value:
        raise ValueError(f"{name}: expected at least one {wanted}, got an empty mapping")
