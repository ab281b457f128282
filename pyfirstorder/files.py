"""Reading and writing whole files: what is damaged is refused by name, what is written appears only when complete.

A process may be killed and a disk may be full at any moment: a file is written beside its place, brought to the disk
and renamed, so that its place holds the old one or the new one, whole.  The half-written file of a killed process
carries that process's number, and the next one that writes there removes it.
"""

from __future__ import annotations

import errno
import os
import platform
import struct
import uuid
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Collection, Iterator, Mapping

    from pyfirstorder.problem import Array

    PathLike = str | os.PathLike[str]

# Said by a write that finds no room: the disk, a quota or the largest size of a file.
_NO_ROOM = tuple(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))
_LARGE = 2**30  # bytes of an array, from which on it must not be packed more tightly than this:
_MOST_PACKED = 200  # times; zeros alone are packed 1000 times, weights of which 99 of 100 are zero 57 times
JOB = "job"  # the array of a file that says of which job it is, see `pyfirstorder.checkpoints`
_ZIP_PREFIXES = (b"PK\x03\x04", b"PK\x05\x06")  # of an archive with files, and of one without
_ZIP_END = struct.Struct("<4s6xH10x")  # the same prefix, and the number of parts
_MANY_PARTS = 2**16 - 1  # or more: the number stands elsewhere


@contextmanager
def written_at_once(path: PathLike) -> Iterator[Path]:
    """A temporary path beside ``path``, which becomes it when the block ends well and is removed if it does not."""
    target = Path(os.path.realpath(path))  # a link stays, and what it points to is written
    _remove_abandoned(target)
    temporary = target.with_name(f".{target.stem}.{_owner(os.getpid())}-{uuid.uuid4().hex}{target.suffix}")
    try:
        with named_in_errors(path, temporary):
            yield temporary
            bring_to_disk(temporary)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def named_in_errors(path: PathLike, temporary: Path | None = None) -> Iterator[None]:
    """Errors of writing that find no room, or are about the temporary file, with the name that the user knows."""
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None and error.errno in _NO_ROOM
        if error.errno is None or not (unnamed or error.filename == str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def bring_to_disk(path: Path) -> None:
    """Wait until a file's numbers are on the disk: a rename may get there before them."""
    with open(path, "r+b") as stream:
        os.fsync(stream.fileno())


def write_npz(path: PathLike, arrays: Mapping[str, Any]) -> None:
    """Named arrays as a .npz file, at once; the same arrays give the same bytes."""
    with written_at_once(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)


def _owner(process: int | str) -> str:
    """A process in the name of a temporary file; machines may share a folder."""
    return f"{zlib.crc32(platform.node().encode()):08x}-{process}"


def _remove_abandoned(target: Path) -> None:
    """Remove what processes that are no more left half-written."""
    if os.name != "posix":  # elsewhere a process cannot be asked after
        return
    beginning = f".{target.stem}.{_owner('')}"
    with suppress(OSError):
        for path in target.parent.iterdir():
            if path.name.startswith(beginning) and path.suffix == target.suffix:
                process = path.name[len(beginning) :].split("-")[0]
                if process.isdecimal() and not _is_running(int(process)):
                    path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user
        return True
    return True


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


def read_npz(path: PathLike, required: tuple[str, ...], optional: tuple[str, ...] | None = ()) -> dict[str, Array]:
    """Named arrays of a .npz file; those that are optional (all others, if None) may be missing."""
    with _readable(path, ".npz"), open(path, "rb") as stream:
        if _kind(stream) != ".npz":
            raise ValueError("it holds a single array, as .npy files do")
        with np.load(stream, allow_pickle=False) as file:
            names = file.files
            wanted = names if optional is None else (*required, *optional)
            _refuse_damaged_names(file.zip, stream)
            _refuse_bombs(file.zip, wanted)
            arrays = {name: file[name] for name in wanted if name in names}
    missing = [name for name in required if name not in arrays]
    if missing:
        raise ValueError(f"{path}: no array named {' or '.join(missing)}; it has {', '.join(names) or 'none'}")
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{path}: expected {name} to be an array, got {type(array).__name__}")
    return arrays


def names_of_npz(path: PathLike) -> list[str]:
    """The names of all arrays of a .npz file, none of which is read."""
    with _readable(path, ".npz"), np.load(path, allow_pickle=False) as file:
        return list(file.files)


def _refuse_damaged_names(archive: zipfile.ZipFile, stream: BinaryIO) -> None:
    """Refuse a directory that names a part otherwise than the part does, or skips one: it would seem to be missing."""
    for part in archive.infolist():
        archive.open(part).close()  # compares both names, and reads nothing
    stream.seek(-(_ZIP_END.size + len(archive.comment)), os.SEEK_END)
    start, count = _ZIP_END.unpack(stream.read(_ZIP_END.size))
    if start != _ZIP_PREFIXES[1] or count not in (len(archive.infolist()), _MANY_PARTS):
        raise ValueError("its directory is damaged")


def _refuse_bombs(archive: zipfile.ZipFile, wanted: Collection[str]) -> None:
    """Refuse gigabytes that are packed into next to nothing: numbers, even sparse ones, cannot be."""
    for part in archive.infolist():
        is_wanted = part.filename.removesuffix(".npy") in wanted
        if is_wanted and part.file_size > _LARGE and part.file_size > _MOST_PACKED * part.compress_size:
            raise ValueError(f"{part.filename} would unpack {part.compress_size} bytes to {part.file_size}")


def read_npy(path: PathLike, mapped: bool = False) -> Array:
    """The array of a .npy file, in memory or mapped for reading."""
    with _readable(path, ".npy"), open(path, "rb") as stream:
        if _kind(stream) != ".npy":
            raise ValueError("it holds several arrays, as .npz files do")
        _refuse_nested(stream)
        return np.load(path, mmap_mode="r", allow_pickle=False) if mapped else np.load(stream, allow_pickle=False)


def _refuse_nested(stream: BinaryIO) -> None:
    """Refuse elements that are arrays: NumPy gives them one shape in memory, and another where it maps the file."""
    first = np.lib.format.read_magic(stream) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    dtype = read(stream)[2]
    stream.seek(0)
    if dtype.subdtype is not None:
        raise ValueError(f"expected numbers, got elements that are arrays, {dtype}")


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
