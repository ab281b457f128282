"""Figures of an attack: accuracy against the radius, what adversarial examples look like, the loss on planes.

Figures are `matplotlib.figure.Figure` objects of their own: no pyplot, no global state, no window.
"""

from pyfirstorder.plots.attacks import Curve, Examples, accuracy_figure, examples_figure
from pyfirstorder.plots.landscapes import landscape_figure
from pyfirstorder.plots.styles import COLOURS, NORM_SYMBOLS, new_figure, style

__all__ = [
    "COLOURS",
    "NORM_SYMBOLS",
    "Curve",
    "Examples",
    "accuracy_figure",
    "examples_figure",
    "landscape_figure",
    "new_figure",
    "style",
]
