"""`pyfirstorder train`: a network from a data set, and what an interrupted training goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

try:
    import typer
    from rich.console import Console
except ImportError as error:
    raise ImportError('the command line needs typer and rich: pip install "pyfirstorder[cli]"') from error

import pyfirstorder as fo
from pyfirstorder import checkpoints, datasets, files, training
from pyfirstorder.endings import going_on
from pyfirstorder.network import arrays_of
from pyfirstorder.options import (
    HELD_OUT,
    Backend,
    Bounds,
    Data,
    Labels,
    Norm,
    Seed,
    Threads,
    bar_of,
    bounds_of,
    described,
    no_bounds,
    number_of,
)
from pyfirstorder.training.history import require_history, write_history

if TYPE_CHECKING:
    from pyfirstorder.training import Epoch

HIDDEN = 512
CHECKPOINT_SUFFIX = ".checkpoint.npz"


def train(
    data: Data,
    labels: Labels = None,
    network: Annotated[
        Path | None, typer.Option(help="Network to start from, as train writes it; a random one if left out.")
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(help=f"Hidden units; {HIDDEN}, or those of --network, if left out.")
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help="Such as relu, gelu or 'softplus(10)'; relu, or that of --network, if left out.")
    ] = None,
    trained: Annotated[str, typer.Option(help="both layers, or the first only.")] = "both",
    biases: Annotated[bool, typer.Option(help="Train them, too.")] = True,
    loss: Annotated[str, typer.Option(help="cross_entropy, squared or logistic.")] = "cross_entropy",
    dtype: Annotated[
        str | None, typer.Option(help="float32 or float64; float32, or that of --network, if left out.")
    ] = None,
    optimizer: Annotated[str, typer.Option(help="adam or sgd.")] = "adam",
    epochs: Annotated[int, typer.Option(help="Passes over the training part.")] = 15,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    momentum: Annotated[float, typer.Option(help="Of sgd.")] = 0.0,
    weight_decay: Annotated[float, typer.Option(help="Beside the step, as torch's AdamW.")] = 0.0,
    l2_penalty: Annotated[float, typer.Option(help="In the gradient, as weight_decay of torch's SGD.")] = 0.0,
    held_out: Annotated[float, typer.Option(help="Share of the samples kept for validation.")] = HELD_OUT,
    seed: Seed = 0,
    adversarial_eps: Annotated[
        str | None, typer.Option(help="Radius to train against: 0.1 or 8/255; plain if left out.")
    ] = None,
    adversarial_norm: Norm = "linf",
    adversarial_steps: Annotated[int, typer.Option(help="Steps of the adversary at every mini-batch.")] = 7,
    adversarial_rel_step_size: Annotated[float | None, typer.Option(help="Step size as a share of the radius.")] = None,
    adversarial_random_start: bool = True,
    bounds: Bounds = None,
    threads: Threads = None,
    backend: Backend = "auto",
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the network goes.")] = Path("network.npz"),
    history: Annotated[Path | None, typer.Option(help="Where a line for each epoch goes: .csv or .json.")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="What an interrupted training goes on from; it stays, so that the same command with more epochs goes "
            "on, too. If left out: beside the output, and gone at the end."
        ),
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Mini-batches between checkpoints; there is one after each epoch in any case.")
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace a network of other settings; begin anew where there is a checkpoint."
        ),
    ] = False,
) -> None:
    """Train a two-layer network, plainly or against an adversary; the same command goes on after an interruption."""
    console = Console()
    files.require_writable("output", output, ".npz")
    if history is not None:
        require_history(history)
    kept = output.with_suffix(CHECKPOINT_SUFFIX) if checkpoint is None else checkpoint
    files.refuse_to_overwrite([path for path in (output, kept, history) if path], [Path(data), labels, network])
    start = None if network is None else fo.load_network(network)
    if overwrite:
        kept.unlink(missing_ok=True)
    everything = datasets.load(data, labels)
    rest, validation = datasets.split(everything, held_out, seed)
    if not len(rest):
        held = f"{len(validation)} of {len(everything)} are held out"
        raise ValueError(f"data: expected at least one sample to train on, got none: {held}")
    console.print(f"{described(everything)}\n{len(validation)} of them held out", highlight=False, soft_wrap=True)
    adversary = {
        "eps": None if adversarial_eps is None else number_of("adversarial_eps", adversarial_eps),
        "norm": adversarial_norm,
        "steps": adversarial_steps,
        "rel_step_size": adversarial_rel_step_size,
        "random_start": adversarial_random_start,
        "bounds": bounds_of(bounds, everything),
    }
    settings: dict[str, Any] = {
        "hidden_features": HIDDEN if hidden is None and start is None else hidden,
        "trained": trained,
        "biases": biases,
        "activation": activation,
        "loss": loss,
        "out_features": int(everything.labels.max()) + 1 if start is None and loss != "logistic" else None,
        "dtype": dtype,
        "optimizer": optimizer,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "l2_penalty": l2_penalty,
        "seed": seed,
        "adversary": None if adversarial_eps is None else adversary,
        "backend": backend,
    }
    job = checkpoints.fingerprint(
        data=checkpoints.digest((rest.x, rest.y)),
        held_out=held_out,
        network=None if start is None else checkpoints.digest(start.weights(start.dtype)[:4]) + start.activation,
        **settings,
    )
    if not overwrite and not kept.exists():
        checkpoints.load(output, job, name="output", remedy="choose another output, or add --overwrite")
    console.print(f"training {_against(settings['adversary'])}", highlight=False, soft_wrap=True)
    if settings["adversary"] is not None and bounds is None and adversary["bounds"] is None:
        console.print(no_bounds(everything), highlight=False, soft_wrap=True)
    with going_on(lambda: _how(kept, overwrite)), bar_of(console, "{task.fields[state]}") as bar:
        task = bar.add_task("train", total=1.0, state="")
        own: list[Epoch] = []

        def show(epoch: Epoch) -> None:
            own.append(epoch)
            bar.update(task, state=_state(epoch))

        result = training.train(
            rest.x,
            rest.y,
            **settings,
            network=start,
            validation=(validation.x, validation.y) if len(validation) else None,
            on_epoch=show,
            checkpoint=kept,
            checkpoint_every=checkpoint_every,
            progress=lambda share: bar.update(task, completed=share),
            threads=threads,
        )
    checkpoints.save(output, job, arrays_of(result.network))
    if history is not None:
        write_history(history, result.history)
    if checkpoint is None:
        kept.unlink(missing_ok=True)
    earlier = len(result.history) - len(own)
    before = f", {earlier} of them in a run before" if earlier else ""
    passes = f"{epochs} epoch{'s' if epochs != 1 else ''}"
    last = f"after {passes}{before}: {_state(result.history[-1])}; " if result.history else ""
    console.print(f"{last}wrote {output}", highlight=False, soft_wrap=True)


def _against(adversary: dict[str, Any] | None) -> str:
    """What the network is trained against."""
    if adversary is None:
        return "plainly; --adversarial-eps trains against an adversary"
    start = "a random start" if adversary["random_start"] else "the sample"
    box = "" if adversary["bounds"] is None else f" in [{adversary['bounds'][0]:g}, {adversary['bounds'][1]:g}]"
    steps = f"{adversary['steps']} step{'s' if adversary['steps'] != 1 else ''}"
    return f"against pgd of {adversary['norm']} radius {adversary['eps']:.4g}{box}, {steps} from {start}"


def _how(kept: Path, overwrite: bool) -> str:
    """How an interrupted training goes on."""
    if not kept.exists():
        return "the same command begins anew, because no epoch had ended"
    return f"the same command{' without --overwrite' if overwrite else ''} goes on"


def _state(epoch: Epoch) -> str:
    held_out = epoch.validation_accuracy
    return f"loss {epoch.train_loss:.4f}" + ("" if held_out is None else f", held-out accuracy {held_out:.1%}")
