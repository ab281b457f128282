"""The public functions: validate, choose the backend, call it, give results back in the caller's shape."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from pyfirstorder import backends, validate
from pyfirstorder.attacks import DEFAULT_SPARSE_FRACTION, attack, make_objective
from pyfirstorder.problem import Array, Ball

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Bounds, Norm, Progress
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.results import AttackResult


def forward(net: TwoLayerNetwork, x: Array, *, backend: str = "auto", threads: int | None = None) -> Array:
    """The network's outputs ``A σ(W x + b) + c``.

    Parameters
    ----------
    net : TwoLayerNetwork
    x : float32 or float64 array (B, ...)
        Samples; the trailing axes are flattened to ``net.in_features`` numbers.
    backend : str
        "auto" or one of `available_backends`.
    threads : int, optional
        Worker threads; all processors of this process if left out.  The result does not depend on it.

    Returns
    -------
    array (B, k)
        In the type of x; (B,) if the network was made with a 1-D ``output_weight``.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.TwoLayerNetwork([[1.0, -1.0]], [[1.0], [2.0]])
    >>> fo.forward(net, np.array([[3.0, 1.0], [0.0, 1.0]]))
    array([[2., 4.],
           [0., 0.]])
    """
    validate.network(net)
    points = validate.points("x", x, net.in_features)
    output = backends.get(backend).forward(net.weights(points.rows.dtype), points.rows, validate.threads(threads))
    return output[:, 0] if net.scalar_output else output


def predict(net: TwoLayerNetwork, x: Array, *, backend: str = "auto", threads: int | None = None) -> Array:
    """The predicted class of each sample: index of its largest output, or the sign -1 or +1 of a single one.

    Parameters are those of `forward`; of equal outputs the first wins, and an output of 0 is of class -1.

    Returns
    -------
    int64 array (B,)

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.TwoLayerNetwork([[1.0, -1.0]], [[1.0], [2.0]])
    >>> fo.predict(net, np.array([[3.0, 1.0], [0.0, 1.0]]))
    array([1, 0])
    """
    output = forward(net, x, backend=backend, threads=threads)
    if net.out_features == 1:
        return np.where(output.reshape(-1) > 0, 1, -1)
    return np.argmax(output, axis=1)


def input_gradient(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    loss: str | None = None,
    targeted: bool = False,
    backend: str = "auto",
    threads: int | None = None,
) -> tuple[Array, Array]:
    """The loss of each sample and its gradient in x, ``Wᵀ (σ'(h) ⊙ Aᵀ ∂L/∂z)``.

    Parameters
    ----------
    net : TwoLayerNetwork
    x : float32 or float64 array (B, ...)
    y : array (B,) or (B, k)
        Targets of the loss: class indices for cross_entropy, margin and dlr; -1 or +1 for logistic; numbers (B, k) for
        squared and linear ((B,) where k = 1).
    loss : str, optional
        squared ½‖z - y‖², logistic log(1 + exp(-y z)), cross_entropy, margin (largest other logit minus that of y), dlr
        (margin over the spread of the three largest logits; the margin itself where k = 2) or linear ⟨y, z⟩.  Left
        out: cross_entropy for several outputs; for one, squared if y is floating and logistic if it is integer.
    targeted : bool
        Give the negative loss and its gradient: what a targeted attack ascends.  dlr has a targeted form of its own,
        away from the class predicted at x (the runner-up, where that is y).
    backend, threads
        See `forward`.

    Returns
    -------
    loss : array (B,)
    gradient : array of the shape of x

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.array([1.0, -1.0]), activation="identity")
    >>> fo.input_gradient(net, np.array([[3.0, 1.0]]), np.array([0.0]), loss="squared")
    (array([2.]), array([[ 2., -2.]]))
    """
    validate.network(net)
    points = validate.points("x", x, net.in_features)
    chosen = backends.get(backend)
    count = validate.threads(threads)
    objective = make_objective(net, points.rows, y, loss, targeted, chosen, count)
    value, gradient, _ = chosen.input_gradient(net.weights(points.rows.dtype), points.rows, objective, count)
    return value, gradient.reshape(points.shape)


def project(
    delta: Array,
    *,
    eps: ArrayLike,
    norm: Norm = "linf",
    x: Array | None = None,
    bounds: Bounds | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> Array:
    """The nearest allowed perturbation: minimise ``‖p - delta‖₂`` subject to ``‖p‖_norm <= eps`` and the box.

    The box is ``lower <= x + p <= upper``, and the solution is that of ball and box together, not of one after the
    other.  It is rounded inwards: its norm, measured in float64 or in its own type, never exceeds eps, and x + p never
    leaves the box.  An allowed delta is returned unchanged.

    Parameters
    ----------
    delta : float32 or float64 array (B, ...)
        One perturbation per row.
    eps : float or array (B,)
        Radius; infinity for no ball.
    norm : "linf", "l2", "l1", inf, 2 or 1
    x : array of the shape and type of delta, optional
        The samples that are perturbed; zero if left out.
    bounds : (lower, upper), optional
        Scalars or arrays of the shape of a sample.
    backend, threads
        See `forward`.

    Returns
    -------
    array of the shape and type of delta

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    References
    ----------
    Croce & Hein 2021, "Mind the box" (arXiv 2103.01208), for ℓ1 with a box; Condat 2016 without.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> fo.project(np.array([[3.0, 1.0]]), eps=2.0, norm="l1")
    array([[2., 0.]])
    """
    rows = validate.floats("delta", delta)
    if rows.ndim < 2:
        raise ValueError(f"delta: expected shape (batch, ...), got {rows.shape}; one sample needs a batch axis: [None]")
    points = validate.points("delta", rows, math.prod(rows.shape[1:]))
    centre = np.zeros_like(points.rows) if x is None else validate.like("x", x, points)
    box = validate.bounds(bounds, points._replace(rows=centre))
    ball = Ball(validate.norm(norm), validate.per_sample("eps", eps, len(points.rows)), *(box or (None, None)))
    moved = backends.get(backend).project(points.rows, centre, ball, validate.threads(threads))
    return moved.reshape(points.shape)


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
        Radius; infinity for no ball (then a step size is needed).
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
        Where to start, projected if it is outside.  Not together with ``random_start``.
    random_start : bool, "ball" or "sphere"
        Start uniformly in the ball (True) or on its boundary, clipped to the box.
    restarts : int
        Attacks of each sample from different random starts.  Per sample the one that succeeds, then the one with the
        larger loss, is kept.
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
    ZeroGradientWarning
        If the gradient of a sample was exactly zero.

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
    return attack(
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
        on_invalid=on_invalid,
        progress=progress,
        backend=backend,
        threads=threads,
    )[0]


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
    rho: float = 0.75,
    early_stop: bool = False,
    keep: Literal["last", "best", "both"] = "best",
    trace: bool = False,
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
    x_init, random_start, restarts, seed, sample_offset, early_stop, keep, trace, on_invalid, progress, backend, threads
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
    return attack(
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
        on_invalid=on_invalid,
        progress=progress,
        backend=backend,
        threads=threads,
    )[0]
