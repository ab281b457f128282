"""What an attack says of itself in its result file: whether it may be drawn beside another, or be replaced by it."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder import files, hints
from pyfirstorder.config import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pyfirstorder.problem import Array

RESULTS_FILE = "adversarial.npz"
# What decides the numbers of an attack; block size and threads do not.
SETTINGS = (
    *("network", "data", "rows", "eps", "norm", "targeted", "algorithm", "steps", "step_size", "rel_step_size"),
    *("loss_function", "restarts", "random_start", "seed", "early_stop", "bounds", "backend"),
)
# Curves on one picture share these.
COMMON = ("norm", "targeted")
# What else a reader of two curves must know, and how it is said.
_SAID = {
    "data": "{}",
    "samples": "{} samples",
    "held_out": "held-out {}",
    "algorithm": "{}",
    "steps": "{} steps",
    "restarts": "{} restarts",
    "loss_function": "{}",
    "seed": "seed {}",
}


class Run(NamedTuple):
    """A finished attack: its name, its settings, and its curve."""

    name: str
    settings: Mapping[str, Array]
    eps: Array  # (E,)
    clean_withstood: float  # at radius 0
    withstood: Array  # (E,)


def settings(**values: Any) -> dict[str, Array]:
    """The settings as small arrays for the result file, with the version; those that are None are left out."""
    known = {name: np.asarray(value) for name, value in values.items() if value is not None}
    return known | {"version": np.array(__version__)}


def read(directory: Path) -> Run:
    """An earlier attack.

    Raises
    ------
    OSError
        If its result file cannot be opened.
    ValueError
        If the file is not what `attack` writes; the message names it.
    """
    path = directory / RESULTS_FILE
    curve = ("eps", "clean_withstood", "withstood")
    arrays = files.read_npz(path, (*curve, *COMMON), (*SETTINGS, "held_out"))
    eps, clean, withstood = (arrays[name] for name in curve)
    numbers = all(array.dtype.kind == "f" for array in (eps, clean, withstood))
    if not numbers or eps.ndim != 1 or not len(eps) or withstood.shape != eps.shape or clean.shape != ():
        raise ValueError(f"{path}: expected accuracies at one radius or more, as attack writes them")
    return Run(directory.resolve().name, arrays, eps, float(clean), withstood)


def require_comparable(earlier: Run, own: Mapping[str, Array]) -> None:
    """Refuse to draw curves of different balls or goals in one picture."""
    for name in COMMON:
        if not _same(earlier.settings[name], own[name]):
            raise ValueError(
                f"compare: expected an attack with {name} {own[name]}, as this one, "
                f"got {earlier.name} with {name} {earlier.settings[name]}"
            )


def labels(runs: Sequence[Run]) -> list[str]:
    """For a legend: the name of each run, and what differs between them."""
    about = [_about(run) for run in runs]
    differing = [name for name in _SAID if len({str(facts.get(name)) for facts in about}) > 1]
    said = [[_SAID[name].format(facts[name]) for name in differing if name in facts] for facts in about]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        said = [[str(place), *parts] for place, parts in enumerate(said, 1)]
    return [f"{name} ({', '.join(parts)})" if parts else name for name, parts in zip(names, said)]


def _about(run: Run) -> dict[str, Any]:
    facts: dict[str, Any] = {name: run.settings[name].tolist() for name in _SAID if name in run.settings}
    return facts | ({"samples": len(run.settings["rows"])} if "rows" in run.settings else {})


def refuse_to_replace(path: Path, own: Mapping[str, Array]) -> None:
    """Refuse to overwrite an attack with other settings."""
    if not path.exists():
        return
    try:
        earlier = files.read_npz(path, (), SETTINGS)
    except ValueError:
        raise ValueError(
            f"output: expected no other file named {path}; choose another --output, or add --overwrite"
        ) from None
    differing = [name for name in SETTINGS if not _same(earlier.get(name), own.get(name))]
    if differing:
        raise ValueError(
            f"output: expected a folder without an attack of other settings, got {path.parent}, whose attack differs "
            f"in {hints.listed(differing)}; choose another --output, or add --overwrite"
        )


def _same(one: Array | None, other: Array | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def write_table(path: Path, rows: Iterable[Mapping[str, float]]) -> None:
    """Rows of numbers as a .csv file, with their names in the first line."""
    rows = list(rows)
    with files.written_at_once(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
