"""``{command-help} NAME``: a table of what a command takes, from the command itself, so that it cannot fall behind."""

from __future__ import annotations

from typing import Any

import typer
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from pyfirstorder import cli

HEADINGS = ("argument", "default", "meaning")
WIDTHS = (32, 14, 54)  # shares of the columns


class CommandHelp(SphinxDirective):
    """One row for each argument and option of a command."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Read the command as the command line does."""
        command = typer.main.get_command(cli.make_app()).commands[self.arguments[0]]
        rows = [_row(parameter) for parameter in command.params]
        if not rows:
            raise self.error(f"{self.arguments[0]}: the command has no arguments")
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in WIDTHS), cols=len(WIDTHS))
        heading = nodes.row("", *(_cell(nodes.Text(name)) for name in HEADINGS))
        group += [nodes.thead("", heading), nodes.tbody("", *rows)]
        said = nodes.paragraph("", command.help.splitlines()[0])
        return [said, nodes.table("", group, classes=["colwidths-given"])]


def _row(parameter: Any) -> nodes.row:
    if parameter.param_type_name == "argument":
        spellings = [parameter.name.upper()]
    else:
        spellings = [*parameter.opts, *parameter.secondary_opts]
    names = [nodes.literal(text=spelling) for spelling in spellings]
    spaced = [node for name in names for node in (name, nodes.Text(" "))]
    default = parameter.default
    if parameter.required:
        shown: nodes.Node = nodes.emphasis(text="required")
    elif default is None or isinstance(default, bool) or callable(default):
        shown = nodes.Text("")
    else:
        shown = nodes.literal(text=str(default))
    return nodes.row("", _cell(*spaced), _cell(shown), _cell(nodes.Text(parameter.help or "")))


def _cell(*inner: nodes.Node) -> nodes.entry:
    return nodes.entry("", nodes.paragraph("", "", *inner))


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
