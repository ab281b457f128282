"""The report of the suite: tables for the terminal, JSON with everything, pictures."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyfirstorder.bench.extras import Line, Memory, Timing
    from pyfirstorder.bench.suite import Entry, Outcome


@dataclass
class Report:
    """Everything that one run measured."""

    machine: dict[str, str]
    threads: int
    bandwidth: float  # bytes a second
    attacks: list[Outcome]
    dense: list[Outcome]
    training: list[Timing]
    imports: list[Timing]
    memory: list[Memory]
    lines: list[Line]

    def as_json(self) -> dict[str, Any]:
        """What is written to report.json."""
        return {
            "machine": self.machine,
            "threads": self.threads,
            "copy_bytes_per_second": self.bandwidth,
            "attacks": [_attack_as_json(outcome) for outcome in self.attacks],
            "dense": [_attack_as_json(outcome) for outcome in self.dense],
            "training": [asdict(timing) for timing in self.training],
            "imports": [asdict(timing) for timing in self.imports],
            "memory": [asdict(memory) for memory in self.memory],
            "lines": [asdict(line) for line in self.lines],
        }

    def write(self, folder: Path) -> list[Path]:
        """Write report.json, bars.png and lines.png; what was written."""
        from pyfirstorder.bench.pictures import bars, lines

        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / "report.json"]
        written[0].write_text(json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        for name, figure in (("bars", bars(self.attacks)), ("lines", lines(self.lines))):
            if figure is not None:
                written.append(folder / f"{name}.png")
                figure.savefig(written[-1], dpi=120)
        return written


def _attack_as_json(outcome: Outcome) -> dict[str, Any]:
    workload = outcome.workload
    options = ("norm", "eps", "step_size", "steps", "bounds", "direction", "loss")
    return {
        "name": workload.name,
        "title": workload.title,
        "options": {name: getattr(workload, name) for name in options},
        "threads": outcome.threads,
        "flops_of_the_plain_loop": outcome.flops,
        "peak_flops": outcome.peak,
        "entries": [
            asdict(entry)
            | ({"ratio": outcome.ratio(entry), "share_of_peak": outcome.share_of_peak(entry)} if entry.seconds else {})
            for entry in outcome.entries
        ],
    }


def attack_rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """Contender, milliseconds, ratio to this library, share of peak, or why it is missing."""
    return [_row(outcome, entry) for entry in outcome.entries]


def _row(outcome: Outcome, entry: Entry) -> tuple[str, ...]:
    if not entry.seconds:
        return (entry.contender, "", "", "", entry.missing)
    share = f"{outcome.share_of_peak(entry):.0%}"
    return (entry.contender, f"{1e3 * entry.median:.4g}", f"{outcome.ratio(entry):.2f}", share, "")


def timing_rows(timings: Sequence[Timing]) -> list[tuple[str, ...]]:
    """Name, milliseconds, ratio to the first, note."""
    own = timings[0].seconds
    rows: list[tuple[str, ...]] = []
    for timing in timings:
        if not timing.seconds:
            rows.append((timing.name, "", "", timing.note))
            continue
        ratio = statistics.median([theirs / ours for theirs, ours in zip(timing.seconds, own)])
        rows.append((timing.name, f"{1e3 * timing.median:.4g}", f"{ratio:.2f}", timing.note))
    return rows


def memory_rows(found: Sequence[Memory]) -> list[tuple[str, ...]]:
    """Name, and MiB by number of samples."""
    return [(memory.name, *(f"{size / 2**20:.1f}" for size in memory.extra.values()), memory.note) for memory in found]


def summary(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Workload, title, the best rival and how many times longer it takes."""
    rows: list[tuple[str, ...]] = []
    for outcome in outcomes:
        best = outcome.best_rival()
        if best is not None and outcome.entries[0].seconds:
            rows.append((outcome.workload.name, outcome.workload.title, best.contender, f"{outcome.ratio(best):.2f}"))
    return rows
