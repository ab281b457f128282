"""Outputs and input gradients by the engine, and their derivatives.

With ``h = W x + b`` and ``z = A σ(h) + c``, the engine computes z, and for a gradient v of z the input gradient
``g = Wᵀ(σ'(h) ⊙ Aᵀv)``.  What is left is written in jax.numpy, where XLA drops what nobody asks for: the gradient in
the weights, and all derivatives of g, such as, for a gradient u, ``A(σ'(h) ⊙ W u)`` in v and
``Wᵀ(σ''(h) ⊙ Aᵀv ⊙ W u)`` in x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise ImportError("jax is not installed: pip install jax") from error

import numpy as np

from pyfirstorder import validate
from pyfirstorder.interop.jax.host import BATCHED, PER_SAMPLE, HostCall
from pyfirstorder.interop.kept_networks import Parts
from pyfirstorder.network import TwoLayerNetwork, parse_activation

Array = Any  # of JAX, traced or not
Weights = tuple[Any, ...]  # Parts of arrays, or nothing where the network is fixed
Options = tuple[tuple[str, Any], ...]

# At kinks the derivative is that of the engine (and of its reference, by which the names are ordered).
ACTIVATIONS: dict[str, Callable[[Array, float], Array]] = {
    "relu": lambda h, _: jnp.where(h > 0, h, 0),
    "leaky_relu": lambda h, p: jnp.where(h > 0, h, p * h),
    "elu": lambda h, p: jnp.where(h > 0, h, p * jnp.expm1(jnp.where(h > 0, 0, h))),
    "softplus": lambda h, p: jax.nn.softplus(p * h) / p,
    "sigmoid": lambda h, _: jax.nn.sigmoid(h),
    "tanh": lambda h, _: jnp.tanh(h),
    "erf": lambda h, _: jax.lax.erf(h),
    "gelu": lambda h, _: jax.nn.gelu(h, approximate=False),
    "gelu_tanh": lambda h, _: jax.nn.gelu(h, approximate=True),
    "silu": lambda h, _: jax.nn.silu(h),
    "quadratic": lambda h, _: h * h,
    "identity": lambda h, _: h,
}


@dataclass(frozen=True)
class Model:
    """What is fixed of a network when a program is traced: all of it, or its activation alone."""

    net: TwoLayerNetwork | None
    activation: str

    def parts(self, weights: Weights, dtype: Any) -> Parts:
        """W, b, A (k, m) and c in a type."""
        if self.net is not None:
            own = self.net.weights(dtype)
            w, b, a, c = own.hidden_weight, own.hidden_bias, own.output_weight, own.output_bias
        else:
            w, b, a, c = weights
        w, a = jnp.asarray(w, dtype), jnp.asarray(a, dtype)
        a = a.reshape(-1, len(w))
        b = jnp.zeros(len(w), dtype) if b is None else jnp.asarray(b, dtype)
        c = jnp.zeros(len(a), dtype) if c is None else jnp.asarray(c, dtype).reshape(len(a))
        return Parts(w, b, a, c)

    def scalar_output(self, weights: Weights) -> bool:
        """Whether outputs have shape (B,)."""
        return self.net.scalar_output if self.net is not None else weights[2].ndim == 1

    def sigma(self, h: Array) -> Array:
        """σ(h)."""
        name, parameter = parse_activation(self.activation)
        return ACTIVATIONS[name](h, parameter)

    def blank(self, weights: Weights) -> TwoLayerNetwork:
        """A network of these shapes and types, for checks while the weights are not known."""
        if self.net is not None:
            return self.net
        zeros: list[Any] = [None if part is None else np.zeros(part.shape, part.dtype) for part in weights]
        w, b, a, c = zeros
        return TwoLayerNetwork(w, a, b, c, self.activation)


# ------------------------------------------------------------------ calls of the library


def call(function: str, model: Model, options: Options, weights: Weights, arrays: dict[str, Array]) -> Any:
    """A call of the library, at once where all numbers are there, or else as a part of the program that is traced."""
    host = HostCall(
        function,
        model.net,
        model.activation,
        options,
        tuple((name, value.ndim) for name, value in sorted(arrays.items())),
        tuple(None if part is None else part.ndim for part in weights),
        jax.dtypes.canonicalize_dtype(np.int64) == np.int64,
    )
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((weights, arrays))):
        return jax.device_put(host(weights, arrays))  # all at once: to where jax.default_device says
    shapes = _shapes_of_results(host, model.blank(weights), arrays)
    return jax.pure_callback(host, shapes, weights, arrays, vmap_method="expand_dims")


def _shapes_of_results(host: HostCall, net: TwoLayerNetwork, arrays: dict[str, Array]) -> Any:
    """What the call gives for no samples, with the samples put in; all that can be checked without numbers is."""
    _check_shapes(net, dict(host.options), arrays)
    blank = {name: _blank(name, value) for name, value in arrays.items()}
    fixed = HostCall(host.function, net, host.activation, host.options, host.axes, (), host.wide)
    samples = len(arrays["x"])
    return jax.tree.map(
        lambda part: jax.ShapeDtypeStruct((samples, *part.shape[1:]), part.dtype),
        fixed((), blank),
    )


def _check_shapes(net: TwoLayerNetwork, options: dict[str, Any], arrays: dict[str, Array]) -> None:
    """The checks of the library, on arrays of the same shapes and types; large ones are made for the message alone."""
    x = arrays["x"]
    if x.ndim < 2 or math.prod(x.shape[1:]) != net.in_features or x.dtype not in (np.float32, np.float64):
        validate.points("x", np.zeros(x.shape, x.dtype), net.in_features)
    x_init: Array = arrays.get("x_init", x)
    if x_init.shape != x.shape or x_init.dtype != x.dtype:
        raise ValueError(f"x_init: expected shape {x.shape} and type {x.dtype}, got {x_init.shape} and {x_init.dtype}")
    if "y" in arrays:
        y = np.ones(arrays["y"].shape, arrays["y"].dtype)
        validate.objective(net, y, len(x), x.dtype, options.get("loss"), bool(options.get("targeted")))
    for name in PER_SAMPLE:
        if name in arrays:
            validate.per_sample(name, np.ones(arrays[name].shape, arrays[name].dtype), len(x))


def _blank(name: str, value: Array) -> np.ndarray[Any, Any]:
    """An array of no samples."""
    if name in BATCHED or (name in PER_SAMPLE and value.ndim):
        return np.zeros((0, *value.shape[1:]), value.dtype)
    return np.zeros(value.shape, value.dtype)


# ------------------------------------------------------------------ outputs, and their derivatives


def plain_outputs(model: Model, weights: Weights, x: Array) -> Array:
    """``A σ(W x + b) + c`` in jax.numpy."""
    w, b, a, c = model.parts(weights, x.dtype)
    z = model.sigma(_rows(x) @ w.T + b) @ a.T + c
    return z[:, 0] if model.scalar_output(weights) else z


def plain_pull_back(model: Model, weights: Weights, x: Array, v: Array) -> Array:
    """``Wᵀ(σ'(h) ⊙ Aᵀv)`` in jax.numpy, in the shape of x."""
    w, b, a, _ = model.parts(weights, x.dtype)
    _, along = jax.jvp(model.sigma, (_rows(x) @ w.T + b,), (v.reshape(len(x), len(a)) @ a,))
    return (along @ w).reshape(x.shape)


def _rows(x: Array) -> Array:
    return x.reshape(len(x), math.prod(x.shape[1:]))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def outputs(model: Model, options: Options, weights: Weights, x: Array) -> Array:
    """The outputs of samples (B, ...)."""
    return call("forward", model, options, weights, {"x": x})


def _outputs_forward(model: Model, options: Options, weights: Weights, x: Array) -> tuple[Array, Any]:
    return outputs(model, options, weights, x), (weights, x)


def _outputs_backward(model: Model, options: Options, kept: Any, v: Array) -> tuple[Weights, Array]:
    weights, x = kept
    if not weights:
        return (), pull_back(model, options, weights, x, v)
    _, to_weights = jax.vjp(lambda own: plain_outputs(model, own, x), weights)
    return to_weights(v)[0], pull_back(model, options, weights, x, v)


outputs.defvjp(_outputs_forward, _outputs_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def pull_back(model: Model, options: Options, weights: Weights, x: Array, v: Array) -> Array:
    """The input gradient for gradients v of the outputs."""
    return call("input_gradient", model, (("loss", "linear"), *options), weights, {"x": x, "y": v})[1]


def _pull_back_forward(model: Model, options: Options, weights: Weights, x: Array, v: Array) -> tuple[Array, Any]:
    return pull_back(model, options, weights, x, v), (weights, x, v)


def _pull_back_backward(model: Model, options: Options, kept: Any, u: Array) -> Any:
    return jax.vjp(partial(plain_pull_back, model), *kept)[1](u)


pull_back.defvjp(_pull_back_forward, _pull_back_backward)


# ------------------------------------------------------------------ losses and their gradients


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def loss_and_gradient(
    model: Model, options: Options, weights: Weights, arrays: dict[str, Array]
) -> tuple[Array, Array]:
    """Loss and input gradient of samples, without derivatives."""
    return call("input_gradient", model, options, weights, arrays)


def _loss_forward(model: Model, options: Options, weights: Weights, arrays: dict[str, Array]) -> tuple[Any, None]:
    return loss_and_gradient(model, options, weights, arrays), None


def _loss_backward(model: Model, options: Options, kept: None, u: Any) -> Any:
    raise TypeError(
        "input_gradient: only loss='linear' can be differentiated; "
        "take jax.grad of your own loss of forward(...), which can be differentiated again"
    )


loss_and_gradient.defvjp(_loss_forward, _loss_backward)
