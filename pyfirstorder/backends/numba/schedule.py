"""Threads and blocks: who runs which tiles, and when Python looks up.

A compiled call cannot be interrupted, so work is cut into calls of about a twentieth of a second.  Neither blocks nor
tiles nor threads change a bit of any answer.

Numba's own pool of threads has two traps.  Its "workqueue" layer ends the process when two Python threads enter it at
once, hence the lock.  Its OpenMP layer ends a forked child that enters it, hence one thread there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba

from pyfirstorder.backends.numba import entries
from pyfirstorder.backends.numba.entries import Entries

SECONDS_PER_CALL = 0.05  # Ctrl-C is heard within 0.2 s even at a quarter of the speed assumed below
FLOPS_PER_SECOND = 1e10  # of one thread; a 2-core AVX-512 machine gave 1.5e10 to 2.5e10
FLOPS_PER_FEATURE = 100  # of a step beside its products: direction, projection, checks
FLOPS_PER_UNIT = 100  # activation and its derivative
TILE = 8  # samples that share the reading of the weights; more make the tile leave the second-level cache
TILES_PER_THREAD = 4  # in a block, at least: tiles end at different times
MOST_ROWS = 1024  # in flight, however cheap: bounds the memory

_numba: Any = numba  # its stubs lack the functions of the thread pool
_lock = threading.Lock()
_forked = False


def _note_fork() -> None:
    global _forked, _lock
    _forked, _lock = True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


@contextmanager
def workers(threads: int, rows: int) -> Iterator[tuple[Entries, int]]:
    """The entry points to call and the number of threads that they will use."""
    count = max(1, min(threads, rows, _numba.config.NUMBA_NUM_THREADS))
    if count == 1 or (_forked and _openmp_is_running()):
        yield entries.SERIAL, 1
        return
    before = _numba.get_num_threads()
    _numba.set_num_threads(count)
    try:
        yield _locked(entries.PARALLEL), count
    finally:
        _numba.set_num_threads(before)


def _openmp_is_running() -> bool:
    try:
        return bool(_numba.threading_layer() == "omp")
    except ValueError:  # no layer has been started
        return False


def _locked(functions: Entries) -> Entries:
    def guard(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with _lock:
                return function(*arguments)

        return call

    return Entries(*map(guard, functions))


def flops_per_step(shape: tuple[int, int, int]) -> float:
    """Of one job on a network of shape (d, m, k)."""
    features, hidden, outputs = shape
    return 4.0 * hidden * (features + outputs) + FLOPS_PER_FEATURE * features + FLOPS_PER_UNIT * hidden


def tile_size(rows: int, threads: int) -> int:
    """Rows to a tile: few, where there are few rows for each thread."""
    return max(1, min(TILE, -(-rows // threads)))


def block_rows(rows: int, threads: int, flops: float) -> int:
    """Rows of a call that take the time of a call, but enough to keep the threads busy."""
    affordable = int(SECONDS_PER_CALL * FLOPS_PER_SECOND * threads / flops)
    return max(1, min(rows, max(affordable, TILES_PER_THREAD * TILE * threads), MOST_ROWS))


def steps_per_call(rows: int, threads: int, flops: float) -> int:
    """How many steps of that many rows take the time of a call."""
    return max(1, int(SECONDS_PER_CALL * FLOPS_PER_SECOND * threads / (flops * rows)))


def blocks(rows: int, threads: int, flops: float) -> Iterator[tuple[int, int]]:
    """First row and number of rows of each call."""
    size = block_rows(rows, threads, flops)
    for first in range(0, rows, size):
        yield first, min(size, rows - first)
