"""What runs outside JAX: one call of the library on NumPy arrays, from inside a compiled program.

XLA calls a `HostCall` from a thread of its own while others wait for it, so it computes with NumPy alone: a computation
of JAX in there may wait for the thread that it runs on.  Axes that `jax.vmap` maps lead the shapes, 1 long where an
argument is not mapped, and become part of one batch wherever that gives the bits that one call for each would give.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import pyfirstorder as fo
from pyfirstorder.interop.kept_networks import Parts, network

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

    Tree = Any  # an array, None, or a tuple of such

# How many axes of an argument belong to the batch, and so take mapped axes in front of them; the others are one number
# or one box for the whole batch.
BATCHED = ("x", "y", "x_init")
PER_SAMPLE = ("eps", "step_size")  # one number for all samples, or one for each
NUMBERS = ("rel_step_size", "momentum", "seed", "sample_offset")
BOX = ("lower", "upper")

_NARROW: dict[np.dtype[Any], type] = {np.dtype(np.int64): np.int32, np.dtype(np.float64): np.float32}


class AttackResult(NamedTuple):
    """The end of an attack, one entry per sample: the fields of `pyfirstorder.AttackResult`, but for x.

    A pytree of JAX arrays; what there is not (success without classes, x_best, trace, iterates) is None.
    """

    x_adv: Any
    loss: Any
    output: Any
    success: Any
    best_loss: Any
    steps: Any
    first_success: Any
    status: Any
    x_best: Any
    trace: Any
    iterates: Any


@dataclass(frozen=True)
class HostCall:
    """A call ``function(net, x, ..., **options)``; equal calls are the same one to XLA, which so compiles once.

    The network is fixed, or made in every call from the weights.
    """

    function: str  # of pyfirstorder
    net: TwoLayerNetwork | None
    activation: str
    options: tuple[tuple[str, Any], ...]  # those that are no arrays
    axes: tuple[tuple[str, int], ...]  # of every array, without mapped ones
    weight_axes: tuple[int | None, ...]
    wide: bool  # whether JAX has types of 64 bits

    def __call__(self, weights: tuple[Any, ...], arrays: Mapping[str, Any]) -> Tree:
        """The result, mapped axes in front of each part."""
        given = {name: np.asarray(arrays[name]) for name, _ in self.axes}
        parts = tuple(None if part is None else np.asarray(part) for part in weights)
        mapped = {name: given[name].shape[: given[name].ndim - axes] for name, axes in self.axes}
        of_weights = [
            part.shape[: part.ndim - axes]
            for part, axes in zip(parts, self.weight_axes)
            if part is not None and axes is not None
        ]
        lead = np.broadcast_shapes(*mapped.values(), *of_weights)
        loose = [shape for name, shape in mapped.items() if name in NUMBERS + BOX]
        if math.prod(lead) == 1 or not (self._starts_at_random() or _any_mapped(loose) or _any_mapped(of_weights)):
            return self._in_one_batch(self._network(parts, (0,) * len(lead)), given, lead)
        share = None if _any_mapped(of_weights) else self._network(parts, (0,) * len(lead))
        results = []
        for index in np.ndindex(*lead):
            own = {name: _at(given[name], len(mapped[name]), index) for name in given}
            results.append(self._in_one_batch(share or self._network(parts, index), own, ()))
        return _over(lambda *pieces: np.stack(pieces).reshape(lead + pieces[0].shape), *results)

    def _starts_at_random(self) -> bool:
        # the random start of a row is keyed by its place in the batch
        if self.function not in ("pgd", "apgd"):
            return False
        return dict(self.options).get("random_start", self.function == "apgd") is not False

    def _network(self, parts: tuple[Any, ...], index: tuple[int, ...]) -> TwoLayerNetwork:
        if self.net is not None:
            return self.net
        own = [None if part is None else _at(part, len(index), index) for part in parts]
        return network(Parts(*own), self.activation)

    def _in_one_batch(self, net: TwoLayerNetwork, given: dict[str, Array], lead: tuple[int, ...]) -> Tree:
        axes = dict(self.axes)
        batch = (*lead, *given["x"].shape[given["x"].ndim - axes["x"] :][:1])
        options = dict(self.options)
        for name, value in given.items():
            options[name] = _as_argument(name, value, axes[name], batch)
        if "lower" in options:
            options["bounds"] = options.pop("lower"), options.pop("upper")
        positional = [options.pop(name) for name in ("x", "y") if name in options]
        result = getattr(fo, self.function)(net, *positional, **options)
        if isinstance(result, fo.AttackResult):
            result = AttackResult(*(getattr(result, name) for name in AttackResult._fields))
        return _over(lambda part: self._narrowed(part.reshape(batch + part.shape[1:])), result)

    def _narrowed(self, part: Array) -> Array:
        return part if self.wide else part.astype(_NARROW.get(part.dtype, part.dtype), copy=False)


def _as_argument(name: str, value: Array, axes: int, batch: tuple[int, ...]) -> Any:
    """The argument for all samples of the mapped axes at once, or as it came where there are none."""
    own = value.shape[value.ndim - axes :]
    if name in BOX:
        return value.reshape(own)
    if name in NUMBERS or (value.size == 1 and axes == 0):
        return value.item()
    if len(batch) < 2:
        return value  # in whatever shape: the library checks it
    if name in BATCHED:
        return np.broadcast_to(value, batch + own[1:]).reshape(math.prod(batch), *own[1:])
    return np.broadcast_to(value if axes else value[..., None], batch).reshape(math.prod(batch))


def _any_mapped(shapes: list[tuple[int, ...]]) -> bool:
    return any(math.prod(shape) != 1 for shape in shapes)


def _at(value: Array, mapped: int, index: tuple[int, ...]) -> Array:
    """The part of a value at an index of the mapped axes, along some of which it is 1 long."""
    return value[tuple(min(i, size - 1) for i, size in zip(index, value.shape[:mapped]))]


def _over(function: Callable[..., Array], *trees: Tree) -> Tree:
    """The function of the arrays at each place of one or several trees."""
    if trees[0] is None:
        return None
    if not isinstance(trees[0], tuple):
        return function(*trees)
    parts = [_over(function, *pieces) for pieces in zip(*trees)]
    kind: Any = type(trees[0])
    return kind(*parts) if hasattr(kind, "_fields") else tuple(parts)
