"""What callers pass by mistake or malice, and the same numbers in every layout that NumPy knows."""

from __future__ import annotations

import datetime
import decimal
import fractions
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz.choices import Choices


class _RaisesWhenRead:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no array today")


class _RaisesWhenShown:
    def __repr__(self) -> str:
        raise RuntimeError("no name today")


class _LiesAboutItself:
    shape, dtype, ndim, size = 7, "float32", "two", None

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, _: Any) -> float:
        raise KeyError("nothing there")


class _Interface:
    """An array interface that points nowhere, but for no element."""

    __array_interface__ = {"shape": (0, 2**62), "typestr": "<f4", "data": (0, True), "version": 3}  # noqa: RUF012


def _holding_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


SCALARS: list[Any] = [
    *(
        np.nan,
        np.inf,
        -np.inf,
        -1.0,
        -0.0,
        0,
        0.0,
        5e-324,
        1e-310,
        1e-38,
        1e30,
        1e38,
        3.5e38,
        1e308,
        1.7976931348623157e308,
    ),
    *(1, 2, -1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400, -(10**400), True, False, None),
    *("", "0.1", "linf", "l2", "L1", "sphere", "best", b"l2", "\x00", "\ud800", "x" * 1000, "ℓ2"),
    *(0.1j, decimal.Decimal("0.1"), decimal.Decimal("nan"), fractions.Fraction(1, 3), datetime.date(2000, 1, 1)),
    *(np.float16(0.1), np.float32(0.1), np.longdouble(0.1), np.int8(1), np.uint64(2**64 - 1), np.bool_(True)),
    *(np.array(0.1), np.array([0.1]), np.array("0.1"), np.datetime64("2000"), np.ma.masked, np.str_("linf")),
    *(
        [],
        [0.1],
        [[]],
        [1, [2]],
        (0, 1),
        {},
        set(),
        object,
        object(),
        print,
        np,
        NotImplemented,
        ...,
        range(3),
        slice(3),
    ),
    *(_RaisesWhenRead(), _RaisesWhenShown(), _LiesAboutItself(), _Interface(), _holding_itself(), memoryview(b"1234")),
]

ODD_TYPES = ("f2", "g", "i1", "u1", "i8", "u8", "?", "c8", "c16", "O", "U3", "S3", "V4", "M8[s]", "m8[s]", "f4,f4")
# No machine has memory for them.  Views of 2**31 and 2**32 numbers, for which many have, would be read for minutes:
# those are called in a process of little memory (test_hostile_input.py).
HUGE = (2**40, 2**53, 2**61, 2**62 - 1, 2**63 - 1)


def _strided(array: np.ndarray) -> np.ndarray:
    wider = np.zeros((*array.shape[:-1], 2 * array.shape[-1] + 1), array.dtype)
    wider[..., 1::2] = array
    return wider[..., 1::2]


def _misaligned(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(b"\0" + np.ascontiguousarray(array).tobytes(), array.dtype, offset=1).reshape(array.shape)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.copy()
    view.flags.writeable = False
    return view


def _field(array: np.ndarray) -> np.ndarray:
    records = np.zeros(array.shape, [("other", "u1"), ("values", array.dtype)])
    records["values"] = array
    return records["values"]


# Each gives an array of the same numbers.
LAYOUTS: list[Callable[[np.ndarray], Any]] = [
    lambda array: array,
    np.asfortranarray,
    lambda array: np.ascontiguousarray(array[::-1])[::-1] if array.ndim else array,
    lambda array: np.ascontiguousarray(array[..., ::-1])[..., ::-1] if array.ndim else array,
    lambda array: _strided(array) if array.ndim else array,
    _misaligned,
    _read_only,
    _field,
    lambda array: array.astype(array.dtype.newbyteorder(">")),
    lambda array: array.view(type("Subclass", (np.ndarray,), {})),
    lambda array: np.ma.masked_array(array, mask=np.zeros(array.shape, bool)),
]


def hostile_scalar(choices: Choices) -> Any:
    """Any of the list."""
    return choices.one_of(SCALARS)


def hostile_array(choices: Choices, array: np.ndarray) -> Any:
    """An array that differs from a right one in one respect, or is none at all."""
    if not array.ndim or array.size > 10**4:  # the last: a view that is hostile already
        return hostile_scalar(choices)
    return choices.one_of(_CHANGES)(choices, array)


def _with_number(choices: Choices, array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    numbers = (np.nan, np.inf, -np.inf, 1e-310, 1e30, 1e38, 1.7e308, 255, -1, 2**31, 2**63 - 1)
    with np.errstate(over="ignore", invalid="ignore"):
        number = np.array(choices.one_of(numbers)).astype(array.dtype)
    if changed.size:
        changed.flat[choices.below(changed.size)] = number
    return changed


def _of_another_shape(choices: Choices, array: np.ndarray) -> np.ndarray:
    parts = (array[:-1], array[:0], array[0:1], array[..., :0])
    return choices.one_of((*parts, array[None], array[..., None], array.reshape(-1), array.T))


def _of_another_type(choices: Choices, array: np.ndarray) -> np.ndarray:
    if choices.flag():
        return array.astype(object)
    with np.errstate(over="ignore", invalid="ignore"):
        other = array.astype("f4" if array.dtype == np.float64 else "f8")
    return other if choices.flag() else np.zeros(array.shape, choices.one_of(ODD_TYPES))


def _larger_than_memory(choices: Choices, array: np.ndarray) -> np.ndarray:
    number = choices.one_of(HUGE)
    shape = choices.one_of(((number, *array.shape[1:]), (*array.shape[:-1], number), (number,), (0, number)))
    try:
        return np.broadcast_to(array.reshape(-1)[:1].reshape((1,) * len(shape)) if array.size else array, shape)
    except ValueError:  # too large for a view, too
        return array


def _of_one_number(choices: Choices, array: np.ndarray) -> np.ndarray:
    first = array.reshape(-1)[:1]
    return np.broadcast_to(first.reshape((1,) * array.ndim), array.shape) if array.size else array


def _scaled(choices: Choices, array: np.ndarray) -> np.ndarray:
    factor = choices.one_of((0, -1, 2))
    with np.errstate(over="ignore", invalid="ignore"):
        return array * np.array(factor, array.dtype) if array.dtype.kind in "iuf" else array


def _masked(choices: Choices, array: np.ndarray) -> np.ndarray:
    return np.ma.masked_array(array, mask=np.arange(array.size).reshape(array.shape) == 0)


_CHANGES: list[Callable[[Choices, np.ndarray], Any]] = [
    lambda choices, array: hostile_scalar(choices),
    _with_number,
    _of_another_shape,
    _of_another_type,
    _larger_than_memory,
    _of_one_number,
    _scaled,
    _masked,
    lambda choices, array: array.tolist(),
    lambda choices, array: [*array.tolist(), []],
]
