"""CuPy without a GPU: arrays that NumPy computes, and that are as strict as CuPy's.

Where CuPy would raise, these do: NumPy's arrays do not mix with them, NumPy cannot read them, and functions have only
the arguments that CuPy's have.  The module stands in for ``cupy`` itself: `DeviceArray` is its ``ndarray``, and every
function of NumPy is found here under its name.
"""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

NOT_IN_CUPY = {"initial", "where", "casting", "device"}  # arguments; NumPy hands on device=None with like=
CUDA = 2  # a kind of device of the DLPack standard


class _Current:
    """A context in which it is the current one of its kind."""

    stack: ClassVar[list[Any]]

    def __enter__(self) -> Any:
        self.stack.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        assert self.stack.pop() is self


class Device(_Current):
    """A GPU by its number, or the current one."""

    stack: ClassVar[list[Any]] = []

    def __init__(self, number: int | None = None) -> None:
        self.id: int = (self.stack[-1].id if self.stack else 0) if number is None else number


class ExternalStream(_Current):
    """A stream of another library, before CuPy 14."""

    stack: ClassVar[list[Any]] = []

    def __init__(self, ptr: int, device_id: int = -1) -> None:
        self.ptr, self.device_id, self.waits = ptr, device_id, 0

    def synchronize(self) -> None:
        self.waits += 1


class Stream(ExternalStream):
    """A stream."""

    @classmethod
    def from_external(cls, of: Any) -> Stream:
        """One of another library, by the protocol of CUDA's streams."""
        version, address = of.__cuda_stream__()
        assert version == 0
        return cls(address)


class CompileException(Exception):  # noqa: N818 - its name in CuPy
    """Of NVRTC."""


cuda = SimpleNamespace(
    Device=Device,
    Stream=Stream,
    ExternalStream=ExternalStream,
    get_current_stream=lambda: ExternalStream.stack[-1] if ExternalStream.stack else Stream(0),
    compiler=SimpleNamespace(CompileException=CompileException),
)


class DeviceArray(NDArrayOperatorsMixin):
    """An array on a device of its own."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.device = Device()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__":
            return NotImplemented
        if ufunc is np.matmul:  # row by row: the bits of OpenBLAS depend on where in the matrix a row lies
            left, right = _unwrapped(inputs)
            return DeviceArray((left[:, None, :] @ right)[:, 0])
        return _wrapped(ufunc(*_unwrapped(inputs), **_allowed(options)))

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        if function is np.asarray:  # with like=: the one that takes NumPy's arrays
            return asarray(*inputs)
        return _wrapped(function(*_unwrapped(inputs), **_allowed(options)))

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    @property
    def data(self) -> Any:
        """Where it lies."""
        return SimpleNamespace(ptr=self._values.ctypes.data)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.device.id

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("it lies on a device")

    def __getitem__(self, index: Any) -> Any:
        return _wrapped(self._values[_unwrapped(index)])

    def __setitem__(self, index: Any, values: Any) -> None:
        self._values[_unwrapped(index)] = _unwrapped(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self._values, name)
        if not callable(found) or name == "dtype":
            return _wrapped(found)
        return lambda *inputs, **options: _wrapped(found(*_unwrapped(inputs), **_allowed(options)))

    def __len__(self) -> int:
        return len(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __int__(self) -> int:
        return int(self._values)

    def __float__(self) -> float:
        return float(self._values)

    def __format__(self, wanted: str) -> str:
        return format(self._values, wanted)

    def get(self) -> np.ndarray:
        """A copy for NumPy."""
        return self._values.copy()


ndarray = DeviceArray


def asarray(values: Any, dtype: Any = None) -> DeviceArray:
    """To the device, or the same array if it is there."""
    if isinstance(values, DeviceArray):
        if values.device.id != Device().id:  # as CuPy copies from one GPU to another
            values = DeviceArray(values._values.copy())
        return values if dtype is None or values.dtype == dtype else values.astype(dtype)
    return DeviceArray(np.array(values, dtype=dtype))


def asnumpy(values: DeviceArray) -> np.ndarray:
    """From the device."""
    return values.get()


def ascontiguousarray(values: DeviceArray) -> DeviceArray:
    """The same array, or a copy row by row."""
    return DeviceArray(np.ascontiguousarray(values._values))


def from_dlpack(values: Any) -> DeviceArray:
    """An array of a library on the same device."""
    return asarray(values)


def fuse(kernel_name: str) -> Any:
    """A decorator: the function as it is."""
    assert kernel_name.isidentifier()
    return lambda function: function


def erf(values: DeviceArray) -> DeviceArray:
    """The error function, which is in ``cupyx.scipy.special``."""
    return DeviceArray(np.vectorize(math.erf, otypes=[values.dtype])(values._values))


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    function = getattr(np, name)
    return lambda *inputs, **options: _wrapped(function(*_unwrapped(inputs), **_allowed(options)))


def library() -> Any:
    """What the backend is given as CuPy."""
    return sys.modules[__name__]


def _unwrapped(value: Any) -> Any:
    if isinstance(value, DeviceArray):
        return value._values
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (tuple, list)):
        return type(value)(map(_unwrapped, value))
    return value


def _allowed(options: dict[str, Any]) -> dict[str, Any]:
    unknown = NOT_IN_CUPY & options.keys()
    if unknown:
        raise TypeError(f"{', '.join(unknown)}: not an argument of CuPy's function")
    return {name: _unwrapped(value) for name, value in options.items()}


def _wrapped(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return DeviceArray(np.asarray(value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(_wrapped, value))
    return value
