"""The layers in a .safetensors file, as `pyfirstorder.interop.layers` has them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

try:
    from safetensors import SafetensorError, safe_open
except ImportError as error:
    raise ImportError("safetensors is not installed: pip install safetensors") from error

from pyfirstorder import checks
from pyfirstorder.interop import trees
from pyfirstorder.interop.layers import Activation, Layer
from pyfirstorder.network import parse_activation

if TYPE_CHECKING:
    from collections.abc import Sequence

_SAVE_FLOATS = "save it anew with {name: tensor.float() for name, tensor in state.items()}"


def safetensors_layers(
    path: str | os.PathLike[str], activation: str | None, names: Sequence[str] | None
) -> list[Layer]:
    """Two linear layers, and between them the activation that is given or noted in the file."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: expected a path, got {checks.describe(path)}")
    names = None if names is None else trees.pair(names)
    try:
        with safe_open(path, framework="numpy") as file:
            chosen = [key for key in file.keys() if names is None or key.rpartition(".")[0] in names]  # noqa: SIM118
            tensors = {key: file.get_tensor(key) for key in chosen}
            noted = (file.metadata() or {}).get("activation")
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a .safetensors file, got {error}") from error
    except (AttributeError, TypeError) as error:  # NumPy has no bfloat16, and no float8
        raise TypeError(f"{path}: expected tensors of float32 or float64, got {error}; {_SAVE_FLOATS}") from error
    narrow = {part.dtype.name for part in tensors.values() if "float" in part.dtype.name} - {"float32", "float64"}
    if narrow:  # where ml_dtypes is installed, NumPy has bfloat16
        raise TypeError(
            f"{path}: expected tensors of float32 or float64, got {', '.join(sorted(narrow))}; {_SAVE_FLOATS}"
        )
    first, second = trees.two_layers(str(path), trees.nested(tensors), names)
    return [first, Activation("the activation", _activation(path, activation, noted)), second]


def _activation(path: str | os.PathLike[str], given: str | None, noted: str | None) -> str:
    if given is None and noted is None:
        raise ValueError(f'{path}: names no activation; pass activation=..., such as "relu"')
    if given is not None and noted is not None and parse_activation(given) != parse_activation(noted):
        raise ValueError(f"activation: expected None, or that of {path}, {noted!r}, got {given!r}")
    return str(given or noted)
