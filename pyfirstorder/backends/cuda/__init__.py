"""The cuda backend: the native engine of a GPU (csrc/cuda), on arrays that CuPy keeps.

CuPy allocates arrays and work space, moves what lies in main memory, and says which stream is the caller's; the engine
gets addresses.  A call of many rows is cut into parts whose work space fits a bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder.backends.cuda import products
from pyfirstorder.backends.cuda.products import Products
from pyfirstorder.backends.gpu import kept_on_gpu
from pyfirstorder.problem import TRACE_QUANTITIES, Array, AttackArrays, Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyfirstorder.problem import AttackOptions, Ball, Objective

    Move = Callable[[Array], Array]

MOST_WORKSPACE = 2**30  # bytes: some 30,000 rows of 784 inputs and 1,024 hidden units
_HALF_EXPONENT = 15  # of magnitudes below 2**15, which a half can hold


class CudaBackend:
    """See `pyfirstorder.backends.Backend`; ``library`` is CuPy, and ``engine`` the compiled module.

    ``of_all`` are the products of every device; without it each device's are chosen at its first use.
    """

    name = "cuda"
    evaluations = ("auto", "dense", "hidden")
    takes_device_arrays = True
    # How steps follow one another: "launched" kernel after kernel by the host, "conditional" by the device until the
    # last row has ended (where driver and compiler know such graphs, CUDA 12.4), all in one "resident" kernel, or
    # "auto", by the number of rows and the size of the network.  All give the same bits; tests and measurements choose.
    loop = "auto"

    def __init__(self, library: Any, engine: Any, of_all: Products | None = None) -> None:
        self._library, self._engine = library, engine
        self._of_all, self._products = of_all, dict[int, Products]()

    def products(self) -> Products:
        """Which products of tensor cores the current device uses."""
        if self._of_all is not None:
            return self._of_all
        device: int = self._library.cuda.Device().id
        if device not in self._products:
            self._products[device] = products.choose(
                self._engine, lambda chosen: CudaBackend(self._library, self._engine, chosen), products.SIZES
            )
        return self._products[device]

    def forward(self, weights: Weights, x: Array, threads: int) -> Array:
        take, give = self._moves(x)
        x = take(x)
        output = self._library.empty((len(x), len(weights.output_bias)), dtype=x.dtype)
        self._run("forward", weights, x, {"x": x, "rows_out": output}, {})
        return give(output)

    def input_gradient(
        self, weights: Weights, x: Array, objective: Objective, threads: int
    ) -> tuple[Array, Array, Array]:
        take, give = self._moves(x)
        x = take(x)
        loss, scale = self._library.empty((2, len(x)), dtype=x.dtype)
        output = self._library.empty((len(x), len(weights.output_bias)), dtype=x.dtype)
        gradient = self._library.empty(x.shape, dtype=x.dtype)
        arrays = {"x": x, "loss_out": loss, "scale_out": scale, "output_out": output, "rows_out": gradient}
        arrays |= _arrays_of(objective, take)
        self._run("input_gradient", weights, x, arrays, {"loss": objective.loss, "targeted": objective.targeted})
        return give(loss), give(gradient), give(output)

    def project(self, delta: Array, x: Array, ball: Ball, threads: int) -> Array:
        take, give = self._moves(delta)
        moved, x = self._library.empty(delta.shape, dtype=delta.dtype), take(x)
        arrays = {"x": x, "delta": take(delta), "rows_out": moved, **_arrays_of(ball, take)}
        self._run("project", None, x, arrays, {"norm": ball.norm})
        return give(moved)

    def multiply(self, left: Array, right: Array, threads: int) -> Array:
        take, give = self._moves(left)
        return give(take(left) @ take(right))

    def random_start(self, x: Array, ball: Ball, on_sphere: bool, seed: int, restart: int, sample_offset: int) -> Array:
        take, give = self._moves(x)
        x = take(x)
        start = self._library.empty(x.shape, dtype=x.dtype)
        values = {
            "norm": ball.norm,
            "random_start": "sphere" if on_sphere else "ball",
            "seed": seed,
            "restarts": restart,
            "sample_offset": sample_offset,
        }
        self._run("random_start", None, x, {"x": x, "rows_out": start, **_arrays_of(ball, take)}, values)
        return give(start)

    def attack(
        self,
        weights: Weights,
        x: Array,
        objective: Objective,
        ball: Ball,
        options: AttackOptions,
        x_init: Array | None,
    ) -> AttackArrays:
        take, give = self._moves(x)
        x = take(x)
        result = self._empty_result(len(ball.eps), weights, x, options)
        held = self._library.full((2, len(ball.eps)), -1, dtype=np.int32)
        arrays = {"x": x, **_arrays_of(objective, take), **_arrays_of(ball, take)}
        arrays |= {f"result.{name}": part for name, part in result._asdict().items() if part is not None}
        arrays |= {"result.kept_restart": held[0], "result.best_restart": held[1]}
        arrays["step_size"] = take(options.step_size)
        if x_init is not None:
            arrays["x_init"] = take(x_init)
        values = {
            name: value
            for name, value in options._asdict().items()
            if name not in ("step_size", "threads", "on_progress", "trace", "keep_best", "keep_iterates")
        }
        values |= {"loss": objective.loss, "targeted": objective.targeted, "norm": ball.norm, "loop": self.loop}
        self._run("attack", weights, x, arrays, values, options.restarts, len(ball.eps), options.on_progress)
        return AttackArrays(*(None if part is None else give(part) for part in result))  # type: ignore[arg-type]

    def _empty_result(self, jobs: int, weights: Weights, x: Array, options: AttackOptions) -> AttackArrays:
        """Arrays for the engine to fill; where steps are negative, no restart has ended."""
        empty, dtype, k = self._library.empty, x.dtype, len(weights.output_bias)
        best = options.keep_best
        return AttackArrays(
            x_adv=empty((jobs, x.shape[1]), dtype=dtype),
            loss=empty(jobs, dtype=dtype),
            output=empty((jobs, k), dtype=dtype),
            success=empty(jobs, dtype=bool),
            best_loss=empty(jobs, dtype=dtype),
            x_best=empty((jobs, x.shape[1]), dtype=dtype) if best else None,
            x_best_loss=empty(jobs, dtype=dtype) if best else None,
            x_best_output=empty((jobs, k), dtype=dtype) if best else None,
            x_best_success=empty(jobs, dtype=bool) if best else None,
            steps=self._library.full(jobs, -1, dtype=np.int64),
            first_success=empty(jobs, dtype=np.int64),
            status=empty(jobs, dtype=np.int8),
            iterates=empty((jobs, options.steps + 1, x.shape[1]), dtype=dtype) if options.keep_iterates else None,
            trace=empty((jobs, len(TRACE_QUANTITIES), options.steps + 1), dtype=np.float64) if options.trace else None,
        )

    def _run(
        self,
        operation: str,
        weights: Weights | None,
        x: Array,
        arrays: dict[str, Array],
        values: dict[str, Any],
        restarts: int = 1,
        jobs: int | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        """The operation on all rows, which are jobs times restarts, part by part."""
        of_weights, entries = self._entries_of(weights, x)
        entries |= {name: _address(array) for name, array in arrays.items()} | values
        uses_hidden_space = getattr(self._engine, f"uses_hidden_space_{x.dtype}")
        run, bytes_of = (getattr(self._engine, f"{what}_{x.dtype}") for what in ("run", "workspace_bytes"))
        if weights is not None and operation == "attack" and uses_hidden_space(entries):
            of_gram, gram_entries = self._gram(weights)
            of_weights, entries = of_weights | of_gram, entries | gram_entries
        rows = restarts * (len(x) if jobs is None else jobs)
        entries |= {"samples": len(x), "stream": self._library.cuda.get_current_stream().ptr}
        if weights is not None and x.dtype == np.float32:
            entries["for_hopper"] = self.products().for_hopper
        most = _rows_of_part(lambda count: bytes_of(operation, entries | {"rows": count}), rows, restarts)
        space = self._library.empty(bytes_of(operation, entries | {"rows": min(rows, most)}), dtype=np.uint8)
        for first, count in _parts(rows, most):
            run(operation, entries | {"first": first, "rows": count, "workspace": _address(space)})
            if on_progress is not None:
                self._library.cuda.get_current_stream().synchronize()
                on_progress((first + count) / rows)
        del of_weights  # kept until here, because the engine has addresses alone

    def _entries_of(self, weights: Weights | None, x: Array) -> tuple[dict[str, Array], dict[str, Any]]:
        """The weights on the device, where they are kept with the network, and what the engine hears of them."""
        if weights is None:
            return {}, {"in_features": x.shape[1], "activation": "identity"}
        kept: dict[str, Array] = kept_on_gpu(self._library, weights, self.name, lambda: self._prepared(weights))
        entries = _entries_of_matrices(kept) | {
            "in_features": weights.hidden_weight.shape[1],
            "hidden_features": len(weights.hidden_weight),
            "out_features": len(weights.output_weight),
            "activation": weights.activation,
            "parameter": float(weights.parameter),
        }
        return kept, entries

    def _prepared(self, weights: Weights) -> dict[str, Any]:
        """The matrices of csrc/cuda/engine.hpp, on the device, and the distances of their rows."""
        w, a = weights.hidden_weight, weights.output_weight
        products = {"hidden": w.T, "hidden_backward": w}
        few_outputs = {"output_backward": a}
        if len(a) >= self._engine.WIDE_OUTPUTS:
            products, few_outputs = products | {"output": a.T, "output_backward": a}, {}
        for_tensor_cores = products if w.dtype == np.float32 else {}
        matrices = few_outputs if for_tensor_cores else products | few_outputs
        matrices |= {"hidden_bias": weights.hidden_bias[None], "output_bias": weights.output_bias[None]}
        kept = {name: self._library.asarray(self._padded(matrix)) for name, matrix in matrices.items()}
        for name, matrix in for_tensor_cores.items():
            kept |= {f"{name}.{part}": self._library.asarray(array) for part, array in self._halves(matrix.T).items()}
        return kept

    def _gram(self, weights: Weights) -> tuple[dict[str, Array], dict[str, Any]]:
        """W Wᵀ for attacks on hidden units, on the device, where it is kept with the network."""
        kept, norm = kept_on_gpu(self._library, weights, f"{self.name}.gram", lambda: self._prepared_gram(weights))
        return kept, _entries_of_matrices(kept) | {"gram_norm": norm}

    def _prepared_gram(self, weights: Weights) -> tuple[dict[str, Array], float]:
        """W Wᵀ as the products take it, and its Frobenius norm."""
        w = self._library.asarray(weights.hidden_weight.astype(np.float64))
        with np.errstate(over="ignore", invalid="ignore"):  # then the engine leaves all rows to the dense loop
            gram = self._library.asnumpy(w @ w.T).astype(weights.hidden_weight.dtype)
            norm = float(np.linalg.norm(gram.astype(np.float64)))
            if gram.dtype == np.float32:
                parts = {f"gram.{part}": rows for part, rows in self._halves(gram.T).items()}
            else:
                parts = {"gram": self._padded(gram)}
        return {name: self._library.asarray(array) for name, array in parts.items()}, norm

    def _halves(self, rows: Array) -> dict[str, Array]:
        """``rows = (high + low) 2**exponent`` in half precision, as csrc/cuda/halves.hpp describes them."""
        rows = self._padded(rows)
        _, exponent = np.frexp(np.abs(rows).max(axis=1))
        exponent = exponent.astype(np.int32) - _HALF_EXPONENT
        scaled = np.ldexp(rows.astype(np.float64), -exponent[:, None])
        high = scaled.astype(np.float16)
        return {"high": high, "low": (scaled - high).astype(np.float16), "exponent": exponent}

    def _padded(self, matrix: Array) -> Array:
        """Row by row, with zeros up to whole vectors."""
        wider = np.zeros((len(matrix), self._width(matrix.shape[1])), dtype=matrix.dtype)
        wider[:, : matrix.shape[1]] = matrix
        return wider

    def _width(self, columns: int) -> int:
        """Numbers of a padded row."""
        padding: int = self._engine.PADDING
        return -(-columns // padding) * padding

    def _moves(self, x: Array) -> tuple[Move, Move]:
        """How arguments go to the GPU, and how results go to where x is."""

        def take(array: Array) -> Array:
            there: Array = self._library.ascontiguousarray(self._library.asarray(array))
            return there

        return take, self._library.asnumpy if isinstance(x, np.ndarray) else (lambda array: array)


def _address(array: Any) -> int:
    """Where an array lies on the device."""
    address: int = array.data.ptr
    return address


def _entries_of_matrices(kept: dict[str, Array]) -> dict[str, Any]:
    """Where they are, and how far apart the rows of halves."""
    entries: dict[str, Any] = {name: _address(array) for name, array in kept.items()}
    return entries | {f"{name}.stride": array.shape[1] for name, array in kept.items() if name.endswith(".high")}


def _arrays_of(parts: Any, take: Move) -> dict[str, Array]:
    """The arrays of a named tuple, moved to the GPU."""
    return {name: take(part) for name, part in parts._asdict().items() if hasattr(part, "__array_function__")}


def _rows_of_part(bytes_of: Callable[[int], int], rows: int, restarts: int) -> int:
    """Rows whose work space fits the bound, all restarts of a job together; those of one job where none fits."""
    while (needed := bytes_of(rows)) > MOST_WORKSPACE and rows > restarts:
        rows = max(rows * MOST_WORKSPACE // needed // restarts, 1) * restarts  # and again: scratch shrinks less
    return max(rows, 1)


def _parts(rows: int, most: int) -> Iterator[tuple[int, int]]:
    """First rows and counts."""
    for first in range(0, rows, most):
        yield first, min(most, rows - first)
