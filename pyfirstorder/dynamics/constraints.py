"""Which constraints of ball and box are active at a point, their multipliers, and the directions that they leave.

At δ with gradient g the first-order conditions of ``max L`` over ``{‖δ‖_p ≤ ε} ∩ {l ≤ δ ≤ u}`` (Nocedal & Wright 2006,
section 12.3) give each active constraint a multiplier of at least 0:

- box and ℓ∞: ``g_j`` at an upper face, ``-g_j`` at a lower one;
- ℓ2 sphere: ``g = (μ/ε) δ`` on the coordinates off the box, and ``± (g_j - (μ/ε) δ_j)`` on its faces;
- ℓ1 sphere: ``g_j = μ sign(δ_j)`` on the support, ``μ - |g_j|`` off it, and ``|g_j| - μ`` on the faces of the box.

The second-order condition concerns the directions in which no constraint with a positive multiplier changes: the *free*
coordinates, and on a sphere the hyperplane orthogonal to its normal in them.  A constraint whose multiplier is within
the tolerance of zero is *weak*: what it allows is no linear space.  So there are two spaces, one in which weak
constraints are left out (a negative Hessian there is sufficient for a maximum) and one in which they hold (a positive
eigenvalue there rules it out).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyfirstorder.dynamics.norms import lengths, scales

if TYPE_CHECKING:
    from pyfirstorder.problem import Array

# Iterates in floating point stop short of the sphere by about 1e-6 ε in float32 (`csrc/core/balls.hpp`, radii).
SHORT_OF_RADIUS = 1e-5


class Space(NamedTuple):
    """Directions by sample: the free coordinates, orthogonal to a normal, which is zero where there is none."""

    free: Array  # bool (B, d)
    normal: Array  # (B, d), unit or zero, on free coordinates


class Conditions(NamedTuple):
    """First order at B points, and the spaces of second order."""

    multiplier: Array  # (B,), of the ball
    strictness: Array  # (B,), the smallest multiplier of an active constraint; infinity where none is active
    shift: Array  # (B,), μ/ε of the ℓ2 sphere, what its curvature takes off the Hessian
    is_active: Array  # bool (B,), whether any constraint is active
    is_weak: Array  # bool (B,), whether one of them is weak
    wide: Space  # weak constraints left out
    narrow: Space  # weak constraints hold


def conditions(
    norm: str, delta: Array, gradient: Array, eps: Array, room: tuple[Array, Array], rounding: Array, tol: Array
) -> Conditions:
    """The conditions at delta (B, d) in float64.

    ``room`` is the smallest and largest δ (B, d) that the box allows, ``rounding`` (B, d) how far from a face a point
    on it may lie, and a multiplier of at most ``tol`` (B,) counts as zero.
    """
    if norm == "linf":
        return _on_faces(delta, gradient, eps, room, rounding, tol)
    return (_on_l2_sphere if norm == "l2" else _on_l1_sphere)(delta, gradient, eps, room, rounding, tol)


def _faces(delta: Array, room: tuple[Array, Array], rounding: Array) -> tuple[Array, Array]:
    return delta <= room[0] + rounding, delta >= room[1] - rounding


def _face_multipliers(gradient: Array, at_lower: Array, at_upper: Array) -> Array:
    """Of each coordinate; infinity where it is at both faces and so cannot move, NaN where it is at none."""
    along = np.where(at_upper, gradient, np.where(at_lower, -gradient, np.nan))
    return np.where(at_upper & at_lower, np.inf, along)


def _on_faces(
    delta: Array, gradient: Array, eps: Array, room: tuple[Array, Array], rounding: Array, tol: Array
) -> Conditions:
    radius = eps[:, None]
    inner = np.maximum(room[0], -radius), np.minimum(room[1], radius)
    multipliers = _face_multipliers(gradient, *_faces(delta, inner, rounding))
    of_ball = np.isfinite(multipliers) & (np.abs(delta) >= radius - rounding)
    none = np.zeros_like(eps)
    ball = np.sum(np.where(of_ball, multipliers, 0), axis=1)
    return _gather(multipliers, ball, none, none, np.zeros_like(delta), np.zeros(len(eps), bool), tol)


def _on_l2_sphere(
    delta: Array, gradient: Array, eps: Array, room: tuple[Array, Array], rounding: Array, tol: Array
) -> Conditions:
    at_lower, at_upper = _faces(delta, room, rounding)
    on_sphere = lengths("l2", delta) >= eps * (1 - SHORT_OF_RADIUS) - lengths("l2", rounding)
    scale = scales(delta)[:, None]  # of a ball of any size
    inside = np.where(at_lower | at_upper, 0, delta / scale)
    square = np.sum(inside * inside, axis=1)
    has_normal = on_sphere & (square > 0)
    along = np.sum(gradient * inside, axis=1) / np.where(square > 0, square, 1)
    shift = np.where(has_normal, along / scale[:, 0], 0)
    multipliers = _face_multipliers(gradient - shift[:, None] * delta, at_lower, at_upper)
    multipliers[on_sphere & (eps <= 0)] = np.inf  # a ball of one point
    of_ball = shift * np.where(on_sphere, eps, 1)
    return _gather(multipliers, of_ball, np.maximum(shift, 0), None, inside, has_normal, tol)


def _on_l1_sphere(
    delta: Array, gradient: Array, eps: Array, room: tuple[Array, Array], rounding: Array, tol: Array
) -> Conditions:
    at_lower, at_upper = _faces(delta, room, rounding)
    length = np.sum(np.abs(delta), axis=1)
    on_sphere = length >= eps * (1 - SHORT_OF_RADIUS) - np.sum(rounding, axis=1)
    in_support = np.abs(delta) > rounding
    sign = np.where(in_support, np.sign(delta), 0)
    on_outer_face = (at_upper & (sign > 0)) | (at_lower & (sign < 0))
    inner = in_support & ~on_outer_face
    count = inner.sum(axis=1)
    mean = np.sum(np.where(inner, sign * gradient, 0), axis=1) / np.maximum(count, 1)
    off = np.max(np.where(in_support, 0, np.abs(gradient)), axis=1, initial=0)
    mu = np.where(count > 0, mean, off)[:, None]
    rises, falls = np.where(at_upper, np.inf, mu - gradient), np.where(at_lower, np.inf, mu + gradient)
    of_sphere = np.where(on_outer_face, sign * gradient - mu, np.minimum(rises, falls))
    of_sphere = np.where(inner, np.nan, of_sphere)
    of_box = _face_multipliers(gradient, at_lower, at_upper)
    multipliers = np.where(on_sphere[:, None], of_sphere, of_box)
    multipliers[on_sphere & (eps <= 0)] = np.inf
    none, mu = np.zeros_like(eps), np.where(on_sphere, mu[:, 0], 0)
    # Where a coordinate off the support is weak, the sphere has a kink: no plane describes what is allowed.
    is_kinked = np.any(~in_support & (multipliers <= tol[:, None]), axis=1)
    return _gather(multipliers, mu, none, is_kinked, sign, on_sphere & (count > 0), tol)


def _gather(
    multipliers: Array, ball: Array, shift: Array, is_kinked: Array | None, normal: Array, has_normal: Array, tol: Array
) -> Conditions:
    """``has_normal`` says where the ball constrains by a hyperplane across several coordinates."""
    active = ~np.isnan(multipliers)
    weak = active & (multipliers <= tol[:, None])
    weak_ball = has_normal & (ball <= tol)
    strictness = np.min(np.where(active, multipliers, np.inf), axis=1, initial=np.inf)
    strictness = np.where(has_normal, np.minimum(strictness, ball), strictness)
    left_out = weak_ball if is_kinked is None else weak_ball | is_kinked.astype(bool)
    return Conditions(
        multiplier=ball,
        strictness=strictness,
        shift=shift,
        is_active=active.any(axis=1) | has_normal,
        is_weak=weak.any(axis=1) | weak_ball,
        wide=_space(~active | weak, normal, has_normal & ~left_out),
        narrow=_space(~active, normal, has_normal),
    )


def _space(free: Array, normal: Array, has_normal: Array) -> Space:
    inside = np.where(free & has_normal[:, None], normal, 0)
    length = np.linalg.norm(inside, axis=1, keepdims=True)
    return Space(free, inside / np.where(length > 0, length, 1))
