"""Arguments as JAX's arrays, and the options of an attack that are arrays apart from those that are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise ImportError("jax is not installed: pip install jax") from error

import numpy as np

from pyfirstorder import checks
from pyfirstorder.interop.jax.host import NUMBERS, PER_SAMPLE

if TYPE_CHECKING:
    from pyfirstorder.interop.jax.derivatives import Array, Options

_MAY_BE_ARRAYS = (*PER_SAMPLE, *NUMBERS, "x_init", "bounds")


def split(options: dict[str, Any]) -> tuple[Options, dict[str, Array]]:
    """Options that are fixed when a program is traced, and those that are arrays, known when it runs."""
    fixed, arrays = {}, {}
    for name, value in options.items():
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)) and name not in _MAY_BE_ARRAYS:
            raise TypeError(
                f"{name}: expected a value that is known when the program is traced, got a traced array; "
                f"close over it or name it in static_argnames of jax.jit"
            )
        if name == "bounds":
            is_pair = isinstance(value, (tuple, list)) and len(value) == 2
            if is_pair and any(isinstance(side, (jax.Array, np.ndarray, list, tuple)) for side in value):
                arrays["lower"], arrays["upper"] = (array("bounds", side) for side in value)
            else:
                fixed[name] = tuple(value) if is_pair else value
        elif name in NUMBERS and isinstance(value, np.ndarray) and value.ndim == 0:
            fixed[name] = value.item()  # exact, whatever types JAX has
        elif name in _MAY_BE_ARRAYS and isinstance(value, (jax.Array, np.ndarray, list, tuple)):
            arrays[name] = _number(name, value) if name in NUMBERS else array(name, value)
        else:
            fixed[name] = value
    return tuple(sorted(fixed.items())), arrays


def _number(name: str, value: Any) -> Array:
    number = array(name, value)
    kinds = "iu" if name in ("seed", "sample_offset") else "iuf"
    if number.shape != () or number.dtype.kind not in kinds:
        wanted = "an integer" if kinds == "iu" else "a number"
        raise TypeError(f"{name}: expected {wanted}, got {checks.describe(number)}")
    return number


def array(name: str, value: Any) -> Array:
    """The array that JAX makes of a value, without the loss of an integer."""
    if isinstance(value, jax.Array):
        return value
    if any(isinstance(leaf, jax.Array) or hasattr(leaf, "__jax_array__") for leaf in jax.tree.leaves(value)):
        read = value
    else:
        read = checks.array(name, value)
        _refuse_wide_integers(name, read)
    try:
        return jnp.asarray(read)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name}: expected an array, got {checks.describe(value)}") from error


def _refuse_wide_integers(name: str, read: np.ndarray[Any, Any]) -> None:
    """Without x64, JAX would wrap them silently."""
    if read.dtype.kind not in "iu":
        return
    kept = jax.dtypes.canonicalize_dtype(read.dtype)
    least, largest = np.iinfo(kept).min, np.iinfo(kept).max
    wide = (read < least) | (read > largest)
    if wide.any():
        raise ValueError(
            f"{name}: expected integers from {least} to {largest}, as JAX has none wider than {kept} without "
            f"jax_enable_x64, got {read[wide][0]}"
        )
