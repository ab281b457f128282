"""ART imported by one process at a time: the first writes a folder in the user's home, where two collide."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest


def import_art() -> None:
    """Import it, or skip what needs it."""
    try:
        import fcntl
    except ImportError:  # not on Windows, where pytest's workers take their chance
        pytest.importorskip("art", reason="adversarial-robustness-toolbox is not installed")
        return
    with open(Path(tempfile.gettempdir()) / f"pyfirstorder-tests-art-{os.getuid()}", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given up when the file is closed
        pytest.importorskip("art.config", reason="adversarial-robustness-toolbox is not installed")
