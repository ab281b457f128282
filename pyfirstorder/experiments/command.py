"""`pyfirstorder reproduce`: run experiments, say what each found, write the report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

try:
    import typer
    from rich.console import Console
except ImportError as error:
    raise ImportError('the command line needs typer and rich: pip install "pyfirstorder[cli]"') from error

from pyfirstorder import backends, checks, validate
from pyfirstorder.endings import going_on
from pyfirstorder.experiments.catalogue import EXPERIMENTS
from pyfirstorder.experiments.experiment import DEFAULT, FULL, QUICK, Outcome, Run
from pyfirstorder.experiments.report import REPORT_FILES, write_outcome, write_report
from pyfirstorder.experiments.running import begin, is_done, perform
from pyfirstorder.options import Backend, Seed, Threads, bar_of

ALL = "all"
_LARGEST_SEED = 2**31 - 1


def reproduce(
    experiment: Annotated[str, typer.Argument(help=f"{', '.join(EXPERIMENTS)}, or all.")] = ALL,
    quick: Annotated[bool, typer.Option("--quick", help="A small grid: all in half a minute.")] = False,
    full: Annotated[bool, typer.Option("--full", help="A large grid: many hours.")] = False,
    seed: Seed = 0,
    threads: Threads = None,
    backend: Backend = "auto",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of tables, figures and report.")] = Path(
        "report"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a report of another size, seed or version.")
    ] = False,
) -> None:
    """Measure the claims of Deng et al. 2020; the same command goes on after an interruption."""
    if quick and full:
        raise ValueError("--full: expected one of --quick and --full, got both")
    checks.choice("experiment", experiment, (*EXPERIMENTS, ALL))
    size = QUICK if quick else FULL if full else DEFAULT
    engine = backends.get(validate.backend(backend)).name
    run = Run(checks.integer("seed", seed, 0, _LARGEST_SEED), engine, validate.threads(threads))
    begin(output, size, run, overwrite, [*REPORT_FILES, *(f"{name}.csv" for name in EXPERIMENTS)])
    same = f"the same command{' without --overwrite' if overwrite else ''} goes on"
    with going_on(lambda: same):
        _measure(experiment, size, run, output)


def _measure(experiment: str, size: str, run: Run, output: Path) -> None:
    """Perform what is asked for, say what it found, and write the report of all that is done."""
    console = Console(highlight=False)
    outcomes: list[Outcome] = []
    for name, each in EXPERIMENTS.items():
        is_asked = experiment in (name, ALL)
        if not is_asked and not is_done(each, size, output):
            continue  # the report has what was done before, too
        with bar_of(console) as bar:
            task = bar.add_task(name, total=len(each.cells(size)))
            outcome = perform(each, size, run, output, partial(bar.advance, task))
        outcomes.append(outcome)
        if is_asked:
            write_outcome(outcome, output)
            _print(console, outcome)
    asked = ALL if len(outcomes) == len(EXPERIMENTS) else experiment
    flag = "" if size == DEFAULT else f" --{size}"
    command = f"pyfirstorder reproduce {asked}{flag} --seed {run.seed} --backend {run.backend}"
    for path in write_report(outcomes, command, output):
        console.print(f"wrote {path}", soft_wrap=True)


def _print(console: Console, outcome: Outcome) -> None:
    verdict = outcome.judgement.verdict.value
    console.print(f"[bold]{outcome.experiment.name}[/bold]: {verdict}", soft_wrap=True)
    console.print(f"  claim: {outcome.experiment.claim}", soft_wrap=True, markup=False)
    for finding in outcome.judgement.findings:
        console.print(f"  - {finding}", soft_wrap=True, markup=False)
