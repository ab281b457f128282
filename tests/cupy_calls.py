"""Whether CuPy would take every call that the cupy backend makes: CuPy must be installed, and no GPU is needed.

    make cupy-calls

The tests of the backend run on a stand-in (`stand_in`).  Here every kind of call that it is asked, by function, types,
axes and options, is made again on arrays of CuPy's whose memory is the processor's: CuPy looks at the arguments, finds
its function, and fails where it asks for a device.  Any other error is one that a GPU's user would see.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cupy
import numpy as np
import pytest
import stand_in
from stand_in import DeviceArray

TESTS = ("test_trajectories.py", "test_promises.py", "test_random_start.py", "test_extremes.py", "test_sweeps.py")
# What a machine without a GPU and its libraries may lack.
EXPECTED = (cupy.cuda.runtime.CUDARuntimeError, ImportError)


def on_host(value: Any) -> Any:
    """CuPy's array of the same type and shape, in main memory; containers with such arrays; any other value itself."""
    if isinstance(value, DeviceArray):
        shape, dtype = value._values.shape, value._values.dtype
        memory = np.zeros(max(value._values.nbytes, 1), dtype=np.uint8)
        unowned = cupy.cuda.UnownedMemory(memory.ctypes.data, memory.nbytes, memory, 0)
        return cupy.ndarray(shape, dtype=dtype, memptr=cupy.cuda.MemoryPointer(unowned, 0))
    if isinstance(value, (tuple, list)):
        return type(value)(map(on_host, value))
    return value


def kind_of(value: Any) -> Any:
    """What calls are told apart by."""
    if isinstance(value, DeviceArray):
        return str(value._values.dtype), value._values.ndim
    if isinstance(value, (tuple, list)):
        return tuple(map(kind_of, value))
    return type(value).__name__


class Calls:
    """The kinds of calls that were seen, and what CuPy said of those that it did not take."""

    def __init__(self) -> None:
        self.seen: set[Any] = set()
        self.refused: dict[str, str] = {}

    def repeat(self, name: str, call: Callable[..., Any], inputs: Any, options: dict[str, Any]) -> None:
        """The call on CuPy's arrays, the first time that one of its kind comes."""
        kind = name, kind_of(tuple(inputs)), tuple((key, kind_of(options[key])) for key in sorted(options))
        if kind in self.seen:
            return
        self.seen.add(kind)
        try:
            call(*map(on_host, inputs), **{key: on_host(value) for key, value in options.items()})
        except EXPECTED:
            pass
        except Exception as error:
            self.refused[str(kind)] = f"{type(error).__name__}: {error}"

    def watch(self) -> None:
        """See all that is asked of the stand-in."""
        array = DeviceArray
        functions, elementwise, attributes = array.__array_function__, array.__array_ufunc__, array.__getattr__
        read, write, of_module = array.__getitem__, array.__setitem__, stand_in.__getattr__

        def function(own: Any, called: Any, types: Any, inputs: Any, options: Any) -> Any:
            if called not in (np.asarray, np.ascontiguousarray):  # whose like= is gone by now
                self.repeat(called.__name__, called, inputs, options)
            return functions(own, called, types, inputs, options)

        def ufunc(own: Any, called: Any, method: str, *inputs: Any, **options: Any) -> Any:
            if method == "__call__":
                self.repeat(called.__name__, called, inputs, options)
            return elementwise(own, called, method, *inputs, **options)

        def attribute(own: Any, name: str) -> Any:
            found = attributes(own, name)
            return self._watched(name, found, lambda array: getattr(array, name), (own,)) if callable(found) else found

        def get(own: Any, index: Any) -> Any:
            self.repeat("get", lambda array, at: array[at], (own, index), {})
            return read(own, index)

        def put(own: Any, index: Any, values: Any) -> None:
            self.repeat("set", lambda array, at, new: array.__setitem__(at, new), (own, index, values), {})
            write(own, index, values)

        def module(name: str) -> Any:
            return self._watched(name, of_module(name), lambda: getattr(cupy, name), ())

        array.__array_function__, array.__array_ufunc__, array.__getattr__ = function, ufunc, attribute  # type: ignore
        array.__getitem__, array.__setitem__, stand_in.__getattr__ = get, put, module  # type: ignore

    def _watched(self, name: str, found: Any, theirs: Callable[..., Any], of: tuple[Any, ...]) -> Any:
        def call(*inputs: Any, **options: Any) -> Any:
            self.repeat(
                name, lambda *own, **named: theirs(*own[: len(of)])(*own[len(of) :], **named), (*of, *inputs), options
            )
            return found(*inputs, **options)

        return call


if __name__ == "__main__":
    calls = Calls()
    calls.watch()
    folder = Path(__file__).parent
    status = pytest.main(["-q", "-p", "no:cacheprovider", "-k", "cupy", *(str(folder / name) for name in TESTS)])
    print(f"CuPy {cupy.__version__}: {len(calls.seen)} kinds of calls, {len(calls.refused)} refused")
    for kind, reason in calls.refused.items():
        print(f"{kind}: {reason}")
    sys.exit(int(status) or bool(calls.refused) or not calls.seen)
