"""Every contender on every shape: prepared, checked, timed, and written down at once.

The answer is checked before the clock runs (`pyfirstorder.bench.suite.Check`): on the first hundred samples, the loss
that it gains against the attack in float64, and that it stays in the ball.  One that is wrong is reported and not
timed, so that no ratio can be claimed of it.  Ours may leave the ball by nothing at all.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
import traceback
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from on_gpu import shapes
from on_gpu.clock import Clock, median
from on_gpu.rivals import RIVALS, Rival, rows_on_host
from pyfirstorder.bench.suite import CHECKED_SAMPLES, Check, Entry

if TYPE_CHECKING:
    from on_gpu.results import Results
    from pyfirstorder.bench.workloads import Data, Workload


def run(results: Results, *, dry_run: bool, seconds: float) -> None:
    """All shapes, going on after what the file holds."""
    warnings.simplefilter("ignore")  # of the rivals
    end = time.monotonic() + seconds
    found: dict[str, Any] = results.get("shapes", {})
    for index, name in enumerate(shapes.SIZES):
        if name in found and len(found[name]["entries"]) == len(RIVALS):
            continue
        workload = shapes.workload(name, dry_run=dry_run)
        data = workload.make()
        check = Check(workload, data)
        shape = found.setdefault(
            name,
            {
                "title": workload.title,
                "steps": workload.steps,
                "flops_of_a_step": workload.flops(data) / workload.steps,
                "entries": [],
            },
        )
        share = (end - time.monotonic()) / (len(shapes.SIZES) - index)
        until = time.monotonic() + share  # what a shape does not use is the next one's
        for rival in RIVALS[len(shape["entries"]) :]:
            results["running"] = [name, rival.name]
            entry = Entry(rival.name, rival.ours, rival.settings)
            if [name, rival.name] in [died[:2] for died in results.get("died", [])]:
                entry.missing = "failed: it ended the process"
            elif time.monotonic() > until:
                entry.missing = "no time was left"
            kept = {} if entry.missing else _measure(rival, workload, data, check, entry, dry_run)
            if not dry_run:
                release()
            shape["entries"].append(asdict(entry) | kept)
            results["shapes"] = found
    results.pop("running", None)


def _measure(rival: Rival, workload: Workload, data: Data, check: Check, entry: Entry, dry_run: bool) -> dict[str, Any]:
    """Fills the entry; what is known beside it."""
    begin = time.perf_counter()
    try:
        attack = rival.prepare(workload, data, dry_run)
        points = rows_on_host(attack(), CHECKED_SAMPLES)
        check(entry, points)
        hold_exactly(entry, outside_of_box(points, workload.bounds))
        prepared = time.perf_counter() - begin
        if entry.missing:
            return {"seconds_to_prepare": prepared}
        clock = Clock(rival.library, dry_run)
        entry.seconds = clock.several(attack)
    except (ImportError, NotImplementedError) as error:
        entry.missing = f"missing: {error}"
    except Exception as error:  # whatever a contender raises must not end the others, and is reported
        traceback.print_exc()
        entry.missing = f"failed: {type(error).__name__}: {error}".splitlines()[0][:300]
    else:
        return {
            "seconds_to_prepare": prepared,
            "clock": clock.kind,
            "microseconds_a_step": 1e6 * median(entry.seconds) / workload.steps,
        }
    return {}


def outside_of_box(points: np.ndarray, bounds: tuple[float, float] | None) -> float:
    """How far the farthest coordinate is beyond its bound."""
    if bounds is None or not points.size:
        return 0.0
    wide = points.astype(np.float64)
    return float(max(bounds[0] - wide.min(), wide.max() - bounds[1], 0.0))


def hold_exactly(entry: Entry, beyond_box: float) -> None:
    """Nobody may leave the box, and ours may leave the ball by nothing at all."""
    excess = entry.excess if entry.ours else 0.0
    if not entry.missing and (excess or beyond_box):
        entry.missing = f"wrong answer: leaves the ball by {excess:.1e} of its radius, the box by {beyond_box:.1e}"


def release() -> None:
    """What a contender's pools hold, given back to the next one's."""
    gc.collect()
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    with contextlib.suppress(Exception):  # a device that broke is told of where it is used
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()
        if cupy is not None:
            cupy.get_default_memory_pool().free_all_blocks()
