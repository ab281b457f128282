"""Experiments cell by cell: every cell that is done is a file, so that a run which was interrupted goes on from there."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from typing import TYPE_CHECKING

from pyfirstorder import checkpoints, files
from pyfirstorder.experiments.experiment import SIZES, Cell, Experiment, Outcome, Row, Run
from pyfirstorder.results import ZeroGradientWarning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CELLS_FOLDER = ".cells"
_JOB_FILE = "job.json"


def begin(output: Path, size: str, run: Run, overwrite: bool) -> None:
    """Make the folder that of this job, or refuse one that holds another."""
    if size not in SIZES:
        raise ValueError(f"size: expected one of {', '.join(SIZES)}, got {size!r}")
    job = checkpoints.fingerprint(size=size, seed=run.seed)
    kept = output / CELLS_FOLDER
    if overwrite:
        shutil.rmtree(kept, ignore_errors=True)
    path = kept / _JOB_FILE
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = sorted(name for name in {*found, *job} if found.get(name) != job.get(name))
        if differing:
            raise ValueError(
                f"output: {output} holds a report with another {', '.join(differing)}; pass overwrite=True, or another output"
            )
    kept.mkdir(parents=True, exist_ok=True)
    _write(path, job)


def perform(experiment: Experiment, size: str, run: Run, output: Path, on_cell: Callable[[], None]) -> Outcome:
    """All cells, those that were done before from their files; then verdict and figures."""
    rows: list[Row] = []
    for cell in experiment.cells(size):
        rows += _rows_of(experiment, cell, run, output / CELLS_FOLDER)
        on_cell()
    return Outcome(experiment, rows, experiment.judge(rows), experiment.draw(rows, run))


def _rows_of(experiment: Experiment, cell: Cell, run: Run, kept: Path) -> list[Row]:
    key = json.dumps([experiment.name, cell], sort_keys=True)
    path = kept / f"{experiment.name}-{hashlib.sha256(key.encode()).hexdigest()[:20]}.json"
    if path.exists():
        found: list[Row] = json.loads(path.read_text(encoding="utf-8"))
        return found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeroGradientWarning)  # counted among the verdicts
        rows = experiment.run(cell, run)
    _write(path, rows)
    return rows


def _write(path: Path, value: object) -> None:
    with files.written_at_once(path) as temporary:
        temporary.write_text(json.dumps(value), encoding="utf-8")
