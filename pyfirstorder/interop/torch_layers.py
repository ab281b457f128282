"""The layers of a torch module, as `pyfirstorder.interop.layers` has them.

Only what torch itself defines is taken for what it is called: a module with a forward of its own, or with hooks on its
forward, may compute anything.  Such a module is read with the activation named and compared with the result; a module
with ``mean`` and ``std`` is run by itself, which also tells to which axis of a sample they belong.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

try:
    import torch
    from torch import nn
except ImportError as error:
    raise ImportError("torch is not installed: pip install torch") from error

import numpy as np

from pyfirstorder import hints
from pyfirstorder.interop import agreement
from pyfirstorder.interop.layers import Activation, Affine, Layer, Linear, Nothing, Softmax, assemble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

_SMALLEST_THRESHOLD = 20.0  # of Softplus: torch's own, where the identity above it is off by 2e-9 / beta
_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_NO_COUNTERPART = "expected Linear, an activation, Flatten, Dropout or a normalisation"


class TorchNetwork(NamedTuple):
    """The live layers of a module that is two linear layers, an activation, and nothing that scales."""

    hidden: Any  # torch.nn.Linear
    output: Any
    activation: str


def read_torch(module: Any) -> TorchNetwork | None:
    """The live layers of two Linear and an activation; None of any other module, which `assemble` reads or refuses."""
    layers = [layer for layer in torch_layers(module) if not isinstance(layer, Nothing)]
    if [type(layer) for layer in layers] != [Linear, Activation, Linear]:
        return None
    hidden, output = (part for part in _parts(unwrapped(module)) if isinstance(part, nn.Linear))
    return TorchNetwork(hidden, output, next(layer.name for layer in layers if isinstance(layer, Activation)))


def torch_layers(module: Any) -> Iterator[Layer]:
    """The layers of a Sequential, nested or not."""
    module = unwrapped(module)
    _refuse_hooks("module", module)
    if not _is_sequential(module):
        raise ValueError(_no_sequential(module))
    parts = list(_parts(module))
    for place, part in enumerate(parts):
        where = f"layer {place} ({type(part).__name__})"
        _refuse_hooks(where, part)
        yield _layer(where, part, _features(parts, place))


def _no_sequential(module: Any) -> str:
    """The message for a module with a forward of its own, and what to pass in its place where there is something."""
    said = f"module: expected a Sequential of two Linear and an activation, got {type(module).__name__}"
    linear = [(name, part) for name, part in module.named_modules() if name and isinstance(part, nn.Linear)]
    if len(linear) != 2:
        return f"{said} with {len(linear)} Linear" if linear else said
    if linear[0][1].out_features != linear[1][1].in_features:
        linear.reverse()
    first, second = (f"module.{name}" if _is_path(name) else f"module.get_submodule({name!r})" for name, _ in linear)
    return (
        f"{said} with a forward of its own; if it computes just that, pass torch.nn.Sequential(torch.nn.Flatten(), "
        f"{first}, torch.nn.ReLU(), {second}) with its own activation, which shares its weights; from_torch and "
        'pyfirstorder.interop.torch.pgd also take the module itself with activation="relu"'
    )


def _is_path(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def unwrapped(module: Any) -> Any:
    """The module that the user wrote: torch.compile and DataParallel compute the same, unless a hook is on them."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}{hints.for_model(module)}")
    if hints.is_keras(module):
        raise TypeError(
            f"module: expected a module of torch, got {type(module).__name__} of Keras{hints.for_model(module)}"
        )
    while not has_hooks(module):
        if type(module).__name__ == "OptimizedModule":  # of torch.compile, which is slow to import
            module = module._orig_mod
        elif any(isinstance(module, kind) and computes_as(module, kind) for kind in _PARALLEL):
            module = module.module
        else:
            break
    return module


def _is_sequential(module: Any) -> bool:
    return isinstance(module, nn.Sequential) and computes_as(module, nn.Sequential)


def computes_as(part: Any, kind: Any) -> bool:
    """Whether a module of a kind has that kind's forward and call, not those of a subclass or of its own."""
    own = type(part)
    return own.forward is kind.forward and own.__call__ is kind.__call__ and "forward" not in vars(part)


def _parts(module: Any) -> Iterator[Any]:
    """The modules that a Sequential applies, one after the other."""
    for part in module:
        if _is_sequential(part) and not has_hooks(part):
            yield from _parts(part)
        else:
            yield part


def has_hooks(part: Any) -> bool:
    """Whether hooks on its forward may change what a module computes."""
    return bool(part._forward_hooks or part._forward_pre_hooks)


def _refuse_hooks(where: str, part: Any) -> None:
    if isinstance(part, nn.modules.lazy.LazyModuleMixin) and part.has_uninitialized_params():
        raise ValueError(f"{where}: has no weights yet; call the module on a batch first")
    if has_hooks(part):
        raise ValueError(
            f"{where}: has a hook on its forward, which may change what it computes; remove it (of spectral_norm and "
            "weight_norm: use those of torch.nn.utils.parametrizations), or call from_torch(module, activation=...), "
            "which compares outputs"
        )


def _features(parts: list[Any], place: int) -> int | None:
    """Coordinates of what flows into a part, by the Linear after or before it."""
    after = [part.in_features for part in parts[place:] if isinstance(part, nn.Linear)]
    before = [part.out_features for part in parts[:place] if isinstance(part, nn.Linear)]
    return (after or before[::-1] or [None])[0]


def _layer(where: str, part: Any, features: int | None) -> Layer:
    for kind, read in _READERS.items():
        if isinstance(part, kind):
            if not computes_as(part, kind):
                raise ValueError(f"{where}: has a forward that is not that of torch's {kind.__name__}, or a __call__")
            return read(where, part)
    if hasattr(part, "mean") and hasattr(part, "std"):
        return _normalization(where, part, features)
    raise ValueError(f"{where}: {_NO_COUNTERPART}")


# ------------------------------------------------------------------ kinds of layers


def _refuse_meta(where: str, tensor: Any) -> None:
    if tensor.is_meta:
        raise TypeError(f"{where}: has no numbers on the meta device; load its weights first")


def _numbers(where: str, tensor: Any) -> Array:
    _refuse_meta(where, tensor)
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{where}: expected weights of float32 or float64, got {tensor.dtype}; convert with .float()")
    return np.asarray(tensor.detach().cpu().numpy())


def _linear(where: str, part: Any) -> Linear:
    refuse_training(where, part)
    return Linear(where, _numbers(where, part.weight), None if part.bias is None else _numbers(where, part.bias))


def _softplus(where: str, part: Any) -> Activation:
    if part.threshold < _SMALLEST_THRESHOLD:
        raise ValueError(
            f"{where}: expected a threshold of at least 20, above which it is linear, got {part.threshold}"
        )
    return Activation(where, f"softplus({float(part.beta)!r})")


def _dropout(where: str, part: Any) -> Nothing:
    refuse_training(where, part)
    return Nothing(where)


def refuse_training(where: str, part: Any) -> None:
    """A dropout that drops, a normalisation by the batch at hand, or a Linear that is changed by being read."""
    if isinstance(part, _DROPOUTS) and part.training and part.p > 0:
        raise ValueError(f"{where}: is random in training mode; call module.eval() first")
    if isinstance(part, _BATCH_NORMS) and (part.training or part.running_mean is None):
        raise ValueError(f"{where}: depends on the batch in training mode; call module.eval() first")
    if isinstance(part, nn.Linear) and part.training and any(True for _ in part.buffers()):
        raise ValueError(  # of spectral_norm
            f"{where}: has buffers that reading its weight may change in training mode; call module.eval() first"
        )


def _batch_norm(where: str, part: Any) -> Affine:
    refuse_training(where, part)
    mean, variance = (_numbers(where, buffer).astype(np.float64) for buffer in (part.running_mean, part.running_var))
    gain = 1 / np.sqrt(variance + part.eps)
    shift = -mean * gain
    if part.affine:
        weight, bias = (_numbers(where, parameter).astype(np.float64) for parameter in (part.weight, part.bias))
        gain, shift = gain * weight, shift * weight + bias
    return Affine(where, gain[:, None], shift[:, None])


def _flatten(where: str, part: Any) -> Nothing:
    if part.start_dim != 1:
        raise ValueError(f"{where}: expected start_dim=1, so that samples stay apart, got {part.start_dim}")
    return Nothing(where)


def _softmax(where: str, part: Any) -> Softmax:
    if part.dim not in (None, 1, -1):
        raise ValueError(f"{where}: expected probabilities of a sample, dim=1, got dim={part.dim}")
    return Softmax(where, isinstance(part, nn.LogSoftmax))


_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_READERS: dict[Any, Callable[[str, Any], Layer]] = {
    nn.Linear: _linear,
    nn.ReLU: lambda where, part: Activation(where, "relu"),
    nn.LeakyReLU: lambda where, part: Activation(where, f"leaky_relu({float(part.negative_slope)!r})"),
    nn.ELU: lambda where, part: Activation(where, f"elu({float(part.alpha)!r})"),
    nn.Softplus: _softplus,
    nn.Sigmoid: lambda where, part: Activation(where, "sigmoid"),
    nn.Tanh: lambda where, part: Activation(where, "tanh"),
    nn.GELU: lambda where, part: Activation(where, "gelu_tanh" if part.approximate == "tanh" else "gelu"),
    nn.SiLU: lambda where, part: Activation(where, "silu"),
    nn.Flatten: _flatten,
    nn.Unflatten: lambda where, part: Nothing(where),
    nn.Identity: lambda where, part: Nothing(where),
    nn.Softmax: _softmax,
    nn.LogSoftmax: _softmax,
    **dict.fromkeys(_DROPOUTS, _dropout),
    **dict.fromkeys(_BATCH_NORMS, _batch_norm),
}


# ------------------------------------------------------------------ modules with mean and std


def _normalization(where: str, part: Any, features: int | None) -> Affine:
    """What a module with ``mean`` and ``std`` computes, found by running it on samples of the shapes that fit them."""
    numbers = [torch.as_tensor(number).detach() for number in (part.mean, part.std)]
    _refuse_meta(where, numbers[0])
    _refuse_meta(where, numbers[1])
    if (numbers[1] == 0).any():
        raise ValueError(f"{where}: expected a std that is not 0")
    device = numbers[0].device
    mean, std = (number.cpu().numpy().astype(np.float64) for number in numbers)
    for shape in _shapes(np.broadcast_shapes(mean.shape, std.shape), features):
        x = np.random.default_rng(0).standard_normal((2, *shape))
        try:
            with torch.no_grad():
                found = part(torch.as_tensor(x, dtype=torch.float32, device=device)).cpu().numpy().astype(np.float64)
        except (RuntimeError, TypeError, ValueError, IndexError):
            continue  # it wants samples of another shape
        for centre, spread in _turned(mean, std, shape):
            expected = (x - centre) / spread
            size = (np.abs(x) + np.abs(centre)) / np.abs(spread)
            if found.size == x.size and (np.abs(found.reshape(x.shape) - expected) <= 1e-5 * size).all():
                gain, shift = np.broadcast_to(1 / spread, shape), np.broadcast_to(-centre / spread, shape)
                return Affine(where, gain, shift, shape)
    raise ValueError(f"{where}: expected a module with mean and std to compute (x - mean) / std")


def _shapes(numbers: tuple[int, ...], features: int | None) -> Iterator[tuple[int, ...]]:
    """Shapes of a sample of that many coordinates which numbers of a shape broadcast to, images first."""
    size = math.prod(numbers)
    if features is None or size == 0 or features % size:
        return
    lead = next((axis for axis, length in enumerate(numbers) if length != 1), len(numbers))
    own, times = numbers[lead:], features // size
    first = tuple(length for length in own if length != 1)
    yield (*first, times, 1)  # a number per channel
    yield (1, times, *own)  # a number per entry of the last axes
    if size == features:
        yield own
    yield (features,)


def _turned(mean: Array, std: Array, shape: tuple[int, ...]) -> Iterator[tuple[Array, Array]]:
    """Mean and std as arrays that broadcast to a sample: as they are, or lists along its first axis."""
    lists = [part.ndim == 1 and part.size > 1 for part in (mean, std)]
    first = [part.reshape(-1, *[1] * (len(shape) - 1)) if own else part for part, own in zip((mean, std), lists)]
    for pair in ([mean, std], first):
        centre, spread = (part.reshape(part.shape[max(0, part.ndim - len(shape)) :]) for part in pair)
        try:
            fits = np.broadcast_shapes(centre.shape, spread.shape, shape) == shape
        except ValueError:
            continue
        if fits:
            yield centre, spread


# ------------------------------------------------------------------ modules with a forward of their own


def read_compared(
    module: Any, activation: str, shape: tuple[int, ...] | None = None, *, drop_softmax: bool = False
) -> TwoLayerNetwork:
    """The network of the two Linear of any module, if that is what the module computes."""
    module = unwrapped(module)
    kind = type(module).__name__
    linear = []
    for name, part in module.named_modules():
        refuse_training(f"{name} ({type(part).__name__})", part)
        if isinstance(part, nn.Linear):
            linear.append((f"{name} ({type(part).__name__})", part))
    if len(linear) != 2:
        raise ValueError(f"module: expected two Linear layers, got {len(linear)} in {kind}")
    if any(has_hooks(part) for _, part in linear):  # of spectral_norm: the weight is made by running it
        _run_linear([part for _, part in linear])
    said = "its Linear layers do not follow each other"
    for (one, first), (two, second) in (linear, linear[::-1]):  # declared in the order of their use, or not
        if first.out_features == second.in_features:
            net = assemble([_linear(one, first), Activation("the activation", activation), _linear(two, second)])
            x = agreement.samples(net)
            theirs = _outputs(module, x, shape)
            error = agreement.error(net, x, theirs)
            if error is None:
                return net
            said = error
            if any(agreement.error(net, x, theirs, end) is None for end in _ENDS):
                if drop_softmax:
                    return net
                said = "it ends with probabilities, which hide its gradient: pass drop_softmax=True, or return logits"
    raise ValueError(f"module: expected {kind} to compute A σ(W x + b) + c with {activation}, but {said}")


_ENDS = (Softmax("the end"), Softmax("the end", logarithm=True), Activation("the end", "sigmoid"))


def _run_linear(linear: list[Any]) -> None:
    with torch.no_grad():
        for part in linear:
            part(part.weight.new_zeros(1, part.in_features))


def _outputs(module: Any, x: Array, shape: tuple[int, ...] | None) -> Array:
    device = next(module.parameters()).device
    if shape is not None and math.prod(shape) != x.shape[1]:
        raise ValueError(f"module: expected samples of {x.shape[1]} numbers for its first layer, got shape {shape}")
    samples = torch.from_numpy(x if shape is None else x.reshape(len(x), *shape)).to(device)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):  # a module that draws is no network, but may not show
            return module(samples).cpu().numpy()
    except Exception as error:  # whatever a module raises that cannot take such samples
        raise ValueError(
            f"module: expected {type(module).__name__} to take samples of shape {tuple(samples.shape[1:])}, got "
            f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            f"{'; pass shape=(channels, height, width)' if shape is None else ''}"
        ) from error
