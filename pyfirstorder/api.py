"""Forward pass, prediction, input gradient and projection: validate, choose the backend, call it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder import arrays, backends, boxes, hints, validate
from pyfirstorder.arrays import is_on_device
from pyfirstorder.attacks import make_objective
from pyfirstorder.problem import Array, Ball
from pyfirstorder.results import warn_of_overflow

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Bounds, Norm
    from pyfirstorder.network import TwoLayerNetwork


@hints.knows_other_names
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

    Warns
    -----
    NotFiniteWarning
        If an output is infinite, being beyond the range of the type, or NaN, where ``W x + b`` is.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.TwoLayerNetwork([[1.0, -1.0]], [[1.0], [2.0]])
    >>> fo.forward(net, np.array([[3.0, 1.0], [0.0, 1.0]]))
    array([[2., 4.],
           [0., 0.]])
    """
    with arrays.place_of(x):
        validate.network(net)
        arrays.refuse_gradients("x", x, "pyfirstorder.interop.torch.forward")
        return arrays.give(_forward(net, x, backend, threads), x)


def _forward(net: TwoLayerNetwork, x: Array, backend: str, threads: int | None) -> Array:
    points = validate.points("x", x, net.in_features, on_device=True)
    output = backends.get(validate.backend(backend), is_on_device(points.rows)).forward(
        net.weights(points.rows.dtype), points.rows, validate.threads(threads)
    )
    warn_of_overflow("output", output, stacklevel=4)  # beyond the decorator
    return output[:, 0] if net.scalar_output else output


@hints.knows_other_names
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
    with arrays.place_of(x):
        validate.network(net)
        output = _forward(net, x, backend, threads)
        return arrays.give(classes_of(output.reshape(-1, net.out_features)), x)


def classes_of(output: Array) -> Array:
    """What `predict` makes of outputs (B, k)."""
    return np.where(output[:, 0] > 0, 1, -1) if output.shape[1] == 1 else np.argmax(output, axis=1)


@hints.knows_other_names
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

    Warns
    -----
    NotFiniteWarning
        If a loss or a gradient is NaN or infinite.

    References
    ----------
    Deng et al. 2020 (arXiv 2010.10650) for the gradient; of the losses, margin is that of Carlini & Wagner 2017
    (arXiv 1608.04644) and dlr that of Croce & Hein 2020 (arXiv 2003.01690).

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.array([1.0, -1.0]), activation="identity")
    >>> fo.input_gradient(net, np.array([[3.0, 1.0]]), np.array([0.0]), loss="squared")
    (array([2.]), array([[ 2., -2.]]))
    """
    with arrays.place_of(x):
        validate.network(net)
        arrays.refuse_gradients("x", x, "pyfirstorder.interop.torch.forward and its backward pass")
        points = validate.points("x", x, net.in_features, on_device=True)
        chosen = backends.get(validate.backend(backend), is_on_device(points.rows))
        count = validate.threads(threads)
        objective = make_objective(net, points.rows, y, loss, targeted, chosen, count)
        value, gradient, _ = chosen.input_gradient(net.weights(points.rows.dtype), points.rows, objective, count)
        warn_of_overflow("loss or gradient", value, gradient, stacklevel=3)  # beyond the decorator
        return arrays.give(value, x), arrays.give(gradient.reshape(points.shape), x)


@hints.knows_other_names
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
    with arrays.place_of(delta):
        arrays.refuse_gradients("delta", delta, "the projection of your framework")
        rows = validate.floats("delta", delta, on_device=True)
        if rows.ndim < 2:
            raise ValueError(
                f"delta: expected shape (batch, ...), got {rows.shape}; one sample needs a batch axis: [None]"
            )
        points = validate.points("delta", rows, math.prod(rows.shape[1:]), on_device=True)
        centre = np.zeros_like(points.rows) if x is None else validate.like("x", x, points)
        box = boxes.bounds(bounds, points._replace(rows=centre))
        radii = validate.radii("eps", eps, len(points.rows), points.rows.dtype)
        ball = Ball(validate.norm(norm), radii, *(box or (None, None)))
        chosen = backends.get(validate.backend(backend), is_on_device(points.rows))
        moved = chosen.project(points.rows, centre, ball, validate.threads(threads))
        return arrays.give(moved.reshape(points.shape), delta)
