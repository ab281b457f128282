"""The attacks: projected gradient ascent, with a step size that is given (`pgd`) or found (`apgd`)."""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pyfirstorder import arrays, boxes, checks, hints
from pyfirstorder.attacks import attack
from pyfirstorder.results import as_numpy, in_kind_of, warn_of_ends
from pyfirstorder.settings import ALGORITHMS, DEFAULT_RHO, DEFAULT_SPARSE_FRACTION

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Bounds, Norm, Progress
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array
    from pyfirstorder.results import AttackResult


@hints.knows_other_names
def pgd(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    eps: ArrayLike,
    norm: Norm = "linf",
    steps: int = 40,
    step_size: ArrayLike | None = None,
    rel_step_size: float | None = None,
    direction: Literal["gradient", "sign", "normalized", "sparse"] | None = None,
    sparse_fraction: float = DEFAULT_SPARSE_FRACTION,
    loss: str | None = None,
    bounds: Bounds | None = None,
    targeted: bool = False,
    x_init: Array | None = None,
    random_start: bool | Literal["ball", "sphere"] = False,
    restarts: int = 1,
    seed: int = 0,
    sample_offset: int = 0,
    momentum: float = 0.0,
    early_stop: bool = False,
    keep: Literal["last", "best", "both"] = "last",
    trace: bool = False,
    retire: bool = True,
    evaluation: Literal["auto", "dense", "hidden", "incremental"] = "auto",
    precision: Literal["strict", "fast"] = "strict",
    on_invalid: Literal["raise", "mark"] = "raise",
    progress: Progress = False,
    backend: str = "auto",
    threads: int | None = None,
) -> AttackResult:
    """Projected gradient ascent on the loss over ball and box around each sample.

    Each step is ``δ ← P(δ + step_size * direction(∇ₓL))`` with P the exact projection onto
    ``{‖δ‖_norm <= eps} ∩ {lower <= x + δ <= upper}``.

    Parameters
    ----------
    net : TwoLayerNetwork
    x : float32 or float64 array (B, ...)
        Clean samples, within bounds.
    y, loss, targeted
        Targets and loss, see `input_gradient`.  With ``targeted`` y holds the classes to reach.
    eps : float or array (B,)
        Radius, which the type of x must hold; infinity for no ball (then a step size is needed).
    norm : "linf", "l2", "l1", inf, 2 or 1
    steps : int
        T; 0 evaluates the start.
    step_size : float or array (B,), optional
        η in the units of the norm.  Default ``2.5 * eps / steps``.
    rel_step_size : float, optional
        η as a share of eps, instead of ``step_size``.
    direction : str, optional
        "gradient" (the raw gradient), "sign", "normalized" (g/‖g‖₂) or "sparse" (sign of the largest coordinates that
        can still move, over their number).  Default by norm: sign, normalized, sparse for linf, l2, l1.  All but
        "gradient" are computed from a rescaled residual and so are not lost when a float32 softmax saturates.
    sparse_fraction : float
        Share of the coordinates that "sparse" moves, at least one.
    bounds : (lower, upper), optional
        Scalars or arrays of the shape of a sample.
    x_init : array of the shape and type of x, optional
        Where to start, projected if it is outside.  Not together with ``random_start``.  Rows that ``on_invalid`` marks
        are not looked at.
    random_start : bool, "ball" or "sphere"
        Start uniformly in the ball (True) or on its boundary, clipped to the box.
    restarts : int
        Attacks of each sample from different random starts; 1 without a random start.  Per sample the one that
        succeeds, then the one with the larger loss, is kept.
    seed, sample_offset : int
        The random start of row i is keyed by (seed, restart, sample_offset + i): a data set attacked in blocks gives
        what it gives at once, if each block says where it begins.
    momentum : float
        μ of Dong et al. 2018: v ← μ v + g/‖g‖₁ and a step along direction(v); v ← μ v + g for "gradient".
    early_stop : bool
        End a sample at its first successful iterate.
    keep : "last", "best" or "both"
        What x_adv is: the last iterate, or the best one (successful before not, then by loss); "both" gives the last as
        x_adv and the best as x_best.
    trace : bool
        Record loss, ‖g‖₂, ‖δ‖₂, cos∠(g, δ) and ‖P(δ + g) - δ‖₂ at every iterate.
    retire : bool
        Leave fixed points and cycles of two points as soon as they are reached.  The result is the same to the bit;
        only the count of steps tells.
    evaluation : "auto", "dense", "hidden" or "incremental"
        How products with the weights are found, with the same answer up to rounding: "dense" multiplies in every step;
        "hidden" runs on hidden units (l2 without bounds, gradient or normalized, no momentum);
        "incremental" follows what changed (direction sign; relu, leaky_relu, identity).  "auto" takes what costs least
        for this network and these options.  Backend cuda has "dense" and "hidden", others than it and cpu only "dense".
    precision : "strict" or "fast"
        "fast" allows the steps of a float32 attack to multiply with fewer bits where that is faster: on the cuda
        backend with the eleven of half precision, of x - x₀, of the weights and of what the gradient is made of.  End
        point and best point are evaluated in full, so that what is said of them stays true; the trace is not.  Nothing
        is rounded with ``early_stop``, nor on other backends.
    on_invalid : "raise" or "mark"
        What a NaN or infinity in x does: an error, or that row comes back unchanged with status INVALID_INPUT.
    progress : bool or callable
        True for a progress bar (needs rich), or a function called with the finished share from 0 to 1.
    backend, threads
        See `forward`.

    Returns
    -------
    AttackResult

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    Warns
    -----
    UserWarning
        If an ℓ∞ radius reaches all of the box [0, 1], as 8 in the place of 8/255 does.
    ZeroGradientWarning
        If the gradient of a sample was exactly zero.
    NotFiniteWarning
        If the loss or the gradient of a sample overflowed.

    References
    ----------
    Madry et al. 2018 (arXiv 1706.06083); Deng et al. 2020 (arXiv 2010.10650).

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.eye(2))
    >>> r = fo.pgd(net, np.array([[1.0, 0.5]]), np.array([0]), eps=0.25, steps=10)
    >>> r.x_adv
    array([[0.75, 0.75]])
    """
    with arrays.place_of(x):
        result = attack(
            "pgd",
            net,
            x,
            y,
            radii=[eps],
            norm=norm,
            steps=steps,
            step_size=step_size,
            rel_step_size=rel_step_size,
            direction=direction,
            sparse_fraction=sparse_fraction,
            loss=loss,
            bounds=bounds,
            targeted=targeted,
            x_init=x_init,
            random_start=random_start,
            restarts=restarts,
            seed=seed,
            sample_offset=sample_offset,
            momentum=momentum,
            early_stop=early_stop,
            keep=keep,
            trace=trace,
            retire=retire,
            evaluation=evaluation,
            precision=precision,
            on_invalid=on_invalid,
            progress=progress,
            backend=backend,
            threads=threads,
        )[0]
        boxes.warn_of_radius(eps, norm, bounds)
        warn_of_ends(as_numpy(result.status)[None], stacklevel=3)  # beyond the decorator
        return in_kind_of(x, result)


@hints.knows_other_names
def apgd(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    eps: ArrayLike,
    norm: Norm = "linf",
    steps: int = 100,
    loss: str | None = None,
    bounds: Bounds | None = None,
    targeted: bool = False,
    x_init: Array | None = None,
    random_start: bool | Literal["ball", "sphere"] = True,
    restarts: int = 1,
    seed: int = 0,
    sample_offset: int = 0,
    rho: float = DEFAULT_RHO,
    early_stop: bool = False,
    keep: Literal["last", "best", "both"] = "best",
    trace: bool = False,
    precision: Literal["strict", "fast"] = "strict",
    on_invalid: Literal["raise", "mark"] = "raise",
    progress: Progress = False,
    backend: str = "auto",
    threads: int | None = None,
) -> AttackResult:
    """Auto-PGD: projected gradient ascent that chooses its step size by itself.

    The step size starts at ``2 * eps`` (``eps`` for l1) and is reduced per sample when the loss stops rising; the
    sample then goes on from its best point.  Directions are sign, normalized and sparse for linf, l2 and l1.

    Parameters
    ----------
    net, x, y, eps, norm, steps, loss, bounds, targeted
        See `pgd`; eps must be finite.
    precision, on_invalid, progress, backend, threads
        See `pgd`.
    x_init, random_start, restarts, seed, sample_offset, early_stop, keep, trace
        See `pgd`; the start is random and the best point is kept, unless told otherwise.  With ``x_init`` pass
        ``random_start=False``.
    rho : float
        Share of the steps between two checkpoints that must increase the loss (linf and l2).

    Returns
    -------
    AttackResult

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    Warns
    -----
    UserWarning
        If an ℓ∞ radius reaches all of the box [0, 1]: see `pgd`.
    ZeroGradientWarning
        If the gradient of a sample was exactly zero.
    NotFiniteWarning
        If the loss or the gradient of a sample overflowed.

    References
    ----------
    Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks" (arXiv 2003.01690); for l1 Croce & Hein 2021, "Mind the box" (arXiv 2103.01208).

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.eye(2))
    >>> fo.apgd(net, np.array([[1.0, 0.5]]), np.array([0]), eps=0.25, steps=10).success
    array([False])
    """
    with arrays.place_of(x):
        result = attack(
            "apgd",
            net,
            x,
            y,
            radii=[eps],
            norm=norm,
            steps=steps,
            loss=loss,
            bounds=bounds,
            targeted=targeted,
            x_init=x_init,
            random_start=random_start,
            restarts=restarts,
            seed=seed,
            sample_offset=sample_offset,
            rho=rho,
            early_stop=early_stop,
            keep=keep,
            trace=trace,
            precision=precision,
            on_invalid=on_invalid,
            progress=progress,
            backend=backend,
            threads=threads,
        )[0]
        boxes.warn_of_radius(eps, norm, bounds)
        warn_of_ends(as_numpy(result.status)[None], stacklevel=3)  # beyond the decorator
        return in_kind_of(x, result)


def arguments(algorithm: str, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an attack but its radius: its defaults, and what the caller gave instead."""
    defaults = _defaults(checks.choice("algorithm", algorithm, ALGORITHMS))
    unknown = set(options) - set(defaults)
    if unknown:
        raise TypeError(hints.no_argument(algorithm, sorted(unknown), ("eps", *defaults)))
    return defaults | options


@cache
def _defaults(algorithm: str) -> dict[str, Any]:
    function: Any = {"pgd": pgd, "apgd": apgd}[algorithm]
    parameters = inspect.signature(function).parameters.items()
    return {name: p.default for name, p in parameters if p.kind is p.KEYWORD_ONLY and name != "eps"}


def ascent_of(
    net: TwoLayerNetwork, x: Array, y: ArrayLike, eps: ArrayLike, *, keep_iterates: bool = False, **options: Any
) -> AttackResult:
    """`pgd` without a warning, its iterates on request; what is left out of the options has its defaults."""
    return attack("pgd", net, x, y, radii=[eps], keep_iterates=keep_iterates, **arguments("pgd", options))[0]
