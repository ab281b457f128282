"""Checks of single values: each returns the argument as it is wanted, or raises an error that names it.

A TypeError is for the wrong kind and a ValueError for the wrong value; both say what came and what was expected.
"""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder import arrays, hints

if TYPE_CHECKING:
    from collections.abc import Collection

    from pyfirstorder.problem import Array

_LONGEST_SHOWN = 60  # characters of a value in a message
_NUMBERS_AT_ONCE = 2**24  # looked at in one call of NumPy, 20 ms, so that Ctrl-C is heard in between


def choice(name: str, value: object, allowed: Collection[str]) -> str:
    """One of a list of names."""
    if type(value) is str and value in allowed:
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {describe(value)}")
    if value not in allowed:
        meant = hints.did_you_mean(value, allowed)
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}{meant}")
    return value


def text(name: str, value: object) -> str:
    """A string."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a name, got {describe(value)}")
    return value


def flag(name: str, value: object) -> bool:
    """True or False."""
    if value is True or value is False:
        return value
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {describe(value)}")
    return bool(value)


def integer(name: str, value: object, smallest: int, largest: int) -> int:
    """An integer of a range."""
    if type(value) is int and smallest <= value <= largest:
        return value
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: expected an integer, got {describe(value)}")
    if not smallest <= int(value) <= largest:
        raise ValueError(f"{name}: expected an integer from {smallest} to {largest}, got {describe(int(value))}")
    return int(value)


def real(name: str, value: object, smallest: float, largest: float) -> float:
    """A number of a closed range."""
    if type(value) is float and smallest <= value <= largest:
        return value
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a number, got {describe(value)}")
    number = as_float(value)
    if not smallest <= number <= largest:
        shown = describe(value) if isinstance(value, int) else value
        raise ValueError(f"{name}: expected a number from {smallest:g} to {largest:g}, got {shown}")
    return number


def float_type(name: str, value: Any) -> np.dtype[Any]:
    """What NumPy takes for a type; whether it is one of those that are computed in is for the caller to say."""
    try:
        return np.dtype(value)
    except TypeError:
        raise TypeError(f"{name}: expected float32 or float64, got {describe(value)}") from None


def as_float(value: Any) -> float:
    """The number in float64, infinity where it is beyond its range."""
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def array(name: str, value: object, on_device: bool = False) -> Array:
    """The array that NumPy reads the value as; one of another library is not copied, and may lie on a GPU if it may."""
    if type(value) is np.ndarray:
        return value if value.flags.aligned else _aligned(name, value)
    if arrays.is_foreign(value):
        return arrays.read(name, value, on_device)
    if hints.is_sparse(value):
        raise TypeError(f"{name}: expected a dense array, got {describe(value)} that is sparse; pass {name}.toarray()")
    if np.ma.is_masked(value):
        raise ValueError(f"{name}: expected an array without masked elements, got {describe(value)}")
    try:
        return np.asarray(value)
    except MemoryError as error:
        raise out_of_memory(name, error) from None
    except ValueError:  # lists of different lengths
        raise ValueError(f"{name}: expected an array, got a {type(value).__name__} that NumPy cannot read") from None
    except Exception as error:  # whatever an object raises when it is asked for its numbers
        raise TypeError(
            f"{name}: expected an array, got {describe(value)}, which NumPy cannot read: {error}"
        ) from error


def _aligned(name: str, value: Array) -> Array:
    """A copy of an array whose numbers lie across the boundaries of their type, as those of a packed record do."""
    try:
        return value.copy()
    except MemoryError as error:
        raise out_of_memory(name, error) from None


def out_of_memory(name: str, error: MemoryError) -> MemoryError:
    """The same error with the name of the argument that there is no room for."""
    return MemoryError(f"{name}: {error}" if str(error) else f"{name}: there is no memory for it")


def all_finite(array: Array) -> bool:
    """Whether an array holds neither NaN nor infinity."""
    if array.size <= _NUMBERS_AT_ONCE or arrays.is_on_device(array):
        return every(np.isfinite(array))
    rows = max(1, _NUMBERS_AT_ONCE * len(array) // array.size)
    return all(every(np.isfinite(array[first : first + rows])) for first in range(0, len(array), rows))


def every(flags: Array) -> bool:
    """Whether all are true; NumPy's own reduction takes half the time of its method."""
    return bool(flags.all() if arrays.is_on_device(flags) else np.logical_and.reduce(flags, axis=None))


def describe(value: object) -> str:
    """What came, in a few words."""
    try:
        return _described(value)
    except Exception:  # an object that cannot be shown, or is not what it says that it is
        return f"a {type(value).__name__}"


def _described(value: object) -> str:
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is not None and isinstance(shape, (tuple, list)):
        masked = "masked " if np.ma.is_masked(value) else ""
        return f"a{'' if masked else 'n'} {masked}array of {dtype} with shape {tuple(shape)}"
    if isinstance(value, int) and value.bit_length() > 64 + 1:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} that NumPy {_reading_of(value)}"
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_SHOWN else type(value).__name__


def _reading_of(value: Any) -> str:
    try:
        return f"reads as {np.asarray(value).dtype}"
    except (ValueError, MemoryError):
        return "cannot read"
