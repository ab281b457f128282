"""Where a long job stands, in a file: what it has found so far, and of which job that is.

A job is known by its fingerprint: every setting that decides its numbers as a line of text, arrays and data by their
SHA-256.  What belongs to a job with another fingerprint is refused, and the message names the settings that differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder import checks, files, hints
from pyfirstorder.config import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pyfirstorder.problem import Array

    Job = Mapping[str, str]


def fingerprint(**settings: Any) -> dict[str, str]:
    """A line of text for each setting, and one for the version, which may compute other numbers."""
    return {name: _line(value) for name, value in settings.items()} | {"version": __version__}


def digest(arrays: Iterable[Array]) -> str:
    """SHA-256 of arrays: of their types, shapes and numbers, one after the other."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data if array.size else b"")
    return found.hexdigest()


def save(path: Path, job: Job, arrays: Mapping[str, Any]) -> None:
    """Put down where a job stands, in place of what was put down before."""
    files.write_npz(path, {**arrays, files.JOB: np.array(json.dumps(job, sort_keys=True))})


def load(path: Path, job: Job, *, name: str, remedy: str) -> dict[str, Array] | None:
    """Where the job stands; None if nothing was put down yet.

    Raises
    ------
    ValueError
        If the file is another one or damaged, or belongs to another job; the message names the argument ``name``, the
        settings that differ, and the ``remedy``.
    """
    if not path.exists():
        return None
    arrays = files.read_npz(path, (), None)
    if files.JOB not in arrays:
        raise ValueError(f"{name}: expected that of this job, got {path}, which is of none; {remedy}")
    found = _job_in(arrays.pop(files.JOB))
    if found is None:
        raise ValueError(f"{path}: expected a checkpoint, got a file of another kind")
    differing = sorted(part for part in {*found, *job} if found.get(part) != job.get(part))
    if differing:
        raise ValueError(
            f"{name}: expected that of this job, got {path} of one that differs in {hints.listed(differing)}; {remedy}"
        )
    return arrays


def of_another_split(path: Path, held_out: float, seed: int) -> str | None:
    """How the network of a file was trained, where `train` held out another part of the data than this one."""
    arrays = files.read_npz(path, (), None)
    job = _job_in(arrays[files.JOB]) if files.JOB in arrays else None
    mine = fingerprint(held_out=held_out, seed=seed)
    theirs = {name: job[name] for name in ("held_out", "seed") if job is not None and name in job}
    if all(mine[name] == value for name, value in theirs.items()):
        return None
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in theirs.items())


def _job_in(stored: Array) -> dict[str, Any] | None:
    """The job that a file says to belong to, if what it holds is one."""
    try:
        found = json.loads(str(stored))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _line(value: Any) -> str:
    """A value in words that do not depend on the type that it came in."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, bool, int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return json.dumps({str(name): _line(part) for name, part in value.items()}, sort_keys=True)
    if isinstance(value, (tuple, list)):
        return json.dumps([_line(part) for part in value])
    return digest([checks.array("setting", value)])
