"""Attacks on dask arrays: one task per block of rows, on the threads of one machine or on many machines.

Every sample is attacked by itself, so blocks need nothing from each other.  Each is told where it begins
(``sample_offset``), which keys its random starts: the result is to the bit that of one call, whatever the blocks, the
workers and their number of threads, and also where a worker dies and its blocks are run again elsewhere.

The network is one key of the graph.  A worker gets it once, and what the engine prepares from its weights serves all
blocks of that worker.  A block takes the processors of its worker that no other block has at that moment, at least one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import pyfirstorder as fo
from pyfirstorder import checks
from pyfirstorder.evaluation import Stage, stages, summary
from pyfirstorder.interop.dask.blocks import Plan, fields_of, parts_of, pick, run, run_attack, run_keyed
from pyfirstorder.results import AttackResult

try:
    import dask
    import dask.array as da
    from dask.base import tokenize
except ImportError as error:
    raise ImportError('dask is not installed: pip install "dask[array,distributed]"') from error
from pyfirstorder.summaries import counted, summarise

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from pyfirstorder.network import TwoLayerNetwork

_PER_SAMPLE = ("y", "eps", "step_size", "x_init")  # arguments that may hold one entry per sample


@dataclass(frozen=True, eq=False, repr=False)
class DaskAttackResult(AttackResult):
    """What an attack will give: the attributes of `pyfirstorder.AttackResult` as dask arrays, in the blocks of x.

    Their shapes, types and chunks are known; nothing is computed until one of them is.  Arrays that are computed
    together share one attack, ``dask.compute(result.x_adv, result.success)``; computed one after the other they attack
    twice.  `compute` gives everything at once, `persist` leaves everything on the workers.
    """

    @property
    def robust_accuracy(self) -> Any:
        """Share of samples where the attack had no success, a dask scalar; None where the loss has no classes."""
        return None if self.success is None else 1 - self.success.mean()

    @property
    def zero_gradient(self) -> Any:
        """How many samples ended because their gradient was exactly zero, a dask scalar."""
        return (self.status == int(fo.Status.ZERO_GRADIENT)).sum()

    @property
    def not_finite(self) -> Any:
        """How many samples ended because their loss or gradient was not finite, a dask scalar."""
        return (self.status == int(fo.Status.NOT_FINITE)).sum()

    def compute(self, **options: Any) -> AttackResult:
        """Attack, and give the `pyfirstorder.AttackResult` of NumPy arrays; options are those of `dask.compute`."""
        (parts,) = dask.compute(parts_of(self), **options)
        return AttackResult(**fields_of(parts))

    def persist(self, **options: Any) -> DaskAttackResult:
        """Attack, and leave the arrays where they were computed; options are those of `dask.persist`."""
        (parts,) = dask.persist(parts_of(self), **options)
        return DaskAttackResult(**fields_of(parts))

    def __repr__(self) -> str:
        loss: Any = self.loss
        return summarise("DaskAttackResult", f"{counted(len(loss))} in {counted(loss.npartitions, 'block')}")


def pgd(net: TwoLayerNetwork, x: Any, y: Any, *, eps: ArrayLike, **options: Any) -> DaskAttackResult:
    """`pyfirstorder.pgd` of a dask array, block by block, when the result is computed.

    Parameters
    ----------
    net : TwoLayerNetwork
    x : dask array (B, ...) of float32 or float64
        Samples, cut into blocks of rows only: ``x.rechunk({0: rows, 1: -1})``.  Some thousand rows a block are enough.
    y : array (B,) or (B, k)
        Targets, a dask array in any blocks or an array in memory.
    eps : float or array (B,), of dask or in memory
    options
        Those of `pyfirstorder.pgd`, but for ``progress``.  ``step_size`` and ``x_init`` may be dask arrays.
        ``threads`` is the number per block; left out, the processors of the worker that no other block has.

    Returns
    -------
    DaskAttackResult

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, shape or value, at once; if the samples are (not finite, outside of the
        bounds), when they are computed.  The message names the argument.
    """
    return _attack("pgd", net, x, {"y": y, "eps": eps, **options})


def apgd(net: TwoLayerNetwork, x: Any, y: Any, *, eps: ArrayLike, **options: Any) -> DaskAttackResult:
    """`pyfirstorder.apgd` of a dask array, block by block, when the result is computed; see `pgd`."""
    return _attack("apgd", net, x, {"y": y, "eps": eps, **options})


@dataclass(frozen=True, eq=False, repr=False)
class DaskEvaluation:
    """What an evaluation will give: the attributes of `pyfirstorder.Evaluation`, of dask, in the blocks of x.

    Accuracies are dask scalars.  Computed together, all share one evaluation of each block.
    """

    fell_to: Any
    x_adv: Any
    has_zero_gradient: Any
    order: tuple[Stage, ...]

    @property
    def robust(self) -> Any:
        """Which samples no attack brought down, a dask array (B,)."""
        return self.fell_to < 0

    @property
    def robust_accuracy(self) -> Any:
        """Share of samples that no attack brought down."""
        return self.robust.mean()

    @property
    def clean_accuracy(self) -> Any:
        """Share of samples that are classified correctly without an attack."""
        return (self.fell_to != 0).mean()

    @property
    def zero_gradient(self) -> Any:
        """At how many samples, a dask scalar."""
        return self.has_zero_gradient.sum()

    @property
    def accuracy_after(self) -> dict[str, Any]:
        """Name of each attack to the accuracy that remained after it, in order."""
        return {
            stage.name: (self.robust | (self.fell_to > number)).mean()
            for number, stage in enumerate(self.order, start=1)
        }

    def compute(self, **options: Any) -> fo.Evaluation:
        """Evaluate, and give the `pyfirstorder.Evaluation` of NumPy arrays; options are those of `dask.compute`."""
        fell_to, x_adv, has_zero_gradient = dask.compute(self.fell_to, self.x_adv, self.has_zero_gradient, **options)
        return summary(fell_to, x_adv, self.order, has_zero_gradient)

    def persist(self, **options: Any) -> DaskEvaluation:
        """Evaluate, and leave the arrays where they were computed; options are those of `dask.persist`."""
        fell_to, x_adv, has_zero_gradient = dask.persist(self.fell_to, self.x_adv, self.has_zero_gradient, **options)
        return DaskEvaluation(fell_to, x_adv, has_zero_gradient, self.order)

    def __repr__(self) -> str:
        blocks = counted(self.fell_to.npartitions, "block")
        return summarise("DaskEvaluation", f"{counted(len(self.fell_to))} in {blocks}")


def evaluate(net: TwoLayerNetwork, x: Any, y: Any, *, eps: ArrayLike, **options: Any) -> DaskEvaluation:
    """`pyfirstorder.evaluate` of a dask array, block by block, when the result is computed.

    Parameters
    ----------
    net, x, y, eps
        See `pgd`.
    options
        Those of `pyfirstorder.evaluate`; ``threads`` as in `pgd`.

    Returns
    -------
    DaskEvaluation

    Raises
    ------
    TypeError, ValueError
        See `pgd`.
    """
    records, shape = _records("evaluate", net, x, {"y": y, "eps": eps, **options}, run_keyed)
    fell_to, x_adv, has_zero_gradient = (
        _output(records, name, getattr(shape, name)) for name in ("fell_to", "x_adv", "has_zero_gradient")
    )
    return DaskEvaluation(fell_to, x_adv, has_zero_gradient, stages(net.out_features))


def forward(net: TwoLayerNetwork, x: Any, *, backend: str = "auto", threads: int | None = None) -> Any:
    """`pyfirstorder.forward` of a dask array (B, ...): a dask array (B, k) or (B,), in the blocks of x."""
    return _evaluate("forward", net, x, {"backend": backend, "threads": threads})


def predict(net: TwoLayerNetwork, x: Any, *, backend: str = "auto", threads: int | None = None) -> Any:
    """`pyfirstorder.predict` of a dask array (B, ...): an int64 dask array (B,), in the blocks of x."""
    return _evaluate("predict", net, x, {"backend": backend, "threads": threads})


# ------------------------------------------------------------------ building the graph


def _attack(function: str, net: TwoLayerNetwork, x: Any, given: dict[str, Any]) -> DaskAttackResult:
    if given.pop("progress", False) is not False:
        raise ValueError("progress: expected False; dask shows progress by its dashboard or dask.diagnostics")
    records, shape = _records(function, net, x, given, run_attack)
    parts = {name: _output(records, name, part) for name, part in parts_of(shape).items() if name != "x"}
    return DaskAttackResult(**fields_of({**parts, "x": x}))


def _records(
    function: str, net: TwoLayerNetwork, x: Any, given: dict[str, Any], on_block: Callable[..., Any]
) -> tuple[Any, Any]:
    """One result for each block of x, and what a call without samples gives."""
    _check_blocks(x)
    rows = {name: _blocks_like(name, given.pop(name), x) for name in _PER_SAMPLE if _has_rows(name, given)}
    plan = Plan(function, net, tuple(rows), given)
    none = {name: np.empty((0, *array.shape[1:]), array.dtype) for name, array in rows.items()}
    shape = plan.call(np.empty((0, *x.shape[1:]), x.dtype), none, **given)  # all that can be refused without samples
    offsets = _blocks_like("x", np.cumsum((0, *x.chunks[0][:-1])), x, one_each=True)
    return _by_block(on_block, plan, x, [offsets, *rows.values()], np.empty(0, object)), shape


def _evaluate(function: str, net: TwoLayerNetwork, x: Any, given: dict[str, Any]) -> Any:
    _check_blocks(x)
    plan = Plan(function, net, (), given)
    return _by_block(run, plan, x, [], plan.call(np.empty((0, *x.shape[1:]), x.dtype), {}, **given))


def _check_blocks(x: Any) -> None:
    """A dask array in blocks of whole samples, of known sizes."""
    if not isinstance(x, da.Array):
        raise TypeError(f"x: expected a dask array, got {checks.describe(x)}; make one with dask.array.from_array")
    if np.isnan(x.shape).any():
        raise ValueError("x: expected blocks of known sizes, got unknown ones; call x.compute_chunk_sizes() before")
    if any(len(sizes) > 1 for sizes in x.chunks[1:]):
        whole = ", ".join(f"{axis}: -1" for axis in range(1, x.ndim))
        raise ValueError(
            f"x: expected every sample whole in one block, got blocks of {x.chunksize}; call x.rechunk({{{whole}}})"
        )


def _has_rows(name: str, given: dict[str, Any]) -> bool:
    return name == "y" or (given.get(name) is not None and np.ndim(given[name]) > 0)


def _blocks_like(name: str, value: Any, x: Any, one_each: bool = False) -> Any:
    """A dask array with the rows of each block of x, or with one row for each block."""
    rows = (1,) * len(x.chunks[0]) if one_each else x.chunks[0]
    array = value if isinstance(value, da.Array) else checks.array(name, value)
    if array.ndim == 0 or array.shape[0] != sum(rows):
        raise ValueError(f"{name}: expected an entry for each of the {len(x)} samples of x, got shape {array.shape}")
    chunks = (rows, *array.shape[1:])
    return array.rechunk(chunks) if isinstance(array, da.Array) else da.from_array(array, chunks)


def _by_block(function: Callable[..., Any], plan: Plan, x: Any, rows: list[Any], meta: Any) -> Any:
    """The dask array whose blocks are ``function(plan, x, *rows)`` of the blocks; meta is what no rows give."""
    pairs: list[Any] = []
    for array in (x, *rows):
        pairs += [array, _axes(array.ndim, first=len(pairs) * 100)]  # axes that are no other array's
    shared = dask.delayed(plan, name=f"network-{tokenize(plan)}", traverse=False)
    return da.blockwise(
        function,
        _axes(meta.ndim, first=-100),
        shared,
        None,
        *pairs,
        new_axes=dict(zip(_axes(meta.ndim, first=-100)[1:], meta.shape[1:])),
        token=plan.function,
        meta=meta,
        dtype=meta.dtype,
        align_arrays=False,
    )


def _axes(ndim: int, first: int) -> tuple[int, ...]:
    """Names of the axes for `dask.array.blockwise`: 0 is that of the blocks."""
    return (0, *range(first + 1, first + ndim))


def _output(records: Any, name: str, part: Any) -> Any:
    """One array of the results of the blocks."""
    axes = tuple(range(part.ndim))
    new_axes = dict(zip(axes[1:], part.shape[1:]))
    return da.blockwise(
        pick, axes, name, None, records, (0,), new_axes=new_axes, token=name, meta=part, dtype=part.dtype
    )
