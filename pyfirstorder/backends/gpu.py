"""What the backends of a GPU have in common: CuPy, and a GPU that it sees."""

from __future__ import annotations

from typing import Any


def cupy_with_gpu() -> Any:
    """CuPy, or an ImportError that says what is missing."""
    try:
        import cupy
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == "cupy"
        state = "CuPy is not installed" if is_absent else f"CuPy does not load ({error})"
        raise ImportError(f'{state}: pip install "pyfirstorder[cupy]", or the cupy-cuda wheel of your CUDA') from error
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise ImportError(f"CuPy sees no GPU: {error}") from error
    if not devices:
        raise ImportError("CuPy sees no GPU")
    return cupy
