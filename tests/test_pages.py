"""The README and the pages of docs/: their code runs, one block after the other, as a reader would run it."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if page.exists()]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
IMPORT = re.compile(r"^\s*(?:import|from) (\w+)", re.MULTILINE)
# Pages of a task or a framework must show something; others may explain, include or list.
MUST_SHOW = ("guides", "interop")
# Modules whose public names have a place in the pages of docs/api.
PUBLIC = (
    "",
    ".dynamics",
    ".certification",
    ".training",
    ".experiments",
    ".interop.models",
    ".interop.jax",
    ".interop.art",
)

needs_pages = pytest.mark.skipif(not PAGES, reason="the pages are not here: an installed copy is tested")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix(""))


def showing(pattern: re.Pattern[str]) -> list[Path]:
    return [page for page in PAGES if pattern.search(page.read_text(encoding="utf-8"))]


@needs_pages
@pytest.mark.parametrize("page", showing(BLOCK), ids=name_of)
def test_the_code_of_a_page_runs(page, tmp_path):
    text = page.read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("```python"), "every block is found, and so is run"
    code = "\n".join(blocks)
    for name in sorted(set(IMPORT.findall(code))):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}")
    script = tmp_path / "page.py"
    # processes that the page starts import it again
    script.write_text("if __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in code.splitlines()))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr


@needs_pages
@pytest.mark.parametrize("page", showing(CONSOLE), ids=name_of)
def test_the_commands_of_a_page_run(page, tmp_path):
    for package in ("typer", "matplotlib", "sklearn"):
        pytest.importorskip(package)
    blocks = "\n".join(CONSOLE.findall(page.read_text(encoding="utf-8")))
    commands = [line.removeprefix("$ ") for line in blocks.splitlines() if line.startswith("$ ")]
    assert commands, "a console block shows what is typed"
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "pyfirstorder"
        call = [sys.executable, "-m", "pyfirstorder", *arguments]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


@needs_pages
@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name in MUST_SHOW], ids=name_of)
def test_a_page_of_a_task_shows_something_that_runs(page):
    assert page in showing(BLOCK) or page in showing(CONSOLE)


@needs_pages
@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: f"pyfirstorder{module}")
def test_every_public_name_has_a_place_in_the_reference(module):
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.parent.name == "api")
    try:
        names = importlib.import_module(f"pyfirstorder{module}").__all__
    except ImportError as error:
        pytest.skip(str(error))
    missing = [name for name in names if not name.startswith("__") and not re.search(rf"\b{name}\b", text)]
    assert not missing
