"""A progress bar for long calls, drawn by rich."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_callback(
    progress: bool | Callable[[float], None], task: str = "attack"
) -> Iterator[Callable[[float], None] | None]:
    """What a backend calls with the finished share: None, the caller's function, or the update of a bar."""
    if callable(progress):
        yield progress
        return
    if not isinstance(progress, bool):
        raise TypeError(f"progress: expected True, False or a function, got {progress!r}")
    if not progress:
        yield None
        return
    try:
        from rich.progress import Progress
    except ImportError as error:
        raise ImportError('progress=True needs rich: pip install "pyfirstorder[cli]"') from error
    with Progress() as bar:
        shown = bar.add_task(task, total=1.0)
        yield lambda share: bar.update(shown, completed=share)
