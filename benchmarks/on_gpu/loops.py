"""The loops of the cuda engine on the same attacks: their bits, and how long a step takes.

Kernels are launched step after step by the host, or by the device in a graph with a condition; or one resident kernel
takes all steps.

Which loop an attack takes is planned from estimates (csrc/cuda/plan.hpp): here one sees where they are right.  Sizes
stand on both sides of them.  This stage is a process of its own, so that a kernel which fails ends nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from on_gpu import shapes
from on_gpu.clock import Clock, median
from pyfirstorder import backends
from pyfirstorder.backends.cuda import CudaBackend

if TYPE_CHECKING:
    from on_gpu.results import Results
    from pyfirstorder.bench.workloads import Data, Workload

LOOPS = ("launched", "conditional", "resident")
MODES = ("strict", "fast")
# A shape and how many of its samples: few rows of a small and of a larger network; and of a tiny one few, as many as
# have room in the second cache, and many more.
CASES = (
    ("784-256-1", 1),
    ("784-1024-10", 16),
    ("784-1024-10", 256),
    ("784-64-10", 16),
    ("784-64-10", 1000),
    ("784-64-10", shapes.LARGE),
)


def run(results: Results, *, dry_run: bool, seconds: float) -> None:
    """Every case and mode in every loop, beside what the engine would choose."""
    state = backends.available_backends()["cuda"]
    if state != "available":
        results["missing"] = state
        return
    loaded: Any = backends.get("cuda")
    backend = CudaBackend(loaded._library, loaded._engine, loaded.products())
    backends._loaded["cuda"] = backend
    for shape, samples in CASES:
        workload = shapes.workload(shape, dry_run=dry_run)
        whole = workload.make()
        data = type(whole)(whole.net, whole.x[:samples], whole.y[:samples])
        for mode in MODES:
            results[f"{shape} B={samples} {mode}"] = _measured(backend, workload, data, mode, dry_run)


def _measured(backend: CudaBackend, workload: Workload, data: Data, mode: str, dry_run: bool) -> dict[str, Any]:
    """Microseconds a step by loop, whether all end with the same bits, and which one is planned."""
    import cupy

    there = type(data)(data.net, cupy.asarray(data.x), cupy.asarray(data.y))
    clock = Clock("cupy", dry_run)
    answers, taken = [], {}
    for loop in LOOPS:
        backend.loop = loop
        answers.append(workload.run(there, backend="cuda", retire=False, precision=mode).x_adv.get())
        seconds = clock.several(lambda: workload.run(there, backend="cuda", retire=False, precision=mode))
        taken[loop] = 1e6 * median(seconds) / workload.steps
    plan = _plan(backend._engine, data)
    return {
        "microseconds_a_step": taken,
        "same_bits": all(np.array_equal(answer, answers[0]) for answer in answers),
        "planned": "resident" if plan["clusters"] else "launched",
        "plan": plan,
        "by": clock.kind,
    }


def _plan(engine: Any, data: Data) -> dict[str, int]:
    """What the engine would choose by itself on this device."""
    net = data.net
    sizes = {name: getattr(net, name) for name in ("in_features", "hidden_features", "out_features")}
    entries = sizes | {"rows": len(data.x), "activation": net.activation, "loop": "auto"}
    plan: dict[str, int] = engine.plan_float32(entries, engine.current_device())
    return plan
