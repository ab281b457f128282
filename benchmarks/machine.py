"""What a benchmark is measured against: the multiply-add peak of this machine, in the same run."""

from __future__ import annotations

import time

from pyfirstorder.backends import _cpu
from pyfirstorder.backends.cpu import active_isa


def peak_flops(dtype: str, isa: str | None = None) -> float:
    """Floating-point operations a second of one thread, with registers alone: the best of several short runs."""
    isa = active_isa() if isa is None else isa
    count, best = 500_000_000, 0.0
    for _ in range(5):
        start = time.perf_counter()
        done = _cpu.multiply_adds(isa, dtype, count)
        best = max(best, done / (time.perf_counter() - start))
    return best
