"""The report of a run: a table and figures for each experiment, and report.md and report.html with all of them."""

from __future__ import annotations

import base64
import csv
import html
import io
from typing import TYPE_CHECKING, NamedTuple

from pyfirstorder import files
from pyfirstorder.config import show_config
from pyfirstorder.experiments.experiment import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pyfirstorder.experiments.experiment import Outcome, Row

TITLE = "First-order adversaries of two-layer networks: claims and measurements"
_ABOUT = (
    "Deng, He, Huang and Su, “Towards Understanding the Dynamics of the First-Order Adversaries” (ICML 2020, arXiv "
    "2010.10650), prove that projected gradient ascent on the input finds a local maximum of the loss over a ball, and "
    "show that the scale of the inputs matters. Each section states a claim in one sentence, how it is measured here, "
    "what each verdict needs, and what was found. The criteria stand in the program beside the claims. They were "
    "settled after quick runs had been seen and before the default run was evaluated, but for that of `training`, "
    "which was made stricter after it, over more learning rates. Claims are worded after the paper's abstract; the "
    "settings are this program's, not the paper's.",
    "The network is f(x) = A σ(W x). At random initialisation W is standard normal and A has entries ±1/√m, for m "
    "hidden units. A sample x of d numbers has length s, the input scale; adversaries are sought in the ball of radius "
    "ε = ρ s around it, ρ the perturbation ratio. Numbers in brackets are 95% confidence intervals over repetitions, "
    "each a new network with new samples. Where all repetitions agree an interval has no width: n that agree leave "
    "room for a share of 1 - 0.025^(1/n) of networks that do not, 31% for ten and 71% for three (Clopper and Pearson). "
    "How many networks, samples, starts and steps stand behind each number is said in each section.",
)
TIMES_FILE = "times.csv"
REPORT_FILES = ("report.md", "report.html", TIMES_FILE)
_STYLE = """body { max-width: 66rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.55 system-ui, sans-serif;
color: #222 }
img { max-width: 100%; display: block; margin: 1.2rem 0 } .wide { overflow-x: auto } h2 { margin-top: 3rem }
table { border-collapse: collapse; font-size: .88rem } td, th { padding: .3rem .7rem; text-align: left;
vertical-align: top; border-bottom: 1px solid #ddd } .verdict { font-weight: 600 } dt { font-weight: 600 }
dd { margin: 0 0 .6rem 1.2rem }"""


class _Words(NamedTuple):
    """What a report says before its sections."""

    command: str
    environment: Table
    summary: Table
    departures: tuple[str, ...]


def write_outcome(outcome: Outcome, output: Path) -> None:
    """The rows as CSV and the figures as PNG."""
    _write(output / f"{outcome.experiment.name}.csv", _csv(outcome.rows))
    for name, figure in outcome.figures.items():
        with files.written_at_once(output / f"{name}.png") as path:
            path.write_bytes(figure)


def write_report(outcomes: Sequence[Outcome], command: str, output: Path) -> list[Path]:
    """Both forms of the report, from the same words, and the times beside them."""
    words = _Words(command, _environment(), _summary(outcomes), tuple(_departures(outcomes)))
    texts = {"report.md": _markdown(outcomes, words), "report.html": _html(outcomes, words)}
    for name, text in texts.items():
        _write(output / name, text)
    times = [{"experiment": o.experiment.name, "processor_seconds": f"{o.seconds:.1f}"} for o in outcomes]
    _write(output / TIMES_FILE, _csv(times))
    return [output / name for name in texts]


def _write(path: Path, text: str) -> None:
    with files.written_at_once(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _environment() -> Table:
    """What the numbers may depend on; threads are not among it."""
    known = show_config()
    names = [name for name in ("pyfirstorder", "python", "numpy", "machine", "instruction sets") if name in known]
    return Table(tuple(names), (tuple(known[name] for name in names),))


def _summary(outcomes: Iterable[Outcome]) -> Table:
    lines = tuple((o.experiment.name, o.experiment.claim, o.judgement.verdict.value, o.judgement.key) for o in outcomes)
    return Table(("experiment", "claim", "verdict", "key numbers"), lines)


def _departures(outcomes: Iterable[Outcome]) -> Iterable[str]:
    """What a reader of the paper should not overlook."""
    for outcome in outcomes:
        for departure in outcome.judgement.departures:
            yield f"{outcome.experiment.name} ({outcome.judgement.verdict.value}): {departure}"


def _parts(outcome: Outcome) -> tuple[tuple[str, str], ...]:
    """Headings and sentences of one experiment."""
    experiment = outcome.experiment
    return (
        ("Claim", experiment.claim),
        ("Source", experiment.source),
        ("Experiment", experiment.design),
        ("Sample sizes and seeds", outcome.counts),
        ("Criterion", experiment.criterion),
    )


_DEPARTURES = "Where the measurements do not bear out the paper"
_NONE = "Nowhere in this run."


def _markdown(outcomes: Sequence[Outcome], words: _Words) -> str:
    lines = [f"# {TITLE}", "", *(f"{paragraph}\n" for paragraph in _ABOUT)]
    lines += [*_markdown_table(words.summary), "", f"## {_DEPARTURES}", ""]
    lines += _bullets(words.departures) or [_NONE]
    for outcome in outcomes:
        judgement = outcome.judgement
        lines += ["", f"## {outcome.experiment.name}", ""]
        lines += [f"**{heading}.** {text}\n" for heading, text in _parts(outcome)]
        lines += [f"**Verdict: {judgement.verdict.value}.**", "", *_bullets(judgement.findings)]
        if judgement.departures:
            lines += ["", f"{_DEPARTURES}:", "", *_bullets(judgement.departures)]
        lines += [f"\n![{name}]({name}.png)" for name in outcome.figures]
        lines += ["", *_markdown_table(judgement.table), ""]
        lines += [f"All rows: `{outcome.experiment.name}.csv`, which the command writes beside this report."]
    lines += ["", "## How it was made", "", f"`{words.command}`", "", *_markdown_table(words.environment), ""]
    lines += [f"The same command gives the same bytes; processor times are in `{TIMES_FILE}`."]
    return "\n".join(lines) + "\n"


def _bullets(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _markdown_table(table: Table) -> list[str]:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(table.header), "|" + "---|" * len(table.header), *map(line, table.lines)]


def _html(outcomes: Sequence[Outcome], words: _Words) -> str:
    """One file that needs no other."""
    say = html.escape
    body = [f"<h1>{say(TITLE)}</h1>", *(f"<p>{say(paragraph)}</p>" for paragraph in _ABOUT)]
    body += [_html_table(words.summary), f"<h2>{say(_DEPARTURES)}</h2>"]
    body += [_html_list(words.departures) if words.departures else f"<p>{say(_NONE)}</p>"]
    for outcome in outcomes:
        judgement = outcome.judgement
        body.append(f"<h2 id='{outcome.experiment.name}'>{outcome.experiment.name}</h2><dl>")
        body += [f"<dt>{heading}</dt><dd>{say(text)}</dd>" for heading, text in _parts(outcome)]
        body.append(f"</dl><p class='verdict'>Verdict: {judgement.verdict.value}</p>{_html_list(judgement.findings)}")
        if judgement.departures:
            body.append(f"<p>{_DEPARTURES}:</p>{_html_list(judgement.departures)}")
        for name, figure in outcome.figures.items():
            content = base64.b64encode(figure).decode()
            body.append(f"<img alt='{name}' src='data:image/png;base64,{content}'>")
        body.append(_html_table(judgement.table))
    body.append(f"<h2>How it was made</h2><p><code>{say(words.command)}</code></p>{_html_table(words.environment)}")
    head = f"<head><meta charset='utf-8'><title>{say(TITLE)}</title><style>{_STYLE}</style></head>"
    return f"<!doctype html><html lang='en'>{head}<body>{''.join(body)}</body></html>\n"


def _html_list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def _html_table(table: Table) -> str:
    def row(tag: str, cells: Iterable[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    lines = "".join(row("td", line) for line in table.lines)
    return f"<div class='wide'><table>{row('th', table.header)}{lines}</table></div>"
