"""Seconds of work on a GPU: by events on the stream where a library has them, else by the clock around a wait.

An event is recorded on an idle stream before the call, so what the host does before it launches is counted, too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

FEWEST, MOST = 3, 15  # repetitions of one measurement
ENOUGH = 1.0  # seconds of repetitions


class Clock:
    """How one library's work is timed; ``kind`` is kept with the results."""

    def __init__(self, library: str, dry_run: bool) -> None:
        self.kind = "wall clock"
        self._most = FEWEST if dry_run else MOST
        self._wait: Callable[[], Any] = lambda: None
        self._event: Callable[[], Any] | None = None
        if library == "torch" and not dry_run:
            import torch

            self.kind, self._event = "events of torch", lambda: torch.cuda.Event(enable_timing=True)
            self._between = lambda first, last: first.elapsed_time(last) / 1e3
        elif library == "cupy" and not dry_run:
            import cupy

            self.kind, self._event = "events of CuPy", cupy.cuda.Event
            self._between = lambda first, last: cupy.cuda.get_elapsed_time(first, last) / 1e3

    def once(self, run: Callable[[], Any]) -> float:
        """Seconds of one call, to the end of what it started."""
        if self._event is None:  # the call itself waits
            begin = time.perf_counter()
            run()
            return time.perf_counter() - begin
        first, last = self._event(), self._event()
        first.record()
        run()
        last.record()
        last.synchronize()
        return self._between(first, last)

    def several(self, run: Callable[[], Any]) -> list[float]:
        """Seconds of as many calls as take about `ENOUGH` together, after one that warms up."""
        expected = max(self.once(run), 1e-9)
        count = min(max(int(ENOUGH / expected), FEWEST), self._most)
        return [self.once(run) for _ in range(count)]


def median(seconds: list[float]) -> float:
    """The middle one."""
    return statistics.median(seconds)
