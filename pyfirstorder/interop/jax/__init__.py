"""Two-layer networks in JAX: attacks and a differentiable forward pass under jit, vmap and grad.

A network is a `pyfirstorder.TwoLayerNetwork`, closed over, whose weights are prepared once; or a pytree of weights,
which may be traced, as in a training step under `jax.jit`, and are then read anew in every call:

- a mapping or named tuple with ``hidden_weight`` (m, d), ``output_weight`` (k, m) or (m,), and optionally
  ``hidden_bias`` and ``output_bias``; or
- a tree of two layers (a list in order; ``Dense_0`` and ``Dense_1``, if their shapes fit in one order only), each with
  a matrix (inputs, outputs) and optionally a vector, ``bias`` or ``b``, as flax and haiku have them.

Compiled programs call the engine by `jax.pure_callback`, on the CPU, in the type of x; calls with arrays that are there
read them in place.  Options that are arrays (eps, step_size, bounds, x_init, seed ...) may be traced and mapped, others
are fixed when a program is traced.  Mapped axes become part of one batch, where each map would give the same bits; they
are attacked one after the other where the start is random, or weights, bounds, seeds or momenta are mapped.
"""

from __future__ import annotations

from typing import Any

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise ImportError("jax is not installed: pip install jax") from error

from pyfirstorder import checks
from pyfirstorder.interop.jax import arguments, parameters
from pyfirstorder.interop.jax.derivatives import Model, Options, Weights, call, loss_and_gradient, outputs, pull_back
from pyfirstorder.interop.jax.host import BATCHED, AttackResult
from pyfirstorder.network import TwoLayerNetwork, parse_activation

__all__ = ["AttackResult", "apgd", "forward", "input_gradient", "pgd"]

Array = Any  # of JAX, traced or not


def forward(
    net_or_params: Any, x: Array, *, activation: str | None = None, backend: str = "auto", threads: int | None = None
) -> Array:
    """The outputs ``A σ(W x + b) + c``, differentiable in x and in the weights by reverse mode, to any order.

    The first derivative in x is by the engine, others by XLA; forward mode (jvp, jacfwd, hessian) has no rule:
    ``jax.jacrev(jax.jacrev(f))`` is the Hessian.

    Parameters
    ----------
    net_or_params : TwoLayerNetwork or pytree
        See `pyfirstorder.interop.jax`.
    x : float32 or float64 array (B, ...) or (d,)
        Samples, or a single one.
    activation : str, optional
        Of weights in a pytree, which do not tell it: needed there, see `pyfirstorder.TwoLayerNetwork`.
    backend, threads
        See `pyfirstorder.forward`.

    Returns
    -------
    array (B, k) or (k,)
        (B,) or () if output_weight is (m,).

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.  What only the numbers show is raised by a
        compiled program when it runs, as a jax.errors.JaxRuntimeError that ends with the same message.
    """
    model, weights = _read(net_or_params, activation)
    x = arguments.array("x", x)
    single = x.ndim == 1
    z = outputs(model, (("backend", backend), ("threads", threads)), weights, x[None] if single else x)
    return z[0] if single else z


def input_gradient(
    net_or_params: Any,
    x: Array,
    y: Array,
    *,
    loss: str | None = None,
    targeted: bool = False,
    activation: str | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> tuple[Array, Array]:
    """The loss of each sample and its gradient in x: see `pyfirstorder.input_gradient`.

    With ``loss="linear"`` both can be differentiated, in x, y and the weights.  Other losses raise a TypeError there:
    take `jax.grad` of your own loss of `forward`.

    Parameters
    ----------
    net_or_params, x, activation
        See `forward`.
    y, loss, targeted, backend, threads
        See `pyfirstorder.input_gradient`; of a single sample, y has no batch axis.

    Returns
    -------
    loss : array (B,) or ()
    gradient : array of the shape of x

    Raises
    ------
    TypeError, ValueError
        See `forward`.
    """
    model, weights = _read(net_or_params, activation)
    arrays = {"x": arguments.array("x", x), "y": arguments.array("y", y)}
    single = arrays["x"].ndim == 1
    if single:
        arrays = {name: value[None] for name, value in arrays.items()}
    engine: Options = (("backend", backend), ("threads", threads))
    if loss == "linear" and all(jnp.issubdtype(value.dtype, jnp.floating) for value in arrays.values()):
        found = _linear(model, engine, weights, checks.flag("targeted", targeted), **arrays)
    else:
        found = loss_and_gradient(model, (("loss", loss), ("targeted", targeted), *engine), weights, arrays)
    return jax.tree.map(lambda part: part[0], found) if single else found


def _linear(model: Model, engine: Options, weights: Weights, targeted: bool, x: Array, y: Array) -> tuple[Array, Array]:
    v = (-y if targeted else y).astype(x.dtype)
    gradient = pull_back(model, engine, weights, x, v)  # first: it checks y
    z = outputs(model, engine, weights, x)
    return (v.reshape(len(x), -1) * z.reshape(len(x), -1)).sum(axis=1), gradient


def pgd(net_or_params: Any, x: Array, y: Array, *, activation: str | None = None, **options: Any) -> AttackResult:
    """`pyfirstorder.pgd`, under jit, vmap and grad as well; its result is a constant to derivatives.

    Parameters
    ----------
    net_or_params, x, activation
        See `forward`.
    y : array (B,) or (B, k)
        See `pyfirstorder.input_gradient`; of a single sample, without the batch axis.
    **options
        Those of `pyfirstorder.pgd`.  eps, step_size, rel_step_size, momentum, bounds, x_init, seed and sample_offset
        may be traced; ``seed=jax.random.bits(key)`` makes one of a key.

    Returns
    -------
    AttackResult
        Without x64, steps are int32 and the trace is float32.

    Raises
    ------
    TypeError, ValueError
        See `forward`.
    """
    return _attack("pgd", net_or_params, x, y, activation, options)


def apgd(net_or_params: Any, x: Array, y: Array, *, activation: str | None = None, **options: Any) -> AttackResult:
    """`pyfirstorder.apgd`, under jit, vmap and grad as well: see `pgd`."""
    return _attack("apgd", net_or_params, x, y, activation, options)


def _attack(
    function: str, net_or_params: Any, x: Array, y: Array, activation: str | None, options: dict[str, Any]
) -> AttackResult:
    model, weights = _read(net_or_params, activation)
    fixed, arrays = arguments.split(options)
    arrays = {"x": arguments.array("x", x), "y": arguments.array("y", y)} | arrays
    single = arrays["x"].ndim == 1
    if single:
        arrays |= {name: arrays[name][None] for name in BATCHED if name in arrays}
    weights, arrays = jax.lax.stop_gradient((weights, arrays))
    # of a number, jax.grad leaves a float
    arrays = {name: arguments.array(name, value) for name, value in arrays.items()}
    result = call(function, model, fixed, weights, arrays)
    return jax.tree.map(lambda part: part[0], result) if single else result


def _read(net_or_params: Any, activation: str | None) -> tuple[Model, Weights]:
    """What is fixed of a network, and the weights if they are not."""
    if isinstance(net_or_params, TwoLayerNetwork):
        if activation is not None:
            raise ValueError(f"activation: expected None with a TwoLayerNetwork, which has its own, got {activation!r}")
        return Model(net_or_params, net_or_params.activation), ()
    weights = tuple(parameters.parts(net_or_params))
    if activation is None:
        raise ValueError(
            'activation: expected what the model applies between its two layers, such as activation="relu", because '
            "weights in a pytree do not tell it, got None"
        )
    parse_activation(activation)
    return Model(None, activation), weights
