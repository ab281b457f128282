"""What an attack is, as plain data: the vocabulary that the API hands to every backend.

Everything here has been validated: arrays are C-contiguous, native-endian, finite and of one floating type T
(float32 or float64); radii and step sizes are float64 with one entry per job.  Backends trust it.

A *job* is one attack of one sample at one radius.  Jobs are numbered so that job ``j`` attacks sample
``j % samples``: a sweep over E radii of B samples is E * B jobs over the same B rows of ``x``, without a copy.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]

NORMS = ("linf", "l2", "l1")
DIRECTIONS = ("gradient", "sign", "normalized", "sparse")
STEEPEST_DIRECTION = {"linf": "sign", "l2": "normalized", "l1": "sparse"}
STARTS = ("none", "ball", "sphere")
PIECEWISE_LINEAR = ("relu", "leaky_relu", "identity")  # activations
EVALUATIONS = ("auto", "dense", "hidden", "incremental")  # see `pyfirstorder.pgd`
PRECISIONS = ("strict", "fast")  # see `pyfirstorder.pgd`
TRACE_QUANTITIES = ("loss", "gradient_norm", "delta_norm", "cosine", "residual")


class Status(IntEnum):
    """Why the attack on a sample ended."""

    STEPS_USED_UP = 0
    FIXED_POINT = 1
    PERIOD_TWO = 2
    SUCCESS = 3
    ZERO_GRADIENT = 4
    NOT_FINITE = 5
    INVALID_INPUT = 6


class Weights(NamedTuple):
    """A two-layer network ``A σ(W x + b) + c`` in one floating type."""

    hidden_weight: Array  # W (m, d)
    hidden_bias: Array  # b (m,)
    output_weight: Array  # A (k, m)
    output_bias: Array  # c (k,)
    activation: str
    parameter: float  # slope, alpha or beta of the activation; ignored by those that have none
    prepared: dict[str, Any]  # what backends derive from the weights, by backend: filled by them, read by them alone


class Objective(NamedTuple):
    """The function of the logits that the attack maximises, one target per sample."""

    loss: str
    targeted: bool
    labels: Array | None  # int64 (B,), for the losses of class indices
    values: Array | None  # T (B, k), for squared, linear and logistic (-1 or +1)
    sources: Array | None = None  # int64 (B,), the label that targeted dlr moves away from

    @property
    def has_classes(self) -> bool:
        """Whether success (a wrong, or the targeted, class) is defined."""
        return self.labels is not None or self.loss == "logistic"


class Ball(NamedTuple):
    """The set of allowed points: ``‖x - x0‖_norm <= eps`` and ``lower <= x <= upper``."""

    norm: str
    eps: Array  # float64 (jobs,)
    lower: Array | None = None  # T (d,)
    upper: Array | None = None  # T (d,)


class AttackOptions(NamedTuple):
    """How to search the ball."""

    algorithm: str  # "pgd" or "apgd"
    steps: int
    step_size: Array  # float64 (jobs,); apgd chooses its own and ignores it
    direction: str
    sparse_count: int  # coordinates moved by the sparse direction
    momentum: float
    random_start: str  # one of STARTS
    restarts: int
    seed: int
    sample_offset: int  # index of the first row in the whole data set: keys the random start
    early_stop: bool
    keep_best: bool  # also return the best iterate and what belongs to it
    trace: bool
    rho: float  # apgd: share of steps that must increase the loss, or the step size is halved
    retire: bool  # leave fixed points and 2-cycles early, with the same answer
    evaluation: str  # one of EVALUATIONS
    precision: str  # one of PRECISIONS; "fast" allows a backend to round the products of steps
    threads: int
    on_progress: Callable[[float], None] | None = None  # called with the finished share, from the calling thread
    keep_iterates: bool = False  # beside a trace, of one restart


class AttackArrays(NamedTuple):
    """What a backend returns, one row per job."""

    x_adv: Array  # T (jobs, d), last iterate of the chosen restart
    loss: Array  # T (jobs,)
    output: Array  # T (jobs, k)
    success: Array  # bool (jobs,)
    best_loss: Array  # T (jobs,), largest loss at any iterate of any restart
    x_best: Array | None  # T (jobs, d), best iterate: successful before not, then by loss
    x_best_loss: Array | None  # T (jobs,), its loss, output and success
    x_best_output: Array | None  # T (jobs, k)
    x_best_success: Array | None  # bool (jobs,)
    steps: Array  # int64 (jobs,), gradient steps spent, summed over restarts
    first_success: Array  # int64 (jobs,), -1 where none
    status: Array  # int8 (jobs,)
    trace: Array | None  # float64 (jobs, len(TRACE_QUANTITIES), steps + 1)
    iterates: Array | None = None  # T (jobs, steps + 1, d)

    def rows(self, first: int, end: int) -> AttackArrays:
        """Views of the given jobs."""
        return AttackArrays(*(None if part is None else part[first:end] for part in self))  # type: ignore[arg-type]

    def ending_at_best(self) -> AttackArrays:
        """The same attack with the best iterate, if it was kept, in place of the last."""
        if self.x_best is None or self.x_best_loss is None or self.x_best_output is None or self.x_best_success is None:
            return self
        return self._replace(
            x_adv=self.x_best, loss=self.x_best_loss, output=self.x_best_output, success=self.x_best_success
        )
