"""Upper bounds of linear functionals ``⟨c, z⟩`` of the output over the region, by intervals and by linear relaxation.

With ``α = Aᵀc`` and lines ``s h + t`` above σ where α > 0 and below it elsewhere,
``⟨c, z⟩ <= Σ α (s h + t) + ⟨c, bias⟩``, which is linear in δ: its maximum is that of the region's support function
(Zhang et al. 2018, arXiv 1811.00866, Theorem 3.2 for two layers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder.certification.region import _OWN_UNIT, may_overflow, share

if TYPE_CHECKING:
    from pyfirstorder.certification.region import Hidden, Multiply, Region
    from pyfirstorder.problem import Array, Weights

_ACTIVATION_ROUNDING = 32  # units of max(|σ|, min(|h|, 1)): twice what engines are held to


def upper_bounds(
    weights: Weights,
    rows: Array,
    units: Hidden,
    allowed: Region,
    found: list[tuple[Array, Array, Array, Array]],
    unit: float,
    multiply: Multiply,
) -> Array:
    """The least bound (B, q) over all relaxations of the functionals ``rows`` (B, q, k), roundings included."""
    w, a = weights.hidden_weight.astype(np.float64), weights.output_weight.astype(np.float64)
    bias = weights.output_bias.astype(np.float64)
    samples, count, k = rows.shape
    m, d = w.shape
    alpha = multiply(rows.reshape(-1, k), a).reshape(samples, count, m)
    sizes = np.abs(alpha)
    largest = np.maximum(np.abs(found[0][1]), np.abs(found[0][3]))  # |σ| on the interval
    height = np.maximum(np.abs(units.lower), np.abs(units.upper))
    of_sigma = _ACTIVATION_ROUNDING * unit * (largest + np.minimum(height, 1.0))
    of_z = multiply(largest + of_sigma, np.abs(a).T) + np.abs(bias)
    of_z = np.where(may_overflow(of_z, unit), np.inf, share(m, unit) * of_z)
    # |C| |A| >= |C A|: what cancels in α is summed in its magnitudes
    wide = multiply(np.abs(rows).reshape(-1, k), np.abs(a)).reshape(alpha.shape)
    common = np.einsum("bqk,bk->bq", np.abs(rows), of_z) + np.einsum("bqm,bm->bq", sizes, of_sigma)
    common += share(k, unit) * (np.einsum("bqm,bm->bq", wide, largest) + np.abs(rows) @ np.abs(bias))
    best = np.full((samples, count), np.inf)
    own = share(m + d + k, _OWN_UNIT)
    for s_low, t_low, s_up, t_up in found:
        rising = alpha >= 0
        slope = np.where(rising, s_up[:, None], s_low[:, None]) * alpha
        offset = np.where(rising, t_up[:, None], t_low[:, None]) * alpha
        value = offset.sum(axis=2) + rows @ bias + common + own * np.abs(offset).sum(axis=2)
        if slope.any():
            direction = multiply(slope.reshape(-1, m), w).reshape(samples, count, d)
            steep = np.maximum(np.abs(s_low), np.abs(s_up))
            value += np.einsum("bqm,bm->bq", slope, units.at_x) + allowed.support(direction)
            value += np.einsum("bqm,bm->bq", np.abs(slope), units.error)
            value += own * np.einsum("bqm,bm->bq", wide, steep * units.scale)
        best = np.fmin(best, value)  # NaN where both infinities met: it bounds nothing
    return best
