"""How results are shown: their name, their size and a few numbers in a line, never their arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyfirstorder.problem import Array

_MOST_SHOWN = 6  # numbers of a list


def summarise(name: str, *parts: str) -> str:
    """What ``repr`` gives for a result; parts that are empty are left out."""
    return f"{name}({', '.join(part for part in parts if part)})"


def counted(number: int, of: str = "sample") -> str:
    """A number of things: 1 sample, 2 samples."""
    return f"{number} {of}{'' if number == 1 else 's'}"


def extent(what: str, values: Array) -> str:
    """The smallest and the largest of some numbers that are finite; empty where there is none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ""
    low, high = f"{finite.min():.6g}", f"{finite.max():.6g}"
    return f"{what} {low}" if low == high else f"{what} from {low} to {high}"


def listed(values: Array) -> str:
    """The numbers, or the ends of a long list."""
    shown = [f"{value:.4g}" for value in values]
    if len(shown) > _MOST_SHOWN:
        shown[_MOST_SHOWN // 2 : -_MOST_SHOWN // 2] = ["..."]
    return f"[{', '.join(shown)}]"
