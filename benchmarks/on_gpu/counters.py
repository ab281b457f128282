"""What bounds a step: the profiler's counters (Nsight Compute, ncu) of every kernel, in shares of the device's peaks.

A part of its own runs a few steps of each shape with launched kernels; the profiler watches it, and this module reads
what it wrote.  Every attack begins with the same kernel, by which the shapes are told apart.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from on_gpu import shapes

if TYPE_CHECKING:
    from on_gpu.results import Results

TIME = "gpu__time_duration.sum"
PEAKS = {  # a kernel's share of each, by what the share is of
    "tensor cores": "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
    "issue slots": "sm__inst_issued.avg.pct_of_peak_sustained_active",
    "second cache": "lts__throughput.avg.pct_of_peak_sustained_elapsed",
    "memory": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
}
STEPS = 3  # as few as are launched one by one, and not as a graph
SHARE_OF_TIME = "of the time"
FIRST_KERNEL = "StoreNetwork"  # of an attack
NANOSECONDS = {"nsecond": 1.0, "ns": 1.0, "usecond": 1e3, "us": 1e3, "msecond": 1e6, "ms": 1e6, "second": 1e9, "s": 1e9}


class Counted(NamedTuple):
    """A kernel of one launch: nanoseconds, and shares of the peaks in percent."""

    kernel: str
    nanoseconds: float
    shares: dict[str, float]


def command(profiler: str, calls: list[str]) -> list[str]:
    """The profiler before the calls that it watches."""
    metrics = ",".join((TIME, *PEAKS.values()))
    ours = ["--kernel-name", "regex:entry"]  # launch.hpp and hopper.cu name them so
    table = ["--csv", "--page", "raw", "--print-units", "base"]
    return [profiler, *table, *ours, "--target-processes", "all", "--metrics", metrics, *calls]


def run(results: Results, *, dry_run: bool, seconds: float) -> None:
    """The calls: one attack of a few steps for each shape, in their order."""
    import cupy

    from pyfirstorder import backends
    from pyfirstorder.backends import cuda

    state = backends.available_backends()["cuda"]
    if state != "available":
        results["missing"] = state
        return
    loaded: Any = backends.get("cuda")
    loaded.loop = "launched"
    cuda.MOST_WORKSPACE = 2**40  # an attack in one part begins once
    for shape in shapes.SIZES:
        workload = dataclasses.replace(shapes.workload(shape, dry_run=dry_run), steps=STEPS)
        data = workload.make()
        there = type(data)(data.net, cupy.asarray(data.x), cupy.asarray(data.y))
        workload.run(there, backend="cuda", retire=False, precision="fast")
        cupy.cuda.get_current_stream().synchronize()
        results[shape] = "called"


def by_shape(words: str) -> dict[str, dict[str, dict[str, float]]]:
    """Of what the profiler said, the kernels of each shape as `summed` gives them."""
    attacks: list[list[Counted]] = []
    for launch in launches(words):
        if launch.kernel.startswith(FIRST_KERNEL):
            attacks.append([])
        if attacks:
            attacks[-1].append(launch)
    return {shape: summed(attack) for shape, attack in zip(shapes.SIZES, attacks)}


def launches(words: str) -> list[Counted]:
    """The profiler's table of our kernels; a line of units lies under that of names."""
    lines = [line for line in words.splitlines() if line.startswith('"')]
    rows = list(csv.reader(lines))
    if len(rows) < 3:
        return []
    names, units, *counted = rows
    unit = NANOSECONDS.get(units[names.index(TIME)], 1.0)
    kernel = names.index("Kernel Name")
    return [_counted(dict(zip(names, row)), unit) for row in counted if "pyfirstorder" in row[kernel]]


def _counted(cells: Mapping[str, str], unit: float) -> Counted:
    shares = {what: _number(cells.get(metric, "")) for what, metric in PEAKS.items()}
    return Counted(_plain(cells["Kernel Name"]), unit * _number(cells[TIME]), shares)


def _number(cell: str) -> float:
    """The profiler writes thousands with commas, and words where it has no figure."""
    try:
        return float(cell.replace(",", ""))
    except ValueError:
        return float("nan")


def _plain(name: str) -> str:
    """``StepRows<float>`` of the name of an instance of ``entry``."""
    found = re.search(r"entry<(?:\w+::|<unnamed>::|\(anonymous namespace\)::)*(\w+(?:<[^<>]*>)?)", name)
    return found[1] if found else name


def summed(counted: Iterable[Counted]) -> dict[str, dict[str, float]]:
    """By kernel: its share of the time of all, and its shares of the peaks, weighted by time; the longest first."""
    kernels: dict[str, list[Counted]] = {}
    for each in counted:
        kernels.setdefault(each.kernel, []).append(each)
    times = {kernel: sum(each.nanoseconds for each in launches) for kernel, launches in kernels.items()}
    whole = sum(times.values())
    return {
        kernel: {SHARE_OF_TIME: 100 * times[kernel] / whole}
        | {
            what: sum(each.nanoseconds * each.shares[what] for each in kernels[kernel]) / times[kernel]
            for what in PEAKS
        }
        for kernel in sorted(times, key=times.__getitem__, reverse=True)
        if times[kernel] > 0
    }
