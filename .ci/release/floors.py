"""The oldest packages that pyproject.toml declares, one requirement a line; what needs a GPU is left out.

Each ``>=`` becomes ``==``: the floor itself is tested, not the last patch of its series.
"""

from __future__ import annotations

from pathlib import Path

import tomllib

NEEDS_GPU = {"cupy"}


def floors(project: dict) -> list[str]:
    """Requirements of the package and of its extras, at their lowest versions."""
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *(one for extra in extras if extra not in NEEDS_GPU for one in extras[extra])]
    assert all(">=" in requirement for requirement in declared), declared
    return sorted({requirement.replace(">=", "==") for requirement in declared})


print(*floors(tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]), sep="\n")
