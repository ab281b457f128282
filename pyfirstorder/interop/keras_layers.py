"""The layers of a Keras model, as `pyfirstorder.interop.layers` has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import keras
except ImportError as error:
    raise ImportError("keras is not installed: pip install keras, and a framework for it to compute with") from error

import numpy as np

from pyfirstorder.interop.layers import Activation, Affine, Layer, Linear, Nothing, Softmax

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = {"relu", "elu", "softplus", "sigmoid", "tanh", "silu"}  # that mean the same there and here
_NOTHING = ("InputLayer", "Flatten", "Dropout", "GaussianNoise", "GaussianDropout", "AlphaDropout", "Identity")


def keras_layers(model: Any) -> Iterator[Layer]:
    """The layers of a Sequential, or of a functional model without branches, at inference."""
    for place, part in enumerate(model.layers):
        kind = type(part).__name__
        where = f"layer {place} ({kind} {part.name!r})"
        if isinstance(part, keras.Model):
            yield from keras_layers(part)
        elif kind in _NOTHING:
            yield Nothing(where)
        elif kind == "Dense":
            yield Linear(where, _numbers(part.kernel).T, _numbers(part.bias) if part.use_bias else None)
            yield _activation(where, part.activation)
        elif kind in _READERS:
            yield _READERS[kind](where, part)
        else:
            raise ValueError(f"{where}: expected Dense, an activation, Flatten, Dropout or a normalisation")


def _numbers(variable: Any) -> np.ndarray[Any, Any]:
    return np.array(keras.ops.convert_to_numpy(variable))


def _activation(where: str, function: Any) -> Layer:
    name = getattr(function, "__name__", type(function).__name__)
    if name == "linear":
        return Nothing(where)
    if name == "softmax":
        return Softmax(where)
    if name == "gelu":
        return Activation(where, "gelu")
    if name == "leaky_relu":
        return Activation(where, "leaky_relu(0.2)")  # the default slope of keras.activations.leaky_relu
    if name in _NAMES:
        return Activation(where, name)
    raise ValueError(f"{where}: has no counterpart for the activation {name}")


def _relu(where: str, part: Any) -> Layer:
    if part.max_value is not None or part.threshold:
        raise ValueError(f"{where}: expected a ReLU without threshold or largest value")
    return Activation(where, f"leaky_relu({float(part.negative_slope)!r})" if part.negative_slope else "relu")


def _normalization(where: str, part: Any) -> Affine:
    mean, variance = (np.asarray(keras.ops.convert_to_numpy(one), np.float64) for one in (part.mean, part.variance))
    std = np.maximum(np.sqrt(variance), keras.config.epsilon())
    gain, shift = (std, mean) if part.invert else (1 / std, -mean / std)
    return Affine(where, gain, shift, channels_first=False)


def _batch_normalization(where: str, part: Any) -> Affine:
    gain = 1 / np.sqrt(_numbers(part.moving_variance).astype(np.float64) + part.epsilon)
    if part.scale:
        gain = gain * _numbers(part.gamma)
    shift = -gain * _numbers(part.moving_mean) + (_numbers(part.beta) if part.center else 0.0)
    return Affine(where, gain, shift, channels_first=False)


_READERS = {
    "Activation": lambda where, part: _activation(where, part.activation),
    "ReLU": _relu,
    "LeakyReLU": lambda where, part: Activation(where, f"leaky_relu({float(part.negative_slope)!r})"),
    "ELU": lambda where, part: Activation(where, f"elu({float(part.alpha)!r})"),
    "Softmax": lambda where, part: Softmax(where),
    "Rescaling": lambda where, part: Affine(where, np.asarray(part.scale), np.asarray(part.offset), False),
    "Normalization": _normalization,
    "BatchNormalization": _batch_normalization,
}
