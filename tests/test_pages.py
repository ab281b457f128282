"""The README and the pages of docs/: their Python blocks run, one after the other, as a reader would run them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GENERATED = ROOT / "docs" / "report"  # shows results, and the command that gives them
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*/*.md")))
    if page.exists() and page.parent != GENERATED
]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
IMPORT = re.compile(r"^\s*(?:import|from) (\w+)", re.MULTILINE)


@pytest.mark.skipif(not PAGES, reason="the pages are not here: an installed copy is tested")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path):
    code = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))
    assert code, "a page shows something that runs"
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
