"""Every check of what a caller passes, once, for all backends; those of single values are in `pyfirstorder.checks`.

Each function takes an argument as it came and returns it as backends want it, or raises a TypeError (wrong kind) or a
ValueError (wrong value) that names the argument, what came and what was expected.
"""

from __future__ import annotations

import math
import numbers
from typing import Any, NamedTuple

import numpy as np

from pyfirstorder import arrays, backends, checks, hints, processors
from pyfirstorder.backends.reference.losses import LOSSES
from pyfirstorder.network import TwoLayerNetwork
from pyfirstorder.problem import DIRECTIONS, NORMS, STARTS, Array, Objective

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
LARGEST = {dtype: float(np.finfo(dtype).max) for dtype in _FLOATS}  # number of a type
_CLASS_LOSSES = ("cross_entropy", "margin", "dlr")
_SMALLEST_OUTPUTS = {"cross_entropy": 2, "margin": 2, "dlr": 2}
_NORM_SPELLINGS = {"inf": "linf", "infinity": "linf", "2": "l2", "1": "l1", math.inf: "linf", 2: "l2", 1: "l1"}


class Points(NamedTuple):
    """Inputs as rows, and how to give results back."""

    rows: Array  # T (B, d), C-contiguous, native
    shape: tuple[int, ...]  # of the caller's array
    invalid: Array | None  # bool (B,): rows that are not finite, with on_invalid="mark"


def network(value: object) -> TwoLayerNetwork:
    """A network."""
    if not isinstance(value, TwoLayerNetwork):
        raise TypeError(f"net: expected a TwoLayerNetwork, got {checks.describe(value)}{hints.for_model(value)}")
    return value


def norm(value: object) -> str:
    """linf, l2 or l1 from any of their spellings."""
    if type(value) is str and value in NORMS:
        return value
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (str, numbers.Real)):
        raise TypeError(f"norm: expected 'linf', 'l2', 'l1', inf, 2 or 1, got {checks.describe(value)}")
    spelled = value.lower() if isinstance(value, str) else value
    name = spelled if spelled in NORMS else _NORM_SPELLINGS.get(spelled)
    if name is None:
        meant = hints.did_you_mean(value, NORMS) if isinstance(value, str) else ""
        raise ValueError(f"norm: expected 'linf', 'l2', 'l1', inf, 2 or 1, got {checks.describe(value)}{meant}")
    return str(name)


def random_start(value: object) -> str:
    """Where to start: False, True (the ball), "ball" or "sphere"."""
    if value is False:
        return "none"
    if isinstance(value, (bool, np.bool_)):
        return "ball" if value else "none"
    if not isinstance(value, str) or value not in STARTS[1:]:
        kind = ValueError if isinstance(value, str) else TypeError
        meant = hints.did_you_mean(value, STARTS[1:]) if isinstance(value, str) else ""
        raise kind(f"random_start: expected False, True, 'ball' or 'sphere', got {checks.describe(value)}{meant}")
    return value


def direction(value: object) -> str:
    """The name of an ascent direction."""
    return checks.choice("direction", value, DIRECTIONS)


def backend(value: object) -> str:
    """The name of a backend, or auto; whether it is available here is known to the registry."""
    name, known = checks.text("backend", value), ("auto", *backends.names())
    if name not in known:
        others, meant = ", ".join(map(repr, known[1:])), hints.did_you_mean(name, known)
        raise ValueError(f"backend: expected 'auto' or one of {others}, got {name!r}{meant}")
    return name


def threads(value: object) -> int:
    """A thread count; None means every processor that this process may use."""
    if value is None:
        return processors.available()
    return checks.integer("threads", value, 1, 1024)


_MOST_FOR_A_HINT = 2**24  # numbers that a message looks at: a view may have more than any memory


def floats(name: str, value: object, on_device: bool = False) -> Array:
    """An array of float32 or float64, C-contiguous and in native byte order."""
    array = checks.array(name, value, on_device)
    if array.dtype in _FLOATS and array.flags.c_contiguous and array.ndim:
        return array
    dtype = array.dtype.newbyteorder("=")
    if dtype not in _FLOATS:
        hint = ""
        if dtype.kind in "iub":
            largest = 0.0
            if array.size > _MOST_FOR_A_HINT:
                largest = 255.0
            elif array.size and array.min() >= 0:
                largest = float(array.max())
            scaled = f"images with {{}} / {hints.divisor(largest):g}" if largest > 1 else "with {}"
            hint = f"; convert {scaled.format(arrays.conversion(name, value))}"
        elif dtype.kind == "f":
            hint = f"; convert with {arrays.conversion(name, value)}"
        raise TypeError(f"{name}: expected an array of float32 or float64, got {checks.describe(value)}{hint}")
    try:
        return np.ascontiguousarray(array, dtype=dtype, like=array) if array.ndim else array.astype(dtype)
    except MemoryError as error:
        raise checks.out_of_memory(name, error) from None


def points(name: str, value: object, features: int, mark_invalid: bool = False, on_device: bool = False) -> Points:
    """Inputs (B, ...) of ``features`` coordinates each, in main memory or, where they may be, on a GPU."""
    array = floats(name, value, on_device)
    if array.ndim < 2 or math.prod(array.shape[1:]) != features:
        hint = f"; one sample needs a batch axis: {name}[None]" if array.size == features and array.ndim else ""
        raise ValueError(
            f"{name}: expected shape (batch, ...) with {features} numbers a sample, got {array.shape}{hint}"
        )
    rows = array.reshape(len(array), features)
    if not mark_invalid:
        return Points(_finite_rows(name, rows), array.shape, None)
    if checks.all_finite(rows):
        return Points(rows, array.shape, None)
    return Points(rows, array.shape, np.logical_not(np.isfinite(rows).all(axis=1)))


def _finite_rows(name: str, rows: Array) -> Array:
    if not checks.all_finite(rows):
        invalid = ~np.isfinite(rows).all(axis=1)
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity first in row {np.argmax(invalid)}")
    return rows


def per_sample(name: str, value: object, samples: int, smallest: float = 0.0) -> Array:
    """A finite-or-infinite number >= ``smallest`` per sample, from a scalar or an array (B,), as float64."""
    try:
        return _per_sample(name, value, samples, smallest)
    except MemoryError as error:
        raise checks.out_of_memory(name, error) from None


def _per_sample(name: str, value: object, samples: int, smallest: float) -> Array:
    array = arrays.in_main_memory(checks.array(name, value, on_device=True))
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected a number or an array of numbers, got {checks.describe(value)}")
    if array.shape not in ((), (samples,)):
        raise ValueError(f"{name}: expected a scalar or shape ({samples},), one per sample, got shape {array.shape}")
    array = array.astype(np.float64)
    bad = ~(array >= smallest)
    if bad.any():
        where = f" in row {np.argmax(bad)}" if array.ndim else ""
        raise ValueError(f"{name}: expected numbers of at least {smallest:g}, got {array[bad][0]}{where}")
    return np.ascontiguousarray(np.broadcast_to(array, samples))


def radii(name: str, value: object, samples: int, dtype: np.dtype[Any]) -> Array:
    """A radius per sample: infinity, or a number that the type of the points can hold."""
    if type(value) is float and 0 <= value <= LARGEST[dtype]:
        return np.full(samples, value)
    array = per_sample(name, value, samples)
    within_range(name, array[np.isfinite(array)], dtype)
    return array


def finite_per_sample(name: str, value: object, samples: int, dtype: np.dtype[Any]) -> Array:
    """A number of at least 0 per sample that the type of the points can hold."""
    if type(value) is float and 0 <= value <= LARGEST[dtype]:
        return np.full(samples, value)
    array = per_sample(name, value, samples)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got infinity in row {np.argmax(np.isinf(array))}")
    within_range(name, array, dtype)
    return array


def within_range(name: str, values: Array, dtype: np.dtype[Any]) -> None:
    """Refuse numbers that are beyond the range of a floating type."""
    largest = LARGEST[dtype]
    if (values > largest).any():
        raise ValueError(f"{name}: expected at most {largest:g}, the largest {dtype}, got {values.max():g}")


def increasing(name: str, value: object) -> Array:
    """A list of increasing numbers of at least 0, as float64."""
    try:
        return _increasing(name, value)
    except MemoryError as error:
        raise checks.out_of_memory(name, error) from None


def _increasing(name: str, value: object) -> Array:
    array = checks.array(name, value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected a list of numbers, got {checks.describe(value)}")
    array = array.astype(np.float64)
    if array.ndim != 1 or not len(array) or not (array >= 0).all():
        raise ValueError(f"{name}: expected a list of increasing numbers of at least 0, got {checks.describe(value)}")
    falls = np.flatnonzero(np.diff(array) <= 0)
    if falls.size:
        first, second = array[falls[0]], array[falls[0] + 1]
        raise ValueError(f"{name}: expected a list of increasing numbers of at least 0, got {second:g} after {first:g}")
    return array


def like(name: str, value: object, points: Points) -> Array:
    """Rows of the same shape and type as the points; of those that are marked nothing is asked, and they become 0."""
    array = arrays.beside(floats(name, value, on_device=arrays.is_on_device(points.rows)), points.rows)
    if array.shape != points.shape or array.dtype != points.rows.dtype:
        raise ValueError(
            f"{name}: expected shape {points.shape} and type {points.rows.dtype}, got {array.shape} and {array.dtype}"
        )
    rows = array.reshape(points.rows.shape)
    if points.invalid is not None:
        rows = np.where(points.invalid[:, None], rows.dtype.type(0), rows)
    return _finite_rows(name, rows)


def objective(
    net: TwoLayerNetwork,
    value: object,
    samples: int,
    dtype: np.dtype[Any],
    loss: object,
    targeted: bool,
    rows: Array | None = None,
) -> Objective:
    """The targets y, where the rows lie that they belong to, and the loss that they are for."""
    k = net.out_features
    if rows is None:
        array = checks.array("y", value)
    else:
        array = arrays.beside(checks.array("y", value, on_device=arrays.is_on_device(rows)), rows)
    if loss is None:
        loss = default_loss(k, array.dtype.kind == "f")
    loss = checks.choice("loss", loss, LOSSES)
    if loss in _CLASS_LOSSES:
        smallest = _SMALLEST_OUTPUTS[loss] if not (loss == "dlr" and targeted) else 4
        if k < smallest:
            kind = "targeted dlr" if loss == "dlr" and targeted else loss
            raise ValueError(f"loss: {kind} needs at least {smallest} outputs, got a network with {k}")
    elif loss == "logistic" and k != 1:
        raise ValueError(f"loss: logistic needs a network with 1 output, got {k}")
    try:
        if loss in _CLASS_LOSSES:
            return Objective(loss, targeted, _labels(array, value, samples, k), None)
        if loss == "logistic":
            return Objective(loss, targeted, None, _signs(array, value, samples, dtype))
        return Objective(loss, targeted, None, _values(net, array, value, samples, dtype))
    except MemoryError as error:
        raise checks.out_of_memory("y", error) from None


def default_loss(outputs: int, floating: bool = False) -> str:
    """The loss for a network with that many outputs, and targets of a floating type or not."""
    if outputs > 1:
        return "cross_entropy"
    return "squared" if floating else "logistic"


def _labels(array: Array, value: object, samples: int, classes: int) -> Array:
    if array.dtype.kind not in "iu":
        raise TypeError(f"y: expected integer class indices, got {checks.describe(value)}{_as_indices(array, classes)}")
    if array.shape != (samples,):
        hint = _as_indices(array, classes)
        raise ValueError(f"y: expected shape ({samples},), one class index per sample, got {array.shape}{hint}")
    # A copy of it is checked and used: another thread may write to y meanwhile, and engines index by what passed here.
    labels: Array = array.astype(np.int64, order="C")
    if not arrays.is_on_device(labels) and np.logical_and.reduce(labels.view(np.uint64) < classes):
        return labels  # what is negative is large there
    is_wrong = (labels < 0) | (labels >= classes)
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        raise ValueError(
            f"y: expected class indices from 0 to {classes - 1}, got {array[row]} in row {row}; of classes with other "
            "names take their places, np.searchsorted(classes, y)"
        )
    return labels


def _as_indices(array: Array, classes: int) -> str:
    """What makes class indices of labels of another kind."""
    if array.ndim == 2 and array.shape[1] == classes:
        return "; of one-hot labels take y.argmax(1)"
    if array.ndim == 2 and array.shape[1] == 1:
        return "; take y[:, 0]"
    if array.dtype.kind == "f" and array.ndim == 1:
        return "; convert with y.astype(int), or y.long() in torch"
    if array.dtype.kind in "UOS":
        return "; of classes with names take their places, np.searchsorted(classes, y)"
    return ""


def _signs(array: Array, value: object, samples: int, dtype: np.dtype[Any]) -> Array:
    if array.dtype.kind not in "iuf":
        raise TypeError(f"y: expected -1 or +1 per sample, got {checks.describe(value)}")
    if array.shape not in ((samples,), (samples, 1)):
        raise ValueError(f"y: expected shape ({samples},), one sign per sample, got {array.shape}")
    signs = array.reshape(samples, 1)
    bad = (signs != 1) & (signs != -1)
    if bad.any():
        row = int(np.argmax(bad))
        hint = "; turn classes 0 and 1 into signs with 2 * y - 1" if signs[row, 0] == 0 else ""
        raise ValueError(f"y: expected -1 or +1, got {signs[row, 0]} in row {row}{hint}")
    return np.ascontiguousarray(signs, dtype=dtype, like=array)


def _values(net: TwoLayerNetwork, array: Array, value: object, samples: int, dtype: np.dtype[Any]) -> Array:
    if array.dtype.kind != "f":
        raise TypeError(f"y: expected an array of floating-point targets, got {checks.describe(value)}")
    k = net.out_features
    allowed = ((samples, k), (samples,)) if k == 1 else ((samples, k),)
    if array.shape not in allowed:
        raise ValueError(f"y: expected shape {' or '.join(map(str, allowed))}, got {array.shape}")
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(array.reshape(samples, k), dtype=dtype, like=array)
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise ValueError(f"y: expected finite numbers of {dtype}, got NaN or infinity first in row {np.argmax(bad)}")
    return rows
