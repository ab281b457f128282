"""Clocks, checked answers and the table of targets of benchmarks/gpu.py, on a machine without a GPU."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import gpu_folder  # noqa: F401
import numpy as np
import pytest
from on_gpu import measure, rivals, shapes, table
from on_gpu.clock import Clock

from pyfirstorder.bench.suite import Check, Entry

# ------------------------------------------------------------------ clocks


class Event:
    """An event of a library whose stream stands at a time of its own, in milliseconds."""

    stream = 0.0

    def record(self) -> None:
        self.at = Event.stream

    def synchronize(self) -> None:
        self.waited = True

    def elapsed_time(self, last: Event) -> float:
        assert last.waited
        return last.at - self.at


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_events_on_the_stream_are_what_is_timed(library, monkeypatch):
    cuda = SimpleNamespace(Event=lambda **_: Event(), get_elapsed_time=lambda first, last: first.elapsed_time(last))
    monkeypatch.setitem(sys.modules, library, SimpleNamespace(cuda=cuda))
    clock = Clock(library, dry_run=False)

    def run() -> None:
        Event.stream += 250.0

    assert clock.several(run) == [0.25] * 4  # as many as take a second
    assert clock.kind.startswith("events")


def test_a_library_without_events_is_timed_to_the_end_of_its_call():
    assert Clock("jax", dry_run=False).once(lambda: time.sleep(0.05)) >= 0.05


# ------------------------------------------------------------------ answers


def measured(run, *, ours: bool) -> Entry:
    workload = shapes.workload("784-64-10", dry_run=True)
    data = workload.make()
    rival = rivals.Rival("some", "numpy", lambda *_: lambda: run(workload, data), "", ours)
    entry = Entry(rival.name, ours, "")
    measure._measure(rival, workload, data, Check(workload, data), entry, dry_run=True)
    return entry


def attacked(workload, data) -> np.ndarray:
    return workload.run(data, backend="reference").x_adv


def test_a_right_answer_is_timed():
    entry = measured(attacked, ours=True)
    assert not entry.missing
    assert len(entry.seconds) >= 3


def test_an_answer_that_gains_less_is_not_timed():
    entry = measured(lambda workload, data: data.x, ours=False)
    assert entry.missing.startswith("wrong answer: gains")
    assert not entry.seconds


@pytest.mark.parametrize("ours", [True, False])
def test_ours_may_leave_the_ball_by_nothing_and_rivals_by_rounding(ours):
    def leaving(workload, data):
        x = attacked(workload, data).astype(np.float64)
        return np.clip(data.x + (x - data.x) * (1 + 1e-6), 0, 1)

    entry = measured(leaving, ours=ours)
    assert entry.missing.startswith("wrong answer: leaves the ball") == ours
    assert bool(entry.seconds) != ours


def test_an_answer_outside_of_the_box_is_not_timed():
    def leaving(workload, data):
        x = attacked(workload, data)
        x[np.unravel_index(np.argmax(x), x.shape)] = np.nextafter(np.float32(1), np.float32(2))
        return x

    assert "the box by" in measured(leaving, ours=False).missing


def test_what_a_library_raises_is_a_reason():
    def missing(workload, data):
        raise ImportError("no such library")

    assert measured(missing, ours=False).missing == "missing: no such library"
    assert measured(lambda *_: 1 / 0, ours=False).missing.startswith("failed: ZeroDivisionError")


def test_a_mode_that_pgd_does_not_have_is_missing_and_not_passed_over(monkeypatch):
    monkeypatch.setattr(rivals, "HAS_MODES", False)
    monkeypatch.setattr(rivals.backends, "available_backends", lambda: {"cuda": "available"})
    workload = shapes.workload("784-64-10", dry_run=True)
    with pytest.raises(NotImplementedError, match="mode not available"):
        rivals.RIVALS[0].prepare(workload, workload.make(), True)


# ------------------------------------------------------------------ targets


def entry(name: str, seconds: float | None, missing: str = "") -> dict:
    taken = {} if seconds is None else {"microseconds_a_step": 1e6 * seconds / 10}
    return {"contender": name, "seconds": [] if seconds is None else [seconds] * 3, "missing": missing} | taken


TARGET = shapes.Target("s", "own", {"rival": 2.0}, share=0.5, microseconds=1e5)


def goals(*entries: dict, ceiling: float | None = 1e6) -> list[dict]:
    found = {"s": {"flops_of_a_step": 6e4, "entries": list(entries)}}
    return table.filled(TARGET, found, ceiling)["goals"]


def test_a_goal_that_is_reached_is_met():
    ratio, share, time_of_a_step = goals(entry("own", 1.0), entry("rival", 3.0))
    assert (ratio["measured"], ratio["met"]) == (3.0, True)
    assert share["measured"] == pytest.approx(6e4 / 0.1 / 1e6)  # flops a step, seconds a step, ceiling
    assert share["met"]
    assert time_of_a_step["met"]


def test_a_goal_that_is_not_reached_is_not_met():
    ratio, share, time_of_a_step = goals(entry("own", 2.0), entry("rival", 3.0))
    assert (ratio["met"], share["met"], time_of_a_step["met"]) == (False, False, False)


@pytest.mark.parametrize("which", ["own", "rival"])
def test_no_ratio_is_claimed_of_a_wrong_answer(which):
    wrong = "wrong answer: gains 3%"
    others = [entry(name, None, wrong) if name == which else entry(name, 1.0) for name in ("own", "rival")]
    ratio = goals(*others)[0]
    assert ratio["measured"] is None
    assert ratio["met"] is None
    assert ratio["why_not_measured"] == wrong


def test_without_a_ceiling_or_a_contender_the_table_says_so():
    ratio, share, _ = goals(entry("own", 1.0), ceiling=None)
    assert ratio["why_not_measured"] == "not run"
    assert share["why_not_measured"] == "the ceiling was not measured"
    assert "not run" in table.markdown([{"shape": "s", "ours": "own", "goals": [ratio]}], {})
