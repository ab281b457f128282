"""What training says of itself: a line for each pass over the samples, and the trained network."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pyfirstorder import files
from pyfirstorder.summaries import counted, summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyfirstorder.files import PathLike
    from pyfirstorder.network import TwoLayerNetwork

HISTORY_SUFFIXES = (".csv", ".json")


class Epoch(NamedTuple):
    """One pass over the training set.

    ``train_loss`` and ``train_accuracy`` are means over the samples as they were trained on (adversarial ones, if there
    is an adversary), each seen by the network of its mini-batch.  Accuracies are None where the targets are numbers,
    and ``validation_accuracy``, that of the clean validation samples, also without any.

    Examples
    --------
    >>> from pyfirstorder.training import Epoch
    >>> Epoch(train_loss=0.5, train_accuracy=0.75, validation_accuracy=None, seconds=1.0).train_accuracy
    0.75
    """

    train_loss: float
    train_accuracy: float | None
    validation_accuracy: float | None
    seconds: float


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained network, and how it came about: one `Epoch` per pass.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder.training import train
    >>> x = np.random.default_rng(0).standard_normal((50, 2))
    >>> result = train(x, (x[:, 0] > 0).astype(int), hidden_features=4, epochs=2)
    >>> result.network, len(result.history)
    (TwoLayerNetwork(2 -> 4 relu -> 2, float32), 2)
    """

    network: TwoLayerNetwork
    history: tuple[Epoch, ...]

    def __repr__(self) -> str:
        last = repr(self.history[-1]) if self.history else ""
        return summarise("TrainingResult", repr(self.network), counted(len(self.history), "epoch"), last)


def write_history(path: PathLike, history: Sequence[Epoch]) -> None:
    """A line for each epoch, as a .csv or a .json file; without the seconds, so that the same job gives the same bytes.

    Parameters
    ----------
    path : path
        Ending in .csv or .json.
    history : sequence of Epoch

    Raises
    ------
    ValueError
        If the path ends otherwise.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from pyfirstorder.training import Epoch, write_history
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "history.csv"
    ...     write_history(path, [Epoch(0.5, 0.75, None, 1.0)])
    ...     print(path.read_text())
    epoch,train_loss,train_accuracy,validation_accuracy
    1,0.5,0.75,
    <BLANKLINE>
    """
    path = Path(path)
    require_history(path)
    names = ("epoch", *Epoch._fields[:-1])
    rows = [dict(zip(names, (number, *epoch[:-1]))) for number, epoch in enumerate(history, 1)]
    with files.written_at_once(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        if path.suffix == ".json":
            json.dump(rows, stream, indent=1)
            stream.write("\n")
        else:
            writer = csv.DictWriter(stream, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def require_history(path: Path) -> None:
    """Refuse a path to which no history can be written."""
    suffix = path.suffix if path.suffix in HISTORY_SUFFIXES else " or ".join(HISTORY_SUFFIXES)
    files.require_writable("history", path, suffix)
