"""What a worker of dask runs: one block, on the processors that no other block of the worker has.

Weights and results tell dask their size, which it takes into account when it moves and spills what workers hold.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pyfirstorder as fo
from pyfirstorder import validate
from pyfirstorder.results import AttackResult, Trace

try:
    from dask.sizeof import sizeof
except ImportError as error:
    raise ImportError('dask is not installed: pip install "dask[array,distributed]"') from error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyfirstorder.network import TwoLayerNetwork


@dataclass(frozen=True)
class Plan:
    """What all blocks have in common: it is shipped to a worker once."""

    function: str
    net: TwoLayerNetwork
    per_row: tuple[str, ...]
    options: dict[str, Any]

    def call(self, x: Any, rows: dict[str, Any], **options: Any) -> Any:
        return getattr(fo, self.function)(self.net, x, **rows, **options)


@sizeof.register(Plan)
def _bytes_of_plan(plan: Plan) -> int:
    """What a worker keeps: the weights, and as much again that the engine prepares from them."""
    net = plan.net
    return 2 * sum(w.nbytes for w in (net.hidden_weight, net.hidden_bias, net.output_weight, net.output_bias))


@sizeof.register(AttackResult)
def _bytes_of_result(result: AttackResult) -> int:
    return sum(array.nbytes for array in parts_of(result).values())


def run_attack(plan: Plan, x: Any, offset: Any, *rows: Any) -> AttackResult:
    """The attack on one block; the clean samples are not sent back."""
    return replace(run_keyed(plan, x, offset, *rows), x=None)


def run_keyed(plan: Plan, x: Any, offset: Any, *rows: Any) -> Any:
    """What is called on one block, with random starts keyed by the places of its rows in the whole array."""
    begin = int(_unpacked(offset)[0])
    options = {**plan.options, "sample_offset": plan.options.get("sample_offset", 0) + begin}
    block = _unpacked(x)
    try:
        return _with_processors(plan, block, dict(zip(plan.per_row, map(_unpacked, rows))), options)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{error}; rows are counted from {begin}, where the block begins") from error


def run(plan: Plan, x: Any) -> Any:
    """The outputs or the classes of one block."""
    return _with_processors(plan, _unpacked(x), {}, plan.options)


def _with_processors(plan: Plan, x: Any, rows: dict[str, Any], options: dict[str, Any]) -> Any:
    if options.get("threads") is not None:
        return plan.call(x, rows, **options)
    with processors() as threads:
        return plan.call(x, rows, **{**options, "threads": threads})


@sizeof.register(fo.Evaluation)
def _bytes_of_evaluation(found: fo.Evaluation) -> int:
    return sum(array.nbytes for array in (found.x_adv, found.robust, found.fell_to))


def pick(name: str, record: Any) -> Any:
    """One array of a result, such as "loss" or "trace.loss"."""
    return attrgetter(name)(record)


def _unpacked(block: Any) -> Any:
    """The block itself: dask hands over what lies along an axis in a list."""
    while isinstance(block, list):
        (block,) = block
    return block


_taken: Counter[str] = Counter()  # processors that blocks of this process have, by worker
_changing = threading.Lock()


@contextmanager
def processors() -> Iterator[int]:
    """Processors for one block: those of its worker that no other block has, at least one."""
    worker, total = _worker()
    with _changing:
        share = max(1, total - _taken[worker])
        _taken[worker] += share
    try:
        yield share
    finally:
        with _changing:
            _taken[worker] -= share


def _worker() -> tuple[str, int]:
    """The worker that runs this thread, and its processors."""
    distributed = sys.modules.get("distributed")
    if distributed is not None:
        try:
            worker = distributed.get_worker()
        except ValueError:  # this thread is not one of a worker's
            pass
        else:
            return str(worker.address), int(worker.state.nthreads)
    if multiprocessing.parent_process() is not None:  # dask's scheduler of processes starts one per processor
        return "process", 1
    return "threads", validate.threads(None)


def parts_of(result: AttackResult) -> dict[str, Any]:
    """The arrays of a result by name, those of its trace as "trace.loss" and so on."""
    parts = {field.name: getattr(result, field.name) for field in fields(result)}
    trace = parts.pop("trace")
    if trace is not None:
        parts |= {f"trace.{name}": getattr(trace, name) for name in Trace._fields}
    return {name: part for name, part in parts.items() if part is not None}


def fields_of(parts: dict[str, Any]) -> dict[str, Any]:
    """The fields of a result from its arrays by name."""
    found = {field.name: parts.get(field.name) for field in fields(AttackResult)}
    if "trace.loss" in parts:
        found["trace"] = Trace(*(parts[f"trace.{name}"] for name in Trace._fields))
    return found
