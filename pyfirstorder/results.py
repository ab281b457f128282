"""What the attacks give back."""

from __future__ import annotations

import functools
import operator
import warnings
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from pyfirstorder import arrays as kinds
from pyfirstorder import checks
from pyfirstorder.problem import TRACE_QUANTITIES, Array, Status
from pyfirstorder.summaries import counted, listed, summarise

if TYPE_CHECKING:
    from pyfirstorder.problem import AttackArrays
    from pyfirstorder.validate import Points


_LAST_PLAIN_STATUS = int(Status.SUCCESS)  # nobody is warned of those up to it


class ZeroGradientWarning(UserWarning):
    """Some samples had a gradient of exactly zero, so that the attack could not move them."""


class NotFiniteWarning(UserWarning):
    """Outputs, losses or gradients of some samples overflowed; an attack ended there without a success."""


class Trace(NamedTuple):
    """The ascent step by step: float64 arrays (B, steps + 1), column t for iterate t; NaN after an early end.

    ``residual`` is the projected-gradient residual ``‖P(δ + g) - δ‖₂``, zero at a first-order stationary point, and
    ``cosine`` the cosine of the angle between g and δ (0 where one of them is zero).
    """

    loss: Array
    gradient_norm: Array
    delta_norm: Array
    cosine: Array
    residual: Array

    def __repr__(self) -> str:
        samples, iterates = self.loss.shape
        return summarise("Trace", counted(samples), counted(iterates, "iterate"))


@dataclass(frozen=True, eq=False)
class AttackResult:
    """The end of an attack, one entry per sample; arrays are of the kind of x.

    Attributes
    ----------
    x : array (B, ...)
        The clean samples, as they were given.
    x_adv : array (B, ...)
        The end points: last iterates, or the best ones with ``keep="best"``.
    loss : array (B,)
        The ascended loss at x_adv: larger is more adversarial, so it is the negative loss where ``targeted``.
    output : array (B, k) or (B,)
        What `forward` returns for x_adv.
    success : bool array (B,) or None
        Whether `predict` gives x_adv another class than y (targeted: the class y), also of samples misclassified before
        the attack, so that ``1 - success.mean()`` is robust accuracy; False where the loss at x_adv is not
        finite, as status NOT_FINITE says, whatever `predict` gives.  None where the loss has no classes.
    best_loss : array (B,)
        The largest loss at any iterate, the start and the end included, of any restart.
    steps : int array (B,)
        Gradient steps spent, summed over restarts.
    first_success : int array (B,) or None
        Index of the first successful iterate of the restart that was kept, 0 for its start, -1 for none.
    status : int array (B,)
        Why the restart that was kept ended: a `Status` per sample.
    x_best : array (B, ...) or None
        With ``keep="both"``, the best iterate: a successful one before one that is not, then the larger loss.
    trace : Trace or None
        With ``trace=True``, the ascent of the restart that was kept.
    iterates : array (B, steps + 1, ...) or None
        The points of the ascent, where `pyfirstorder.dynamics.trace` was asked for them.
    """

    x: Array
    x_adv: Array
    loss: Array
    output: Array
    success: Array | None
    best_loss: Array
    steps: Array
    first_success: Array | None
    status: Array
    x_best: Array | None
    trace: Trace | None
    iterates: Array | None = None

    @property
    def delta(self) -> Array:
        """``x_adv - x``."""
        with np.errstate(invalid="ignore"):  # rows that hold infinity, marked as invalid
            return self.x_adv - self.x

    @property
    def zero_gradient(self) -> int:
        """How many samples ended because their gradient was exactly zero."""
        return int(np.count_nonzero(as_numpy(self.status) == Status.ZERO_GRADIENT))

    @property
    def not_finite(self) -> int:
        """How many samples ended because their loss or gradient was not finite."""
        return int(np.count_nonzero(as_numpy(self.status) == Status.NOT_FINITE))

    def __repr__(self) -> str:
        loss, steps = as_numpy(self.loss), as_numpy(self.steps)
        success = "" if self.success is None else f"{np.count_nonzero(as_numpy(self.success))} successful"
        mean = float(np.mean(loss)) if len(loss) else float("nan")
        spent = counted(int(steps.sum()), "step")
        return summarise("AttackResult", counted(len(loss)), success, f"mean loss {mean:.6g}", spent)


@dataclass(frozen=True, eq=False)
class RobustnessCurve:
    """Attacks over increasing radii.

    Attributes
    ----------
    eps : float array (E,) of NumPy
        The radii.
    clean_accuracy : float or None
        Share of samples that are classified correctly without an attack; None where the loss has no classes.
    robust_accuracy : float array (E,) or None
        Share of samples that withstood the attack at each radius and at all smaller ones.
    mean_loss : float array (E,)
        Mean loss of the end points at each radius.
    results : tuple of AttackResult
        The attack at each radius.  Where it failed but a smaller radius had succeeded, everything about the sample, its
        steps and its trace too, is that of the smaller radius, whose end point lies in the larger ball too; best_loss
        is the largest at this radius and at all smaller ones.
    """

    eps: Array
    clean_accuracy: float | None
    robust_accuracy: Array | None
    mean_loss: Array
    results: tuple[AttackResult, ...]

    def __repr__(self) -> str:
        samples = len(as_numpy(self.results[0].loss)) if self.results else 0
        robust = "" if self.robust_accuracy is None else f"robust accuracy {listed(self.robust_accuracy)}"
        return summarise("RobustnessCurve", counted(samples), f"eps {listed(self.eps)}", robust)


@dataclass(frozen=True, eq=False)
class MinimalRadius:
    """The smallest radius at which an attack succeeds, per sample; arrays are of the kind of x.

    Attributes
    ----------
    eps : float array (B,)
        Norm of a successful perturbation, within the tolerance of the largest radius seen to fail; 0 where the clean
        sample succeeds, infinity where even ``eps_max`` fails, NaN where x is not finite and was marked.
    lower : float array (B,)
        The largest radius at which the attack failed; NaN where x is not finite and was marked.
    x_adv : array (B, ...)
        The successful points; the clean samples where none was found.
    success : bool array (B,)
        Where one was found.
    """

    eps: Array
    lower: Array
    x_adv: Array
    success: Array

    def __repr__(self) -> str:
        eps = as_numpy(self.eps)
        found = eps[as_numpy(self.success)]
        median = f"median eps {np.median(found):.6g}" if len(found) else ""
        return summarise("MinimalRadius", counted(len(eps)), f"{len(found)} successful", median)


Result = TypeVar("Result", AttackResult, MinimalRadius)


def as_numpy(values: Any) -> Array:
    """An array of a result, whatever its kind."""
    if not kinds.is_foreign(values):
        array: Array = values
        return array
    with kinds.place_of(values):
        return kinds.in_main_memory(kinds.read("result", values, True))


class _Given:
    """Gives the parts of a result in the kind of x, each when it is first asked for: some libraries copy them."""

    _plain: Any  # the class of the result
    _result: Any
    _into: Any

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        part = getattr(self._result, name)
        if hasattr(part, "__array_function__"):  # NumPy's or CuPy's
            part = self._into(part)
        elif isinstance(part, Trace):
            part = Trace(*map(self._into, part))
        object.__setattr__(self, name, part)
        return part

    def __reduce__(self) -> tuple[Any, ...]:
        return self._plain, tuple(getattr(self, field.name) for field in fields(self._plain))


class _GivenAttack(_Given, AttackResult):
    _plain = AttackResult


class _GivenRadius(_Given, MinimalRadius):
    _plain = MinimalRadius


def in_kind_of(x: object, result: Result) -> Result:
    """A result with arrays of the kind of x."""
    into = kinds.giver(x)
    if into is None:
        return result
    given: Any = object.__new__(_GivenAttack if isinstance(result, AttackResult) else _GivenRadius)
    object.__setattr__(given, "_result", result)
    object.__setattr__(given, "_into", into)
    return given


def attack_result(
    arrays: AttackArrays, points: Points, x: Array, *, keep: str, has_classes: bool, scalar_output: bool
) -> AttackResult:
    """The public result of what a backend returned for one radius; ``x`` is the array of the caller."""
    status = arrays.status
    x_adv, x_best = arrays.x_adv, arrays.x_best
    if points.invalid is not None:
        _restore_invalid(arrays, points)
    return AttackResult(
        x=x,
        x_adv=x_adv.reshape(points.shape),
        loss=arrays.loss,
        output=arrays.output[:, 0] if scalar_output else arrays.output,
        success=arrays.success if has_classes else None,
        best_loss=arrays.best_loss,
        steps=arrays.steps,
        first_success=arrays.first_success if has_classes else None,
        status=status,
        x_best=x_best.reshape(points.shape) if keep == "both" and x_best is not None else None,
        trace=None if arrays.trace is None else Trace(*(arrays.trace[:, q] for q in range(len(TRACE_QUANTITIES)))),
        iterates=None
        if arrays.iterates is None
        else arrays.iterates.reshape(*arrays.iterates.shape[:2], *points.shape[1:]),
    )


def _restore_invalid(arrays: AttackArrays, points: Points) -> None:
    """Give the rows that were not finite back as they came."""
    bad = points.invalid
    for x in (arrays.x_adv, arrays.x_best):
        if x is not None:
            x[bad] = points.rows[bad]
    arrays.loss[bad] = arrays.best_loss[bad] = arrays.output[bad] = np.nan
    arrays.success[bad] = False
    arrays.steps[bad], arrays.first_success[bad], arrays.status[bad] = 0, -1, Status.INVALID_INPUT
    if arrays.trace is not None:
        arrays.trace[bad] = np.nan
    if arrays.iterates is not None:
        arrays.iterates[bad] = np.nan


def warn_of_overflow(what: str, *values: Array, stacklevel: int) -> None:
    """A warning with the number of samples of which a value is NaN or infinite."""
    count = _rows_not_finite(values)
    if not count:
        return
    warnings.warn(
        f"the {what} of {count} of {len(values[0])} points is not finite: it, or a number on the way to it, is beyond "
        f"the range of {values[0].dtype}; scale the network or its targets down"
        + (", or use float64" if values[0].dtype == np.float32 else ""),
        NotFiniteWarning,
        stacklevel=stacklevel + 1,
    )


def _rows_not_finite(values: tuple[Array, ...]) -> int:
    """In how many rows one of the arrays is not finite.

    Of arrays on a GPU they are counted there, and the host waits for that number alone, once.
    """
    if not len(values[0]):
        return 0
    if not kinds.is_on_device(values[0]) and all(checks.all_finite(part) for part in values):
        return 0
    finite: Array = functools.reduce(operator.and_, map(_finite_rows, values))
    return len(finite) - int(np.count_nonzero(finite))


def _finite_rows(values: Array) -> Any:
    return np.isfinite(values.reshape(len(values), -1)).all(axis=1)


def warn_of_ends(statuses: Array, stacklevel: int) -> None:
    """A warning of each kind, with its count, attributed to the caller of the API.

    ``statuses`` are (trials, points): a point counts once, in whatever many trials it ended so.
    """
    if np.maximum.reduce(statuses, axis=None, initial=0) <= _LAST_PLAIN_STATUS:
        return
    attacked = int(np.count_nonzero((statuses != Status.INVALID_INPUT).all(axis=0)))
    flat = np.count_nonzero((statuses == Status.ZERO_GRADIENT).any(axis=0))
    if flat:
        warnings.warn(
            f"the gradient of {flat} of {attacked} attacked points was exactly zero, so they were not moved: "
            "the network is flat there (dead hidden units?) or its weights underflow",
            ZeroGradientWarning,
            stacklevel=stacklevel + 1,
        )
    overflowed = np.count_nonzero((statuses == Status.NOT_FINITE).any(axis=0))
    if overflowed:
        warnings.warn(
            f"the loss or gradient of {overflowed} of {attacked} attacked points was not finite, so their attack ended "
            "there without a success: scale the network or its targets down, or attack in float64",
            NotFiniteWarning,
            stacklevel=stacklevel + 1,
        )
