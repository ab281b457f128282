"""The exact maximum of a linear functional of a piecewise-linear network, by mixed-integer linear programming.

A unit whose interval holds its kink gets a binary variable t and ``a = slope h + (1 - slope) p`` with ``p = relu(h)``
written as ``p >= h, p >= 0, p <= u t, p <= h - l (1 - t)`` (Tjeng, Xiao, Tedrake 2019, arXiv 1711.07356, section 4).
The dual bound of the solver holds also where the time is up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pyfirstorder.interrupts import aside
from pyfirstorder.problem import PIECEWISE_LINEAR, Array, Weights

_SOLVER_TOLERANCE = 1e-6  # HiGHS: feasibility 1e-7, integrality 1e-6 of a unit's interval


class Maximum(NamedTuple):
    """The dual bound of ``⟨α, σ(h)⟩`` and a point δ that the solver found, None if it found none."""

    bound: float
    delta: Array | None


def check_exact(activation: str, norm: str) -> None:
    """Exact maxima are for piecewise-linear activations and sets of linear inequalities."""
    if activation.partition("(")[0] not in PIECEWISE_LINEAR or norm == "l2":
        raise ValueError(
            f"method: 'exact' is for activations {', '.join(PIECEWISE_LINEAR)} and norms linf and l1, "
            f"got {activation} and {norm}"
        )


def maximum(
    weights: Weights,
    alpha: Array,
    at_x: Array,
    interval: tuple[Array, Array],
    box: tuple[Array, Array],
    eps: float,
    norm: str,
    time_limit: float,
) -> Maximum:
    """Maximise ``Σ α_r σ(h_r)`` with ``h = at_x + W δ`` over the box of δ and, for l1, ``‖δ‖₁ <= eps``."""
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
    except ImportError as error:
        raise ImportError('method "exact" needs scipy: pip install "pyfirstorder[lab]"') from error
    w = weights.hidden_weight.astype(np.float64)
    m, d = w.shape
    slope = {"relu": 0.0, "identity": 1.0}.get(weights.activation, weights.parameter)
    low, high = interval
    eye, none = np.eye(m), np.zeros((m, m))
    # Variables: δ⁺ (d), δ⁻ (d), p = relu(h) (m), t (m, binary).
    wide = np.hstack([w, -w])
    least, most = np.minimum(low, 0.0), np.maximum(high, 0.0)
    constraints: list[Any] = [
        LinearConstraint(np.hstack([-wide, eye, none]), at_x, np.inf),
        LinearConstraint(np.hstack([0 * wide, eye, -np.diag(most)]), -np.inf, 0.0),
        LinearConstraint(np.hstack([-wide, eye, -np.diag(least)]), -np.inf, at_x - least),
    ]
    if norm == "l1":
        constraints.append(LinearConstraint(np.r_[np.ones(2 * d), np.zeros(2 * m)][None], -np.inf, eps))
    sides = Bounds(
        np.r_[np.zeros(2 * d), np.zeros(m), np.where(low >= 0, 1.0, 0.0)],
        np.r_[np.maximum(box[1], 0.0), np.maximum(-box[0], 0.0), most, np.where(high <= 0, 0.0, 1.0)],
    )
    cost = -np.concatenate([(slope * alpha) @ wide, (1 - slope) * alpha, np.zeros(m)])
    kinds = np.r_[np.zeros(2 * d + m), np.ones(m)]
    options = {"time_limit": time_limit, "mip_rel_gap": 0.0}
    found = aside(milp, cost, integrality=kinds, bounds=sides, constraints=constraints, options=options)
    dual = getattr(found, "mip_dual_bound", None)
    if dual is None or not np.isfinite(dual):
        dual = found.fun if found.status == 0 else None
    constant = float(np.sum(slope * alpha * at_x))
    allowance = _SOLVER_TOLERANCE * float(np.sum(np.abs(alpha) * (1 + np.abs(low) + np.abs(high))))
    bound = np.inf if dual is None else -float(dual) + constant + allowance
    delta = None if found.x is None else found.x[:d] - found.x[d : 2 * d]
    return Maximum(bound, delta)
