"""Ctrl-C while another library computes that does not look at signals, such as LAPACK or HiGHS.

Python hears of a signal between two of its own instructions, and in its main thread alone.  So from there a long call
goes to another thread, and the main one waits for it, which a signal ends at once.  A call that is left behind computes
on until it ends by itself, and its result is dropped.
"""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.problem import Array

    Result = TypeVar("Result")

_LOOK = 0.05  # seconds: on Windows a signal does not end a wait
_LONG_MATRIX = 2**17  # numbers: the eigenvalues of a matrix of 362 rows take 20 ms, a thread 0.1 ms


def aside(function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """``function(*arguments, **options)``, which an exception of a signal handler does not wait for.

    The function must let go of the interpreter while it computes, and write to nothing that the caller keeps.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments, **options)
    results: list[Result] = []
    errors: list[BaseException] = []
    ended = threading.Event()

    def run() -> None:
        try:
            results.append(function(*arguments, **options))
        except BaseException as error:  # raised again below
            errors.append(error)
        ended.set()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no more threads are to be had
        return function(*arguments, **options)
    while not ended.wait(_LOOK):
        pass
    if errors:
        raise errors[0]
    return results[0]


def of_matrix(function: Callable[..., Result], matrix: Array) -> Result:
    """``function(matrix)``, aside where the matrix is large."""
    return function(matrix) if matrix.size < _LONG_MATRIX else aside(function, matrix)
