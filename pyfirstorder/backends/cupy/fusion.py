"""The reference's elementwise equations, compiled by ``cupy.fuse`` into one kernel each.

``cupy.fuse`` calls a function once with proxies in place of arrays, and CuPy's functions write down what is done to
them.  The equations call NumPy's; so each proxy is wrapped in a ``Traced``, which NumPy hands the call to.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from pyfirstorder.backends.reference import activations

if TYPE_CHECKING:
    from collections.abc import Callable

    Function = Callable[..., Any]

_log = logging.getLogger(__name__)
_CANNOT_FUSE = (NotImplementedError, TypeError, AttributeError, ValueError)


class Traced(NDArrayOperatorsMixin):
    """A proxy of an array: what NumPy would do to it, the library's function of the same name does."""

    def __init__(self, proxy: Any, library: Any) -> None:
        self.proxy, self.library = proxy, library

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its elements."""
        return np.dtype(self.proxy.dtype)

    def astype(self, dtype: Any) -> Traced:
        """Converted."""
        return Traced(self.proxy.astype(dtype), self.library)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """NumPy's hook for its elementwise functions."""
        return self._call(ufunc.__name__, inputs, options) if method == "__call__" else NotImplemented

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        """NumPy's hook for its other functions."""
        return self._call(function.__name__, inputs, options)

    def _call(self, name: str, inputs: Any, options: Any) -> Traced:
        return Traced(getattr(self.library, name)(*map(_proxy_of, inputs), **options), self.library)


def _proxy_of(value: Any) -> Any:
    return value.proxy if isinstance(value, Traced) else value


def compiler(library: Any, erf: Function) -> Callable[[Function], Function]:
    """What compiles an elementwise equation for the arrays of the library, which is CuPy."""
    activations.erf.register(Traced, lambda h: Traced(erf(h.proxy), library))  # type: ignore[arg-type, return-value]

    @cache  # there are as many as the reference has equations
    def compiled(function: Function) -> Function:
        def of_proxies(*proxies: Any) -> Any:
            return _proxy_of(function(*(Traced(proxy, library) for proxy in proxies)))

        fused = library.fuse(kernel_name="pyfirstorder_elementwise")(of_proxies)
        return _with_fallback(fused, function, (*_CANNOT_FUSE, library.cuda.compiler.CompileException))

    return compiled


def _with_fallback(fused: Function, function: Function, cannot: tuple[type[Exception], ...]) -> Function:
    """The fused function, or the plain one, with the same result, where CuPy cannot fuse or compile it."""
    can_fuse = True

    def call(*arguments: Any) -> Any:
        nonlocal can_fuse
        if can_fuse:
            try:
                return fused(*arguments)
            except cannot as error:
                can_fuse = False
                _log.info("%s runs as several kernels: %s", function.__qualname__, error)
        return function(*arguments)

    return call
