"""`pyfirstorder reproduce`: run experiments, say what each found, write the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

try:
    import typer
    from rich.console import Console
except ImportError as error:
    raise ImportError('the command line needs typer and rich: pip install "pyfirstorder[cli]"') from error

from pyfirstorder import checks, validate
from pyfirstorder.experiments.catalogue import EXPERIMENTS
from pyfirstorder.experiments.experiment import Outcome, Run
from pyfirstorder.experiments.report import write_outcome, write_report
from pyfirstorder.experiments.running import begin, perform
from pyfirstorder.options import Backend, Seed, Threads, bar_of

ALL = "all"


def reproduce(
    experiment: Annotated[str, typer.Argument(help=f"{', '.join(EXPERIMENTS)}, or all.")] = ALL,
    quick: Annotated[bool, typer.Option("--quick", help="A small grid: all in two minutes.")] = False,
    full: Annotated[bool, typer.Option("--full", help="A large grid: many hours.")] = False,
    seed: Seed = 0,
    threads: Threads = None,
    backend: Backend = "auto",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of tables, figures and report.")] = Path(
        "report"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a report of another size or seed.")] = False,
) -> None:
    """Measure the claims of Deng et al. 2020; the same command goes on after an interruption."""
    if quick and full:
        raise ValueError("--full: expected one of --quick and --full, got both")
    checks.choice("experiment", experiment, (*EXPERIMENTS, ALL))
    chosen = list(EXPERIMENTS.values()) if experiment == ALL else [EXPERIMENTS[experiment]]
    size = "quick" if quick else "full" if full else "default"
    run = Run(checks.integer("seed", seed, 0, 2**31 - 1), validate.backend(backend), threads)
    validate.threads(threads)
    begin(output, size, run, overwrite)
    console = Console(highlight=False)
    outcomes: list[Outcome] = []
    for each in chosen:
        with bar_of(console) as bar:
            task = bar.add_task(each.name, total=len(each.cells(size)))
            outcome = perform(each, size, run, output, lambda: bar.advance(task))
        write_outcome(outcome, output)
        outcomes.append(outcome)
        _print(console, outcome)
    for path in write_report(outcomes, size, run, output):
        console.print(f"wrote {path}", soft_wrap=True)


def _print(console: Console, outcome: Outcome) -> None:
    verdict = outcome.judgement.verdict.value
    console.print(f"[bold]{outcome.experiment.name}[/bold]: {verdict}", soft_wrap=True)
    console.print(f"  claim: {outcome.experiment.claim}", soft_wrap=True, markup=False)
    for finding in outcome.judgement.findings:
        console.print(f"  - {finding}", soft_wrap=True, markup=False)
