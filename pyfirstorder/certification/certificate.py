"""`certify`: a sound upper bound of the loss over the set that an attack searches, and what it says of classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder import backends, boxes, checks, hints, validate
from pyfirstorder.attacks import make_objective
from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.backends.reference.attack import take_objective
from pyfirstorder.backends.reference.losses import evaluate
from pyfirstorder.certification import exact as programming
from pyfirstorder.certification.functionals import upper_bounds
from pyfirstorder.certification.objectives import functionals, loss_bounds
from pyfirstorder.certification.region import hidden, region, relaxations, share, unit_of
from pyfirstorder.results import as_numpy
from pyfirstorder.summaries import counted, extent, summarise

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Bounds, Norm
    from pyfirstorder.certification.region import Hidden, Region
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array, Objective, Weights
    from pyfirstorder.results import AttackResult

METHODS = ("auto", "interval", "linear", "exact")
_BLOCK_BYTES = 64 * 2**20  # of the largest array of a block of samples
DEFAULT_TIME_LIMIT = 60.0  # seconds a program


@dataclass(frozen=True, eq=False)
class Certificate:
    """Upper bounds over the allowed set, one entry per sample; float64 arrays of NumPy.

    Attributes
    ----------
    bound : array (B,)
        Never below the ascended loss of any allowed point, as float32 or float64 arithmetic gives it.
    margin : array (B,) or None
        Bound of ``max_{j≠y} z_j - z_y`` (logistic: -y z; targeted: of the target's margin over the rest).  None where
        the loss has no classes.
    certified : bool array (B,) or None
        Whether no allowed point makes an attack succeed: margin < 0.
    method : str
        "interval", "linear" or "exact".
    x_max : array (B, d) or None
        With "exact", the point of the largest loss among those at which the solver found the functionals' maxima, up to
        its tolerances (NaN where it found none): the maximiser wherever ``bound`` is the maximum.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.random_network(20, 64, seed=0)
    >>> x, y = np.full((3, 20), 0.1), np.zeros(3)
    >>> certificate = fo.certify(net, x, y, eps=0.05, norm="l2", loss="squared")
    >>> attack = fo.pgd(net, x, y, eps=0.05, norm="l2", loss="squared")
    >>> bool((attack.best_loss <= certificate.bound).all())
    True
    """

    bound: Array
    margin: Array | None
    certified: Array | None
    method: str
    x_max: Array | None = None

    @property
    def certified_accuracy(self) -> float | None:
        """Share of samples that are certified; None where the loss has no classes."""
        if self.certified is None:
            return None
        return float(np.mean(self.certified)) if len(self.certified) else float("nan")

    def __repr__(self) -> str:
        certified = "" if self.certified is None else f"{np.count_nonzero(self.certified)} certified"
        return summarise("Certificate", counted(len(self.bound)), self.method, certified, extent("bound", self.bound))

    def gap(self, result: AttackResult) -> Array:
        """``bound - attained`` of an attack, see `certification.gap`."""
        return gap(self, result)


def gap(certificate: Certificate, result: AttackResult) -> Array:
    """``bound - attained``, at least 0: how far the attack's loss can be below the maximum, per sample.

    Parameters
    ----------
    certificate : Certificate
    result : AttackResult
        Of an attack with the same network, samples, targets, loss, norm, radius and box.

    Returns
    -------
    float64 array (B,)

    Raises
    ------
    ValueError
        If the result has another number of samples, or a loss above its bound: it is that of another radius or norm.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder.certification import gap
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.array([1.0, -1.0]), activation="identity")
    >>> task = {"eps": 0.5, "loss": "linear"}
    >>> x, y = np.array([[3.0, 1.0]]), np.array([[1.0]])
    >>> gap(fo.certify(net, x, y, **task), fo.pgd(net, x, y, **task)).round(9) + 0.0  # a linear loss: no gap
    array([0.])
    """
    attained = as_numpy(result.best_loss).astype(np.float64)
    if attained.shape != certificate.bound.shape:
        raise ValueError(f"result: expected {len(certificate.bound)} samples, got {len(attained)}")
    difference: Array = certificate.bound - attained
    if (difference < 0).any():
        row = int(np.argmax(difference < 0))
        raise ValueError(
            f"result: expected an attack with the norm, radius, box and loss of the certificate, got a loss of "
            f"{attained[row]:g} above the bound {certificate.bound[row]:g} first in row {row}"
        )
    return difference


@hints.knows_other_names
def certify(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    eps: ArrayLike,
    norm: Norm = "linf",
    bounds: Bounds | None = None,
    loss: str | None = None,
    targeted: bool = False,
    method: str = "auto",
    time_limit: float = DEFAULT_TIME_LIMIT,
    backend: str = "auto",
    threads: int | None = None,
) -> Certificate:
    """Bound ``max L(f(x + δ), y)`` subject to ``‖δ‖_norm <= eps`` and the box, from above.

    Parameters
    ----------
    net : TwoLayerNetwork
    x : float32 or float64 array (B, ...)
        Samples; the bound covers arithmetic in their type.
    y, loss, targeted
        See `input_gradient`.
    eps : float or array (B,)
        Radius, finite.
    norm : "linf", "l2", "l1", inf, 2 or 1
    bounds : (lower, upper), optional
        Scalars or arrays of the shape of a sample.
    method : str
        "interval"; "linear" (the lesser of interval and linear relaxation); "exact" (mixed-integer programming, for
        relu, leaky_relu and identity with linf or l1, small networks; needs scipy); "auto" is "linear".  "exact" finds
        the maxima of linear functionals of the output.  So the bound is the maximum of the loss, up to the solver's
        tolerances, where the loss rises with one of them or is the largest of several: linear, logistic, margin (not
        targeted), squared with one output, cross_entropy with two.  Else it is sound, and may be above the maximum.
    time_limit : float
        Seconds for each program of "exact"; the bound of one that is cut off is sound, and looser.
    backend, threads
        Who multiplies the matrices, see `forward`.

    Returns
    -------
    Certificate

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.
    ImportError
        If "exact" is asked for without scipy.

    Warns
    -----
    UserWarning
        If an ℓ∞ radius reaches all of the box [0, 1]: see `pgd`.

    Notes
    -----
    Computed in float64.  Every dot product of n terms is allowed ``2 (n + 32) (u + 4·2⁻⁵³)`` of the sum of its
    magnitudes, u half an ulp in the type of x, so that the bound holds for a loss that was rounded too.

    References
    ----------
    Zhang et al. 2018 (arXiv 1811.00866); Singh et al. 2019 (DeepPoly); Tjeng et al. 2019 (arXiv 1711.07356).

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.array([1.0, -1.0]), activation="identity")
    >>> certificate = fo.certify(net, np.array([[3.0, 1.0]]), np.array([[1.0]]), eps=0.5, loss="linear")
    >>> certificate.bound.round(9)
    array([3.])
    """
    validate.network(net)
    points = validate.points("x", x, net.in_features)
    rows, samples = points.rows, len(points.rows)
    radius = validate.finite_per_sample("eps", eps, samples, rows.dtype)
    name, how = validate.norm(norm), checks.choice("method", method, METHODS)
    how = "linear" if how == "auto" else how
    limit = checks.real("time_limit", time_limit, 0.0, 1e9)
    if how == "exact":
        programming.check_exact(net.activation, name)
    box = boxes.bounds(bounds, points)
    chosen, count = backends.get(validate.backend(backend), False), validate.threads(threads)
    objective = make_objective(net, rows, y, loss, targeted, chosen, count)
    wide = None if box is None else (box[0].astype(np.float64), box[1].astype(np.float64))
    weights = net.weights(rows.dtype)
    task = _Task(weights, name, wide, how, limit, unit_of(rows.dtype), partial(chosen.multiply, threads=count))
    width = (3 * net.out_features + 2) * max(net.in_features, net.hidden_features) * 8
    step = max(1, _BLOCK_BYTES // width)
    parts = [
        task.bound(rows[i : i + step].astype(np.float64), radius[i : i + step], _rows_of(objective, i, i + step))
        for i in range(0, max(samples, 1), step)
    ]
    bound, margin, best = (None if any(p is None for p in piece) else np.concatenate(piece) for piece in zip(*parts))
    assert bound is not None
    boxes.warn_of_radius(eps, norm, bounds)
    return Certificate(bound, margin, None if margin is None else margin < 0, how, best)


def _rows_of(objective: Objective, first: int, end: int) -> Objective:
    cut: dict[str, Any] = {}
    for name in ("labels", "values", "sources"):
        part = getattr(objective, name)
        if part is not None:
            cut[name] = part[first:end].astype(np.float64) if name == "values" else part[first:end]
    return objective._replace(**cut)


@dataclass(frozen=True)
class _Task:
    """What is the same for all blocks of samples."""

    weights: Weights
    norm: str
    box: tuple[Array, Array] | None
    method: str
    time_limit: float
    unit: float
    multiply: Any

    def bound(self, x: Array, eps: Array, objective: Objective) -> tuple[Array, Array | None, Array | None]:
        """Bounds of the loss and of the margin for a block, and with "exact" the maximisers."""
        weights = self.weights
        with np.errstate(over="ignore", invalid="ignore"):
            allowed = region(x, self.norm, eps, self.box)
            units = hidden(weights, x, allowed, self.unit, self.multiply)
            z0 = self._output(units.at_x)
            wanted = functionals(objective, z0)
            found = relaxations(weights, units, self.method != "interval")
            upper = upper_bounds(weights, wanted, units, allowed, found, self.unit, self.multiply)
            best = None
            if self.method == "exact":
                best = self._solve(x, eps, allowed, units, objective, wanted, upper, found)
            value, margin = loss_bounds(objective, z0, upper, self.unit)
        return value, margin, best

    def _output(self, h: Array) -> Array:
        sigma = ACTIVATIONS[self.weights.activation].value(h, self.weights.parameter)
        a, c = self.weights.output_weight.astype(np.float64), self.weights.output_bias.astype(np.float64)
        return np.asarray(self.multiply(np.asarray(sigma, dtype=np.float64), a.T) + c)

    def _solve(
        self,
        x: Array,
        eps: Array,
        allowed: Region,
        units: Hidden,
        objective: Objective,
        wanted: Array,
        upper: Array,
        found: list[tuple[Array, Array, Array, Array]],
    ) -> Array:
        """Lower the bounds of the functionals to their maxima; the point of the largest loss of each sample."""
        a, c = self.weights.output_weight.astype(np.float64), self.weights.output_bias.astype(np.float64)
        best = np.full(x.shape, np.nan)
        largest = np.maximum(np.abs(found[0][1]), np.abs(found[0][3]))
        for i in range(len(x)):
            points = []
            box = allowed.centre[i] - allowed.radius[i], allowed.centre[i] + allowed.radius[i]
            for q, row in enumerate(wanted[i]):
                if not row.any():
                    continue
                alpha = row @ a
                interval = units.lower[i], units.upper[i]
                solved = programming.maximum(
                    self.weights, alpha, units.at_x[i], interval, box, float(eps[i]), self.norm, self.time_limit
                )
                sums = np.abs(row) @ np.abs(a)
                error = share(a.shape[1] + a.shape[0], self.unit) * (sums @ largest[i] + np.abs(row) @ np.abs(c))
                steepest = 1.0 if self.weights.activation != "leaky_relu" else max(1.0, abs(self.weights.parameter))
                error += steepest * float(sums @ units.error[i]) + 32 * self.unit * float(sums @ largest[i])
                upper[i, q] = min(upper[i, q], solved.bound + row @ c + error)
                if solved.delta is not None:
                    points.append(x[i] + solved.delta)
            if points:
                best[i] = self._largest(np.stack(points), take_objective(objective, np.full(len(points), i)))
        return best

    def _largest(self, points: Array, objective: Objective) -> Array:
        """The point of largest loss."""
        w, b = self.weights.hidden_weight.astype(np.float64), self.weights.hidden_bias.astype(np.float64)
        loss = evaluate(self._output(self.multiply(points, w.T) + b), objective)[0]
        return np.asarray(points[np.argmax(loss)])
