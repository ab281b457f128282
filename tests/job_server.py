"""Runs commands of pyfirstorder in forked children of one process, which imports everything once, and ends them early.

A request is a line of JSON, its answer as well.  A child counts its ``events``, what it is about to do to files of the
given folder (open one for writing, rename, remove, make or remove a folder), and before one of them is killed, or finds
the disk full from there on.  The name of a file stands for the event in which that file would appear.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
import time
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import scipy.stats  # noqa: F401 - a second that every child would spend on it
from typer.main import get_command

from pyfirstorder import cli, options, plots, training, unfinished  # noqa: F401
from pyfirstorder.experiments.catalogue import EXPERIMENTS

COMMANDS = get_command(cli.make_app())
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")


def watch(folder: str, kill_at: int | str | None, full_at: int | None) -> None:
    """Count what is done to files of the folder, and act on one event."""
    count = 0

    def see(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in EVENTS or (event == "open" and not set("wxa+") & set(arguments[1] or "")):
            return
        if not isinstance(arguments[0], (str, Path)) or not str(arguments[0]).startswith(folder):
            return
        count += 1
        if count == kill_at or (event == "os.rename" and Path(arguments[1]).name == kill_at):
            os.kill(os.getpid(), signal.SIGKILL)
        if count == full_at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    sys.addaudithook(see)


def child(command: list[str], folder: str, draw: bool, kill_at: int | str | None, full_at: int | None) -> int:
    """Run a command; its exit code."""
    if not draw:
        cli._draw = lambda *_: None
        for name, experiment in EXPERIMENTS.items():  # half of the cells, without pictures
            EXPERIMENTS[name] = experiment._replace(
                draw=lambda *_: {}, cells=lambda size, cells=experiment.cells: cells(size)[::2]
            )
    watch(folder, kill_at, full_at)
    try:
        COMMANDS.main(command)
    except SystemExit as done:
        return int(done.code or 0)
    return 0


def answer(
    command: list[str],
    folder: str,
    draw: bool = False,
    kill_after: float | None = None,
    kill_at: int | str | None = None,
    full_at: int | None = None,
) -> dict[str, Any]:
    """What became of a command: whether it was killed, its exit code, what it printed."""
    reading, writing = os.pipe()
    started = time.perf_counter()
    process = os.fork()
    if not process:
        code = 1
        try:
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            code = child(command, folder, draw, kill_at, full_at)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.close(writing)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(process, signal.SIGKILL)
    with os.fdopen(reading, errors="replace") as pipe:
        said = pipe.read()
    status = os.waitpid(process, 0)[1]
    killed = os.WIFSIGNALED(status)
    code = -os.WTERMSIG(status) if killed else os.WEXITSTATUS(status)
    return {"killed": killed, "code": code, "said": said, "seconds": time.perf_counter() - started}


def import_everything() -> None:
    """typer, rich and the backends import most of themselves when a command runs."""
    with redirect_stdout(io.StringIO()), suppress(SystemExit):
        COMMANDS.main(["info"])


if __name__ == "__main__":
    import_everything()
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)
