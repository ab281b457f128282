"""What the end point of an ascent is: a local maximum, a saddle, or no stationary point at all.

First order from the engine's gradient and projection, active constraints by `constraints`, the Hessian by `curvature`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

import numpy as np

from pyfirstorder import backends, boxes, checks, hints, validate
from pyfirstorder.attacks import make_objective
from pyfirstorder.dynamics.constraints import conditions
from pyfirstorder.dynamics.curvature import METHODS, blocks, largest_eigenvalue
from pyfirstorder.dynamics.feasibility import require_feasible
from pyfirstorder.dynamics.norms import lengths
from pyfirstorder.dynamics.tolerance import ROUNDINGS, tolerances
from pyfirstorder.problem import PIECEWISE_LINEAR, Ball
from pyfirstorder.results import warn_of_overflow
from pyfirstorder.summaries import counted, extent, summarise

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Bounds, Norm
    from pyfirstorder.backends import Backend
    from pyfirstorder.dynamics.constraints import Conditions
    from pyfirstorder.dynamics.curvature import Curvature
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array
    from pyfirstorder.validate import Points

CURVATURE_TOLERANCE = 1e-9


class Verdict(IntEnum):
    """What a point of the ball is to the loss over the ball.

    Examples
    --------
    >>> from pyfirstorder.dynamics import Verdict
    >>> Verdict(2).name.lower().replace("_", " ")
    'saddle'
    """

    BOUNDARY_MAXIMUM = 0  # a strict local maximum with an active constraint of ball or box
    INTERIOR_MAXIMUM = 1  # a strict local maximum with none
    SADDLE = 2  # stationary, and the loss rises to second order in an allowed direction
    DEGENERATE = 3  # stationary, and second order does not decide
    NOT_STATIONARY = 4


@dataclass(frozen=True, eq=False)
class Stationarity:
    """First- and second-order conditions at B points; float64 arrays of NumPy.

    Attributes
    ----------
    verdict : int8 array (B,)
        A `Verdict` per sample.
    residual : array (B,)
        ``‖P(δ + g) - δ‖₂``.
    tol : array (B,)
        What the residual was compared with.
    multiplier : array (B,)
        μ of the ball, the rate at which the maximum rises with ε: ``g = (μ/ε) δ`` (ℓ2), ``g = μ sign(δ)`` on the
        support (ℓ1), both on the coordinates off the box; the sum of ``|g_j|`` on its faces (ℓ∞); 0 in the interior.
    strictness : array (B,)
        The smallest multiplier of all active constraints (ball and box); infinity where none is active.
    largest_eigenvalue : array (B,)
        λ_max of the projected and shifted Hessian; minus infinity where the constraints leave no direction, NaN where
        it overflows.
    slack : array (B,)
        ``ε - ‖δ‖_p``, the distance to the sphere.
    free : int64 array (B,)
        Coordinates that no active constraint fixes.
    linear_region : bool
        Whether σ is piecewise linear: then the verdicts speak of the linear region around each point alone.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder.dynamics import stationarity
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.array([3.0, 1.0]), activation="quadratic")  # 3 x₁² + x₂²
    >>> center, up = np.zeros((1, 2)), np.ones(1)
    >>> found = stationarity(net, np.array([[1.0, 0.0]]), up, x0=center, eps=1.0, norm="l2", loss="linear")
    >>> found.multiplier, found.slack
    (array([6.]), array([0.]))
    """

    verdict: Array
    residual: Array
    tol: Array
    multiplier: Array
    strictness: Array
    largest_eigenvalue: Array
    slack: Array
    free: Array
    linear_region: bool

    def __repr__(self) -> str:
        numbers = [(kind, int(np.count_nonzero(self.verdict == kind))) for kind in Verdict]
        found = [f"{number} {kind.name.lower().replace('_', ' ')}" for kind, number in numbers if number]
        where = "in their linear regions" if self.linear_region else ""
        return summarise("Stationarity", counted(len(self.verdict)), *found, where, extent("residual", self.residual))


@hints.knows_other_names
def stationarity(
    net: TwoLayerNetwork,
    x_adv: Array,
    y: ArrayLike,
    *,
    x0: Array,
    eps: ArrayLike,
    norm: Norm = "linf",
    bounds: Bounds | None = None,
    loss: str | None = None,
    targeted: bool = False,
    tol: ArrayLike | None = None,
    curvature_tol: float = CURVATURE_TOLERANCE,
    method: Literal["auto", "dense", "hidden", "matrix-free"] = "auto",
    backend: str = "auto",
    threads: int | None = None,
) -> Stationarity:
    """Whether each end point is a local maximum of the loss over ball and box, and by what margins.

    A point ``x0 + δ`` with input gradient g is stationary where ``‖P(δ + g) - δ‖₂ <= tol``, P the projection.  There
    every active constraint has a multiplier of at least 0 (μ on the ℓ2 sphere, where ``g = μ δ/ε``; the signs of g on
    the faces of ℓ∞ and box), and the point is a strict local maximum if
    ``λ_max(P_T (∇²L - (μ/ε) I) P_T) < 0`` on the directions T in which no active constraint changes: the tangent space
    of the sphere in the coordinates that no face fixes (``μ/ε`` is 0 for ℓ∞, ℓ1 and in the interior).

    Parameters
    ----------
    net, y, eps, norm, bounds, loss, targeted
        See `pyfirstorder.pgd`: what the ascent was run with.
    x_adv : float32 or float64 array of the shape of x0
        End points, in ball and box up to what float32 rounds.
    x0 : float32 or float64 array (B, ...)
        Clean samples, within bounds.
    tol : float or array (B,), optional
        Largest residual of a stationary point, in the units of x; a multiplier of at most tol counts as zero.  Default
        ``1e-4 * eps`` and what the types of x0 and x_adv round away.  Where the whole gradient is below it, every
        point is stationary: choose tol smaller than the gradients of the network.
    curvature_tol : float
        ``|λ_max|`` is zero up to this share of ``Σ_r |σ''(h_r) (Aᵀr)_r| ‖W_r‖²`` and its like for ∂²L/∂z² and μ/ε.
    method : "auto", "dense", "hidden" or "matrix-free"
        By the Hessian of the free coordinates, by the m x m problem of the hidden units (where m is
        not above the free directions, else the former), or by Lanczos on
        Hessian-vector products (needs SciPy).  "auto" takes the smaller of the first two, and the last where both are
        beyond 2,048.  A network that is linear around a point needs k x k numbers alone, whatever the method.
    backend, threads
        See `pyfirstorder.forward`; everything is computed in float64.  Eigenvalues of matrices are NumPy's, whose
        LAPACK has threads of its own (``OPENBLAS_NUM_THREADS``): one is best where other work shares the machine.

    Returns
    -------
    Stationarity

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value, or a point lies outside of ball or box; the message names it.
    ImportError
        If Lanczos is needed and SciPy is not installed.

    Warns
    -----
    UserWarning
        If an ℓ∞ radius reaches all of the box [0, 1]: see `pyfirstorder.pgd`.
    NotFiniteWarning
        If the gradient or the curvature at a point overflows: its largest eigenvalue is NaN then, and second order does
        not decide.

    Notes
    -----
    A weak constraint, one whose multiplier is at most tol, may hold or not.  A point is called a maximum only if λ_max
    is negative without the weak ones, and a saddle only if it is positive with them; else it is degenerate.

    Where m < d, a point in the interior has directions in which the network does not change, so it is never a strict
    maximum: ``λ_max >= 0``.

    References
    ----------
    Deng et al. 2020 (arXiv 2010.10650); Nocedal & Wright 2006, "Numerical Optimization", theorems 12.1, 12.5, 12.6.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder.dynamics import stationarity
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.array([3.0, 1.0]), activation="quadratic")  # 3 x₁² + x₂²
    >>> x0, up = np.zeros((3, 2)), np.ones(3)
    >>> ends = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> found = stationarity(net, ends, up, x0=x0, eps=1.0, norm="l2", loss="linear")
    >>> [v.name for v in map(Verdict, found.verdict)]
    ['BOUNDARY_MAXIMUM', 'SADDLE', 'NOT_STATIONARY']
    >>> found.multiplier[:2], found.largest_eigenvalue[:2]
    (array([6., 2.]), array([-4.,  4.]))
    """
    norm = validate.norm(norm)
    checks.choice("method", method, METHODS)
    share = checks.real("curvature_tol", curvature_tol, 0.0, 1.0)
    validate.network(net)
    clean = validate.points("x0", x0, net.in_features)
    box = _box(bounds, clean)
    given = validate.floats("x_adv", x_adv)
    ends = validate.like("x_adv", given, clean._replace(rows=np.empty_like(clean.rows, dtype=given.dtype)))
    unit = max(float(np.finfo(rows.dtype).eps) for rows in (clean.rows, ends))  # of the narrower type
    eps = validate.radii("eps", eps, len(clean.rows), clean.rows.dtype)
    allowed = tolerances(tol, clean.rows, eps, unit)
    engine, count = backends.get(validate.backend(backend)), validate.threads(threads)
    start, end = clean.rows.astype(np.float64), ends.astype(np.float64)
    objective = make_objective(net, start, y, loss, targeted, engine, count)
    lower, upper = (None, None) if box is None else (side.astype(np.float64) for side in box)
    room = _room(start, lower, upper)
    require_feasible(norm, start, end, eps, room)
    weights, delta = net.weights(np.float64), end - start
    _, gradient, _ = engine.input_gradient(weights, end, objective, count)
    residual = _residual(engine, delta, gradient, start, Ball(norm, eps, lower, upper), count)
    rounding = ROUNDINGS * unit * np.maximum(np.abs(start), np.abs(end))
    largest, verdict = np.full(len(end), np.nan), np.full(len(end), int(Verdict.NOT_STATIONARY), np.int8)
    size = np.zeros(len(end))  # of the curvature
    with np.errstate(over="ignore", invalid="ignore"):  # it shows in what is found, and is warned of below
        first = conditions(norm, delta, gradient, eps, room, rounding, allowed)
        for rows, terms in blocks(weights, end, objective, lambda left, right: engine.multiply(left, right, count)):
            size[rows] = terms.scale
            for at, row in enumerate(rows):
                shift, wide, is_stationary = float(first.shift[row]), first.wide, residual[row] <= allowed[row]
                if not np.isfinite(size[row] + shift):
                    verdict[row] = Verdict.DEGENERATE if is_stationary else Verdict.NOT_STATIONARY
                    continue
                found = largest_eigenvalue(terms, at, wide.free[row], wide.normal[row], method) - shift
                zero, largest[row] = share * (float(terms.scale[at]) + shift), found
                if is_stationary:
                    verdict[row] = _verdict(terms, at, first, row, found, zero, method)
    warn_of_overflow("gradient or curvature", gradient, size, stacklevel=3)  # beyond the decorator
    boxes.warn_of_radius(eps, norm, bounds)
    return Stationarity(
        verdict=verdict,
        residual=residual,
        tol=allowed,
        multiplier=first.multiplier,
        strictness=first.strictness,
        largest_eigenvalue=largest,
        slack=eps - lengths(norm, delta),
        free=first.wide.free.sum(axis=1).astype(np.int64),
        linear_region=weights.activation in PIECEWISE_LINEAR,
    )


def _verdict(
    terms: Curvature, at: int, first: Conditions, row: int, largest: float, zero: float, method: str
) -> Verdict:
    """What second order says of a point that is stationary, the one at ``at`` of its block."""
    if largest < -zero:
        return Verdict.BOUNDARY_MAXIMUM if first.is_active[row] else Verdict.INTERIOR_MAXIMUM
    if largest <= zero:
        return Verdict.DEGENERATE
    if not first.is_weak[row]:
        return Verdict.SADDLE
    narrow = first.narrow
    held = largest_eigenvalue(terms, at, narrow.free[row], narrow.normal[row], method) - float(first.shift[row])
    return Verdict.SADDLE if held > zero else Verdict.DEGENERATE


def _residual(engine: Backend, delta: Array, gradient: Array, x0: Array, ball: Ball, threads: int) -> Array:
    """``‖P(δ + g) - δ‖₂``, infinity where g is not finite."""
    is_finite: Array = np.logical_and.reduce(np.isfinite(gradient), axis=1)
    ahead = delta + np.where(is_finite[:, None], gradient, 0)
    moved = engine.project(np.ascontiguousarray(ahead), x0, ball, threads)
    return np.where(is_finite, lengths("l2", moved - delta), np.inf)


def _box(bounds: Bounds | None, clean: Points) -> tuple[Array, Array] | None:
    """The box, which is that of float32 for samples on it that were converted from float32, as the attack's was."""
    try:
        return boxes.bounds(bounds, clean, "x0")
    except ValueError:
        with np.errstate(over="ignore"):
            narrow = clean.rows.astype(np.float32)
        if narrow.dtype == clean.rows.dtype or not np.array_equal(narrow, clean.rows):
            raise
        return boxes.bounds(bounds, clean._replace(rows=narrow), "x0")


def _room(x0: Array, lower: Array | None, upper: Array | None) -> tuple[Array, Array]:
    """The smallest and the largest δ that the box allows; x0 itself is always allowed."""
    if lower is None or upper is None:
        everywhere = np.full_like(x0, np.inf)
        return -everywhere, everywhere
    return np.minimum(lower - x0, 0), np.maximum(upper - x0, 0)
