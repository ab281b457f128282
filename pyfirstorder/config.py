"""What is installed here: version, backends, instruction sets, machine."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import numpy as np

from pyfirstorder import backends, validate

try:
    __version__ = metadata.version("pyfirstorder")
except metadata.PackageNotFoundError:  # imported from a source tree that was never installed
    __version__ = "0+unknown"


class _Report(dict[str, str]):
    """Facts by name, a line each where they are shown."""

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {fact}" for name, fact in self.items())


def show_config() -> dict[str, str]:
    """What a bug report needs: versions, backends and why one is missing, instruction sets, processors.

    Returns
    -------
    dict of str
        It is shown, and printed, as a line for each entry.

    Examples
    --------
    >>> import pyfirstorder as fo
    >>> print(fo.show_config())  # doctest: +ELLIPSIS
    pyfirstorder: ...
    python: ...
    >>> fo.show_config()["pyfirstorder"] == fo.__version__
    True
    """
    report = {
        "pyfirstorder": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "processors of this process": str(validate.threads(None)),
    }
    report |= {f"backend {name}": state for name, state in backends.available_backends().items()}
    if report["backend cpu"] == "available":
        from pyfirstorder.backends import cpu

        report["instruction sets"] = ", ".join(
            f"{name} (in use)" if name == cpu.active_isa() else name for name in cpu.supported_isas()
        )
    if report["backend cuda"] == "available":
        from pyfirstorder.backends.cuda import CudaBackend

        cuda = backends.get("cuda")
        assert isinstance(cuda, CudaBackend)
        report["products of the cuda backend"] = cuda.products().words
    return _Report(report)
