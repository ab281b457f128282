"""Times contenders on workloads, all in one run, in turn, with their answers checked.

A round times every contender once, so that what else the machine does meets all of them; figures are medians over the
rounds, and ratios are medians of the ratios within a round.
"""

from __future__ import annotations

import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder import api
from pyfirstorder.bench.contenders import CONTENDERS, Contender
from pyfirstorder.bench.machine import peak_flops
from pyfirstorder.bench.workloads import Data, Workload

if TYPE_CHECKING:
    from pyfirstorder.problem import Array

CHECKED_SAMPLES = 100
LEAST_GAIN = 0.99  # of the loss that the attack in float64 gains
MOST_EXCESS = 1e-4  # over the radius, as a share of it
_PAUSE = 0.05  # seconds between runs: threads of the one before stop spinning
_SHORT = 0.02  # seconds; shorter runs are repeated within a round


@dataclass
class Entry:
    """What one contender did on one workload; without seconds, why not."""

    contender: str
    ours: bool
    settings: str
    seconds: list[float] = field(default_factory=list)  # one a round
    gain: float | None = None  # of the loss, as a share of the float64 attack's
    excess: float | None = None  # largest, over the radius
    missing: str = ""

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


@dataclass
class Outcome:
    """All contenders on one workload."""

    workload: Workload
    flops: float
    threads: int
    peak: list[float]  # of all threads, one a round
    entries: list[Entry]

    def entry(self, name: str) -> Entry:
        """The entry of that contender."""
        return next(entry for entry in self.entries if entry.contender == name)

    def share_of_peak(self, entry: Entry) -> float:
        """Median share of the peak of all threads, counting the flops of the plain loop."""
        shares = [self.flops / s / p for s, p in zip(entry.seconds, self.peak)]
        return statistics.median(shares)

    def ratio(self, entry: Entry) -> float:
        """Median over the rounds of its seconds over this library's."""
        own = self.entries[0]
        return statistics.median([theirs / ours for theirs, ours in zip(entry.seconds, own.seconds)])

    def best_rival(self) -> Entry | None:
        """The fastest contender that is not ours."""
        rivals = [entry for entry in self.entries if entry.seconds and not entry.ours]
        return min(rivals, key=lambda entry: entry.median, default=None)


class Check:
    """Compares end points with those of the dense attack in float64, by the loss they reach and the ball they keep."""

    def __init__(self, workload: Workload, data: Data) -> None:
        self.workload = workload
        some = slice(0, CHECKED_SAMPLES)
        y = data.y[some] if data.y.ndim == 1 else data.y[some].astype(np.float64)
        self.data = Data(data.net, data.x[some].astype(np.float64), y)
        self.clean = self.mean_loss(self.data.x)
        ideal = workload.run(self.data, backend="reference").x_adv
        self.gained = self.mean_loss(ideal) - self.clean

    def mean_loss(self, x: Array) -> float:
        """By the reference backend, in float64."""
        loss = api.input_gradient(self.data.net, x, self.data.y, loss=self.workload.loss, backend="reference")[0]
        return float(np.mean(loss))

    def __call__(self, entry: Entry, x_adv: Array) -> None:
        some = np.asarray(x_adv)[:CHECKED_SAMPLES].astype(np.float64)
        order = {"linf": np.inf, "l2": 2, "l1": 1}[self.workload.norm]
        entry.gain = (self.mean_loss(some) - self.clean) / self.gained
        norms = np.linalg.norm(some - self.data.x, ord=order, axis=1)
        entry.excess = max(0.0, float(norms.max()) / self.workload.eps - 1)
        if entry.gain < LEAST_GAIN or entry.excess > MOST_EXCESS:
            entry.missing = f"wrong answer: gains {entry.gain:.1%} of the loss, leaves the ball by {entry.excess:.1e}"


def run_workload(
    workload: Workload,
    *,
    threads: int,
    rounds: int,
    contenders: Sequence[Contender] = CONTENDERS,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """All contenders on one workload."""
    data = workload.make()
    check = Check(workload, data)
    prepared = []
    entries = [Entry(contender.name, contender.ours, contender.settings) for contender in contenders]
    for contender, entry in zip(contenders, entries):
        on_progress(f"{workload.name}: preparing {contender.name}")
        try:
            run, seconds = _prepare(contender, workload, data, threads, check, entry)
        except (ImportError, NotImplementedError) as error:
            entry.missing = f"missing: {error}"
        except Exception as error:  # whatever a rival raises must not end the suite, and is reported
            traceback.print_exc()
            entry.missing = f"failed: {type(error).__name__}: {error}".splitlines()[0][:200]
        else:
            if not entry.missing:
                prepared.append((entry, run, max(1, int(_SHORT / max(seconds, 1e-6)))))
    peaks = []
    for index in range(rounds):
        on_progress(f"{workload.name}: round {index + 1} of {rounds}")
        peaks.append(peak_flops(str(data.x.dtype), threads))
        for entry, run, repeats in prepared:
            time.sleep(_PAUSE)
            entry.seconds.append(_time(run, repeats))
    return Outcome(workload, workload.flops(data), threads, peaks, entries)


def _prepare(
    contender: Contender, workload: Workload, data: Data, threads: int, check: Check, entry: Entry
) -> tuple[Callable[[], Array], float]:
    """The contender ready to run, warm and checked, with the seconds of one run; or why it is left out."""
    reason = contender.refuses(workload)
    if reason:
        raise NotImplementedError(reason)
    run = contender.prepare(workload, data, threads)
    check(entry, run())
    return run, _time(run, 1)


def _time(run: Callable[[], Array], repeats: int) -> float:
    """Seconds of one run, the mean of some."""
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats
