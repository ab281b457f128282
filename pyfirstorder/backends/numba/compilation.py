"""How this package is compiled: strict IEEE arithmetic, tables of functions, entry points kept on disk.

No ``fastmath`` and no contraction to fused multiply-add: the rounding of the projections counts on every single
operation.  ``error_model="numpy"`` makes a division by zero give infinity, as in the reference.

Only the entry points (`entries`) are cached on disk; what they call is compiled into them.  Numba looks at the file of
a cached function to see whether it changed, but not at the files of the functions that it calls, so the key of every
entry point holds a digest of this whole package (`source_digest`).

Numba numbers the files of an entry point's signatures and writes the index before the file that it names.  So two
processes that compile at once, or one that is killed between the two, leave an index that names the code of another
signature, which is then loaded and run: wrong numbers without an error.  `_KeyedCacheFile` names a file by the
signature, options and sources that it was compiled from.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import numba
    from numba.core.caching import IndexDataCacheFile, NullCache
except ImportError as error:
    raise ImportError('numba is not installed: pip install "pyfirstorder[numba]"') from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Function = Callable[..., Any]

OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True}
_njit: Any = numba.njit  # its stubs lack the options about wrappers

# Functions that Python does not call need no wrapper that takes Python objects apart, which is most of their code
compiled = _njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)


def choose_by_code(functions: Iterable[Function]) -> Function:
    """A compiled function ``f(code, *arguments)`` that calls the function of that position.

    The table stays the only place that lists them, and a network with another activation needs no new compilation.  The
    chain of comparisons is made as source text, because a chain of closures is compiled once for every link.
    """
    table = {f"function_{code}": function for code, function in enumerate(functions)}
    lines = [f"    if code == {code}:\n        return {name}(*arguments)" for code, name in enumerate(table)]
    lines[-1] = f"    return {list(table)[-1]}(*arguments)"
    exec("def choose(code, *arguments):\n" + "\n".join(lines), table)
    return compiled(table["choose"])


def source_digest() -> str:
    """A digest of the source files of this package."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class _KeyedCacheFile(IndexDataCacheFile):
    """Numba's files of a cached function, named by a digest of their origin and written before the index names them."""

    def save(self, key: object, data: object) -> None:
        origin = repr((numba.__version__, self._source_stamp, key))
        number = int.from_bytes(hashlib.sha256(origin.encode()).digest()[:8], "big")
        name = self._data_name(number)
        self._save_data(name, data)
        self._save_index(self._load_index() | {key: name})


def entry_point(function: Function, **options: bool) -> Function:
    """Compile for a call from Python, kept on disk where there is a folder to keep it in."""
    try:
        compiled_function: Any = _njit(cache=True, no_cfunc_wrapper=True, **OPTIONS, **options)(function)
    except RuntimeError:  # neither the folder of this file nor the user's cache folder can be written
        compiled_function = _njit(no_cfunc_wrapper=True, **OPTIONS, **options)(function)
    else:
        cache = getattr(compiled_function, "_cache", NullCache())  # there is none with NUMBA_DISABLE_JIT
        if not isinstance(cache, NullCache):
            cache._cache_file.__class__ = _KeyedCacheFile
    return compiled_function
