"""ART's projected gradient descent, run by this engine.

ART clips to the box first and then scales the perturbation back into the ball.  For ℓ∞, and for ℓ2 without clip values,
that is the projection of this engine, which then runs the whole attack.  For ℓ2 with clip values and for ℓ1 it is
another point than the nearest one of ball and box; ART's own loop runs there, over gradients of this engine, as it does
for masks and the other options that the engine does not have.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

import pyfirstorder as fo
from pyfirstorder.interop import originals as elsewhere
from pyfirstorder.interop.art.classifier import TwoLayerClassifier, is_hard

try:
    from art.attacks.evasion import ProjectedGradientDescent as _Original
    from art.attacks.evasion import ProjectedGradientDescentNumpy as _Loop
    from art.config import ART_NUMPY_DTYPE
    from art.estimators.classification import PyTorchClassifier
    from art.preprocessing.standardisation_mean_std.numpy import StandardisationMeanStd
    from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch
    from art.preprocessing.standardisation_mean_std.utils import broadcastable_mean_std
    from art.utils import (
        check_and_transform_label_format,
        compute_success,
        compute_success_array,
        get_labels_np_array,
        random_sphere,
    )
    from tqdm.auto import tqdm
except ImportError as error:
    raise ImportError("ART is not installed: pip install adversarial-robustness-toolbox") from error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

logger = logging.getLogger(__name__)

_ORIGINAL = "art.attacks.evasion.ProjectedGradientDescent"
_INSTEAD = f"use {_ORIGINAL} for it"
_GROUP_ROWS = 2048  # random starts of so many samples, times num_random_init, are in memory at once
_LOOP_ROWS = 256  # of ART's loop: its arrays stay in the cache, and a call's overhead does not count
_SETTINGS = (
    "norm",
    "eps",
    "eps_step",
    "decay",
    "max_iter",
    "targeted",
    "num_random_init",
    "batch_size",
    "random_eps",
    "verbose",
)


class ProjectedGradientDescent(_Original):
    """`art.attacks.evasion.ProjectedGradientDescent` of a two-layer network, run by this engine.

    Parameters
    ----------
    estimator : TwoLayerClassifier or art.estimators.classification.PyTorchClassifier
        Of a PyTorchClassifier the model is a two-layer network, see `pyfirstorder.interop.models.from_torch`, and the
        loss torch's CrossEntropyLoss without weights or smoothing.  Its weights are read anew by every `generate`.
        Clip values, mean and standard deviation of ``preprocessing`` and postprocessing defences are those of the
        estimator.
    norm, eps, eps_step, decay, max_iter, targeted, num_random_init, batch_size, random_eps, summary_writer, verbose
        Those of the original, with its defaults.

    Raises
    ------
    TypeError, ValueError
        If the estimator is not one of these or has preprocessing defences; the message names the original as the class
        to use.  Otherwise those of the original.

    Notes
    -----
    From the same state of NumPy's global generator the starts are those of the original, and so are the end points up
    to rounding, with two exceptions: a sample whose float32 softmax is so certain that the original's gradient is zero
    is moved here for ℓ∞, and for ℓ2 without clip values; and perturbations there never exceed eps, where the original's
    do by rounding.  For ℓ2 with clip values, ℓ1 and other norms, and with mask, random_eps, summary_writer or an eps
    that differs between the features of a sample, the loop is ART's own and the gradients are this engine's: that is
    slower.  The nearest point of ball and box, which ART does not compute, is what `pyfirstorder.pgd` steps to.
    """

    def __init__(
        self,
        estimator: Any,
        norm: int | float | str = np.inf,
        eps: int | float | Array = 0.3,
        eps_step: int | float | Array = 0.1,
        decay: float | None = None,
        max_iter: int = 100,
        targeted: bool = False,
        num_random_init: int = 0,
        batch_size: int = 32,
        random_eps: bool = False,
        summary_writer: Any = False,
        verbose: bool = True,
    ) -> None:
        elsewhere.refuse_network("estimator", estimator, "pyfirstorder.interop.art.TwoLayerClassifier(net)")
        super().__init__(
            estimator=estimator,
            norm=norm,
            eps=eps,
            eps_step=eps_step,
            decay=decay,
            max_iter=max_iter,
            targeted=targeted,
            num_random_init=num_random_init,
            batch_size=batch_size,
            random_eps=random_eps,
            summary_writer=summary_writer,
            verbose=verbose,
        )
        with _in_evaluation_mode(estimator):
            _two_layer_network(estimator)  # refuse at once what cannot be attacked

    def generate(self, x: Array, y: Array | None = None, **kwargs: Any) -> Array:
        """Adversarial examples (B, ...) in float32.

        Parameters
        ----------
        x : array (B, ...)
            Clean samples.
        y : array (B,) or (B, nb_classes), optional
            Class indices or one-hot labels; the predictions if left out.  Needed if ``targeted``.
        mask : array, optional
            Features where it is zero stay as they are; of a shape that broadcasts to that of x.
        """
        estimator, attack, x = self.estimator, self._attack, np.asarray(x)
        if isinstance(estimator, PyTorchClassifier):
            estimator.model.eval()  # and so it stays, as where the original asks for a gradient
        victim = TwoLayerClassifier(
            _two_layer_network(estimator),
            x.shape[1:],
            clip_values=estimator.clip_values,
            postprocessing_defences=estimator.postprocessing_defences,
            preprocessing=None,
        )
        if y is not None:
            targets = check_and_transform_label_format(np.asarray(y), nb_classes=estimator.nb_classes)
        elif attack.targeted:
            raise ValueError("y: expected the classes to reach, because the attack is targeted, got None")
        else:
            targets = get_labels_np_array(victim.predict(x))
        if kwargs.get("mask") is None and _is_one_projection(attack, victim, x) and is_hard(targets):
            return _generate(attack, victim, x, targets)
        return _loop(attack, victim, x).generate(x, targets, **kwargs)


# ------------------------------------------------------------------ the network of an estimator


def _two_layer_network(estimator: Any) -> TwoLayerNetwork:
    """The network from samples as they come to logits, the estimator's standardisation folded into its weights."""
    from pyfirstorder.interop import models

    operations = [operation for operation in estimator.preprocessing_operations if operation.apply_predict]
    for operation in operations:
        if not isinstance(operation, (StandardisationMeanStd, StandardisationMeanStdPyTorch)):
            raise ValueError(
                f"estimator: expected no preprocessing but mean and standard deviation, got {operation}; {_INSTEAD}"
            )
    net = _model_of(estimator)
    for operation in reversed(operations):
        if (operation.mean != 0).any() or (operation.std != 1).any():
            shape = estimator.input_shape
            pair = broadcastable_mean_std(np.empty((1, *shape)), operation.mean, operation.std)
            mean, std = (np.broadcast_to(array, (1, *shape))[0] for array in pair)
            net = models.normalized(net, mean, std, shape)
    return net


@contextlib.contextmanager
def _in_evaluation_mode(estimator: Any) -> Iterator[None]:
    """Every part of a torch model in the mode in which the attack will find it, and afterwards in its own."""
    parts = list(estimator.model.modules()) if isinstance(estimator, PyTorchClassifier) else []
    modes = [part.training for part in parts]
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part, mode in zip(parts, modes):
            part.training = mode


def _model_of(estimator: Any) -> TwoLayerNetwork:
    if isinstance(estimator, TwoLayerClassifier):
        return estimator.network
    if not isinstance(estimator, PyTorchClassifier):
        raise TypeError(
            "estimator: expected a TwoLayerClassifier or a PyTorchClassifier of a two-layer network, "
            f"got {type(estimator).__name__}; {_INSTEAD}"
        )
    from torch.nn import CrossEntropyLoss

    from pyfirstorder.interop import models

    loss = estimator.loss
    if not (isinstance(loss, CrossEntropyLoss) and loss.weight is None and loss.label_smoothing == 0):
        raise ValueError(f"estimator: expected a CrossEntropyLoss without weights or smoothing, got {loss}; {_INSTEAD}")
    try:
        net = models.from_torch(estimator.model)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"estimator: {error}; {_INSTEAD}") from error
    if net.out_features == 1:
        raise ValueError(
            "estimator: expected a model of several outputs, because the cross entropy of one is constant, got one; "
            f"pass TwoLayerClassifier(models.from_torch(model)), which has the logistic loss, or {_INSTEAD}"
        )
    return net


# ------------------------------------------------------------------ the attack


def _is_one_projection(attack: Any, victim: TwoLayerClassifier, x: Array) -> bool:
    """Whether the engine knows the options, and its projection is what ART's clipping and scaling come to."""
    norm = float(attack.norm)
    if attack.random_eps or attack.summary_writer is not None or norm not in (2, np.inf):
        return False
    if _per_sample(attack.eps, x) is None or _per_sample(attack.eps_step, x) is None:
        return False
    clip = victim.clip_values
    if clip is None:
        return True
    return norm == np.inf and np.ndim(clip[0]) < x.ndim and bool(((x >= clip[0]) & (x <= clip[1])).all())


def _per_sample(value: Any, x: Array) -> Any:
    """A number, or an array (B,) of one that is given for every feature; None where the features differ."""
    if not isinstance(value, np.ndarray):
        return float(value)
    try:
        each = np.broadcast_to(value, x.shape).reshape(len(x), -1)
    except ValueError:
        return None
    return each[:, 0].astype(np.float64) if each.size and (each == each[:, :1]).all() else None


def _generate(attack: Any, victim: TwoLayerClassifier, x: Array, targets: Array) -> Array:
    """The attack by the engine, some whole batches of ART at a time."""
    x = np.ascontiguousarray(x, dtype=ART_NUMPY_DTYPE)
    labels = np.argmax(targets, axis=1)
    eps, step_size = (np.broadcast_to(_per_sample(v, x), len(x)) for v in (attack.eps, attack.eps_step))
    bounds = None
    if victim.clip_values is not None:
        lower, upper = (np.broadcast_to(side, x.shape[1:]) for side in victim.clip_values)
        bounds = (lower, upper)
    group = attack.batch_size * max(1, _GROUP_ROWS // attack.batch_size)
    adversarial = x.copy()
    for begin in tqdm(range(0, len(x), group), desc="PGD - Batches", leave=False, disable=not attack.verbose):
        rows = slice(begin, begin + group)
        for trial, start in enumerate(_starts(attack, victim, x, rows)):
            with elsewhere.instead(_ORIGINAL):
                found = fo.pgd(
                    victim.network,
                    x[rows],
                    labels[rows],
                    eps=eps[rows],
                    norm=float(attack.norm),
                    steps=attack.max_iter,
                    step_size=step_size[rows],
                    loss="cross_entropy",
                    bounds=bounds,
                    targeted=attack.targeted,
                    x_init=start,
                    momentum=attack.decay or 0.0,
                ).x_adv
            better: Any = slice(None)
            if trial > 0:
                better = compute_success_array(victim, x[rows], targets[rows], found, attack.targeted)
            adversarial[rows][better] = found[better]
    if logger.isEnabledFor(logging.INFO):
        share = compute_success(victim, x, targets, adversarial, attack.targeted)
        logger.info("Success rate of attack: %.2f%%", 100 * share)
    return adversarial


def _starts(attack: Any, victim: TwoLayerClassifier, x: Array, rows: slice) -> list[Array | None]:
    """A start of each trial for some rows, drawn as ART does: batch by batch, and in a batch trial by trial."""
    if attack.num_random_init == 0 or attack.max_iter == 0:  # ART draws in the first step
        return [None]
    starts: list[Array | None] = [x[rows].copy() for _ in range(attack.num_random_init)]
    count = len(x[rows])
    for first in range(0, count, attack.batch_size):
        batch = slice(first, min(first + attack.batch_size, count))
        eps = attack.eps
        if isinstance(eps, np.ndarray) and eps.ndim == x.ndim and len(eps) == len(x):
            eps = eps[rows][batch]
        for start in starts:
            assert start is not None
            size, features = batch.stop - batch.start, int(np.prod(x.shape[1:]))
            moved = random_sphere(size, features, eps, attack.norm).reshape(start[batch].shape)
            start[batch] += moved.astype(ART_NUMPY_DTYPE)
            if victim.clip_values is not None:
                np.clip(start[batch], *victim.clip_values, out=start[batch])
    return starts


def _loop(attack: Any, victim: TwoLayerClassifier, x: Array) -> Any:
    """ART's own loop; where neither draws nor a writer go batch by batch, its batches are of a better size."""
    settings = {name: getattr(attack, name) for name in _SETTINGS}
    if isinstance(attack.eps, np.ndarray) and attack.eps.ndim == x.ndim:
        settings["batch_size"] = max(len(x), 1)  # the loop does not cut eps into batches
    elif attack.num_random_init == 0 and attack.summary_writer is None:
        settings["batch_size"] = max(attack.batch_size, _LOOP_ROWS)
    return _Loop(victim, summary_writer=attack.summary_writer or False, **settings)
