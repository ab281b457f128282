"""What a benchmark is measured on: the machine, its limits in this run, and the versions of what takes part."""

from __future__ import annotations

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np

from pyfirstorder.config import show_config

LIBRARIES = ("numpy", "numba", "torch", "jax", "jaxlib", "foolbox", "torchattacks", "adversarial-robustness-toolbox")


def peak_flops(dtype: str, threads: int = 1, count: int = 300_000_000) -> float:
    """Floating-point operations a second of so many threads at once, with registers alone: the best of three runs."""
    from pyfirstorder.backends import _cpu
    from pyfirstorder.backends.cpu import active_isa

    def work(_: int) -> float:
        return _cpu.multiply_adds(active_isa(), dtype, count)

    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(3):
            start = time.perf_counter()
            done = sum(pool.map(work, range(threads)))
            best = max(best, done / (time.perf_counter() - start))
    return best


def copy_bandwidth() -> float:
    """Bytes read and written a second by a copy of 256 MiB: the best of three."""
    source, target = np.ones(1 << 25), np.ones(1 << 25)
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        np.copyto(target, source)
        best = max(best, 2 * source.nbytes / (time.perf_counter() - start))
    return best


def processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def describe() -> dict[str, str]:
    """Machine and versions, for the report."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    return {"processor": processor(), "processors": str(os.cpu_count())} | show_config() | versions
