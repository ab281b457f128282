"""What several files say of a release must be the same: version, Pythons, dependencies, licence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pyfirstorder as fo

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
ROOT = Path(__file__).parents[1]
if not (ROOT / "CITATION.cff").exists():
    pytest.skip("the source tree is not here: an installed copy is tested", allow_module_level=True)

DESCRIBED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = DESCRIBED["project"]
CITATION = dict(re.findall(r"^([\w-]+): (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE))
MINORS = [line.split(" :: ")[-1] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]


def test_the_installed_version_is_that_of_the_project():
    if fo.__version__ == "0+unknown":
        pytest.skip("the package is not installed")
    assert fo.__version__ == PROJECT["version"]


@pytest.mark.parametrize(("field", "value"), [("version", PROJECT["version"]), ("license", PROJECT["license"])])
def test_the_citation_says_what_the_project_says(field, value):
    assert CITATION[field] == value


def test_the_citation_has_the_title_and_the_authors_of_the_project():
    assert CITATION["title"] == PROJECT["name"]
    assert PROJECT["authors"][0]["name"] in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_changelog_begins_with_the_version():
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == PROJECT["version"]


def test_the_oldest_python_is_the_same_everywhere():
    assert PROJECT["requires-python"] == f">={MINORS[0]}"
    assert DESCRIBED["tool"]["ruff"]["target-version"] == "py" + MINORS[0].replace(".", "")


def test_wheels_are_built_for_the_pythons_of_the_classifiers():
    built = DESCRIBED["tool"]["cibuildwheel"]["build"]
    assert built == [f"cp{minor.replace('.', '')}-*" for minor in MINORS]


def test_every_dependency_has_a_floor_that_can_be_tested():
    declared = [
        *PROJECT["dependencies"],
        *(one for extra in PROJECT["optional-dependencies"].values() for one in extra),
    ]
    assert not [one for one in declared if not re.fullmatch(r"[\w-]+>=[\d.]+", one)]


def test_no_other_file_states_the_version():
    stated = re.compile(rf"(?<![\d.]){re.escape(PROJECT['version'])}(?![\d.])")
    sources = [*(ROOT / "pyfirstorder").rglob("*.py"), ROOT / "CMakeLists.txt", *(ROOT / "docs").rglob("*.py")]
    assert not [path for path in sources if stated.search(path.read_text(encoding="utf-8"))]


def test_the_project_declares_what_a_wheel_needs_to_be_typed_and_licensed():
    assert (ROOT / "pyfirstorder" / "py.typed").exists()
    assert all(list(ROOT.glob(pattern)) for pattern in PROJECT["license-files"])
