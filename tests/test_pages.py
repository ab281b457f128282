"""The README and the pages of docs/: their Python blocks run, one after the other, as a reader would run them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHOWN = (ROOT / "README.md", ROOT / "docs" / "laboratory.md", *sorted((ROOT / "docs").glob("*/*.md")))
PAGES = [page for page in SHOWN if page.exists()]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
IMPORT = re.compile(r"^\s*(?:import|from) (\w+)", re.MULTILINE)


@pytest.mark.skipif(not PAGES, reason="the pages are not here: an installed copy is tested")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path):
    text = page.read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert blocks, "a page shows something that runs"
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
