"""The weights of a network in a pytree of parameters, traced or not.

Which of two layers is first is told by their places in a list, by numbers that somebody gave (``fc1``, ``fc2``), or by
their shapes.  A number that a library gave (``Dense_0``) counts the layers as they are constructed, and in
``Dense(k)(relu(Dense(m)(x)))`` the last layer is constructed first.  What is left open is asked for, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

try:
    import jax
    from jax.tree_util import keystr
except ImportError as error:
    raise ImportError("jax is not installed: pip install jax") from error

from pyfirstorder import checks
from pyfirstorder.interop.jax import arguments
from pyfirstorder.interop.kept_networks import Parts
from pyfirstorder.interop.trees import natural

if TYPE_CHECKING:
    from pyfirstorder.interop.jax.derivatives import Array

Path = tuple[Any, ...]  # of keys in a pytree

_BIAS = ("bias", "b")
_OUTPUTS_FIRST = ("weight",)  # the matrices of torch and equinox


class _Layer(NamedTuple):
    path: Path
    matrix: Array  # (inputs, outputs)
    bias: Array | None


def parts(params: Any) -> Parts:
    """The weights by their names, or of the two layers in a tree."""
    named = params._asdict() if hasattr(params, "_asdict") else params
    if not isinstance(named, (Mapping, list, tuple)) or not jax.tree.leaves(named):
        raise TypeError(
            f"net_or_params: expected a TwoLayerNetwork or a pytree of weights, got {checks.describe(params)}"
        )
    if isinstance(named, Mapping) and "hidden_weight" in named and set(named) <= set(Parts._fields):
        found = {name: named.get(name) for name in Parts._fields}
        return Parts(**{name: None if part is None else arguments.array(name, part) for name, part in found.items()})
    first, second = _in_order(*_two_layers(named))
    return Parts(first.matrix.T, first.bias, second.matrix.T, second.bias)


def _two_layers(tree: Any) -> list[_Layer]:
    """In the natural order of their names."""
    layers: dict[Path, dict[str, Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        layers.setdefault(path[:-1], {})[_name(path[-1])] = arguments.array(f"net_or_params{keystr(path)}", leaf)
    ranks = [sorted(part.ndim for part in layer.values()) for layer in layers.values()]
    if len(layers) != 2 or any(rank not in ([2], [1, 2]) for rank in ranks):
        outline = (f"{_where(path)}: {[part.shape for part in layer.values()]}" for path, layer in layers.items())
        raise ValueError(
            "net_or_params: expected hidden_weight and output_weight (and optionally hidden_bias and output_bias), or "
            f"two layers with a matrix and optionally a vector each, got {', '.join(outline)}"
        )
    return [_layer(path, layers[path]) for path in sorted(layers, key=lambda path: natural(keystr(path)))]


def _layer(path: Path, found: dict[str, Array]) -> _Layer:
    (name, matrix), *vector = sorted(found.items(), key=lambda item: -item[1].ndim)
    if vector and not (vector[0][0] in _BIAS or vector[0][0].isdigit()):
        raise ValueError(
            f"net_or_params{keystr(path)}: expected beside the matrix {name!r} a vector named bias or b, "
            f"got {vector[0][0]!r}"
        )
    return _Layer(path, matrix.T if name in _OUTPUTS_FIRST else matrix, vector[0][1] if vector else None)


def _in_order(first: _Layer, second: _Layer) -> tuple[_Layer, _Layer]:
    if _are_numbered_by_hand(first.path, second.path):
        return first, second
    orders = (first, second), (second, first)
    fits = [order for order in orders if order[0].matrix.shape[1] == order[1].matrix.shape[0]]
    if len(fits) == 2:
        raise ValueError(
            f"net_or_params: expected names that tell which layer is first, got {_where(first.path)} and "
            f"{_where(second.path)}, whose shapes fit both ways; pass a list of the two, in order"
        )
    return fits[0] if fits else (first, second)


def _are_numbered_by_hand(first: Path, second: Path) -> bool:
    """Whether the first keys that differ are places, or names that differ in a number that no library gave."""
    name, other = next(((_name(one), _name(two)) for one, two in zip(first, second) if one != two), ("", "nested"))
    return _without_numbers(name) == _without_numbers(other) and not re.search(r"_\d+$", other)


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "", name)


def _name(key: Any) -> str:
    return keystr((key,)).strip("[].'\"")


def _where(path: Path) -> str:
    return keystr(path) or "the top"
