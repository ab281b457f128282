"""`pyfirstorder bench`: run the suite, print its tables, write its report."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

try:
    import typer
    from rich.console import Console
    from rich.table import Table
except ImportError as error:
    raise ImportError('the command line needs typer and rich: pip install "pyfirstorder[cli]"') from error

from pyfirstorder import validate
from pyfirstorder.bench import extras
from pyfirstorder.bench.contenders import CONTENDERS
from pyfirstorder.bench.machine import copy_bandwidth, describe
from pyfirstorder.bench.report import Report, attack_rows, memory_rows, summary, timing_rows
from pyfirstorder.bench.suite import Outcome, run_workload
from pyfirstorder.bench.workloads import DENSE, WORKLOADS, Workload
from pyfirstorder.options import columns_of

PARTS = (*(workload.name for workload in WORKLOADS), "H", "I", "J", "dense", "lines")
_OF_WORDS = ("", "contender", "note", "workload", "network")  # columns
OWN_DENSE = ("pyfirstorder, dense",)


def bench(
    only: Annotated[str, typer.Option(help=f"Parts to run, with commas: {', '.join(PARTS)}. All if empty.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is timed; figures are medians.")] = 5,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; all processors of this process if not given.")
    ] = (None),
    output: Annotated[Path, typer.Option(help="Folder of report.json, bars.png and lines.png.")] = Path("bench"),
) -> None:
    """Time this library beside NumPy, torch, JAX, foolbox, torchattacks and ART, with checked answers."""
    chosen = [part.strip() for part in only.split(",") if part.strip()] or list(PARTS)
    for part in chosen:
        if part not in PARTS:
            raise ValueError(f"--only: expected parts out of {', '.join(PARTS)}, got {part!r}")
    count = validate.threads(threads)
    console = Console(highlight=False)
    warnings.simplefilter("ignore")  # of the rivals
    with console.status("starting") as status:
        attacks = [
            _attack(workload, count, rounds, console, status.update)
            for workload in WORKLOADS
            if workload.name in chosen
        ]
        dense = _dense(count, rounds, console, status.update) if "dense" in chosen else []
        report = Report(describe(), count, copy_bandwidth(), attacks, dense, [], [], [], [])
        if "H" in chosen:
            status.update("H: an epoch of adversarial training")
            report.training = extras.time_training(count, rounds)
            console.print(
                _table("H: an epoch of PGD-10 adversarial training, 784-512-10", timing_rows(report.training))
            )
        if "I" in chosen:
            status.update("I: import")
            report.imports = extras.time_imports(rounds)
            console.print(_table("I: import, beyond numpy", timing_rows(report.imports)))
        if "J" in chosen:
            status.update("J: memory")
            report.memory = extras.measure_memory(count)
            sizes = next((list(memory.extra) for memory in report.memory), [])
            columns = ("contender", *(f"MiB at B={size}" for size in sizes), "note")
            console.print(_table("J: peak memory beyond inputs and outputs", memory_rows(report.memory), columns))
        if "lines" in chosen:
            status.update("cost against size")
            report.lines = extras.measure_lines(count)
    console.print(_table("best rival", summary(attacks), ("workload", "", "best rival", "times our time")))
    for path in report.write(output):
        console.print(f"wrote {path}")


def _attack(workload: Workload, threads: int, rounds: int, console: Console, say: Callable[[str], None]) -> Outcome:
    outcome = run_workload(workload, threads=threads, rounds=rounds, on_progress=say)
    columns = ("contender", "ms", "times our time", "share of peak", "note")
    console.print(_table(f"{workload.name}: {workload.title}", attack_rows(outcome), columns))
    return outcome


def _dense(threads: int, rounds: int, console: Console, say: Callable[[str], None]) -> list[Outcome]:
    """The plain loop alone, on one and on all threads."""
    own = [contender for contender in CONTENDERS if contender.name in OWN_DENSE]
    outcomes: list[Outcome] = []
    rows: list[tuple[str, ...]] = []
    for workload in DENSE:
        for count in sorted({1, threads}):
            outcome = run_workload(workload, threads=count, rounds=rounds, contenders=own, on_progress=say)
            outcomes.append(outcome)
            entry = outcome.entries[0]
            shares = [outcome.flops / s / p for s, p in zip(entry.seconds, outcome.peak)]
            rows.append(
                (workload.name, workload.title, str(count), f"{outcome.share_of_peak(entry):.0%}", f"{max(shares):.0%}")
            )
    console.print(_table("every step in full", rows, ("network", "", "threads", "share of peak", "best round")))
    return outcomes


def _table(
    title: str, rows: list[tuple[str, ...]], columns: tuple[str, ...] = ("", "ms", "times our time", "note")
) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        columns_of(table, column, justify="left" if column in _OF_WORDS else "right")
    for row in rows:
        table.add_row(*row)
    return table
