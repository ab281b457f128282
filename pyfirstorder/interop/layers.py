"""Layers in the order in which a model applies them, and the two-layer network that they make up, or why they do not.

Every reader of `pyfirstorder.interop.models` turns its model into a list of these; `assemble` is the only place that
knows which lists are two-layer networks: affine maps (normalisation, batch normalisation at inference) are folded into
the linear layers beside them, and what does nothing at inference is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder.network import TwoLayerNetwork

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyfirstorder.problem import Array

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True)
class Linear:
    """``z = weight x + bias``."""

    where: str  # the layer's place and kind, for messages
    weight: Array  # (outputs, inputs)
    bias: Array | None  # (outputs,)


@dataclass(frozen=True)
class Activation:
    """A nonlinearity, by the name that `TwoLayerNetwork` knows."""

    where: str
    name: str


@dataclass(frozen=True)
class Affine:
    """``z = gain x + shift``, each a scalar, one number per channel or one per coordinate."""

    where: str
    gain: Array
    shift: Array
    channels_first: bool = True  # how a number per channel is spread over flattened images


@dataclass(frozen=True)
class Nothing:
    """A layer that changes no number: flattening, dropout at inference, the identity."""

    where: str


@dataclass(frozen=True)
class Softmax:
    """Probabilities from logits; attacks want the logits."""

    where: str


Layer = Linear | Activation | Affine | Nothing | Softmax


def assemble(layers: Iterable[Layer], *, drop_softmax: bool = False) -> TwoLayerNetwork:
    """The two-layer network that the layers make up; a ValueError names the first one that does not fit."""
    linear: list[tuple[Array, Array]] = []
    pending: list[Affine] = []  # of inputs, or of hidden units, until the next linear layer
    activation = None
    dtype: np.dtype[Any] | None = None
    end = "the end"
    for layer in layers:
        end = layer.where
        if isinstance(layer, Nothing):
            continue
        if isinstance(layer, Softmax):
            if not drop_softmax or len(linear) < 2:
                raise ValueError(
                    f"{layer.where}: a network of probabilities hides its gradient from attacks; take the model "
                    "without it, or pass drop_softmax=True to get the logits before it"
                )
            continue
        if isinstance(layer, Linear):
            if len(linear) == 2 or (linear and activation is None):
                raise ValueError(f"{layer.where}: expected {_expected(linear, activation)} there")
            dtype = _dtype(layer) if dtype is None else np.result_type(dtype, _dtype(layer))
            linear.append(_with_affine_before(layer, pending))
            pending = []
        elif isinstance(layer, Activation):
            if len(linear) != 1 or activation is not None:
                raise ValueError(f"{layer.where}: expected {_expected(linear, activation)} there")
            activation = layer.name
        elif len(linear) == 2 or (linear and activation is None):
            linear[-1] = _with_affine_after(linear[-1], layer)
        else:
            pending.append(layer)
    if len(linear) < 2 or activation is None:
        raise ValueError(f"after {end}: expected {_expected(linear, activation)}, got the end of the model")
    (w, b), (a, c) = ((weight.astype(dtype), bias.astype(dtype)) for weight, bias in linear)
    return TwoLayerNetwork(w, a, b, c, activation)


def _expected(linear: list[tuple[Array, Array]], activation: str | None) -> str:
    if not linear:
        return "the first linear layer"
    if activation is None:
        return "an activation after the first linear layer"
    return "the second linear layer" if len(linear) == 1 else "no more layers"


def _dtype(layer: Linear) -> np.dtype[Any]:
    dtype = layer.weight.dtype.newbyteorder("=")
    if dtype not in _FLOATS:
        raise TypeError(
            f"{layer.where}: expected weights of float32 or float64, got {layer.weight.dtype}; convert them"
        )
    return dtype


def _with_affine_before(layer: Linear, pending: list[Affine]) -> tuple[Array, Array]:
    """W and b of ``x → W (gain x + shift) + b``, in float64."""
    weight = layer.weight.astype(np.float64)
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.astype(np.float64)
    for affine in reversed(pending):
        gain, shift = (_spread(part, weight.shape[1], affine) for part in (affine.gain, affine.shift))
        bias = bias + weight @ shift
        weight = weight * gain
    return weight, bias


def _with_affine_after(before: tuple[Array, Array], affine: Affine) -> tuple[Array, Array]:
    weight, bias = before
    gain, shift = (_spread(part, len(weight), affine) for part in (affine.gain, affine.shift))
    return gain[:, None] * weight, gain * bias + shift


def _spread(part: Array, features: int, affine: Affine) -> Array:
    """One number per feature."""
    numbers = np.asarray(part, dtype=np.float64).reshape(-1)
    if numbers.size not in (1, features) and features % numbers.size:
        raise ValueError(
            f"{affine.where}: expected 1, {features} or a divisor of {features} numbers, got {numbers.size}"
        )
    times = features // numbers.size
    return np.repeat(numbers, times) if affine.channels_first else np.tile(numbers, times)


def normalized(net: TwoLayerNetwork, mean: Any, std: Any, shape: tuple[int, ...] | None = None) -> TwoLayerNetwork:
    """The network of ``x → f((x - mean) / std)``: an input normalisation folded into W and b.

    Parameters
    ----------
    net : TwoLayerNetwork
        f, of normalised inputs.
    mean, std : float or array
        One number for all coordinates, per channel (the first axis of a sample) or per coordinate.
    shape : tuple of int, optional
        Of a sample, where mean and std are to be broadcast to it.

    Returns
    -------
    TwoLayerNetwork
        Of inputs that are not normalised, so that radii and bounds are in their units.

    Raises
    ------
    ValueError
        If a standard deviation is not positive, or the numbers do not fit the coordinates.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> from pyfirstorder.interop.layers import normalized
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.eye(2), activation="identity")
    >>> fo.forward(normalized(net, mean=0.5, std=0.25), np.array([[0.5, 1.0]]))
    array([[0., 2.]])
    """
    centre, spread = (np.asarray(part, dtype=np.float64) for part in (mean, std))
    if not (spread > 0).all():
        raise ValueError(f"std: expected positive numbers, got {spread.min()}")
    if shape is not None and max(centre.ndim, spread.ndim) > 1:
        centre, spread = np.broadcast_to(centre, shape), np.broadcast_to(spread, shape)
    weights = net.weights(net.dtype)
    return assemble(
        [
            Affine("mean and std", 1 / spread, -centre / spread),
            Linear("the first linear layer", weights.hidden_weight, weights.hidden_bias),
            Activation("the activation", net.activation),
            Linear("the second linear layer", weights.output_weight, weights.output_bias),
        ]
    )
