"""Ways to run an attack on a GPU: ours by backend and mode, and rivals in the best form that their users can write.

Rivals' steps are those of the package's own suite (`pyfirstorder.bench.contenders`), with data on the GPU.  Compiled
torch runs all steps as one CUDA graph, so that no launch is waited for; JAX compiles the loop as a whole.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import pyfirstorder as fo
from on_gpu import shapes
from pyfirstorder import backends
from pyfirstorder.bench import contenders
from pyfirstorder.bench.contenders import Run
from pyfirstorder.bench.workloads import Data, Workload

Prepare = Callable[[Workload, Data, bool], Run]
HAS_MODES = "precision" in inspect.signature(fo.pgd).parameters
# of the host: the suite's JAX takes all, and says so of others
_THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_OF_SUITE = {contender.name: contender.prepare for contender in contenders.CONTENDERS}


class Rival(NamedTuple):
    """A contender: whose clock times it, and how it is prepared."""

    name: str
    library: str
    prepare: Prepare
    settings: str
    ours: bool = False


def _own(backend: str, mode: str | None = None) -> Prepare:
    def prepare(workload: Workload, data: Data, dry_run: bool) -> Run:
        state = backends.available_backends()[backend]
        if state != "available":
            raise ImportError(state)
        if mode == "fast" and not HAS_MODES:
            raise NotImplementedError("mode not available: pgd has no argument precision")
        import cupy

        there = Data(data.net, cupy.asarray(data.x), cupy.asarray(data.y))
        changes: dict[str, Any] = {"precision": mode} if mode is not None and HAS_MODES else {}
        return lambda: workload.run(there, backend=backend, retire=False, **changes).x_adv

    return prepare


def _torch_eager(workload: Workload, data: Data, dry_run: bool) -> Run:
    import torch

    torch.set_float32_matmul_precision("highest")
    with _torch_device(dry_run):
        run = _OF_SUITE["torch eager"](workload, data, 1)

    def eager() -> Any:
        torch.set_float32_matmul_precision("highest")
        return run()

    return eager


def _torch_compiled(kind: str) -> Prepare:
    def prepare(workload: Workload, data: Data, dry_run: bool) -> Run:
        import torch

        torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
        torch._dynamo.reset()
        with _torch_device(dry_run):
            narrow = torch.bfloat16 if kind == "bf16" else None
            step, x0 = contenders.torch_step(workload, data, 1, narrow)
        compiled = torch.compile(step, fullgraph=True, dynamic=False)

        def attack() -> Any:
            x = x0
            for _ in range(workload.steps):
                x = compiled(x)
            return x

        with torch.no_grad():
            return attack_without_gradients(attack) if dry_run else _as_graph(attack)

    return prepare


def attack_without_gradients(attack: Run) -> Run:
    """The loop where there are no CUDA graphs."""
    import torch

    def run() -> Any:
        with torch.no_grad():
            return attack()

    return run


def _as_graph(attack: Run) -> Run:
    """All launches of a call, recorded once; compiled and warmed up on a stream of its own, as torch asks for."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            attack()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        end = attack()

    def run() -> Any:
        graph.replay()
        return end

    return run


def _torch_device(dry_run: bool) -> Any:
    import torch

    if not dry_run and not torch.cuda.is_available():
        raise ImportError("this torch sees no GPU")
    return torch.device("cpu" if dry_run else "cuda")


def _jax(precision: str | None) -> Prepare:
    def prepare(workload: Workload, data: Data, dry_run: bool) -> Run:
        import jax

        if not dry_run and jax.default_backend() == "cpu":
            raise ImportError("this JAX sees no GPU")
        with jax.default_matmul_precision(precision):
            run = _OF_SUITE["JAX jit"](workload, data, _THREADS)

        def with_precision() -> Any:
            with jax.default_matmul_precision(precision):
                return run()

        return with_precision

    return prepare


RIVALS = (
    Rival(shapes.FAST, "cupy", _own("cuda", "fast"), 'precision="fast", every step in full', ours=True),
    Rival(
        shapes.STRICT,
        "cupy",
        _own("cuda", "strict"),
        'precision="strict"' if HAS_MODES else "float32, the only mode of this version",
        ours=True,
    ),
    Rival(shapes.EAGER, "torch", _torch_eager, "fp32 without tf32, autograd"),
    Rival(shapes.JAX, "jax", _jax(None), "the loop as one function, default precision (tf32 on recent GPUs)"),
    Rival(shapes.JAX_HIGHEST, "jax", _jax("highest"), "the same in full fp32"),
    Rival("pyfirstorder cupy", "cupy", _own("cupy"), "the reference on CuPy", ours=True),
    Rival(shapes.COMPILED, "torch", _torch_compiled("bf16"), "step by hand, bf16 products, all steps one CUDA graph"),
    Rival("torch.compile tf32", "torch", _torch_compiled("tf32"), "the same with tf32 products"),
)


def rows_on_host(points: Any, rows: int) -> np.ndarray:
    """The first rows, from where they lie."""
    some = points[:rows]
    if hasattr(some, "get"):  # CuPy's
        return some.get()
    if hasattr(some, "detach"):  # torch's
        return some.detach().float().cpu().numpy()
    return np.asarray(some)
