"""The cupy backend on this machine, or why there is none."""

from __future__ import annotations

from pyfirstorder.backends.cupy import CupyBackend
from pyfirstorder.backends.gpu import cupy_with_gpu


def load() -> CupyBackend:
    """The backend on CuPy, which must be installed and see a GPU."""
    library = cupy_with_gpu()
    from cupyx.scipy.special import erf

    return CupyBackend(library, erf)
