"""What the commands of the command line share: options that mean the same in each, and the bar of long ones."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

try:
    import typer
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
except ImportError as error:
    raise ImportError('the command line needs typer and rich: pip install "pyfirstorder[cli]"') from error

import numpy as np

from pyfirstorder import boxes, hints

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pyfirstorder.datasets import Dataset

# Samples whose range is told, and numbers of them: those of data on disk are not all read for a sentence.
_LOOKED_AT, _NUMBERS_LOOKED_AT = 4096, 2**24
HELD_OUT = 0.2  # share of the samples that train keeps for validation

Data = Annotated[str, typer.Argument(help="mnist, digits, a .npz file with x and y, or a .npy file with x.")]
Labels = Annotated[Path | None, typer.Option(help="The .npy file with y, for x in a .npy file.")]
Norm = Annotated[str, typer.Option(help="linf, l2 or l1.")]
Bounds = Annotated[
    str | None, typer.Option(help="LOWER,UPPER of every number, or none. Default 0,1 for images, else none.")
]
Seed = Annotated[int, typer.Option(help="Of everything random: the held-out part among it.")]
Threads = Annotated[int | None, typer.Option(help="Worker threads; all processors if left out.")]
Backend = Annotated[str, typer.Option(help="auto, or a backend that info lists.")]
Start = Annotated[
    bool | None,
    typer.Option(
        "--random-start/--no-random-start",
        help="Start at a random point of the ball. Default: apgd does, pgd does not.",
    ),
]


def bar_of(console: Console, *extra: str) -> Progress:
    """A progress bar that is gone when the work is done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        *map(TextColumn, extra),
        console=console,
        transient=True,  # so that an error does not stand below a bar that will never move
        disable=not console.is_terminal,  # elsewhere only an empty line would be left of it
    )


def numbers_of(name: str, text: str) -> list[float]:
    """Numbers or fractions, such as 8/255, with commas between them."""
    try:
        return [_number(part) for part in text.split(",")]
    except (ValueError, ArithmeticError):
        raise ValueError(f"{name}: expected numbers with commas between them, got {text!r}") from None


def number_of(name: str, text: str) -> float:
    """A number or a fraction, such as 8/255."""
    try:
        return _number(text)
    except (ValueError, ArithmeticError):
        raise ValueError(f"{name}: expected one number, such as 0.1 or 8/255, got {text!r}") from None


def _number(text: str) -> float:
    return float(Fraction(text.strip()) if "/" in text else text)


def bounds_of(text: str | None, dataset: Dataset) -> tuple[float, float] | None:
    """The box around every number of a sample."""
    if text is None:
        return (0.0, 1.0) if dataset.in_unit_box else None
    if text == "none":
        return None
    sides = numbers_of("bounds", text)
    if len(sides) != 2:
        raise ValueError(f"bounds: expected LOWER,UPPER or none, got {text!r}")
    return sides[0], sides[1]


def described(dataset: Dataset) -> str:
    """Name and size, and a note where a division by the largest number of the type leaves images dark."""
    if dataset.scale == 1:
        return dataset.describe()
    _, largest, seen = _range_of(dataset)
    stored = round(largest * dataset.scale)
    if not stored or 2 * stored > dataset.scale:
        return dataset.describe()
    return (
        f"{dataset.describe()}\nnote: {seen} are at most {stored}, so at most {largest:.3g} after that; "
        f"store x / {stored} as floats to have them fill [0, 1]"
    )


def no_bounds(dataset: Dataset) -> str:
    """What to say of numbers that are attacked without a box: which one would hold them."""
    smallest, largest, seen = _range_of(dataset)
    box = f"0,{boxes.shown(hints.divisor(largest))}" if smallest >= 0 and largest < math.inf else "LOWER,UPPER"
    return (
        f"no bounds: numbers of {dataset.stored.dtype} may be anything; {seen} lie in [{smallest:g}, {largest:g}], and "
        f"--bounds {box} would keep them in a box"
    )


def _range_of(dataset: Dataset) -> tuple[float, float, str]:
    """The smallest number and the largest, zero among them, and which ones were looked at."""
    first = dataset.block(0, max(1, min(_LOOKED_AT, _NUMBERS_LOOKED_AT // dataset.features)))[0]
    seen = "those here" if len(first) == len(dataset) else "the first of them"
    low, high = (float(which.reduce(first, axis=None, initial=0)) for which in (np.fmin, np.fmax))  # beside any NaN
    return low, high, seen


def columns_of(table: Table, *headers: str, justify: Literal["left", "right"] = "left") -> Table:
    """The table with these columns, whose words break rather than vanish where the terminal is narrow."""
    for header in headers:
        table.add_column(header, justify=justify, overflow="fold")
    return table
