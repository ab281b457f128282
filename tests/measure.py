"""What a user does to check a perturbation: subtract, take the norm, compare with the radius and the box.

No tolerance: the norms of float64 differences, and of differences and norms in the array's own type, must not exceed
the radius by one ulp, and no point may leave the box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyfirstorder.problem import Ball


ORDER = {"linf": np.inf, "l2": 2, "l1": 1}


def inside_margin(dtype: np.dtype, features: int) -> float:
    """How far inside of the ball (a share of its radius) a point must be to be left alone by a projection.

    The norm of a point is known up to the rounding of a sum of that many terms, in the point's own type.
    """
    return (64 + 4 * features) * 2.0**-53 if dtype == np.float64 else (32 + 4 * np.log2(features + 1)) * 2.0**-24


def hold_ball(delta: np.ndarray, ball: Ball) -> None:
    """Every norm of float64 differences: pairwise, in order, and of the row scaled so that no square underflows."""
    wide = np.abs(delta.astype(np.float64))
    exponent = np.frexp(np.max(wide, axis=1, initial=0))[1]
    scaled = np.ldexp(wide, -exponent[:, None])
    with np.errstate(over="ignore"):  # a radius far beyond the row: infinite, and the row is inside
        scaled_eps = np.ldexp(ball.eps, -exponent)
    for parts, eps in ((wide, ball.eps), (scaled, scaled_eps)):
        if ball.norm == "linf":
            hold_norms(np.max(parts, axis=1, initial=0), eps)
        elif ball.norm == "l1":
            hold_norms(np.sum(parts, axis=1), eps)
            hold_norms(np.cumsum(parts, axis=1)[:, -1], eps)
        else:
            with np.errstate(over="ignore", under="ignore"):
                square = np.einsum("ij,ij->i", parts, parts)
                hold_norms(np.where(np.isinf(square), 0, np.sqrt(square)), eps)
                hold_norms(np.where(np.isinf(square), 0, np.linalg.norm(parts, axis=1)), eps)


def hold_inside(delta: np.ndarray, x: np.ndarray, ball: Ball) -> None:
    """A perturbation lies in the ball and leaves x in the box."""
    assert np.isfinite(delta).all()
    hold_ball(delta, ball)
    hold_norms(own_length(delta, ball.norm), ball.eps)
    hold_box(x + delta, ball)
    hold_box(x.astype(np.float64) + delta.astype(np.float64), ball)


def hold_points_inside(x_adv: np.ndarray, x: np.ndarray, ball: Ball) -> None:
    """Adversarial points lie in the ball around x and in the box."""
    assert np.isfinite(x_adv).all()
    hold_ball(x_adv.astype(np.float64) - x.astype(np.float64), ball)
    hold_norms(own_length(x_adv - x, ball.norm), ball.eps)
    hold_box(x_adv, ball)


def own_length(delta: np.ndarray, norm: str) -> np.ndarray:
    """NumPy's norm in the array's own type; zero where that overflows."""
    with np.errstate(over="ignore", under="ignore"):
        own = np.linalg.norm(delta, ord=ORDER[norm], axis=1) if delta.size else np.zeros(len(delta), delta.dtype)
    assert own.dtype == delta.dtype
    return np.where(np.isinf(own), 0, own)


def hold_norms(norms: np.ndarray, eps: np.ndarray) -> None:
    outside = norms.astype(np.float64) > eps
    assert not outside.any(), (
        f"{np.count_nonzero(outside)} of {len(eps)} rows lie outside, first row {np.argmax(outside)}: "
        f"{norms[np.argmax(outside)]!r} > {eps[np.argmax(outside)]!r}"
    )


def hold_box(points: np.ndarray, ball: Ball) -> None:
    if ball.lower is not None:
        assert not (points < ball.lower).any()
        assert not (points > ball.upper).any()
