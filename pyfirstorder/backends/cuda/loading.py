"""The cuda backend on this machine, or why there is none."""

from __future__ import annotations

import importlib.util

from pyfirstorder.backends.cuda import CudaBackend
from pyfirstorder.backends.gpu import cupy_with_gpu


def load() -> CudaBackend:
    """The engine, which must have been compiled, on a GPU and a driver that can run it and that CuPy sees."""
    if importlib.util.find_spec("pyfirstorder.backends._cuda") is None:
        raise ImportError("it was not built; install from source where nvcc is on the PATH")
    from pyfirstorder.backends import _cuda

    library = cupy_with_gpu()
    reason = _cuda.why_unusable()
    if reason:
        raise ImportError(reason)
    return CudaBackend(library, _cuda)
