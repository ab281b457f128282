"""Where the benchmarks of a GPU lie: importing this lets tests import `on_gpu`, their package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not FOLDER.exists():
    pytest.skip("the benchmarks are not here: an installed copy is tested", allow_module_level=True)
sys.path.append(str(FOLDER))  # at the end: an installed package comes first
