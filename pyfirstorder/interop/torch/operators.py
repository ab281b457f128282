"""The forward pass and its derivatives as operators of torch.library.

With ``h = W x + b`` and ``z = A σ(h) + c``, a gradient v of z gives

    ∂x = Wᵀ(σ'(h) ⊙ Aᵀv)      ∂W = Σ (σ'(h) ⊙ Aᵀv) xᵀ      ∂A = Σ v σ(h)ᵀ

and the input gradient is an operator with a derivative of its own, so that penalties on gradients and Hessian-vector
products work: for a gradient u of ∂x, with ``q = W u`` and ``p = Aᵀv``,

    ∂v = A (σ'(h) ⊙ q)        ∂x = Wᵀ(σ''(h) ⊙ p ⊙ q)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    import torch
    from torch import Tensor
    from torch.autograd import forward_ad
except ImportError as error:
    raise ImportError("torch is not installed: pip install torch") from error

import pyfirstorder as fo
from pyfirstorder.gradients import Parameters, pull_back, pull_back_twice
from pyfirstorder.interop import kept_networks

if TYPE_CHECKING:
    from pyfirstorder.network import TwoLayerNetwork


def network_of_tensors(w: Tensor, b: Tensor | None, a: Tensor, c: Tensor | None, activation: str) -> TwoLayerNetwork:
    """The network with these weights; the one made before, where it was made of the same numbers."""
    parts = (None if part is None else part.detach().numpy() for part in (w, b, a, c))
    return kept_networks.network(kept_networks.Parts(*parts), activation)


def _refuse_forward_mode() -> None:
    """Refuse what would silently be zero: torch has no place for the forward-mode derivative of such an operator."""
    if forward_ad._current_level >= 0:
        raise TypeError(
            "x: expected a call outside forward-mode differentiation (torch.func.jvp, jacfwd, forward_ad), which this "
            "operator does not have; it has reverse mode: torch.autograd.grad, or backward"
        )


@torch.library.custom_op("pyfirstorder::forward", mutates_args=(), device_types="cpu")
def forward(x: Tensor, w: Tensor, b: Tensor, a: Tensor, c: Tensor, activation: str) -> Tensor:
    """The outputs (B, k) of x (B, d)."""
    _refuse_forward_mode()
    return fo.forward(network_of_tensors(w, b, a, c, activation), x.detach(), threads=torch.get_num_threads())


@forward.register_fake
def _(x: Tensor, w: Tensor, b: Tensor, a: Tensor, c: Tensor, activation: str) -> Tensor:
    _refuse_forward_mode()
    return x.new_empty(x.shape[0], a.shape[0])


@torch.library.custom_op("pyfirstorder::input_gradient", mutates_args=(), device_types="cpu")
def input_gradient(x: Tensor, v: Tensor, w: Tensor, b: Tensor, a: Tensor, c: Tensor, activation: str) -> Tensor:
    """The gradient (B, d) of x for the gradient v (B, k) of the outputs; it does not depend on c."""
    _refuse_forward_mode()
    net = network_of_tensors(w, b, a, c, activation)
    finite = torch.isfinite(v).all(dim=1, keepdim=True)  # a loss scaled for half precision may overflow
    upstream = torch.where(finite, v.detach(), 0)
    _, gradient = fo.input_gradient(net, x.detach(), upstream, loss="linear", threads=torch.get_num_threads())
    return torch.where(finite, gradient, math.nan)


@input_gradient.register_fake
def _(x: Tensor, v: Tensor, w: Tensor, b: Tensor, a: Tensor, c: Tensor, activation: str) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("pyfirstorder::weight_gradient", mutates_args=(), device_types="cpu")
def _weight_gradient(
    x: Tensor, v: Tensor, w: Tensor, b: Tensor, a: Tensor, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    _refuse_forward_mode()
    with np.errstate(all="ignore"):  # v may be infinite, see _input_gradient
        found = pull_back(_parameters(w, b, a), activation, _rows(x), _rows(v), _multiply)
    return _tensors(found)


@_weight_gradient.register_fake
def _(x: Tensor, v: Tensor, w: Tensor, b: Tensor, a: Tensor, activation: str) -> tuple[Tensor, Tensor, Tensor]:
    return w.new_empty(w.shape), b.new_empty(b.shape), a.new_empty(a.shape)


@torch.library.custom_op("pyfirstorder::second_order", mutates_args=(), device_types="cpu")
def _second_order(
    x: Tensor, v: Tensor, u: Tensor, w: Tensor, b: Tensor, a: Tensor, activation: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    _refuse_forward_mode()
    with np.errstate(all="ignore"):
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
    x, w, b, a, c = ctx.saved_tensors
    needs_x, *needs_weights = ctx.needs_input_grad[:4]
    of_x = input_gradient(x, v, w, b, a, c, ctx.activation) if needs_x else None
    of_weights = _weight_gradient(x, v, w, b, a, ctx.activation) if any(needs_weights) else (None, None, None)
    return of_x, *of_weights, v.sum(0), None


def _input_gradient_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
    x, v, w, b, a, _ = ctx.saved_tensors
    return *_second_order(x, v, u, w, b, a, ctx.activation), None, None


forward.register_autograd(_forward_backward, setup_context=_keep_inputs)
input_gradient.register_autograd(_input_gradient_backward, setup_context=_keep_inputs)
