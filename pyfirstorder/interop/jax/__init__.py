"""Two-layer networks in JAX: attacks and a differentiable forward pass under jit, vmap and grad.

A network is a `pyfirstorder.TwoLayerNetwork`, closed over, whose weights are prepared once; or a pytree of weights,
which may be traced, as in a training step under `jax.jit`, and are then read anew in every call:

- a mapping or named tuple with ``hidden_weight`` (m, d), ``output_weight`` (k, m) or (m,), and optionally
  ``hidden_bias`` and ``output_bias``; or
- a tree of two layers in order (``Dense_0``, ``Dense_1``; a list), each with a matrix (inputs, outputs) and optionally
  a vector, as flax and haiku have them.

Compiled programs call the engine by `jax.pure_callback`, on the CPU, in the type of x; calls with arrays that are there
read them in place.  Options that are arrays (eps, step_size, bounds, x_init, seed ...) may be traced and mapped, others
are fixed when a program is traced.  Mapped axes become part of one batch, where each map would give the same bits; they
are attacked one after the other where the start is random, or weights, bounds, seeds or momenta are mapped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise ImportError("jax is not installed: pip install jax") from error

import numpy as np

from pyfirstorder import checks
from pyfirstorder.interop.jax.derivatives import Model, Options, Weights, call, loss_and_gradient, outputs, pull_back
from pyfirstorder.interop.jax.host import BATCHED, NUMBERS, PER_SAMPLE, AttackResult, Parts
from pyfirstorder.network import TwoLayerNetwork, parse_activation

__all__ = ["AttackResult", "apgd", "forward", "input_gradient", "pgd"]

Array = Any  # of JAX, traced or not

_MAY_BE_ARRAYS = (*PER_SAMPLE, *NUMBERS, "x_init", "bounds")


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
        Of weights in a pytree, relu if left out: see `pyfirstorder.TwoLayerNetwork`.
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
    x = _array("x", x)
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
    arrays = {"x": _array("x", x), "y": _array("y", y)}
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
    fixed, arrays = _split(options)
    arrays = {"x": _array("x", x), "y": _array("y", y)} | arrays
    single = arrays["x"].ndim == 1
    if single:
        arrays |= {name: arrays[name][None] for name in BATCHED if name in arrays}
    weights, arrays = jax.lax.stop_gradient((weights, arrays))
    arrays = {name: _array(name, value) for name, value in arrays.items()}  # of a number, jax.grad leaves a float
    result = call(function, model, fixed, weights, arrays)
    return jax.tree.map(lambda part: part[0], result) if single else result


# ------------------------------------------------------------------ arguments


def _split(options: dict[str, Any]) -> tuple[Options, dict[str, Array]]:
    """Options that are fixed when a program is traced, and those that are arrays, known when it runs."""
    fixed, arrays = {}, {}
    for name, value in options.items():
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)) and name not in _MAY_BE_ARRAYS:
            raise TypeError(
                f"{name}: expected a value that is known when the program is traced, got a traced array; "
                f"close over it or name it in static_argnames of jax.jit"
            )
        if name == "bounds" and isinstance(value, (tuple, list)) and len(value) == 2:
            if any(isinstance(side, (jax.Array, np.ndarray, list, tuple)) for side in value):
                arrays["lower"], arrays["upper"] = (_array("bounds", side) for side in value)
            else:
                fixed[name] = tuple(value)
        elif name in _MAY_BE_ARRAYS and isinstance(value, (jax.Array, np.ndarray, list, tuple)):
            arrays[name] = _number(name, value) if name in NUMBERS else _array(name, value)
        else:
            fixed[name] = value
    return tuple(sorted(fixed.items())), arrays


def _number(name: str, value: Any) -> Array:
    array = _array(name, value)
    kinds = "iu" if name in ("seed", "sample_offset") else "iuf"
    if array.shape != () or array.dtype.kind not in kinds:
        wanted = "an integer" if kinds == "iu" else "a number"
        raise TypeError(f"{name}: expected {wanted}, got {checks.describe(array)}")
    return array


def _array(name: str, value: Any) -> Array:
    if isinstance(value, jax.Array):
        return value
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected an array, got {checks.describe(value)}") from error


def _read(net_or_params: Any, activation: str | None) -> tuple[Model, Weights]:
    """What is fixed of a network, and the weights if they are not."""
    if isinstance(net_or_params, TwoLayerNetwork):
        if activation is not None:
            raise ValueError(f"activation: expected None with a TwoLayerNetwork, which has its own, got {activation!r}")
        return Model(net_or_params, net_or_params.activation), ()
    activation = "relu" if activation is None else activation
    parse_activation(activation)
    return Model(None, activation), tuple(_parts(net_or_params))


def _parts(params: Any) -> Parts:
    named = params._asdict() if hasattr(params, "_asdict") else params
    if not isinstance(named, (Mapping, list, tuple)) or not jax.tree.leaves(named):
        raise TypeError(
            f"net_or_params: expected a TwoLayerNetwork or a pytree of weights, got {checks.describe(params)}"
        )
    if isinstance(named, Mapping) and "hidden_weight" in named and set(named) <= set(Parts._fields):
        found = {name: named.get(name) for name in Parts._fields}
        return Parts(**{name: None if part is None else _array(name, part) for name, part in found.items()})
    layers: dict[str, list[Any]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(named):
        part = _array("net_or_params", leaf)
        is_outputs_first = part.ndim == 2 and jax.tree_util.keystr(path[-1:]).strip("[].'\"") == "weight"
        layers.setdefault(jax.tree_util.keystr(path[:-1]), []).append(part.T if is_outputs_first else part)
    names = sorted(layers, key=_natural)
    shapes = [sorted(part.ndim for part in layers[name]) for name in names]
    if len(names) != 2 or any(shape not in ([2], [1, 2]) for shape in shapes):
        raise ValueError(
            "net_or_params: expected hidden_weight and output_weight (and optionally hidden_bias and output_bias), or "
            f"two layers with a matrix and optionally a vector each, got {_outline(layers)}"
        )
    (w, b), (a, c) = _in_order(names, [_matrix_and_vector(layers[name]) for name in names])
    return Parts(w.T, b, a.T, c)


def _in_order(names: list[str], pairs: list[tuple[Array, Array | None]]) -> list[tuple[Array, Array | None]]:
    """By numbers in their names, or by their shapes if only one order fits; never by chance."""
    if re.sub(r"\d+", "", names[0]) == re.sub(r"\d+", "", names[1]):
        return pairs
    fits = [some for some in (pairs, pairs[::-1]) if some[0][0].shape[1] == some[1][0].shape[0]]
    if len(fits) == 2:
        raise ValueError(
            f"net_or_params: expected names that tell which layer is first, got {' and '.join(names)}, whose shapes "
            "fit both ways; pass a list of the two, in order"
        )
    return fits[0] if fits else pairs


def _matrix_and_vector(parts: list[Array]) -> tuple[Array, Array | None]:
    matrix, *vector = sorted(parts, key=lambda part: -part.ndim)
    return matrix, vector[0] if vector else None


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _outline(layers: dict[str, list[Any]]) -> str:
    return ", ".join(f"{name or 'the top'}: {[part.shape for part in parts]}" for name, parts in layers.items())
