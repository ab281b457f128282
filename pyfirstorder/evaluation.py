"""How robust a network is, by the attacks that the literature reports: one after the other, on what still stands.

The order is that of AutoAttack (Croce & Hein 2020): APGD on the cross-entropy, then APGD on the targeted difference of
logits ratio, once for each of the strongest rival classes.  Its two attacks without or beyond first-order gradients
(FAB, Square) are not first-order adversaries and not here, so that the accuracy found is an upper bound of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder import arrays, backends, boxes, checks, hints, validate
from pyfirstorder.attacks import attack
from pyfirstorder.problem import Status
from pyfirstorder.results import as_numpy, warn_of_ends
from pyfirstorder.summaries import summarise

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Bounds, Norm
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array
    from pyfirstorder.results import AttackResult

MOST_TARGETS = 9  # rival classes that are targeted, as in AutoAttack
_FEWEST_FOR_RATIO = {"dlr": 3, "dlr targeted": 4}  # outputs: with fewer the ratio is the margin, or undefined


class Stage(NamedTuple):
    """One of the attacks of an evaluation: its name, its loss, and which rival class it targets (None for none)."""

    name: str
    loss: str
    rank: int | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The robustness of a network on some samples; arrays are of the kind of x.

    Attributes
    ----------
    clean_accuracy : float
        Share of samples that are classified correctly without an attack.
    robust_accuracy : float
        Share that no attack of the order brought down.
    robust : bool array (B,)
        Which ones.
    fell_to : int8 array (B,)
        What each sample is misclassified by: 0 without an attack, n the n-th of ``accuracy_after`` (1 is "apgd-ce"),
        -1 nothing.
    x_adv : array (B, ...)
        A misclassified point within ball and box where one was found (the sample itself, if it is misclassified), else
        the end point of the last attack.
    accuracy_after : dict
        Name of each attack to the accuracy that remained after it, in order: "apgd-ce" is APGD on the cross-entropy,
        "apgd-t1" to "apgd-t9" are APGD on the difference of logits ratio towards the first to the ninth of the rival
        classes, the one with the largest output at x first; "apgd-dlr" (three outputs), "apgd-margin" (two) and
        "apgd-logistic" (one) take their place.
    has_zero_gradient : bool array (B,)
        The robust samples at which an attack ended because the gradient was exactly zero: that may be masking of the
        gradient, not robustness.
    """

    clean_accuracy: float
    robust_accuracy: float
    robust: Array
    fell_to: Array
    x_adv: Array
    accuracy_after: dict[str, float]
    has_zero_gradient: Array

    @property
    def zero_gradient(self) -> int:
        """At how many samples."""
        return int(np.count_nonzero(as_numpy(self.has_zero_gradient)))

    def __repr__(self) -> str:
        after = ", ".join(f"{name} {share:.2%}" for name, share in self.accuracy_after.items())
        stuck = f"; {self.zero_gradient} with a zero gradient" if self.zero_gradient else ""
        robust = f"robust {self.robust_accuracy:.2%}: {after}{stuck}"
        return summarise("Evaluation", f"clean {self.clean_accuracy:.2%}", robust)


def stages(outputs: int) -> tuple[Stage, ...]:
    """The attacks for a network with so many outputs, in order."""
    if outputs == 1:
        return (Stage("apgd-logistic", "logistic", None),)
    first = Stage("apgd-ce", "cross_entropy", None)
    if outputs < _FEWEST_FOR_RATIO["dlr targeted"]:
        name = "dlr" if outputs >= _FEWEST_FOR_RATIO["dlr"] else "margin"
        return first, Stage(f"apgd-{name}", name, None)
    return first, *(Stage(f"apgd-t{rank}", "dlr", rank) for rank in range(1, min(MOST_TARGETS, outputs - 1) + 1))


@hints.knows_other_names
def evaluate(
    net: TwoLayerNetwork,
    x: Array,
    y: ArrayLike,
    *,
    eps: ArrayLike,
    norm: Norm = "linf",
    bounds: Bounds | None = None,
    steps: int = 100,
    restarts: int = 1,
    seed: int = 0,
    sample_offset: int = 0,
    backend: str = "auto",
    threads: int | None = None,
) -> Evaluation:
    """Robust accuracy under APGD on the cross-entropy, then on the targeted difference of logits ratio.

    That is AutoAttack's order; every attack works on the samples that still stand.  Networks with fewer than four
    outputs have no targeted ratio and are attacked by its untargeted form (the margin, where there are two); a single
    output, by the logistic loss.

    Parameters
    ----------
    net : TwoLayerNetwork
    x : float32 or float64 array (B, ...)
        Clean samples, within bounds.
    y : integer array (B,)
        True classes; -1 or +1 for a network with one output.
    eps, norm, bounds
        See `pgd`.
    steps, restarts, seed, sample_offset
        Of each attack, see `apgd`.
    backend, threads
        See `forward`.

    Returns
    -------
    Evaluation

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    Warns
    -----
    UserWarning, ZeroGradientWarning, NotFiniteWarning
        See `pgd`.

    References
    ----------
    Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks" (arXiv 2003.01690).

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.TwoLayerNetwork(np.eye(2), np.eye(2))
    >>> fo.evaluate(net, np.array([[1.0, 0.5], [1.0, 0.0]]), np.array([0, 0]), eps=0.3)
    Evaluation(clean 100.00%, robust 50.00%: apgd-ce 50.00%, apgd-margin 50.00%)
    """
    with arrays.place_of(x):
        validate.network(net)
        points = validate.points("x", x, net.in_features, on_device=True)
        rows, labels = points.rows, arrays.in_main_memory(checks.array("y", y, on_device=True))
        radii = validate.radii("eps", eps, len(rows), rows.dtype)
        order = stages(net.out_features)
        run = partial(
            _run,
            net,
            rows,
            norm=norm,
            bounds=bounds,
            seed=seed,
            sample_offset=sample_offset,
            backend=backend,
            threads=threads,
        )
        clean = run(y, np.zeros(len(rows)), order[0], steps=0, restarts=1, random_start=False)
        assert clean.success is not None
        fell_to, x_adv, statuses = (
            np.where(as_numpy(clean.success), 0, -1).astype(np.int8),
            rows,
            [as_numpy(clean.status)],
        )
        targets = _rivals(net, rows, labels, backend, threads) if order[-1].rank else np.empty((len(rows), 0), np.int64)
        for number, stage in enumerate(order, start=1):
            stands = fell_to < 0
            # A sample that fell takes part with radius 0, at little cost: its place in the batch keys the starts.
            aim = y if stage.rank is None else targets[:, stage.rank - 1]
            end = run(aim, np.where(stands, radii, 0.0), stage, steps=steps, restarts=restarts, random_start=True)
            x_adv = np.where(arrays.beside(stands, rows)[:, None], end.x_adv, x_adv)
            statuses.append(as_numpy(end.status))
            fell_to[
                stands & _misclassifies(net, as_numpy(end.output), labels) & (statuses[-1] != Status.NOT_FINITE)
            ] = number
        boxes.warn_of_radius(eps, norm, bounds)
        warn_of_ends(np.stack(statuses), stacklevel=3)  # beyond the decorator
        has_zero_gradient = (np.stack(statuses) == Status.ZERO_GRADIENT).any(axis=0) & (fell_to < 0)
        return _in_kind_of(x, summary(fell_to, x_adv.reshape(points.shape), order, has_zero_gradient))


def summary(fell_to: Array, x_adv: Array, order: tuple[Stage, ...], has_zero_gradient: Array) -> Evaluation:
    """The evaluation of samples that fell to these attacks, or to none."""
    robust = fell_to < 0
    after = {stage.name: _share(robust | (fell_to > number)) for number, stage in enumerate(order, start=1)}
    return Evaluation(_share(fell_to != 0), _share(robust), robust, fell_to, x_adv, after, has_zero_gradient)


def _in_kind_of(x: object, found: Evaluation) -> Evaluation:
    give = arrays.giver(x)
    if give is None:
        return found
    parts = {name: give(getattr(found, name)) for name in ("robust", "fell_to", "x_adv", "has_zero_gradient")}
    return replace(found, **parts)


def _run(
    net: TwoLayerNetwork,
    rows: Array,
    y: ArrayLike,
    radii: Array,
    stage: Stage,
    *,
    random_start: bool,
    **options: Any,
) -> AttackResult:
    """One attack of the order, at a radius per sample."""
    return attack(
        "apgd",
        net,
        rows,
        y,
        radii=[radii],
        loss=stage.loss,
        targeted=stage.rank is not None,
        random_start=random_start,
        x_init=None,
        early_stop=True,
        keep="best",
        trace=False,
        on_invalid="raise",
        progress=False,
        **options,
    )[0]


def _rivals(net: TwoLayerNetwork, rows: Array, labels: Array, backend: str, threads: int | None) -> Array:
    """The classes but the true one of each sample, the strongest at the clean sample first."""
    chosen = backends.get(validate.backend(backend), arrays.is_on_device(rows))
    output = as_numpy(chosen.forward(net.weights(rows.dtype), rows, validate.threads(threads))).copy()
    output[np.arange(len(rows)), labels] = -np.inf
    return np.argsort(-output, axis=1, kind="stable")[:, : min(MOST_TARGETS, net.out_features - 1)]


def _misclassifies(net: TwoLayerNetwork, output: Array, labels: Array) -> Array:
    if net.out_features == 1:
        return np.where(output.reshape(-1) > 0, 1, -1) != labels.reshape(-1)
    return np.argmax(output, axis=1) != labels


def _share(of: Array) -> float:
    return float(np.mean(of)) if len(of) else float("nan")
