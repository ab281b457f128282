"""The pgd loop: time, and share of the multiply-add peak measured in the same run.

    pytest benchmarks --benchmark-columns=median,iqr,rounds

Each case checks its answer against the reference backend on a few samples first.
"""

from __future__ import annotations

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

    peak = peak_flops(workload.dtype) * workload.threads
    benchmark.pedantic(workload.run, args=(net, x, y), kwargs={"backend": "cpu"}, rounds=7, warmup_rounds=1)
    peak = max(peak, peak_flops(workload.dtype) * workload.threads)
    rate = workload.flops() / benchmark.stats.stats.median
    benchmark.extra_info |= {
        "isa": active_isa(),
        "peak_gflops": round(peak / 1e9, 1),
        "gflops": round(rate / 1e9, 1),
        "share_of_peak": round(rate / peak, 3),
    }
