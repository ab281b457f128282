"""`train`: its arguments, checked, and the job that they describe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder import checkpoints, checks, files, hints, validate
from pyfirstorder.gradients import Parameters, initial_parameters
from pyfirstorder.optimizers import OPTIMIZERS, Optimizer, Rates
from pyfirstorder.progress import progress_callback
from pyfirstorder.training.history import Epoch, TrainingResult
from pyfirstorder.training.run import Checkpoint, run
from pyfirstorder.training.targets import Targets, rows_of
from pyfirstorder.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, DTypeLike

    from pyfirstorder.attacks import Progress
    from pyfirstorder.files import PathLike
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

# Layers that are trained, and their parameters.
TRAINED = {"both": Parameters._fields, "first": Parameters._fields[:2]}
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_LARGEST = float(np.finfo(np.float32).max)
_MOST = 2**31 - 1
# Arguments of an adversary that decide no numbers.
_WITHOUT_EFFECT = ("progress", "threads")


@hints.knows_other_names
def train(
    x: Array,
    y: ArrayLike,
    *,
    hidden_features: int | None = None,
    network: TwoLayerNetwork | None = None,
    trained: str = "both",
    biases: bool = True,
    activation: str | None = None,
    loss: str = "cross_entropy",
    out_features: int | None = None,
    dtype: DTypeLike | None = None,
    optimizer: str = "adam",
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    l2_penalty: float = 0.0,
    seed: int = 0,
    validation: tuple[Array, ArrayLike] | None = None,
    adversary: Mapping[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoint: PathLike | None = None,
    checkpoint_every: int | None = None,
    progress: Progress = False,
    backend: str = "auto",
    threads: int | None = None,
) -> TrainingResult:
    """Minimise the mean loss over the samples, or the mean of its maximum over a ball around each.

    Parameters
    ----------
    x : float array (n, ...)
        Samples.
    y : int array (n,) or float array (n,) or (n, k)
        Classes; with the logistic loss -1 and +1; with the squared loss also numbers.  Classes are turned into one-hot
        targets for the squared loss.
    hidden_features : int, optional
        m; needed without ``network``.
    network : TwoLayerNetwork, optional
        Where to start, instead of the random weights of the notes: such as a trained network, to go on with it, or the
        paper's `random_network`.  Activation and sizes are its own, and it stays as it is.
    trained : "both" or "first"
        The layers that are trained.  "first" keeps A and c as they are: the setting of the theory (Deng et al. 2020).
    biases : bool
        False keeps b and c as they are: the paper's networks have none.
    activation : str, optional
        See `TwoLayerNetwork`; relu if left out, without ``network``.
    loss : "cross_entropy", "squared" or "logistic"
    out_features : int, optional
        k; the largest class plus one, or the columns of y, if left out.
    dtype : float32 or float64, optional
        Type of the weights and of all computations; that of ``network``, or float32, if left out.
    optimizer : "adam" or "sgd"
    epochs, batch_size : int
        Passes over the samples, each in a new random order, and samples per step (fewer in the last one of a pass).
    learning_rate : float
    momentum : float
        μ of sgd: v ← μ v + g, and a step along -v.
    weight_decay : float
        λ: each step also shrinks W and A by the share ``learning_rate * λ`` (decoupled, Loshchilov & Hutter 2019), as
        torch's AdamW does.
    l2_penalty : float
        λ₂: the loss has the term ``½ λ₂ (‖W‖² + ‖A‖²)``, as with ``weight_decay`` of torch's SGD and Adam; the history
        shows the loss without it.
    seed : int
        Keys the initial weights, the order of the samples and the random starts of the adversary.
    validation : (x, y), optional
        Held-out samples and their classes.
    adversary : mapping, optional
        Arguments of `pgd`, such as ``{"eps": 0.1, "norm": "linf", "steps": 7, "random_start": True}``: every mini-batch
        is replaced by its adversarial examples for the loss that is trained on.
    on_epoch : function, optional
        Called with each `Epoch` as it ends, but for those that a checkpoint already holds.
    checkpoint : path, optional
        A .npz file, written at the end of every epoch and read where it is there: the same call goes on from it after
        whatever ended the one before, a ``kill -9`` or a full disk among it, and ends with the same bits.  A call with
        more epochs goes on from the end of one with fewer.  ``threads`` may change; a file of other data or other
        settings is refused.
    checkpoint_every : int, optional
        Mini-batches after which it is written as well.
    progress : bool or callable
        True for a progress bar (needs rich), or a function called with the finished share from 0 to 1.
    backend, threads
        See `forward`.

    Returns
    -------
    TrainingResult

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value, the loss or a weight is no longer finite, or the checkpoint is
        damaged or of another job.
    OSError
        If the checkpoint cannot be written; the one before is still there.

    Warns
    -----
    UserWarning
        If the ℓ∞ radius of the adversary reaches all of the box [0, 1]: see `pgd`.
    ZeroGradientWarning
        If the adversary met samples whose gradient was exactly zero; once, at the end, with their number.

    Notes
    -----
    Weights start as independent normal numbers of mean 0: W of variance 2/d for the rectifiers (relu, leaky_relu, elu,
    gelu, silu; He et al. 2015) and 1/d for other activations, A of variance 1/m (LeCun et al. 1998); biases start at 0.
    A network for y of shape (n,) with numbers or signs has outputs of shape (n,).

    The same bits are promised where the same backend runs on the same kind of processor.

    References
    ----------
    Madry et al. 2018 (arXiv 1706.06083), equation 2.1; Deng et al. 2020 (arXiv 2010.10650); Kingma & Ba 2015 (arXiv
    1412.6980); Loshchilov & Hutter 2019 (arXiv 1711.05101); He et al. 2015 (arXiv 1502.01852).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder.training import train
    >>> x = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    >>> result = train(x, (x[:, 0] > x[:, 1]).astype(int), hidden_features=16, learning_rate=0.05)
    >>> result.history[-1].train_accuracy > 0.95
    True

    The theory's setting: the paper's random network, of which only W is trained.

    >>> import pyfirstorder as fo
    >>> options = {"trained": "first", "biases": False, "loss": "squared", "adversary": {"eps": 0.1, "norm": "l2"}}
    >>> train(x, np.sign(x[:, 0]), network=fo.random_network(2, 32), epochs=2, **options).network
    TwoLayerNetwork(2 -> 32 softplus(1.0) -> 1, float32)
    """
    if network is not None:
        network = validate.network(network)
    kind = _dtype(dtype, network)
    rows = rows_of("x", x, kind)
    generator = np.random.default_rng(checks.integer("seed", seed, 0, 2**64 - 1))
    targets = Targets(y, len(rows), loss, out_features, network)
    start = _start(network, rows, hidden_features, targets.out_features, activation, generator)
    moved = TRAINED[checks.choice("trained", trained, tuple(TRAINED))]
    if not checks.flag("biases", biases):
        moved = tuple(part for part in moved if "bias" not in part)
    rates = Rates(
        checks.real("learning_rate", learning_rate, 0.0, _LARGEST),
        checks.real("momentum", momentum, 0.0, 1.0),
        checks.real("weight_decay", weight_decay, 0.0, _LARGEST),
        checks.real("l2_penalty", l2_penalty, 0.0, _LARGEST),
    )
    rule = Optimizer(checks.choice("optimizer", optimizer, OPTIMIZERS), start.parameters, moved, rates)
    trainer = Trainer(rows, targets, start.parameters, start.activation, generator, rule, adversary, backend, threads)
    held_out = None if validation is None else trainer.checked_validation(validation)
    epochs = checks.integer("epochs", epochs, 0, _MOST)
    batch_size = checks.integer("batch_size", batch_size, 1, _MOST)
    every = None if checkpoint_every is None else checks.integer("checkpoint_every", checkpoint_every, 1, _MOST)
    kept = None
    if checkpoint is not None:
        files.require_writable("checkpoint", checkpoint, ".npz")
        job = checkpoints.fingerprint(
            data=checkpoints.digest((rows, np.asarray(targets.values))),
            validation=None if held_out is None else checkpoints.digest(held_out),
            network=None if network is None else checkpoints.digest(start.parameters),
            hidden_features=len(start.parameters.hidden_bias),
            out_features=targets.out_features,
            activation=start.activation,
            trained=trained,
            biases=bool(biases),
            loss=loss,
            dtype=kind.name,
            optimizer=optimizer,
            batch_size=batch_size,
            **rates._asdict(),
            seed=int(seed),
            adversary=adversary and {name: part for name, part in adversary.items() if name not in _WITHOUT_EFFECT},
            backend=trainer.backend_name,
        )
        kept = Checkpoint(Path(checkpoint), job, every)
    trainer.warn_of_radius()
    with progress_callback(progress, "train") as on_progress:
        history = run(trainer, epochs, batch_size, held_out, kept, on_progress, on_epoch)
    trainer.warn(stacklevel=3)  # beyond the decorator
    return TrainingResult(trainer.network(), tuple(history))


class _Start(NamedTuple):
    """What training starts from; the optimiser changes the parameters in place."""

    parameters: Parameters
    activation: str


def _dtype(value: DTypeLike | None, network: TwoLayerNetwork | None) -> np.dtype[Any]:
    if value is None:
        return np.dtype(np.float32) if network is None else network.dtype
    found = checks.float_type("dtype", value)
    if found not in _FLOATS:
        raise ValueError(f"dtype: expected float32 or float64, got {found}")
    return found


def _start(
    network: TwoLayerNetwork | None,
    rows: Array,
    hidden_features: int | None,
    out_features: int,
    activation: str | None,
    generator: np.random.Generator,
) -> _Start:
    """A copy of the given network, or random weights."""
    features = rows.shape[1]
    if network is None:
        if hidden_features is None:
            raise ValueError("hidden_features: expected a number of hidden units, or a network, got None")
        units = checks.integer("hidden_features", hidden_features, 1, _MOST)
        name = "relu" if activation is None else activation
        return _Start(initial_parameters(features, units, out_features, name, generator, rows.dtype), name)
    given = {"hidden_features": hidden_features, "activation": activation}
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name}: expected None, because network has its own, got {checks.describe(value)}")
    if network.in_features != features:
        raise ValueError(f"network: expected one for the {features} numbers of a sample, got {network!r}")
    return _Start(Parameters(*(np.array(part) for part in network.weights(rows.dtype)[:4])), network.activation)
