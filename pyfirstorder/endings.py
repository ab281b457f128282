"""How a command ends early: what the library refuses or warns of, and what Ctrl-C stops, as a line of the terminal.

The library speaks of arguments; a command has options, which these lines name instead.
"""

from __future__ import annotations

import re
import sys
import warnings
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

try:
    import typer
    from rich.console import Console
except ImportError as error:
    raise ImportError('the command line needs typer and rich: pip install "pyfirstorder[cli]"') from error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

REFUSED = 2
INTERRUPTED = 130  # 128 and the number of SIGINT: what shells say of a process that it ended
ADVERSARIAL = "adversarial_"  # begins the options that are arguments of the adversary


def in_lines(command: Callable[..., None]) -> Callable[..., None]:
    """The command, without tracebacks: exit code 2 for what the library refuses, 130 for Ctrl-C."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            with going_on(lambda: ""), _warnings_in_lines(options):
                command(*arguments, **options)
        except (TypeError, ValueError, ImportError, OSError) as error:
            Console(stderr=True).print(
                f"error: {said(error, options)}", style="red", markup=False, highlight=False, soft_wrap=True
            )
            raise typer.Exit(REFUSED) from None

    return run


@contextmanager
def going_on(how: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C in the block ends the command with a line that says how the job goes on."""
    try:
        yield
    except KeyboardInterrupt:
        words = how()
        print(f"interrupted{words and '; '}{words}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _warnings_in_lines(options: Collection[str]) -> Iterator[None]:
    """Warnings in the block without the line of source that they come from, each text once."""
    shown = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        line = said(message, options)
        if line not in shown:
            shown.add(line)
            print(f"warning: {line}", file=sys.stderr)  # through a progress bar, which takes this stream

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def said(message: object, options: Collection[str]) -> str:
    """A message in a line, with options where the library has arguments."""
    if isinstance(message, FileNotFoundError) and message.filename is not None:
        return f"no such file: {message.filename}"
    line = " ".join(str(message).split())
    arguments = {name.removeprefix(ADVERSARIAL): name for name in options if name.startswith(ADVERSARIAL)}
    spelled = arguments | {name: name for name in options}
    line = re.sub(r"\bpass (\w+)=True", lambda found: f"add {_option(spelled.get(found[1], found[1]))}", line)
    line = line.replace("remove that file to begin anew", "add --overwrite to begin anew")
    for name, spelling in spelled.items():
        if "_" in name:  # no word of a sentence
            line = re.sub(rf"(?<![\w./-]){name}\b(?![./-])", _option(spelling), line)
        elif name not in ("network", "data"):  # which stand without a name, or are options elsewhere
            line = re.sub(rf"^{name}(?=: )|(?<![\w./-]){name}(?==)", _option(spelling), line)
    return line


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
