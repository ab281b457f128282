"""Reading and writing whole files: what is damaged is refused by name, what is written appears only when complete."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyfirstorder.problem import Array

    PathLike = str | os.PathLike[str]

_ZIP_PREFIXES = (b"PK\x03\x04", b"PK\x05\x06")  # of an archive with files, and of one without


@contextmanager
def written_at_once(path: PathLike) -> Iterator[Path]:
    """A temporary path beside ``path``, which becomes it when the block ends well and is removed if it does not."""
    target = Path(os.path.realpath(path))  # a link stays, and what it points to is written
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex}{target.suffix}")
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        if error.filename != str(temporary) or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(name: str, path: PathLike, suffix: str) -> None:
    """Refuse a path to which no file of that suffix can be written."""
    path = Path(path)
    if path.suffix != suffix:
        raise ValueError(f"{name}: expected a file ending in {suffix}, got {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"{name}: expected a file, got the folder {str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"{name}: expected a file in a folder that exists, got {str(path)!r}")


def refuse_to_overwrite(written: list[Path], read: list[Path | None]) -> None:
    """Results must not take the place of what they were made from."""
    kept = {path.resolve() for path in read if path is not None}
    for path in written:
        if path.resolve() in kept:
            raise ValueError(f"output: expected a place of its own, got one where {path} would overwrite an input")


@contextmanager
def folder(path: Path) -> Iterator[None]:
    """A folder for results, which does not stay behind empty when something goes wrong."""
    missing = [above for above in (path, *path.parents) if not above.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # it is not empty
            for above in missing:
                above.rmdir()
        raise


def read_npz(path: PathLike, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Array]:
    """Named arrays of a .npz file; those that are optional may be missing."""
    with _readable(path, ".npz"), open(path, "rb") as stream:
        if _kind(stream) != ".npz":
            raise ValueError("it holds a single array, as .npy files do")
        with np.load(stream, allow_pickle=False) as file:
            names = file.files
            arrays = {name: file[name] for name in (*required, *optional) if name in names}
    missing = [name for name in required if name not in arrays]
    if missing:
        raise ValueError(f"{path}: no array named {' or '.join(missing)}; it has {', '.join(names) or 'none'}")
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{path}: expected {name} to be an array, got {type(array).__name__}")
    return arrays


def read_npy(path: PathLike, mapped: bool = False) -> Array:
    """The array of a .npy file, in memory or mapped for reading."""
    with _readable(path, ".npy"), open(path, "rb") as stream:
        if _kind(stream) != ".npy":
            raise ValueError("it holds several arrays, as .npz files do")
        return np.load(path, mmap_mode="r", allow_pickle=False) if mapped else np.load(stream, allow_pickle=False)


def _kind(stream: BinaryIO) -> str:
    """What the first bytes say: NumPy would take everything else for a pickle."""
    start = stream.read(len(np.lib.format.MAGIC_PREFIX))
    stream.seek(0)
    if start == np.lib.format.MAGIC_PREFIX:
        return ".npy"
    if start.startswith(_ZIP_PREFIXES):
        return ".npz"
    raise ValueError("it begins like another kind of file, such as a pickle" if start else "it is empty")


@contextmanager
def _readable(path: PathLike, kind: str) -> Iterator[None]:
    """Whatever a damaged file makes the readers underneath raise, as a ValueError that names the file."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:  # it cannot be opened
            raise
        said = str(error) or type(error).__name__
        raise ValueError(f"{path}: expected a whole {kind} file of numbers: {said}") from error
