"""How the documentation site is built: `make docs`.  Nothing is fetched while it is built or read."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / "_extensions")]  # the package is read from its source

_described = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
project = _described["name"]
author = _described["authors"][0]["name"]
copyright = author
release = _described["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "command_help",
    "mathml",
]
root_doc = "index"
exclude_patterns = ["_extensions"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_fence_as_directive = ["math"]  # ```math, as code hosts write it
myst_dmath_double_inline = True
myst_heading_anchors = 3

default_role = "autolink"  # `pgd` in a docstring is a link where it names something public
autodoc_typehints = "none"  # docstrings say more than types: shapes, units, defaults
autodoc_member_order = "bysource"
# Frameworks need not be installed where their pages are built; their classes are bases of some of ours.
autodoc_mock_imports = ["torch", "jax", "dask", "foolbox", "eagerpy", "torchattacks", "art", "tqdm", "cupy", "numba"]
autosummary_generate = False  # pages of the API are written by hand, so that they can be ordered
# Pages of other libraries are not linked, because their inventories would have to be fetched; two modules are internal.
nitpick_ignore_regex = [("py:obj", r"(torch|jax|dask|foolbox|matplotlib)\..*|operators|pyfirstorder\.gradients")]
numpydoc_show_class_members = False  # autodoc lists them
numpydoc_xref_param_type = False

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
smartquotes_action = "qe"  # two hyphens are an option, not a dash
pygments_style = "friendly"

# Files beside docs/, and a part of one, that pages of the site include: links to them lead there.
_PAGE_OF = {
    "README.md": "tour.md",
    "CONTRIBUTING.md": "extending.md",
    "CHANGELOG.md": "changelog.md",
    "#measured": "performance.md",
}
_LINK = re.compile(r"\]\((?:\.\./)*(" + "|".join(map(re.escape, _PAGE_OF)) + r")(#[\w-]+)?\)")


def _lead_to_pages(source: list[str]) -> None:
    """Turn links that a code host understands into links to pages."""
    source[0] = _LINK.sub(lambda link: f"](/{_PAGE_OF[link[1]]})", source[0])


def _leave_out_empty(source: list[str]) -> None:
    """Leave out patterns of a table of contents that no page has, instead of a warning."""
    folder = Path(__file__).parent
    lines = source[0].splitlines()
    source[0] = "\n".join(line for line in lines if not line.endswith("*") or any(folder.glob(f"{line}.md")))


def setup(app) -> None:
    """Register what happens while pages are read."""
    app.connect("source-read", lambda app, name, source: name == root_doc and _leave_out_empty(source))
    app.connect("source-read", lambda app, name, source: _lead_to_pages(source))
    app.connect("include-read", lambda app, path, name, source: _lead_to_pages(source))
