"""The layers of a torch module, as `pyfirstorder.interop.layers` has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

try:
    import torch
    from torch import nn
except ImportError as error:
    raise ImportError("torch is not installed: pip install torch") from error

import numpy as np

from pyfirstorder import arrays
from pyfirstorder.api import forward
from pyfirstorder.interop.layers import Activation, Affine, Layer, Linear, Nothing, Softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

_ROWS_COMPARED = 8  # of a module that computes in a way of its own, against the network read from it


class TorchNetwork(NamedTuple):
    """The live layers of a module that is two linear layers, an activation, and nothing that scales."""

    hidden: Any  # torch.nn.Linear
    output: Any
    activation: str


def read_torch(module: Any) -> TorchNetwork | None:
    """The live layers of a module of two Linear and an activation; None of any other, for `assemble` to read."""
    layers = [layer for layer in torch_layers(module) if not isinstance(layer, Nothing)]
    if [type(layer) for layer in layers] != [Linear, Activation, Linear]:
        return None
    hidden, output = (part for part in _parts(module) if isinstance(part, nn.Linear))
    return TorchNetwork(hidden, output, next(layer.name for layer in layers if isinstance(layer, Activation)))


def two_linear(module: Any) -> tuple[Linear, Linear]:
    """The two Linear of a module, in the order in which it has them."""
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    if len(linear) != 2:
        raise ValueError(f"module: expected two Linear layers, got {len(linear)} in {type(module).__name__}")
    first, second = (_linear(type(module).__name__, part) for part in linear)
    return first, second


def torch_layers(module: Any) -> Iterator[Layer]:
    """The layers of a Sequential, nested or not."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    if not isinstance(module, nn.Sequential):
        raise ValueError(
            f"module: expected a Sequential of two Linear and an activation, got {type(module).__name__}; of a module "
            "with a forward of its own, from_torch(module, activation=...) takes the two Linear"
        )
    for place, part in enumerate(_parts(module)):
        yield _layer(f"layer {place} ({type(part).__name__})", part)


def _parts(module: Any) -> Iterator[Any]:
    """The modules that a Sequential applies, one after the other."""
    for part in module:
        if isinstance(part, nn.Sequential):
            yield from _parts(part)
        else:
            yield part


def _layer(where: str, part: Any) -> Layer:
    for kind, name in _ACTIVATIONS.items():
        if isinstance(part, kind):
            return Activation(where, name(part))
    for kinds, reader in _READERS:
        if isinstance(part, kinds):
            return reader(where, part)
    if hasattr(part, "mean") and hasattr(part, "std"):
        mean, std = (_plain(number) for number in (part.mean, part.std))
        return Affine(where, 1 / std, -mean / std)
    raise ValueError(f"{where}: expected Linear, an activation, Flatten, Dropout or a normalisation")


def _plain(numbers: Any) -> Array:
    return np.asarray(arrays.read("mean and std", numbers) if arrays.is_foreign(numbers) else numbers, dtype=np.float64)


def _numbers(where: str, tensor: Any) -> Array:
    if str(tensor.dtype) not in ("torch.float32", "torch.float64"):
        raise TypeError(f"{where}: expected weights of float32 or float64, got {tensor.dtype}; convert with .float()")
    return np.asarray(tensor.detach().cpu().numpy())


def _linear(where: str, part: Any) -> Linear:
    return Linear(where, _numbers(where, part.weight), None if part.bias is None else _numbers(where, part.bias))


def _dropout(where: str, part: Any) -> Nothing:
    if part.training and part.p > 0:
        raise ValueError(f"{where}: is random in training mode; call module.eval() first")
    return Nothing(where)


def _batch_norm(where: str, part: Any) -> Affine:
    if part.training or part.running_mean is None:
        raise ValueError(f"{where}: depends on the batch in training mode; call module.eval() first")
    mean, variance = (_numbers(where, buffer).astype(np.float64) for buffer in (part.running_mean, part.running_var))
    gain = 1 / np.sqrt(variance + part.eps)
    shift = -mean * gain
    if part.affine:
        weight, bias = (_numbers(where, parameter).astype(np.float64) for parameter in (part.weight, part.bias))
        gain, shift = gain * weight, shift * weight + bias
    return Affine(where, gain, shift)


_ACTIVATIONS: dict[Any, Callable[[Any], str]] = {
    nn.ReLU: lambda part: "relu",
    nn.LeakyReLU: lambda part: f"leaky_relu({part.negative_slope!r})",
    nn.ELU: lambda part: f"elu({part.alpha!r})",
    nn.Softplus: lambda part: f"softplus({part.beta!r})",
    nn.Sigmoid: lambda part: "sigmoid",
    nn.Tanh: lambda part: "tanh",
    nn.GELU: lambda part: "gelu_tanh" if part.approximate == "tanh" else "gelu",
    nn.SiLU: lambda part: "silu",
}
_READERS: tuple[tuple[tuple[Any, ...], Callable[[str, Any], Layer]], ...] = (
    ((nn.Linear,), _linear),
    ((nn.BatchNorm1d,), _batch_norm),
    ((nn.Dropout, nn.AlphaDropout), _dropout),
    ((nn.Flatten, nn.Identity), lambda where, _: Nothing(where)),
    ((nn.Softmax, nn.LogSoftmax), lambda where, _: Softmax(where)),
)


def compare(module: Any, net: TwoLayerNetwork) -> None:
    """Refuse a module that computes something else than the network read from it."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((_ROWS_COMPARED, net.in_features)).astype(net.dtype)
    with torch.no_grad():
        theirs = module(torch.from_numpy(x)).numpy()
    ours = forward(net, x).reshape(theirs.shape)
    error, size = np.abs(ours - theirs).max(), np.abs(theirs).max()
    if not error <= np.sqrt(np.finfo(net.dtype).eps) * max(size, 1):
        raise ValueError(
            f"module: expected {type(module).__name__} to compute A σ(W x + b) + c with {net.activation}, "
            f"but its outputs on random samples differ by up to {error:.3g}"
        )
