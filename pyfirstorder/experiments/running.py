"""Experiments cell by cell: every cell that is done is a file, so that a run which was interrupted goes on from there.

The processor time of a cell is kept with it, and told in a table of its own: the report and all other files have the
same bytes whenever the same command ends.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from pyfirstorder import checkpoints, files, hints
from pyfirstorder.experiments.experiment import Cell, Experiment, Outcome, Row, Run
from pyfirstorder.experiments.figures import png_of
from pyfirstorder.results import NotFiniteWarning, ZeroGradientWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

CELLS_FOLDER = ".cells"
_JOB_FILE = "job.json"


class _Done(NamedTuple):
    """What a cell gave, and the processor time that it took."""

    rows: list[Row]
    seconds: float


def begin(output: Path, size: str, run: Run, overwrite: bool, written: Iterable[str]) -> None:
    """Make the folder that of this job, or refuse one that holds another."""
    job = checkpoints.fingerprint(size=size, seed=run.seed, backend=run.backend)
    kept = output / CELLS_FOLDER
    path = kept / _JOB_FILE
    if overwrite:
        shutil.rmtree(kept, ignore_errors=True)
        for name in written:
            (output / name).unlink(missing_ok=True)
    if path.exists():
        found = _read(path)
        if not isinstance(found, dict):
            raise _damaged(path)
        differing = sorted(name for name in {*found, *job} if found.get(name) != job.get(name))
        if differing:
            raise ValueError(
                f"output: {output} holds a report that differs in {hints.listed(differing)}; pass "
                "overwrite=True, or another output"
            )
    kept.mkdir(parents=True, exist_ok=True)
    _write(path, job)


def perform(experiment: Experiment, size: str, run: Run, output: Path, on_cell: Callable[[], object]) -> Outcome:
    """All cells, those that were done before from their files; then verdict and figures."""
    rows: list[Row] = []
    seconds = 0.0
    for cell in experiment.cells(size):
        done = _done(experiment, cell, run, output)
        rows += done.rows
        seconds += done.seconds
        on_cell()
    figures = {name: png_of(figure) for name, figure in experiment.draw(rows, run).items()}
    return Outcome(experiment, rows, experiment.judge(rows), experiment.counts(rows, run), figures, seconds)


def is_done(experiment: Experiment, size: str, output: Path) -> bool:
    """Whether all cells of an experiment are there."""
    return all(_path(experiment, cell, output).exists() for cell in experiment.cells(size))


def _path(experiment: Experiment, cell: Cell, output: Path) -> Path:
    key = json.dumps([experiment.name, cell], sort_keys=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:20]
    return output / CELLS_FOLDER / f"{experiment.name}-{name}.json"


def _done(experiment: Experiment, cell: Cell, run: Run, output: Path) -> _Done:
    path = _path(experiment, cell, output)
    if path.exists():
        try:
            return _Done(**_read(path))
        except TypeError:
            raise _damaged(path) from None
    begun = time.process_time()
    with warnings.catch_warnings():
        # What they say is in the rows, as verdicts of the end points and as losses.
        warnings.simplefilter("ignore", ZeroGradientWarning)
        warnings.simplefilter("ignore", NotFiniteWarning)
        rows = experiment.run(cell, run)
    done = _Done(rows, time.process_time() - begun)
    _write(path, done._asdict())
    return done


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise _damaged(path) from None


def _damaged(path: Path) -> ValueError:
    return ValueError(f"output: expected {path} as it was written, got a damaged file; remove it to compute it again")


def _write(path: Path, value: object) -> None:
    with files.written_at_once(path) as temporary:
        temporary.write_text(json.dumps(value), encoding="utf-8")
