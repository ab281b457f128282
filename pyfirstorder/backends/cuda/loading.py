"""The cuda backend on this machine, or why there is none."""

from __future__ import annotations

from pyfirstorder.backends.cuda import CudaBackend
from pyfirstorder.backends.gpu import cupy_with_gpu


def load() -> CudaBackend:
    """The engine, which must have been compiled, on a GPU and a driver that can run it and that CuPy sees."""
    try:
        from pyfirstorder.backends import _cuda
    except ImportError as error:
        raise ImportError(f"it was not built ({error}); install from source where nvcc is on the PATH") from error
    library = cupy_with_gpu()
    reason = _cuda.why_unusable()
    if reason:
        raise ImportError(reason)
    return CudaBackend(library, _cuda)
