"""Ascent directions: from a gradient of any scale to the step of unit length.

``sign`` is steepest ascent for ℓ∞, ``normalized`` for ℓ2 and ``sparse`` for ℓ1 (Tramèr & Boneh 2019); a zero gradient
gives a zero direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pyfirstorder.problem import Array


def sign(g: Array) -> Array:
    """±1 or 0 by coordinate."""
    return np.sign(g)


def normalized(g: Array) -> Array:
    """G / ‖g‖₂, with g first divided by its largest coordinate so that no square over- or underflows."""
    scaled = _over_largest(g)
    length = np.sqrt(np.sum(np.square(scaled.astype(np.float64)), axis=1, keepdims=True))
    return _over(scaled, length)


def sparse(g: Array, count: Array, can_rise: Array, can_fall: Array) -> Array:
    """±1/q on the q = min(count, nonzero) largest coordinates that the box lets move; the first of equals wins."""
    magnitude = np.where((g > 0) & can_rise | (g < 0) & can_fall, np.abs(g), 0)
    order = np.argsort(-magnitude, axis=1, kind="stable")
    rank = np.argsort(order, axis=1)
    chosen = (rank < count[:, None]) & (magnitude > 0)
    moving = np.sum(chosen, axis=1, keepdims=True)
    return np.where(chosen, np.sign(g) / np.maximum(moving, 1).astype(g.dtype), 0).astype(g.dtype)


def unit_l1(g: Array) -> Array:
    """G / ‖g‖₁, as momentum accumulates it, scaled like ``normalized``."""
    scaled = _over_largest(g)
    return _over(scaled, np.sum(np.abs(scaled), axis=1, keepdims=True, dtype=np.float64))


def _over_largest(g: Array) -> Array:
    return _over(g, np.max(np.abs(g), axis=1, keepdims=True))


def _over(g: Array, length: Any) -> Array:
    """The quotient in the type of g, and zero where the length is."""
    return np.where(length > 0, g / np.where(length > 0, length, 1), 0).astype(g.dtype)


def choose(name: str, g: Array, count: Array, can_rise: Array, can_fall: Array) -> Array:
    """The named direction along g."""
    if name == "sparse":
        return sparse(g, count, can_rise, can_fall)
    return {"gradient": lambda g: g, "sign": sign, "normalized": normalized}[name](g)
