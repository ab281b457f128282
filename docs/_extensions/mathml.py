"""Equations as MathML, which browsers draw by themselves: no script, no font and no network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

_LOGGER = logging.getLogger(__name__)
# What the converter has under another name, and what stands below an operator in a displayed equation.
_ALIGNED = re.compile(r"\\(begin|end)\{aligned\}")
_LIMITS = re.compile(r"\\(max|min|sup|inf|lim)_")
_NOT_CONVERTED = re.compile(r"<m\w+>(\\\w+|&)</m\w+>")


def _mathml(node: nodes.Element, display: str) -> str:
    """The equation; what the converter does not know is a warning, and so an error of the build."""
    latex = _ALIGNED.sub(r"\\\1{split}", node.astext())
    if display == "block":
        latex = _LIMITS.sub(r"\\\1\\limits_", latex)
        if r"\\" in latex and r"\begin{" not in latex:  # Sphinx takes several lines for aligned ones
            latex = rf"\begin{{split}}{latex}\end{{split}}"
    converted = convert(latex, display=display)
    for unknown in _NOT_CONVERTED.findall(converted):
        _LOGGER.warning("no MathML for %s in %s", unknown, node.astext(), location=node)
    return converted


def _visit_inline(self: Any, node: nodes.math) -> None:
    self.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def _visit_block(self: Any, node: nodes.math_block) -> None:
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    identifiers = "".join(f' id="{name}"' for name in node.get("ids", [])[:1])
    self.body.append(f'<div class="math"{identifiers}>{number}{_mathml(node, "block")}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register as the way in which HTML shows mathematics."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
