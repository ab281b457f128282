"""The command line: `info`, `train`, `attack`, `bench` and `reproduce`.

An attack goes block by block over the samples, all radii of a block in one batch, so that memory holds one block
whatever the size of the data; each block says where it begins, so that the blocks give what one call would give.
Whatever a command writes appears under its name only when it is complete.
"""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyfirstorder as fo
from pyfirstorder import checkpoints, checks, datasets, files, records, validate
from pyfirstorder.blockwise import MOST_ROWS, Sweep, from_clean, rows_of_a_block
from pyfirstorder.unfinished import Unfinished, files_on_disk, job_of

_MISSING: ImportError | None = None
try:
    import typer
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from pyfirstorder.endings import going_on, in_lines
    from pyfirstorder.options import (
        HELD_OUT,
        Backend,
        Bounds,
        Data,
        Labels,
        Norm,
        Seed,
        Start,
        Threads,
        bar_of,
        bounds_of,
        columns_of,
        described,
        no_bounds,
        number_of,
        numbers_of,
    )

    AttackLoss = Annotated[
        str | None,
        typer.Option(
            help="cross_entropy, margin, dlr, logistic, squared. Default cross_entropy, or logistic for one output."
        ),
    ]
except ImportError as error:  # said by main, so that this module can be imported without them
    _MISSING = error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyfirstorder.datasets import Dataset

_MOST_DIGITS = 10  # of a side of an image
TABLE_FILE = "table.csv"
PICTURES = ("accuracy.png", "examples.png")


def main() -> None:
    """Run the command line."""
    if sys.argv[1:] == ["--version"]:
        print(fo.__version__)
        return
    if _MISSING is not None or find_spec("matplotlib") is None:
        _run_without_packages(sys.argv[1:])
        return
    make_app()()


def _run_without_packages(arguments: list[str]) -> None:
    """The command line of an install without its optional packages."""
    if arguments == ["info"]:
        print(*(f"{name}: {value}" for name, value in fo.show_config().items()), sep="\n")
        return
    needed = 'train, attack, bench and reproduce need typer, rich and matplotlib: pip install "pyfirstorder[cli]"'
    if arguments in ([], ["--help"]):
        print(f"usage: pyfirstorder info | --version | train | attack | bench | reproduce\n{needed}")
        return
    print(f"error: {needed}", file=sys.stderr)
    raise SystemExit(1)


def make_app() -> typer.Typer:
    """The commands."""
    app = typer.Typer(
        help="First-order adversaries of two-layer networks. --version prints the version.",
        no_args_is_help=True,
        rich_markup_mode=None,  # whose tables cut long names of options off at 80 columns
        pretty_exceptions_enable=False,
    )
    from pyfirstorder.bench.command import bench
    from pyfirstorder.experiments.command import reproduce
    from pyfirstorder.training.command import train

    for command in (info, train, attack, bench, reproduce):
        summary = (command.__doc__ or "").partition("\n")[0]  # all of it: click's own would end in three dots
        app.command(short_help=summary)(in_lines(command))
    return app


def info() -> None:
    """What is installed here: versions, backends and why one is missing, instruction sets, processors."""
    table = columns_of(Table(show_header=False), "name", "value")
    for name, value in fo.show_config().items():
        table.add_row(name, escape(value))  # the name of an extra in brackets is no style
    Console().print(table)


def attack(
    network: Annotated[Path, typer.Argument(help="A .npz file, as train writes it.")],
    data: Data,
    eps: Annotated[str, typer.Option(help="Radii, increasing: 0.02,0.05,0.1 or 1/255,8/255")],
    labels: Labels = None,
    norm: Norm = "linf",
    algorithm: Annotated[str, typer.Option(help="pgd or apgd.")] = "pgd",
    steps: Annotated[int, typer.Option(help="Gradient steps from each start.")] = 100,
    step_size: Annotated[
        str | None, typer.Option(help="In the units of the norm, such as 2/255; by default 2.5 eps / steps.")
    ] = None,
    rel_step_size: Annotated[float | None, typer.Option(help="Step size as a share of the radius.")] = None,
    loss: AttackLoss = None,
    restarts: Annotated[int, typer.Option(help="Attacks of each sample, the best is kept; with --random-start.")] = 1,
    random_start: Start = None,
    seed: Seed = 0,
    targeted: Annotated[bool, typer.Option(help="Towards the class after the sample's own.")] = False,
    early_stop: Annotated[bool, typer.Option(help="End a sample at its first success.")] = False,
    bounds: Bounds = None,
    held_out: Annotated[float | None, typer.Option(help="Attack only this part, split as train does.")] = None,
    limit: Annotated[int | None, typer.Option(help="Attack only the first samples.")] = None,
    image_shape: Annotated[
        str | None, typer.Option(help="HEIGHT,WIDTH[,CHANNELS] of flat samples, to show examples.")
    ] = None,
    block_size: Annotated[
        int | None, typer.Option(help=f"Samples attacked at a time, at most {MOST_ROWS} by default: what Ctrl-C loses.")
    ] = None,
    threads: Threads = None,
    backend: Backend = "auto",
    compare: Annotated[Path | None, typer.Option(help="Output of an earlier run, to draw beside this one.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for results and pictures.")] = Path(
        "attack"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an attack with other settings there.")
    ] = False,
) -> None:
    """Attack samples at several radii: a table, adversarial examples and pictures."""
    console = Console()
    net = fo.load_network(network)
    dataset = datasets.load(data, labels)
    if dataset.features != net.in_features:
        raise ValueError(f"data: expected samples of {net.in_features} numbers for {net!r}, got {dataset.describe()}")
    dataset, hint = _part_of(dataset, held_out, seed, network)
    if limit is not None:
        dataset = dataset.first(checks.integer("limit", limit, 1, 2**63 - 1))
    console.print(f"{net!r}\n{described(dataset)}{hint}", highlight=False, soft_wrap=True)
    radii = validate.increasing("eps", numbers_of("eps", eps))
    options = {
        "algorithm": algorithm,
        "norm": validate.norm(norm),
        "steps": steps,
        "step_size": None if step_size is None else number_of("step_size", step_size),
        "rel_step_size": rel_step_size,
        "loss": loss,
        "restarts": restarts,
        "random_start": random_start,
        "seed": seed,
        "targeted": targeted,
        "early_stop": early_stop,
        "bounds": bounds_of(bounds, dataset),
        "threads": threads,
        "backend": backend,
    }
    if bounds is None and options["bounds"] is None:
        console.print(no_bounds(dataset), highlight=False, soft_wrap=True)
    options = {name: value for name, value in options.items() if value is not None}
    sweep = Sweep(net, dataset, radii, options)
    sweep.check()
    earlier = None if compare is None else records.read(compare)
    shown_shape = _image_shape(image_shape, dataset)
    block_rows = rows_of_a_block(block_size, dataset, len(radii))
    results = output / records.RESULTS_FILE
    written = [
        results,
        *(output / name for name in (TABLE_FILE, *PICTURES)),
        *(files_on_disk(output, radii) if dataset.on_disk else []),
    ]
    files.refuse_to_overwrite(
        written, [network, Path(data), labels, None if compare is None else compare / records.RESULTS_FILE]
    )
    settings = sweep.settings(network, held_out)
    if earlier is not None:
        records.require_comparable(earlier, settings)
    if not overwrite:
        records.refuse_to_replace(results, settings)
    job = job_of(sweep, settings)
    unfinished = Unfinished(output, sweep, job)
    done = unfinished.load(replace=overwrite)
    if done:
        console.print(f"going on after {done} of {len(dataset)} samples", highlight=False)
    with going_on(unfinished.how_it_goes_on), files.folder(output), _kept_unless_wrong(unfinished):
        if not done:
            unfinished.begin()
        with bar_of(console) as bar:
            task = bar.add_task("attack", total=len(dataset), completed=done)
            sweep.run(block_rows, unfinished.keep, lambda now: bar.update(task, completed=now), unfinished.note, done)
    digests = {f"{name}_fingerprint": job[name] for name in ("weights", "samples")}
    _write_results(sweep, output, {**settings, **digests, "engine": job["engine"]}, unfinished)
    console.print(_table(sweep))
    own = records.Run(output.resolve().name, settings, radii, sweep.clean_withstood, sweep.withstood)
    _draw(sweep, output, [own] if earlier is None else [earlier, own], shown_shape)
    unfinished.discard()
    console.print(f"wrote {output}", highlight=False, soft_wrap=True)


@contextmanager
def _kept_unless_wrong(unfinished: Unfinished) -> Iterator[None]:
    """What is done stays when something ends the attack from outside; a mistake in its arguments stays for good."""
    try:
        yield
    except (TypeError, ValueError):
        unfinished.discard()
        raise


def _part_of(dataset: Dataset, held_out: float | None, seed: int, network: Path) -> tuple[Dataset, str]:
    """The samples to attack, and a hint where the network may have been trained on some of them."""
    if held_out is not None:
        trained = checkpoints.of_another_split(network, held_out, seed)
        other = f"\nhint: some of these may have been trained on: this network was trained with {trained}"
        return datasets.split(dataset, held_out, seed)[1], "" if trained is None else other
    if dataset.name in datasets.BUNDLED:
        return (
            dataset,
            f"\nhint: most of these may have been trained on; --held-out {HELD_OUT} attacks what train leaves out",
        )
    return dataset, ""


def _write_results(sweep: Sweep, output: Path, settings: dict[str, Any], unfinished: Unfinished) -> None:
    """All but the pictures; the file with the settings never speaks of files that are not yet there."""
    results = output / records.RESULTS_FILE
    x_adv = {}
    if sweep.dataset.on_disk:
        results.unlink(missing_ok=True)
        unfinished.publish()
    else:
        x_adv = {"x_adv": unfinished.x_adv()}
    files.write_npz(results, {**sweep.arrays(), **settings, **x_adv})
    timing = "samples_per_second"  # not in the file, so that the same attack gives the same bytes
    rows = [{name: value for name, value in row.items() if name != timing} for row in sweep.rows()]
    records.write_table(output / TABLE_FILE, rows)


def _table(sweep: Sweep) -> Table:
    """A row for each radius."""
    targeted = sweep.options["targeted"]
    restarts = sweep.options["restarts"]
    starts = f" from each of {restarts} starts" if restarts > 1 else ""
    table = Table(
        title=f"{sweep.options['norm']} {sweep.attack_name}, at most {sweep.options['steps']} steps{starts}",
        caption=sweep.summary(),
    )
    shares = ("clean accuracy", "target reached" if targeted else "robust accuracy")
    columns_of(table, "eps", *shares, "mean loss", "mean ‖δ‖", "mean steps", justify="right")
    formats = (".4g", ".1%", ".1%", ".4g", ".4g", ".1f")  # the rate, which radii share, is in the caption
    for row in sweep.rows():
        table.add_row(*(f"{value:{shown}}" for value, shown in zip(row.values(), formats)))
    return table


def _draw(sweep: Sweep, output: Path, runs: list[records.Run], image_shape: tuple[int, ...] | None) -> None:
    """The pictures."""
    from pyfirstorder import plots

    norm = sweep.options["norm"]
    points = [plots.Curve(*from_clean(run.eps, run.clean_withstood, run.withstood)) for run in runs]
    curves = dict(zip(records.labels(runs), points))
    quantity = "targeted attacks that failed" if sweep.options["targeted"] else "robust accuracy"
    steps = sweep.options["steps"]
    title = f"{len(sweep.dataset)} samples of {sweep.dataset.name}, {sweep.attack_name} of {steps} steps"
    accuracy, examples = PICTURES
    figures = {accuracy: plots.accuracy_figure(curves, norm=norm, title=title, quantity=quantity)}
    if image_shape is not None and sweep.examples is not None:
        figures[examples] = plots.examples_figure(sweep.examples, norm=norm, image_shape=image_shape)
    for name in PICTURES:
        if name not in figures:  # of an attack that this one replaces
            (output / name).unlink(missing_ok=True)
    for name, figure in figures.items():
        with files.written_at_once(output / name) as path:
            figure.savefig(path, dpi=150)


def _image_shape(text: str | None, dataset: Dataset) -> tuple[int, ...] | None:
    """Of a sample, if it is an image."""
    if text is None:
        return dataset.image_shape
    sides = [side.strip() for side in text.split(",")]
    shape = tuple(int(side) for side in sides if side.isdecimal() and len(side) < _MOST_DIGITS)
    is_image = len(shape) == len(sides) and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)))
    if not is_image or math.prod(shape) != dataset.features:
        raise ValueError(
            f"image_shape: expected HEIGHT,WIDTH or HEIGHT,WIDTH,CHANNELS (1 or 3), positive integers whose product is "
            f"{dataset.features}, got {text!r}"
        )
    return shape
