"""Norms of rows of float64, of any size: a power of two is taken out first, which rounds nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyfirstorder.problem import Array

_ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}


def scales(vectors: Array) -> Array:
    """A power of two for each row (B,) near its largest number; 1 where that is zero or not finite."""
    largest = np.max(np.abs(vectors), axis=1, initial=0.0)
    scale = np.where(np.isfinite(largest), np.ldexp(1.0, np.frexp(largest)[1] - 1), 1.0)
    return np.where(scale > 0, scale, 1.0)


def lengths(norm: str, vectors: Array) -> Array:
    """``‖v‖_norm`` of each row (B,), scaled by a power of two so that nothing overflows on the way."""
    scale = scales(vectors)
    return np.asarray(scale * np.linalg.norm(vectors / scale[:, None], ord=_ORDERS[norm], axis=1))
