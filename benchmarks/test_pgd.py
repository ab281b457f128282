"""The workloads of `pyfirstorder bench` as pytest-benchmark cases, with the share of the peak measured in the same run.

    pytest benchmarks/test_pgd.py --benchmark-columns=median,iqr,rounds

`dense` cases take every step in full; the others leave out what changes nothing, and may exceed the peak.
Each answer is checked first, as in the suite.
"""

from __future__ import annotations

import statistics
import time

import pytest

from pyfirstorder.backends.cpu import active_isa
from pyfirstorder.bench.machine import peak_flops
from pyfirstorder.bench.suite import Check, Entry
from pyfirstorder.bench.workloads import DENSE, WORKLOADS, Workload

CASES = [(workload, {"evaluation": "dense", "retire": False}) for workload in DENSE]
CASES += [(workload, {}) for workload in WORKLOADS]
ROUNDS = 7


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("workload", "options"), CASES, ids=lambda case: getattr(case, "name", "dense" if case else "")
)
def test_pgd(benchmark, workload: Workload, options: dict[str, object], threads: int) -> None:
    data = workload.make()

    def attack() -> None:
        workload.run(data, backend="cpu", threads=threads, **options)

    entry = Entry("", True, "")
    Check(workload, data)(entry, workload.run(data, backend="cpu", threads=threads, **options).x_adv)
    assert not entry.missing
    shares = []
    for _ in range(ROUNDS):  # the peak is the larger of those measured just before and just after
        peak = peak_flops(str(data.x.dtype), threads)
        start = time.perf_counter()
        attack()
        rate = workload.flops(data) / (time.perf_counter() - start)
        shares.append(rate / max(peak, peak_flops(str(data.x.dtype), threads)))
    benchmark.pedantic(attack, rounds=3, warmup_rounds=0)
    benchmark.extra_info |= {
        "isa": active_isa(),
        "share_of_peak": round(statistics.median(shares), 3),
        "best_share_of_peak": round(max(shares), 3),
    }
