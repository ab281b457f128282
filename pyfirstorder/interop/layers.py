"""Layers in the order in which a model applies them, and the two-layer network that they make up, or why they do not.

Every reader of `pyfirstorder.interop.models` turns its model into a list of these; `assemble` is the only place that
knows which lists are two-layer networks: affine maps (normalisation, batch normalisation at inference) are folded into
the linear layers beside them, and what does nothing at inference is left out.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder import checks
from pyfirstorder.network import TwoLayerNetwork

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyfirstorder.problem import Array

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_DROP = "or where models are read pass drop_softmax=True"


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
    """``z = gain x + shift``, of arrays that NumPy broadcasts to the shape of a sample.

    Where that shape is not known, ``(C, 1, 1)`` is a number per entry of the sample's first axis, and ``(C,)`` one per
    entry of its last.
    """

    where: str
    gain: Array
    shift: Array
    shape: tuple[int, ...] | None = None  # of a sample at that place


@dataclass(frozen=True)
class Nothing:
    """A layer that changes no number: flattening, dropout at inference, the identity."""

    where: str


@dataclass(frozen=True)
class Softmax:
    """Probabilities, or their logarithms, from logits; attacks want the logits."""

    where: str
    logarithm: bool = False


Layer = Linear | Activation | Affine | Nothing | Softmax


@np.errstate(over="ignore", invalid="ignore")  # TwoLayerNetwork refuses what is not finite by name
def assemble(layers: Iterable[Layer], *, drop_softmax: bool = False) -> TwoLayerNetwork:
    """The two-layer network that the layers make up; a ValueError names the first one that does not fit."""
    linear: list[tuple[Array, Array]] = []
    pending: list[Affine] = []  # of inputs, or of hidden units, until the next linear layer
    activation = None
    dtype: np.dtype[Any] | None = None
    is_dropped, end = False, "the end"
    rest = iter(layers)
    for layer in rest:
        end = layer.where
        if isinstance(layer, Nothing):
            continue
        if is_dropped:
            raise ValueError(f"{layer.where}: expected no more layers after probabilities")
        if is_probabilities(layer) and len(linear) == 2 and _is_their_kind(layer, linear[1]):
            if not drop_softmax:
                raise ValueError(
                    f"{layer.where}: a network of probabilities hides its gradient from attacks; take the model "
                    f"without it (module[:-1] of a torch Sequential), {_DROP}"
                )
            is_dropped = True
        elif isinstance(layer, Softmax) or (isinstance(layer, Activation) and (len(linear) != 1 or activation)):
            raise ValueError(f"{layer.where}: expected {_expected(linear, activation, layer, rest)}")
        elif isinstance(layer, Linear):
            if len(linear) == 2 or (linear and activation is None):
                raise ValueError(f"{layer.where}: expected {_expected(linear, activation, layer, rest)}")
            dtype = _dtype(layer) if dtype is None else np.result_type(dtype, _dtype(layer))
            linear.append(_with_affine_before(layer, pending))
            pending = []
        elif isinstance(layer, Activation):
            activation = layer.name
        elif len(linear) == 2 or (linear and activation is None):
            linear[-1] = _with_affine_after(linear[-1], layer)
        else:
            pending.append(layer)
    if len(linear) < 2 or activation is None:
        raise ValueError(f"after {end}: expected {_wanted(linear, activation)}, got the end of the model")
    (w, b), (a, c) = ((weight.astype(dtype), bias.astype(dtype)) for weight, bias in linear)
    return TwoLayerNetwork(w, a, b, c, activation)


def is_probabilities(layer: Layer) -> bool:
    """Whether a layer at the end makes probabilities of logits."""
    return isinstance(layer, Softmax) or (isinstance(layer, Activation) and layer.name == "sigmoid")


def _is_their_kind(layer: Layer, last: tuple[Array, Array]) -> bool:
    """A sigmoid makes one probability; of several it would make a network of several labels at once."""
    return isinstance(layer, Softmax) or len(last[0]) == 1


def _expected(linear: list[tuple[Array, Array]], activation: str | None, layer: Layer, rest: Iterator[Layer]) -> str:
    """What is expected in the place of a layer; where linear layers are left over, how many there are."""
    if len(linear) == 2:
        over = int(isinstance(layer, Linear))
        with contextlib.suppress(TypeError, ValueError):  # of a layer that has no counterpart either
            for other in rest:
                over += isinstance(other, Linear)
        if over:
            return f"two linear layers, got {2 + over}"
    return f"{_wanted(linear, activation)} there"


def _wanted(linear: list[tuple[Array, Array]], activation: str | None) -> str:
    if not linear:
        return "the first linear layer"
    if activation is None:
        return "an activation after the first linear layer"
    return "the second linear layer" if len(linear) == 1 else "no more layers"


def _dtype(layer: Linear) -> np.dtype[Any]:
    dtype = layer.weight.dtype.newbyteorder("=")
    if dtype not in _FLOATS:
        raise TypeError(
            f"{layer.where}: expected weights of float32 or float64, got {layer.weight.dtype}; "
            'convert them with .astype("float32")'
        )
    return dtype


def _with_affine_before(layer: Linear, pending: list[Affine]) -> tuple[Array, Array]:
    """W and b of ``x → W (gain x + shift) + b``, in float64."""
    weight = layer.weight.astype(np.float64)
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.astype(np.float64)
    if bias.shape != (len(weight),):
        raise ValueError(f"{layer.where}: expected {len(weight)} biases for its {len(weight)} outputs, got {bias.size}")
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
    """One number per coordinate of a flattened sample."""
    numbers = np.asarray(part, dtype=np.float64)
    lead = next((axis for axis, size in enumerate(numbers.shape) if size != 1), numbers.ndim)
    own = tuple(numbers.shape[lead:])  # axes of one entry before the others mean nothing
    numbers = numbers.reshape(own)
    if affine.shape is not None and np.prod(affine.shape, dtype=int) == features:
        try:
            return np.broadcast_to(numbers, affine.shape).reshape(-1)
        except ValueError:
            raise ValueError(
                f"{affine.where}: expected numbers that broadcast to {affine.shape}, got shape {numbers.shape}"
            ) from None
    if numbers.size == 0 or features % numbers.size:
        raise ValueError(
            f"{affine.where}: expected 1, {features} or a divisor of {features} numbers, got {numbers.size}"
        )
    times = features // numbers.size
    is_of_first_axes = len(own) > 1 and own[-1] == 1
    return np.repeat(numbers.reshape(-1), times) if is_of_first_axes else np.tile(numbers.reshape(-1), times)


def normalized(net: TwoLayerNetwork, mean: Any, std: Any, shape: tuple[int, ...] | None = None) -> TwoLayerNetwork:
    """The network of ``x → f((x - mean) / std)``: an input normalisation folded into W and b.

    Parameters
    ----------
    net : TwoLayerNetwork
        f, of normalised inputs.
    mean, std : float or array
        One number for all coordinates, per channel (a list of C of them, for the first axis of a sample) or per
        coordinate; arrays of more axes are broadcast to a sample as NumPy does it.
    shape : tuple of int, optional
        Of a sample, where arrays of several axes do not say it by themselves.

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
    if shape is not None and math.prod(sample_shape(shape)) != net.in_features:
        raise ValueError(f"shape: expected {net.in_features} coordinates, got {tuple(shape)}")
    centre, spread = (np.asarray(part, dtype=np.float64) for part in (mean, std))
    if not (spread > 0).all():
        raise ValueError(f"std: expected positive numbers, got {spread[~(spread > 0)].flat[0]}")
    centre, spread = (_per_channel(part, net.in_features, shape) for part in (centre, spread))
    weights = net.weights(net.dtype)
    folded = assemble(
        [
            Affine("mean and std", np.ones(()), -centre, shape),
            Affine("mean and std", 1 / spread, np.zeros(()), shape),
            Linear("the first linear layer", weights.hidden_weight, weights.hidden_bias),
            Activation("the activation", net.activation),
            Linear("the second linear layer", weights.output_weight, weights.output_bias),
        ]
    )
    return with_scalar_output(folded) if net.scalar_output else folded


def sample_shape(shape: Any) -> tuple[int, ...]:
    """The shape of a sample, as a user gives it."""
    if not isinstance(shape, (list, tuple)):
        raise TypeError(f"shape: expected a tuple of integers, got {checks.describe(shape)}")
    return tuple(checks.integer("shape", size, 1, 2**31 - 1) for size in shape)


def _per_channel(numbers: Array, features: int, shape: tuple[int, ...] | None) -> Array:
    """A list of numbers, turned so that it is broadcast along the first axis of a sample."""
    if numbers.ndim != 1 or numbers.size in (1, features):
        return numbers if shape is None or numbers.ndim != 1 or numbers.size == 1 else numbers.reshape(shape)
    return numbers.reshape(-1, *[1] * (1 if shape is None else len(shape) - 1))


def with_scalar_output(net: TwoLayerNetwork) -> TwoLayerNetwork:
    """A network of one output, whose outputs then have shape (B,)."""
    return TwoLayerNetwork(
        net.hidden_weight, net.output_weight.reshape(-1), net.hidden_bias, net.output_bias, net.activation
    )
