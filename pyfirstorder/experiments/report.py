"""The report of a run: a table and figures for each experiment, and report.md and report.html with all of them."""

from __future__ import annotations

import base64
import csv
import html
import io
from typing import TYPE_CHECKING

from pyfirstorder import files
from pyfirstorder.config import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from pyfirstorder.experiments.experiment import Outcome, Row, Run

_TITLE = "First-order adversaries of two-layer networks: claims and measurements"
_ABOUT = (
    "Claims of Deng, He, Huang, Su, “Towards Understanding the Dynamics of the First-Order Adversaries” "
    "(ICML 2020, arXiv 2010.10650), each with an experiment whose criterion was fixed before its numbers were seen."
)
_DPI = 130
_STYLE = """body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.55 system-ui, sans-serif; color: #222 }
img { max-width: 100% } table { border-collapse: collapse } td, th { padding: .3rem .8rem; text-align: left;
border-bottom: 1px solid #ddd } h2 { margin-top: 3rem } .verdict { font-weight: 600 } dt { font-weight: 600 }"""


def write_outcome(outcome: Outcome, output: Path) -> None:
    """The rows as CSV and the figures as PNG."""
    with files.written_at_once(output / f"{outcome.experiment.name}.csv") as path:
        path.write_text(_table(outcome.rows), encoding="utf-8")
    for name, figure in outcome.figures.items():
        with files.written_at_once(output / f"{name}.png") as path:
            path.write_bytes(_png(figure))


def write_report(outcomes: Sequence[Outcome], size: str, run: Run, output: Path) -> list[Path]:
    """Both forms of the report, from the same words."""
    command = (
        f"pyfirstorder reproduce --{size} --seed {run.seed}"
        if size != "default"
        else (f"pyfirstorder reproduce --seed {run.seed}")
    )
    made_by = f"pyfirstorder {__version__}, {command}"
    texts = {"report.md": _markdown(outcomes, made_by), "report.html": _html(outcomes, made_by)}
    for name, text in texts.items():
        with files.written_at_once(output / name) as path:
            path.write_text(text, encoding="utf-8")
    return [output / name for name in texts]


def _table(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI, metadata={"Software": None})  # the same bytes in every run
    return content.getvalue()


def _parts(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Headings and sentences of one experiment."""
    experiment = outcome.experiment
    yield "Claim", experiment.claim
    yield "Source", experiment.source
    yield "Experiment", experiment.design
    yield "Criterion", experiment.criterion


def _markdown(outcomes: Sequence[Outcome], made_by: str) -> str:
    lines = [f"# {_TITLE}", "", _ABOUT, "", f"Made by {made_by}.", "", "| experiment | verdict |", "|---|---|"]
    lines += [f"| {o.experiment.name} | **{o.judgement.verdict.value}** |" for o in outcomes]
    for outcome in outcomes:
        lines += ["", f"## {outcome.experiment.name}", ""]
        lines += [f"**{heading}.** {text}\n" for heading, text in _parts(outcome)]
        lines += [f"**Verdict: {outcome.judgement.verdict.value}.**", ""]
        lines += [f"- {finding}" for finding in outcome.judgement.findings]
        lines += [f"\n![{name}]({name}.png)" for name in outcome.figures]
        lines += ["", f"Rows: [{outcome.experiment.name}.csv]({outcome.experiment.name}.csv)"]
    return "\n".join(lines) + "\n"


def _html(outcomes: Sequence[Outcome], made_by: str) -> str:
    """One file that needs no other."""
    say = html.escape
    summary = "".join(
        f"<tr><td><a href='#{o.experiment.name}'>{o.experiment.name}</a></td>"
        f"<td class='verdict'>{o.judgement.verdict.value}</td></tr>"
        for o in outcomes
    )
    body = [f"<h1>{say(_TITLE)}</h1><p>{say(_ABOUT)}</p><p>Made by {say(made_by)}.</p>"]
    body.append(f"<table><tr><th>experiment</th><th>verdict</th></tr>{summary}</table>")
    for outcome in outcomes:
        body.append(f"<h2 id='{outcome.experiment.name}'>{outcome.experiment.name}</h2><dl>")
        body += [f"<dt>{heading}</dt><dd>{say(text)}</dd>" for heading, text in _parts(outcome)]
        body.append(f"</dl><p class='verdict'>Verdict: {outcome.judgement.verdict.value}</p><ul>")
        body += [f"<li>{say(finding)}</li>" for finding in outcome.judgement.findings]
        body.append("</ul>")
        for name, figure in outcome.figures.items():
            content = base64.b64encode(_png(figure)).decode()
            body.append(f"<img alt='{name}' src='data:image/png;base64,{content}'>")
    style = f"<style>{_STYLE}</style>"
    head = f"<head><meta charset='utf-8'><title>{say(_TITLE)}</title>{style}</head>"
    return f"<!doctype html><html lang='en'>{head}<body>{''.join(body)}</body></html>\n"
