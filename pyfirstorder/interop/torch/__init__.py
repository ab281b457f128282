"""Two-layer networks in torch: a differentiable forward pass, a module, and attacks on live modules.

The forward pass is an operator of torch.library (`operators`), so it works under torch.compile without a graph break,
and is differentiable twice in x and once in the weights.  Everything runs on the CPU, in float32 or float64, on as many
threads as torch.get_num_threads() says.  Weights are read in place at every call; what the engine prepares from them is
kept until they change.
"""

from __future__ import annotations

import math
from typing import Any

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise ImportError("torch is not installed: pip install torch") from error

import pyfirstorder as fo
from pyfirstorder.interop import kept_networks, layers, torch_layers
from pyfirstorder.interop.torch import operators
from pyfirstorder.network import TwoLayerNetwork, parse_activation


def forward(
    x: Tensor,
    hidden_weight: Tensor,
    output_weight: Tensor,
    hidden_bias: Tensor | None = None,
    output_bias: Tensor | None = None,
    activation: str = "relu",
) -> Tensor:
    """The outputs ``A σ(W x + b) + c``, differentiable: twice in x, once in the weights, its input gradient too.

    Derivatives are those of torch.autograd in reverse mode, also under torch.compile.  Forward mode is refused, and
    torch.func has no rule for such operators.

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
    _check("x", x, x, None)
    _check("hidden_weight", w, x, 2)
    _check("output_weight", a, x, 2)
    b = w.new_zeros(w.shape[0]) if hidden_bias is None else hidden_bias
    c = a.new_zeros(a.shape[0]) if output_bias is None else output_bias
    _check("hidden_bias", b, x, 1)
    _check("output_bias", c, x, 1)
    if x.shape[-1:] != w.shape[1:]:
        raise ValueError(f"x: expected shape (..., {w.shape[1]}), got {tuple(x.shape)}")
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]).contiguous()
    return operators.forward(rows, w, b, a, c, activation).reshape(*x.shape[:-1], a.shape[0])


def _check(name: str, part: Tensor, x: Tensor, axes: int | None) -> None:
    """Refuse what is no tensor of numbers in the type and place of x; the engine looks at the rest."""
    if not isinstance(part, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(part).__name__}")
    if part.layout != torch.strided or part.is_nested:
        raise TypeError(f"{name}: expected a dense tensor, got a sparse or nested one")
    if part.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name}: expected float32 or float64, got {part.dtype}; convert with {name}.float()")
    if part.device.type not in ("cpu", "meta"):
        raise TypeError(f"{name}: expected a tensor on the CPU, got one on {part.device}")
    if part.dtype != x.dtype:
        raise TypeError(f"{name}: expected the type of x, {x.dtype}, got {part.dtype}")
    if part.device != x.device:
        raise TypeError(f"{name}: expected the device of x, {x.device}, got {part.device}")
    if axes is not None and part.ndim != axes:
        raise ValueError(f"{name}: expected ndim {axes}, got shape {tuple(part.shape)}")


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
        hidden, output = _layers(self)
        return forward(x, hidden.weight, output.weight, hidden.bias, output.bias, self.activation)

    def extra_repr(self) -> str:
        """The activation, beside the two layers that torch lists."""
        return f"activation={self.activation!r}"


def _layers(module: TwoLayer) -> tuple[nn.Linear, nn.Linear]:
    """Its two layers, where they still are what torch computes by their weight and bias."""
    for name in ("hidden", "output"):
        layer = getattr(module, name)
        if not isinstance(layer, nn.Linear) or not torch_layers.computes_as(layer, nn.Linear):
            raise TypeError(f"{name}: expected a torch.nn.Linear with torch's own forward, got {type(layer).__name__}")
    return module.hidden, module.output


def network_of(
    module: nn.Module,
    activation: str | None = None,
    *,
    shape: tuple[int, ...] | None = None,
    drop_softmax: bool = False,
) -> TwoLayerNetwork:
    """The network that a module is now: a `TwoLayer`, or anything that `pyfirstorder.interop.models.from_torch` reads.

    Its weights are read in place and compared with those of the calls before, so that a module that did not change
    costs no preparation; a module that did, as in training, is prepared anew.  A normalisation in front of the first
    layer is folded into its weights anew in every call, and a module with a forward of its own, whose activation must
    be told, is compared with its network anew.  Arguments are those of `pyfirstorder.interop.models.from_torch`.
    """
    module = torch_layers.unwrapped(module)
    if activation is not None and not isinstance(module, TwoLayer):
        return kept_networks.same(torch_layers.read_compared(module, activation, shape, drop_softmax=drop_softmax))
    if isinstance(module, TwoLayer):
        if activation not in (None, module.activation):
            raise ValueError(
                f"activation: expected None, or that of the TwoLayer, {module.activation!r}, got {activation!r}"
            )
        hidden, output = _layers(module)
        activation = module.activation
        if not torch_layers.computes_as(module, TwoLayer) or torch_layers.has_hooks(module):
            kind = type(module).__name__
            raise ValueError(f"module: expected what TwoLayer computes, got {kind} with a forward or hook of its own")
        torch_layers.refuse_training("hidden", hidden)
        torch_layers.refuse_training("output", output)
    else:
        live = torch_layers.read_torch(module)
        if live is None:  # numbers are folded into its weights
            return kept_networks.same(layers.assemble(torch_layers.torch_layers(module), drop_softmax=drop_softmax))
        hidden, output, activation = live
    for weight in (hidden.weight, output.weight):
        if weight.device.type != "cpu":
            raise TypeError(f"module: expected weights on the CPU, got some on {weight.device}")
        if weight.dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"module: expected weights of float32 or float64, got {weight.dtype}; convert with module.float()"
            )
    return operators.network_of_tensors(hidden.weight, hidden.bias, output.weight, output.bias, activation)


@torch.compiler.disable  # a compiled function calls it as it is
def pgd(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    activation: str | None = None,
    drop_softmax: bool = False,
    **options: Any,
) -> fo.AttackResult:
    """`pyfirstorder.pgd` on a module as it is now, so that it can be called inside a training loop.

    Parameters
    ----------
    module : torch.nn.Module
        A `TwoLayer`, a ``Sequential(Linear, activation, Linear)``, or with ``activation`` any module that computes as
        one; on the CPU.
    x, y : tensors
        See `pyfirstorder.pgd`; x in the shape that the module takes.
    activation : str, optional
        The activation of a module with a forward of its own, which is then run beside its network in every call.
    drop_softmax : bool
        Whether to attack the logits before a final softmax, which is refused otherwise.
    **options
        Its other arguments; threads are torch's if left out.

    Returns
    -------
    AttackResult
        Of tensors that require no grad.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value, or the module is not such a network; the message names it.
    """
    return fo.pgd(_network_for(module, x, activation, drop_softmax), x, y, **_with_threads(options))


@torch.compiler.disable  # a compiled function calls it as it is
def apgd(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    activation: str | None = None,
    drop_softmax: bool = False,
    **options: Any,
) -> fo.AttackResult:
    """`pyfirstorder.apgd` on a module as it is now; see `pgd`."""
    return fo.apgd(_network_for(module, x, activation, drop_softmax), x, y, **_with_threads(options))


@torch.compiler.disable  # a compiled function calls it as it is
def evaluate(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    activation: str | None = None,
    drop_softmax: bool = False,
    **options: Any,
) -> fo.Evaluation:
    """`pyfirstorder.evaluate` on a module as it is now; see `pgd`."""
    return fo.evaluate(_network_for(module, x, activation, drop_softmax), x, y, **_with_threads(options))


def _network_for(module: nn.Module, x: Tensor, activation: str | None, drop_softmax: bool) -> TwoLayerNetwork:
    shape = tuple(x.shape[1:]) if isinstance(x, Tensor) and x.ndim > 1 else None
    return network_of(module, activation, shape=shape, drop_softmax=drop_softmax)


def _with_threads(options: dict[str, Any]) -> dict[str, Any]:
    return {"threads": torch.get_num_threads()} | options
