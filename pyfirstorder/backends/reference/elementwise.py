"""Elementwise equations, which an array library may compile into one kernel.

The equations are written on NumPy's functions, and those hand the arrays of another library over to it (NEP 13 and 18),
one kernel for each function.  A library that can do better with a whole equation says so in ``COMPILERS``.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Function = Callable[..., Any]

COMPILERS: dict[type, Callable[[Function], Function]] = {}  # by type of array


def elementwise(function: Function) -> Function:
    """The function, compiled as a whole where the library of its first argument can."""

    @wraps(function)
    def call(*arguments: Any) -> Any:
        compiled = COMPILERS.get(type(arguments[0]))
        return (function if compiled is None else compiled(function))(*arguments)

    return call
