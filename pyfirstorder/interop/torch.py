"""Two-layer networks in torch: a differentiable forward pass, a module, and attacks on live modules.

The forward pass is an operator of torch.library, so it works under torch.compile without a graph break.  With
``h = W x + b`` and ``z = A σ(h) + c``, a gradient v of z gives

    ∂x = Wᵀ(σ'(h) ⊙ Aᵀv)      ∂W = Σ (σ'(h) ⊙ Aᵀv) xᵀ      ∂A = Σ v σ(h)ᵀ

and the input gradient is an operator with a derivative of its own, so that penalties on gradients and Hessian-vector
products work: for a gradient u of ∂x, with ``q = W u`` and ``p = Aᵀv``,

    ∂v = A (σ'(h) ⊙ q)        ∂x = Wᵀ(σ''(h) ⊙ p ⊙ q)

Everything runs on the CPU, in float32 or float64, on as many threads as torch.get_num_threads() says.  Weights are read
in place at every call; what the engine prepares from them is kept until they change.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise ImportError("torch is not installed: pip install torch") from error

import numpy as np

import pyfirstorder as fo
from pyfirstorder.gradients import Parameters, pull_back, pull_back_twice
from pyfirstorder.interop import layers, torch_layers
from pyfirstorder.network import TwoLayerNetwork, parse_activation

_KEPT_NETWORKS = 8

_kept: OrderedDict[tuple[Any, ...], TwoLayerNetwork] = OrderedDict()


def network(w: Tensor, b: Tensor, a: Tensor, c: Tensor, activation: str) -> TwoLayerNetwork:
    """The network with these weights; the one made before, where it was made of the same numbers."""
    parts = [part.detach().numpy() for part in (w, b, a, c)]
    key = (activation, *(part.ctypes.data for part in parts), *(part.shape for part in parts), parts[0].dtype)
    net = _kept.get(key)
    if net is None or not _is_made_of(net, parts):
        net = TwoLayerNetwork(parts[0], parts[2], parts[1], parts[3], activation)
        _kept[key] = net
        if len(_kept) > _KEPT_NETWORKS:
            _kept.popitem(last=False)
    return net


def _is_made_of(net: TwoLayerNetwork, parts: list[np.ndarray[Any, Any]]) -> bool:
    """By the numbers themselves: a version counter does not see what is written through ``.data``."""
    own = (net.hidden_weight, net.hidden_bias, net.output_weight, net.output_bias)
    return all(np.array_equal(kept, part) for kept, part in zip(own, parts))


# ------------------------------------------------------------------ operators


@torch.library.custom_op("pyfirstorder::forward", mutates_args=(), device_types="cpu")
def _forward(x: Tensor, w: Tensor, b: Tensor, a: Tensor, c: Tensor, activation: str) -> Tensor:
    return fo.forward(network(w, b, a, c, activation), x.detach(), threads=torch.get_num_threads())


@_forward.register_fake
def _(x: Tensor, w: Tensor, b: Tensor, a: Tensor, c: Tensor, activation: str) -> Tensor:
    return x.new_empty(x.shape[0], a.shape[0])


@torch.library.custom_op("pyfirstorder::input_gradient", mutates_args=(), device_types="cpu")
def _input_gradient(x: Tensor, v: Tensor, w: Tensor, b: Tensor, a: Tensor, activation: str) -> Tensor:
    net = network(w, b, a, a.new_zeros(a.shape[0]), activation)
    upstream = v.detach().contiguous()
    _, gradient = fo.input_gradient(net, x.detach(), upstream, loss="linear", threads=torch.get_num_threads())
    return gradient


@_input_gradient.register_fake
def _(x: Tensor, v: Tensor, w: Tensor, b: Tensor, a: Tensor, activation: str) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("pyfirstorder::weight_gradient", mutates_args=(), device_types="cpu")
def _weight_gradient(
    x: Tensor, v: Tensor, w: Tensor, b: Tensor, a: Tensor, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    found = pull_back(_parameters(w, b, a), activation, _rows(x), _rows(v), _multiply)
    return _tensors(found)


@_weight_gradient.register_fake
def _(x: Tensor, v: Tensor, w: Tensor, b: Tensor, a: Tensor, activation: str) -> tuple[Tensor, Tensor, Tensor]:
    return w.new_empty(w.shape), b.new_empty(b.shape), a.new_empty(a.shape)


@torch.library.custom_op("pyfirstorder::second_order", mutates_args=(), device_types="cpu")
def _second_order(
    x: Tensor, v: Tensor, u: Tensor, w: Tensor, b: Tensor, a: Tensor, activation: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    of_x, of_v, found = pull_back_twice(_parameters(w, b, a), activation, _rows(x), _rows(v), _rows(u), _multiply)
    return torch.from_numpy(of_x), torch.from_numpy(of_v), *_tensors(found)


@_second_order.register_fake
def _(
    x: Tensor, v: Tensor, u: Tensor, w: Tensor, b: Tensor, a: Tensor, activation: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), v.new_empty(v.shape), w.new_empty(w.shape), b.new_empty(b.shape), a.new_empty(a.shape)


def _rows(x: Tensor) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(x.detach().numpy())


def _parameters(w: Tensor, b: Tensor, a: Tensor) -> Parameters:
    return Parameters(_rows(w), _rows(b), _rows(a), np.zeros(a.shape[0], _rows(a).dtype))


def _tensors(found: Parameters) -> tuple[Tensor, Tensor, Tensor]:
    w, b, a, _ = (torch.from_numpy(part) for part in found)
    return w, b, a


def _multiply(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # by torch: its threads are awake, and it packs nothing for one product
    return torch.matmul(torch.from_numpy(left), torch.from_numpy(right)).numpy()


# ------------------------------------------------------------------ their derivatives


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.activation = inputs
    ctx.save_for_backward(*tensors)


def _forward_backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
    x, w, b, a, _ = ctx.saved_tensors
    needs_x, *needs_weights = ctx.needs_input_grad[:4]
    of_x = _input_gradient(x, v, w, b, a, ctx.activation) if needs_x else None
    of_weights = _weight_gradient(x, v, w, b, a, ctx.activation) if any(needs_weights) else (None, None, None)
    return of_x, *of_weights, v.sum(0), None


def _input_gradient_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
    x, v, w, b, a = ctx.saved_tensors
    return *_second_order(x, v, u, w, b, a, ctx.activation), None


_forward.register_autograd(_forward_backward, setup_context=_keep_inputs)
_input_gradient.register_autograd(_input_gradient_backward, setup_context=_keep_inputs)


# ------------------------------------------------------------------ what users call


def forward(
    x: Tensor,
    hidden_weight: Tensor,
    output_weight: Tensor,
    hidden_bias: Tensor | None = None,
    output_bias: Tensor | None = None,
    activation: str = "relu",
) -> Tensor:
    """The outputs ``A σ(W x + b) + c``, differentiable: twice in x, once in the weights, its input gradient too.

    Derivatives are those of torch.autograd, also under torch.compile; torch.func has no rule for such operators.

    Parameters
    ----------
    x : tensor (..., d)
        Samples on the CPU, float32 or float64.
    hidden_weight, output_weight, hidden_bias, output_bias : tensors (m, d), (k, m), (m,), (k,)
        W, A, b and c, in the type of x; biases left out are zero.
    activation : str
        See `pyfirstorder.TwoLayerNetwork`.

    Returns
    -------
    tensor (..., k)

    Raises
    ------
    TypeError, ValueError
        If shapes or types do not fit, or a number is not finite.
    """
    parse_activation(activation)
    w, a = hidden_weight, output_weight
    b = w.new_zeros(w.shape[0]) if hidden_bias is None else hidden_bias
    c = a.new_zeros(a.shape[0]) if output_bias is None else output_bias
    for name, part in (("hidden_weight", w), ("hidden_bias", b), ("output_weight", a), ("output_bias", c)):
        if part.dtype != x.dtype:
            raise TypeError(f"{name}: expected the type of x, {x.dtype}, got {part.dtype}")
    if x.shape[-1] != w.shape[1]:
        raise ValueError(f"x: expected shape (..., {w.shape[1]}), got {tuple(x.shape)}")
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]).contiguous()
    return _forward(rows, w, b, a, c, activation).reshape(*x.shape[:-1], a.shape[0])


class TwoLayer(nn.Module):
    """A two-layer network as a module: ``output(σ(hidden(x)))``, computed by this library.

    Parameters
    ----------
    in_features, hidden_features, out_features : int
        d, m and k.
    activation : str
        See `pyfirstorder.TwoLayerNetwork`.
    bias : bool
        Whether the two layers have biases.

    Notes
    -----
    ``hidden`` and ``output`` are `torch.nn.Linear`, so state dicts are those of a module with two such layers, and
    weights begin as torch's do.
    """

    def __init__(
        self, in_features: int, hidden_features: int, out_features: int, activation: str = "relu", bias: bool = True
    ) -> None:
        super().__init__()
        parse_activation(activation)
        self.hidden = nn.Linear(in_features, hidden_features, bias)
        self.output = nn.Linear(hidden_features, out_features, bias)
        self.activation = activation

    @classmethod
    def from_network(cls, net: TwoLayerNetwork) -> TwoLayer:
        """A module with the weights of a network."""
        module = cls(net.in_features, net.hidden_features, net.out_features, net.activation)
        weights = net.weights(net.dtype)
        for layer, weight, bias in (
            (module.hidden, weights.hidden_weight, weights.hidden_bias),
            (module.output, weights.output_weight, weights.output_bias),
        ):
            layer.weight = nn.Parameter(torch.tensor(weight))
            layer.bias = nn.Parameter(torch.tensor(bias))
        return module

    def network(self) -> TwoLayerNetwork:
        """The network with the weights as they are now."""
        return network_of(self)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (..., k) of samples (..., d)."""
        hidden, output = self.hidden, self.output
        return forward(x, hidden.weight, output.weight, hidden.bias, output.bias, self.activation)

    def extra_repr(self) -> str:
        """The activation, beside the two layers that torch lists."""
        return f"activation={self.activation!r}"


def network_of(module: nn.Module) -> TwoLayerNetwork:
    """The network that a module is now: a `TwoLayer`, or anything that `pyfirstorder.interop.models.from_torch` reads.

    Its weights are read in place and compared with those of the call before, so that a module that did not change costs
    no preparation; a module that did, as in training, is prepared anew.
    """
    if isinstance(module, TwoLayer):
        hidden, output, activation = module.hidden, module.output, module.activation
        return network(hidden.weight, _bias(hidden), output.weight, _bias(output), activation)
    live = torch_layers.read_torch(module)
    if live is None:  # numbers are folded into its weights
        return layers.assemble(torch_layers.torch_layers(module))
    hidden, output, activation = live
    return network(hidden.weight, _bias(hidden), output.weight, _bias(output), activation)


def _bias(layer: nn.Linear) -> Tensor:
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias


def pgd(module: nn.Module, x: Tensor, y: Tensor, **options: Any) -> fo.AttackResult:
    """`pyfirstorder.pgd` on a module as it is now, so that it can be called inside a training loop.

    Parameters
    ----------
    module : torch.nn.Module
        A `TwoLayer`, or a ``Sequential(Linear, activation, Linear)`` on the CPU.
    x, y : tensors
        See `pyfirstorder.pgd`.
    **options
        Its other arguments; threads are torch's if left out.

    Returns
    -------
    AttackResult
        Of tensors that require no grad.
    """
    return fo.pgd(network_of(module), x, y, **({"threads": torch.get_num_threads()} | options))


def apgd(module: nn.Module, x: Tensor, y: Tensor, **options: Any) -> fo.AttackResult:
    """`pyfirstorder.apgd` on a module as it is now; see `pgd`."""
    return fo.apgd(network_of(module), x, y, **({"threads": torch.get_num_threads()} | options))


def evaluate(module: nn.Module, x: Tensor, y: Tensor, **options: Any) -> fo.Evaluation:
    """`pyfirstorder.evaluate` on a module as it is now; see `pgd`."""
    return fo.evaluate(network_of(module), x, y, **({"threads": torch.get_num_threads()} | options))
