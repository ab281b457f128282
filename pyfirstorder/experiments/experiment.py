"""What an experiment is, as plain data: a claim, the cells of its grid, and how rows become a verdict and a figure.

A *cell* is one setting and one repetition, and gives rows of plain numbers.  Cells do not know of each other, so each
can be kept on its own, and a run that was interrupted goes on with those that are missing.  The criterion is written
down beside the claim.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure

Cell = dict[str, Any]
Row = dict[str, Any]

SIZES = QUICK, DEFAULT, FULL = "quick", "default", "full"


class Verdict(Enum):
    """What the numbers say of a claim."""

    HOLDS = "holds"
    IN_PART = "holds in part"
    DOES_NOT_HOLD = "does not hold"


class Table(NamedTuple):
    """Numbers for a reader, in words."""

    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


class Judgement(NamedTuple):
    """A verdict, and what it rests on."""

    verdict: Verdict
    key: str  # the numbers that say most, in a line
    findings: tuple[str, ...]
    departures: tuple[str, ...]  # what of it does not bear out the paper
    table: Table


class Run(NamedTuple):
    """What every cell of a run shares."""

    seed: int
    backend: str
    threads: int | None


class Experiment(NamedTuple):
    """A claim and how it is measured."""

    name: str
    claim: str  # one sentence
    source: str  # where the paper makes it
    design: str
    criterion: str  # what each verdict needs
    counts: Callable[[Sequence[Row], Run], str]  # networks, samples, starts, steps and seeds behind each figure
    cells: Callable[[str], list[Cell]]  # by size
    run: Callable[[Cell, Run], list[Row]]
    judge: Callable[[Sequence[Row]], Judgement]
    draw: Callable[[Sequence[Row], Run], dict[str, Figure]]  # by names that begin with that of the experiment


class Outcome(NamedTuple):
    """An experiment that has run."""

    experiment: Experiment
    rows: list[Row]
    judgement: Judgement
    counts: str
    figures: dict[str, bytes]  # PNG, by name
    seconds: float  # of processors


def verdict_of(passed: int, asked: int) -> Verdict:
    """All parts of a criterion, some of them, or none."""
    if passed == asked:
        return Verdict.HOLDS
    return Verdict.IN_PART if passed else Verdict.DOES_NOT_HOLD
