"""A device that is not there: a library of arrays whose memory is watched, and an engine whose calls are kept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import stand_in
from stand_in import DeviceArray

STREAM = 0xC0FFEE  # the caller's: never followed on fibres
GUARD_BYTES = 4096
GUARD = 0xA5


class Engine:
    """The compiled kernels, and what they were called with."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.PADDING = module.PADDING
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.module, name)
        if not name.startswith("run"):
            return function

        def run(operation: str, entries: dict[str, Any]) -> None:
            self.calls.append((operation, entries))
            function(operation, entries)

        return run


class FakeLibrary:
    """CuPy with a memory that is watched."""

    ndarray = DeviceArray

    def __init__(self, pattern: int = 0xFF, memory: int | None = None) -> None:
        self.pattern = pattern
        self.allocations_left = memory
        self.guarded: list[tuple[np.ndarray, int]] = []
        self.workspaces: list[int] = []
        self.copies = self.waits = 0
        stream = SimpleNamespace(ptr=STREAM, synchronize=self._wait)
        self.cuda = SimpleNamespace(Device=lambda: SimpleNamespace(id=0), get_current_stream=lambda: stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(stand_in, name)

    def empty(self, shape: Any, dtype: Any) -> DeviceArray:
        self._allocate()
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        if dtype == np.uint8:
            self.workspaces.append(size)
        memory = np.full(size + 2 * GUARD_BYTES, GUARD, dtype=np.uint8)
        inside = memory[GUARD_BYTES : GUARD_BYTES + size]
        inside[:] = self.pattern
        self.guarded.append((memory, size))
        if dtype.kind == "b":
            inside[:] = self.pattern & 1
        return DeviceArray(inside.view(dtype).reshape(shape))

    def full(self, shape: Any, value: Any, dtype: Any) -> DeviceArray:
        array = self.empty(shape, dtype)
        array[...] = value
        return array

    def asarray(self, values: Any, dtype: Any = None) -> DeviceArray:
        if not isinstance(values, DeviceArray):
            self._allocate()
            self.copies += 1
        return stand_in.asarray(values, dtype)

    def asnumpy(self, values: DeviceArray) -> np.ndarray:
        self.copies += 1
        return values.get()

    def _allocate(self) -> None:
        if self.allocations_left is not None:
            self.allocations_left -= 1
            if self.allocations_left < 0:
                raise OutOfMemoryError("Out of memory allocating 1,024 bytes")

    def _wait(self) -> None:
        self.waits += 1

    def hold_guards(self) -> None:
        """Nothing was written beside an array."""
        for memory, size in self.guarded:
            assert np.all(memory[:GUARD_BYTES] == GUARD), f"written before an array of {size} bytes"
            assert np.all(memory[GUARD_BYTES + size :] == GUARD), f"written behind an array of {size} bytes"


class OutOfMemoryError(MemoryError):
    """CuPy's, which is a MemoryError too."""
