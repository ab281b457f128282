"""The pgd loop: time, and share of the multiply-add peak measured in the same run.

    pytest benchmarks --benchmark-columns=median,iqr,rounds

Each case checks its answer against the reference backend on a few samples first.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest
from machine import peak_flops
from workloads import DENSE, Workload

from pyfirstorder.backends.cpu import active_isa


@pytest.mark.parametrize("workload", DENSE, ids=lambda workload: workload.name)
def test_pgd(benchmark, workload: Workload) -> None:
    net, x, y = workload.problem()
    some = slice(0, 16)
    ours = workload.run(net, x[some], y[some], backend="cpu")
    reference = workload.run(net, x[some], y[some], backend="reference")
    np.testing.assert_allclose(ours.loss, reference.loss, rtol=1e-3)

    shares = []

    def attack_between_peaks() -> None:
        """One attack; the peak is the larger of those measured just before and just after it."""
        peak = peak_flops(workload.dtype)
        start = time.perf_counter()
        workload.run(net, x, y, backend="cpu")
        rate = workload.flops() / (time.perf_counter() - start)
        shares.append(rate / (max(peak, peak_flops(workload.dtype)) * workload.threads))

    for _ in range(7):
        attack_between_peaks()
    benchmark.pedantic(workload.run, args=(net, x, y), kwargs={"backend": "cpu"}, rounds=3, warmup_rounds=0)
    benchmark.extra_info |= {
        "isa": active_isa(),
        "share_of_peak": round(statistics.median(shares), 3),
        "best_share_of_peak": round(max(shares), 3),
    }
