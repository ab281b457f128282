"""The two layers in a tree of named arrays: parameters of JAX libraries, tensors of a file.

A tree says neither which layer comes first nor which axis of a matrix is its input.  Names that differ in a number tell
the order (``fc1``, ``fc2``), but for numbers that a library gives in the order in which layers were made (``Dense_0``);
or else the shapes, if only one order fits; the name of a matrix tells its axes: ``weight`` is (outputs,
inputs), as in torch and equinox, and every other (``kernel``, ``w``) is (inputs, outputs), as in flax, haiku and Keras.
What is left open is asked for, never guessed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pyfirstorder import checks
from pyfirstorder.interop.layers import Linear

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyfirstorder.problem import Array

_OUTPUTS_FIRST = ("weight",)
_BIASES = ("bias", "b")
_DEEPEST = 32  # levels: what holds itself has no end
_KNOWN_ORDER = ("hidden", "output")  # the layers of pyfirstorder.interop.torch.TwoLayer


def two_layers(source: str, tree: Any, names: Sequence[str] | None = None) -> list[Linear]:
    """The two layers of a tree, in order; with names, those two and no others."""
    if not _is_node(tree):
        raise TypeError(f"{source}: expected a mapping or a sequence of arrays, got {checks.describe(tree)}")
    if names is not None:
        return [_named_layer(source, tree, name) for name in pair(names)]
    layers = list(_layers("", tree))
    if len(layers) != 2:
        found = ", ".join(layer.where for layer in layers) or "none"
        raise ValueError(
            f"{source}: expected two layers, got {len(layers)}: {found}; choose with names=(first, second)"
        )
    return _in_order(source, layers, is_sequence=isinstance(tree, (list, tuple)))


def pair(names: Any) -> tuple[str, str]:
    """The names of two layers, as a user gives them."""
    if not isinstance(names, (list, tuple)):
        raise TypeError(f"names: expected a pair of names of layers, in order, got {checks.describe(names)}")
    if len(names) != 2 or not all(isinstance(name, str) for name in names):
        raise ValueError(f"names: expected the names of two layers, in order, got {names!r}")
    return names[0], names[1]


def nested(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """The tree of arrays whose names have a dot between levels."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *levels, last = name.split(".")
        node = tree
        for level in levels:
            node = node.setdefault(level, {})
            if not isinstance(node, dict):
                raise ValueError(f"{name}: expected {level!r} to be a layer, got an array of that name, too")
        node[last] = array
    return tree


def natural(name: str) -> list[tuple[int, int | str]]:
    """A key that sorts ``Dense_10`` after ``Dense_9``."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _in_order(source: str, layers: list[Linear], is_sequence: bool) -> list[Linear]:
    first, second = layers
    names = (first.where, second.where)
    is_numbered = re.sub(r"\d+", "", names[0]) == re.sub(r"\d+", "", names[1])
    is_numbered &= not all(re.search(r"_\d+$", name) for name in names)  # in which order they were made
    if is_sequence or is_numbered or tuple(name.rpartition(".")[2] for name in names) == _KNOWN_ORDER:
        return layers
    fits = [pair for pair in (layers, layers[::-1]) if len(pair[0].weight) == pair[1].weight.shape[1]]
    if len(fits) == 2:
        raise ValueError(
            f"{source}: expected names that tell which layer is first, got {' and '.join(names)}, whose shapes fit "
            f"both ways; pass names=({names[0]!r}, {names[1]!r}) or the other way round"
        )
    return fits[0] if fits else layers


def _named_layer(source: str, tree: Any, name: str) -> Linear:
    node = tree["params"] if hasattr(tree, "items") and set(tree) == {"params"} and name != "params" else tree
    for part in name.split("."):
        children = dict(_children(node))
        if part not in children:
            raise ValueError(
                f"names: no layer {name!r} in {source}; {part!r} is none of {', '.join(children) or 'none'}"
            )
        node = children[part]
    layer = _own_layer(name, _children(node))
    if layer is None:
        raise ValueError(f"names: expected a layer with a matrix, got {name!r}")
    return layer


def _layers(where: str, tree: Any, level: int = 0) -> Iterator[Linear]:
    """Every node that holds a matrix, in the natural order of names."""
    if level > _DEEPEST:
        raise ValueError(f"{where[:20]}…: expected a tree of at most {_DEEPEST} levels")
    items = _children(tree)
    layer = _own_layer(where or "the tree", items)
    if layer is not None:
        yield layer
    for name, part in items:
        if _children(part):
            yield from _layers(f"{where}.{name}" if where else name, part, level + 1)


def _own_layer(where: str, items: list[tuple[str, Any]]) -> Linear | None:
    """The matrix and the vector right under a node."""
    found = {
        name: checks.array(f"{where}.{name}", part) for name, part in items if part is not None and not _children(part)
    }
    matrices = [name for name, part in found.items() if part.ndim == 2]
    vectors = [name for name, part in found.items() if part.ndim == 1]
    if len(matrices) > 1 or len(vectors) > 1 or len(matrices) + len(vectors) < len(found) or (vectors and not matrices):
        raise ValueError(f"{where}: expected a matrix and a vector, got {', '.join(found)}")
    if not matrices:
        return None
    if vectors and vectors[0] not in _BIASES and not vectors[0].isdigit():
        raise ValueError(f"{where}: expected the vector beside a matrix to be called bias or b, got {vectors[0]}")
    matrix = found[matrices[0]]
    return Linear(where, matrix if matrices[0] in _OUTPUTS_FIRST else matrix.T, found[vectors[0]] if vectors else None)


def _is_node(tree: Any) -> bool:
    return hasattr(tree, "items") or isinstance(tree, (list, tuple))


def _children(tree: Any) -> list[tuple[str, Any]]:
    if hasattr(tree, "items"):
        return sorted(((str(name), part) for name, part in tree.items()), key=lambda item: natural(item[0]))
    if isinstance(tree, (list, tuple)):
        return [(str(place), part) for place, part in enumerate(tree)]
    return []
