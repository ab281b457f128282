"""The cupy backend on this machine, or why there is none."""

from __future__ import annotations

from pyfirstorder.backends.cupy import CupyBackend


def load() -> CupyBackend:
    """The backend on CuPy, which must be installed and see a GPU."""
    try:
        import cupy
        from cupyx.scipy.special import erf
    except ImportError as error:
        raise ImportError(f'{error}; pip install "pyfirstorder[cupy]", or the cupy-cuda wheel of your CUDA') from error
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise ImportError(f"CuPy sees no GPU: {error}") from error
    if not devices:
        raise ImportError("CuPy sees no GPU")
    return CupyBackend(cupy, erf)
