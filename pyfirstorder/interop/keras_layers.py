"""The layers of a Keras model, as `pyfirstorder.interop.layers` has them.

The list of a model's layers does not tell how they are connected, so what is read is compared with the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import keras
except ImportError as error:
    raise ImportError("keras is not installed: pip install keras, and a framework for it to compute with") from error

import numpy as np

from pyfirstorder.interop.layers import Activation, Affine, Layer, Linear, Nothing, Softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyfirstorder.problem import Array

_ACTIVATIONS = {  # a function of keras.activations, and what it is called here
    **{name: name for name in ("relu", "elu", "softplus", "sigmoid", "tanh", "gelu", "silu")},
    "leaky_relu": "leaky_relu(0.2)",  # its slope if none is given
}
_NOTHING = (
    *("InputLayer", "Reshape", "Identity", "ActivityRegularization"),
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout"),
)


def keras_layers(model: Any) -> Iterator[Layer]:
    """The layers of a Sequential, or of a functional model without branches, at inference."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"model: expected a keras.Model, got {type(model).__name__}")
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError("model: expected a model that is built; give it a keras.Input, or call it on a batch first")
    if len(getattr(model, "inputs", None) or ()) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"model: expected a Sequential, or a functional model of one input and output, got {_kind(model)}"
        )
    for place, part in enumerate(model.layers):
        where = f"layer {place} ({_kind(part)} {part.name!r})"
        if isinstance(part, keras.Model):
            yield from keras_layers(part)
        elif _kind(part) == "Dense":
            yield _dense(where, part)
            yield _activation(where, part.activation)
        elif _kind(part) in _READERS:
            yield _READERS[_kind(part)](where, part)
        else:
            raise ValueError(f"{where}: expected Dense, an activation, Flatten, Dropout or a normalisation")


def outputs(model: Any, x: Array) -> Array:
    """What a model computes of samples, at inference."""
    shape = model.inputs[0].shape[1:]
    rows = x if None in shape else x.reshape(len(x), *shape)
    found = _numbers(model(keras.ops.convert_to_tensor(rows, dtype=model.inputs[0].dtype), training=False))
    kinds = {model.inputs[0].dtype, *(part.compute_dtype for part in model.layers)}
    return found.astype(np.float32) if "float32" in kinds else found  # no more exact than the narrowest layer


def _kind(part: Any) -> str:
    return type(part).__name__


def _numbers(variable: Any) -> Array:
    return np.array(keras.ops.convert_to_numpy(variable))


def _dense(where: str, part: Any) -> Linear:
    if part.compute_dtype not in ("float32", "float64"):
        raise TypeError(
            f"{where}: expected a layer that computes in float32 or float64, got {part.compute_dtype}; build the model "
            'under keras.config.set_dtype_policy("float32")'
        )
    shape = part.input.shape[1:]
    if any(size != 1 for size in shape[:-1]):
        raise ValueError(f"{where}: expected flat samples, got shape {tuple(shape)}; put a Flatten before it")
    return Linear(where, _numbers(part.kernel).T, _numbers(part.bias) if part.use_bias else None)


def _activation(where: str, function: Any) -> Layer:
    if isinstance(function, keras.Layer) and _kind(function) in _READERS:  # Dense(…, activation=LeakyReLU(0.1))
        return _READERS[_kind(function)](where, function)
    name = getattr(function, "__name__", _kind(function))
    if function is getattr(keras.activations, name, None):
        if name == "linear":
            return Nothing(where)
        if name in ("softmax", "log_softmax"):
            return Softmax(where, name == "log_softmax")
        if name in _ACTIVATIONS:
            return Activation(where, _ACTIVATIONS[name])
    raise ValueError(f"{where}: has no counterpart for the activation {name}")


def _relu(where: str, part: Any) -> Activation:
    if part.max_value is not None or part.threshold:
        raise ValueError(f"{where}: expected a ReLU without threshold or largest value")
    return Activation(where, f"leaky_relu({float(part.negative_slope)!r})" if part.negative_slope else "relu")


def _flatten(where: str, part: Any) -> Nothing:
    if part.data_format == "channels_first" and len(part.input.shape) > 3:
        raise ValueError(f"{where}: expected a Flatten that keeps the order of coordinates, got channels_first")
    return Nothing(where)


def _normalization(where: str, part: Any) -> Affine:
    mean, variance = (_numbers(one).astype(np.float64) for one in (part.mean, part.variance))
    std = np.maximum(np.sqrt(variance), keras.config.epsilon())
    gain, shift = (std, mean) if part.invert else (1 / std, -mean / std)
    return Affine(where, gain, shift)


def _batch_normalization(where: str, part: Any) -> Affine:
    gain = 1 / np.sqrt(_numbers(part.moving_variance).astype(np.float64) + part.epsilon)
    if part.scale:
        gain = gain * _numbers(part.gamma)
    shift = -gain * _numbers(part.moving_mean) + (_numbers(part.beta) if part.center else 0.0)
    ndim = part.input_spec.ndim
    along = [-1 if axis == part.axis % ndim else 1 for axis in range(1, ndim)]
    return Affine(where, gain.reshape(along), shift.reshape(along))


def _rescaling(where: str, part: Any) -> Affine:
    return Affine(where, np.asarray(part.scale), np.asarray(part.offset))


_READERS: dict[str, Callable[[str, Any], Layer]] = {
    **dict.fromkeys(_NOTHING, lambda where, part: Nothing(where)),
    "Flatten": _flatten,
    "Activation": lambda where, part: _activation(where, part.activation),
    "ReLU": _relu,
    "LeakyReLU": lambda where, part: Activation(where, f"leaky_relu({float(part.negative_slope)!r})"),
    "ELU": lambda where, part: Activation(where, f"elu({float(part.alpha)!r})"),
    "Softmax": lambda where, part: Softmax(where),
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "BatchNormalization": _batch_normalization,
}
