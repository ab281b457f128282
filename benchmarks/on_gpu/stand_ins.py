"""A dry run's CuPy and kernels: NumPy in place of CuPy, and the kernels as fibres where they were built so."""

from __future__ import annotations

import sys
from pathlib import Path


def install() -> None:
    """From here on, ``import cupy`` and the backends cupy and cuda find what the tests use."""
    sys.path.append(str(Path(__file__).parents[2] / "tests"))
    import stand_in

    from pyfirstorder import backends
    from pyfirstorder.backends.cuda import CudaBackend, products
    from pyfirstorder.backends.cupy import CupyBackend

    sys.modules["cupy"] = stand_in
    backends._loaded["cupy"] = CupyBackend(stand_in.library(), stand_in.erf)
    try:
        from pyfirstorder.backends import _cuda_fibres
    except ImportError as error:
        backends._loaded["cuda"] = ImportError(f"the kernels were not built for fibres ({error})")
    else:
        # as asked for: to compare them as a GPU does, in a moment, would take fibres a minute
        of_all = products.Products(products.wanted() == products.HOPPER, "of a dry run")
        backends._loaded["cuda"] = CudaBackend(stand_in.library(), _cuda_fibres, of_all)
