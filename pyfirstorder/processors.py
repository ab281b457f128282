"""How many processors this process may use: those that it may run on, and what a control group allows it of their time.

A container with ``--cpus=2`` on a machine of 64 may run on all of them, for two processors' time altogether: 64 threads
would be stopped together for most of each period.  Linux says so in the files of the process's control group and of
those above it (cgroup v2 ``cpu.max``, v1 ``cpu.cfs_quota_us``); inside a container only the topmost may be visible.
"""

from __future__ import annotations

import math
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path("/")


def available() -> int:
    """Processors that this process may use, at least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _kept_quota()
    return allowed if limit >= allowed else max(1, math.ceil(limit))


def quota(root: Path = _ROOT) -> float:
    """The processors that the control groups of this process allow it in time; infinity without a limit.

    ``root`` is where the file system begins.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return math.inf
    limits = [math.inf]
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        limits += [_limit(group) for group in _groups(root / "sys/fs/cgroup", controllers, path)]
    return min(limits)


_kept_quota = lru_cache(1)(quota)  # read once: a call may take less time than the files do


def _groups(mounted: Path, controllers: str, path: str) -> Iterator[Path]:
    """The folders of a group and of those above it, wherever they may be mounted."""
    if not controllers:
        places = (mounted, mounted / "unified")
    elif "cpu" in controllers.split(","):
        places = (mounted / controllers, mounted / "cpu")
    else:
        return
    own = Path(path.lstrip("/"))
    for place in places:
        for group in (own, *own.parents):
            yield place / group


def _limit(group: Path) -> float:
    """What one group allows."""
    try:
        if (group / "cpu.max").exists():
            words = (group / "cpu.max").read_text(encoding="utf-8").split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            words = [(group / name).read_text(encoding="utf-8").strip() for name in names]
        time, period = float(words[0]), float(words[1])  # "max" and -1 are no limit
    except (OSError, ValueError, IndexError):
        return math.inf
    return time / period if time > 0 and period > 0 else math.inf
