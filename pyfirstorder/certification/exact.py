"""The exact maximum of a linear functional of a piecewise-linear network, by mixed-integer linear programming.

With ``h = at_x + W δ`` and ``σ(h) = slope h + (1 - slope) p``, ``p = relu(h)``, a unit whose interval [l, u] holds its
kink gets a binary variable t, and p is written as ``p >= h, p >= 0, p <= u t, p <= h - l (1 - t)`` (Tjeng, Xiao &
Tedrake 2019, arXiv 1711.07356, section 4).  What is given back is the solver's dual bound, which is at least the
maximum and holds also where the time is up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pyfirstorder.interrupts import aside
from pyfirstorder.problem import PIECEWISE_LINEAR, Array, Weights

_SOLVER_TOLERANCE = 1e-6  # HiGHS: feasibility 1e-7 of primal and dual, integrality 1e-6 of a unit's interval
# Of an open unit, in radii: beyond, the interval is the rounding of h and the ball is lost in it.
_LARGEST_INTERVAL = 1e8


class Maximum(NamedTuple):
    """The dual bound of ``⟨α, σ(h)⟩``, infinity for none, and a point δ that the solver found, None for none."""

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
    d = w.shape[1]
    slope = {"relu": 0.0, "identity": 1.0}.get(weights.activation, weights.parameter)
    low, high = interval
    is_open = (low < 0) & (high > 0) if slope != 1 else np.zeros(len(w), bool)
    inner = np.where((low >= 0) & ~is_open, 1.0, slope)  # of h; the rest of an open unit is (1 - slope) p
    constant, rate = float(np.sum(inner * alpha * at_x)), (inner * alpha) @ w
    size = max(np.max(np.abs(rate), initial=0.0), np.max(np.abs(alpha[is_open]), initial=0.0))
    if size == 0 or eps == 0:
        return Maximum(constant + float((1 - slope) * alpha[is_open] @ np.maximum(at_x[is_open], 0)), np.zeros(d))
    # In units of ε and of the largest coefficient: the solver's tolerances are absolute.
    # Variables: δ⁺ (d), δ⁻ (d), p = relu(h) (n), t (n, binary), for the n units that are open.
    least, most, at_open = low[is_open] / eps, high[is_open] / eps, at_x[is_open] / eps
    n = len(least)
    if n and np.max(most - least) > _LARGEST_INTERVAL:
        return Maximum(np.inf, np.zeros(d))
    wide, eye, none = np.hstack([w[is_open], -w[is_open]]), np.eye(n), np.zeros((n, n))
    constraints: list[Any] = []
    if n:
        constraints = [
            LinearConstraint(np.hstack([-wide, eye, none]), at_open, np.inf),
            LinearConstraint(np.hstack([0 * wide, eye, -np.diag(most)]), -np.inf, 0.0),
            LinearConstraint(np.hstack([-wide, eye, -np.diag(least)]), -np.inf, at_open - least),
        ]
    if norm == "l1":
        constraints.append(LinearConstraint(np.r_[np.ones(2 * d), np.zeros(2 * n)][None], -np.inf, 1.0))
    sides = Bounds(
        np.zeros(2 * d + 2 * n),
        np.r_[np.maximum(box[1], 0.0) / eps, np.maximum(-box[0], 0.0) / eps, most, np.ones(n)],
    )
    cost = -np.concatenate([rate, -rate, (1 - slope) * alpha[is_open], np.zeros(n)]) / size
    kinds = np.r_[np.zeros(2 * d + n), np.ones(n)]
    options = {"time_limit": time_limit, "mip_rel_gap": 0.0}
    found = aside(milp, cost, integrality=kinds, bounds=sides, constraints=constraints, options=options)
    dual = getattr(found, "mip_dual_bound", None)
    if dual is None or not np.isfinite(dual):
        dual = found.fun if found.status == 0 else None
    allowance = _SOLVER_TOLERANCE * (d + float(np.sum(1 + most - least)))
    bound = np.inf if dual is None else constant + eps * size * (allowance - float(dual))
    delta = None if found.x is None else eps * (found.x[:d] - found.x[d : 2 * d])
    return Maximum(bound, delta)
