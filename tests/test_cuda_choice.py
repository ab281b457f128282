"""Which loop takes an attack through its steps: the plans for the shapes that the engine is measured on, by device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fake_device import Engine, FakeLibrary
from gpu_folder import FOLDER  # which lets `on_gpu` be imported
from on_gpu import shapes
from support import assert_same_bits, make_ball, make_problem, run

from pyfirstorder.backends.cuda import CudaBackend
from pyfirstorder.problem import Ball

engine = pytest.importorskip("pyfirstorder.backends._cuda_fibres", reason="the kernels were not built for fibres")
assert FOLDER.exists()

KIB = 1 << 10
DEVICES = {
    "H100": {
        "processors": 132,
        "blocks_of_cluster": 8,
        "shared_bytes": 227 * KIB,
        "shared_of_processor": 228 * KIB,
        "cache_bytes": 50 * KIB * KIB,
    },
    "A100": {  # which knows no clusters
        "processors": 108,
        "blocks_of_cluster": 1,
        "shared_bytes": 163 * KIB,
        "shared_of_processor": 164 * KIB,
        "cache_bytes": 40 * KIB * KIB,
    },
}
LAUNCHED = (0, 0, 0)
# Clusters, blocks of each, and tiles of 16 rows that each takes at once.
PLANS = {
    "784-1024-10": {"H100": LAUNCHED, "A100": LAUNCHED},
    "3072-4096-10": {"H100": LAUNCHED, "A100": LAUNCHED},
    "784-256-1": {"H100": (1, 8, 1), "A100": LAUNCHED},  # one sample: a step is a part of what a launch takes
    "768-512-1000": {"H100": LAUNCHED, "A100": LAUNCHED},
    "784-64-10": {"H100": (66, 4, 2), "A100": LAUNCHED},  # 426 KB of weights stay in four blocks, not in one
    "l2 3072-512-10": {"H100": LAUNCHED, "A100": LAUNCHED},
}


def plan(
    d: int, m: int, k: int, rows: int, device: dict[str, int], *, gram: bool = False, loop: str = "auto", bits: int = 32
) -> dict[str, int]:
    entries: dict[str, Any] = {"in_features": d, "hidden_features": m, "out_features": k, "rows": rows, "loop": loop}
    entries |= {"activation": "relu"} | ({"gram": 1} if gram else {})
    found: dict[str, int] = getattr(engine, f"plan_float{bits}")(entries, device)
    return found


def chosen(*arguments: Any, **more: Any) -> tuple[int, int, int]:
    found = plan(*arguments, **more)
    return found["clusters"], found["blocks"], found["tiles"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", shapes.SIZES)
def test_the_shapes_of_the_targets_have_their_loops(shape, device):
    size = shapes.SIZES[shape]
    found = chosen(size.d, size.m, size.k, size.samples, DEVICES[device], gram=shape.startswith("l2"))
    assert found == PLANS[shape][device]


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
@pytest.mark.parametrize("d", [1, 64, 784, 3072])
@pytest.mark.parametrize("m", [1, 16, 64, 200, 512])
def test_a_plan_fits_the_device_and_gives_every_cluster_rows(device, d, m):
    kept = 0
    for k in (1, 10, 40, 1000):
        for rows in (1, 16, 17, 300, 10_000, 1_000_000):
            for gram in (False, True):
                found = plan(d, m, k, rows, device, gram=gram)
                if not found["clusters"]:
                    continue
                assert found["blocks"] <= device["blocks_of_cluster"]
                assert found["shared_bytes"] <= device["shared_bytes"]
                assert found["clusters"] * found["blocks"] <= 2 * device["processors"]
                assert (found["clusters"] - 1) * found["tiles"] * 16 < rows  # no cluster for nothing
                if rows > 16 * device["processors"]:
                    kept += 1
                    assert 2 * (found["shared_bytes"] + KIB) <= device["shared_of_processor"]
                    of_row = 4 * (9 * m if gram else 7 * d)
                    at_once = found["clusters"] * found["tiles"] * 16
                    assert found["tiles"] == 1 or at_once * of_row <= device["cache_bytes"]
    assert kept > 0 or max(m, d) > 64  # tiny networks stay


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_what_is_asked_for_is_planned(device):
    for rows in (1, 10_000):
        assert chosen(784, 64, 10, rows, device, loop="launched") == LAUNCHED
        assert plan(3072, 4096, 10, rows, device, loop="resident")["clusters"] > 0


@pytest.mark.parametrize("rows", [0, 1, 10_000])
@pytest.mark.parametrize("processors", [1, 3, 7])
def test_a_small_part_of_a_device_has_a_plan(processors, rows):
    device = DEVICES["H100"] | {"processors": processors}
    found = plan(64, 32, 10, rows, device)
    assert found["clusters"] * found["tiles"] * 16 >= min(rows, 16)


def test_rows_of_float64_whose_weights_no_block_keeps_are_launched():
    assert chosen(784, 64, 10, 10_000, DEVICES["H100"], bits=64) == LAUNCHED
    assert plan(784, 64, 10, 1, DEVICES["H100"], bits=64)["clusters"] == 1


# ------------------------------------------------------------------ groups of tiles, on fibres


def call_of(backend: CudaBackend) -> dict[str, Any]:
    entries: dict[str, Any] = backend._engine.calls[-1][1]
    return entries


@pytest.mark.parametrize("samples", [150, 300])
@pytest.mark.parametrize("case", ["ends apart", "wide outputs", "fast", "on hidden units"])
def test_groups_of_tiles_give_the_bits_of_launched_steps(samples, case):
    problem = make_problem(d=9, m=12, k=33 if case == "wide outputs" else 5, samples=samples, dtype=np.float32)
    options: dict[str, Any] = {"steps": 5, "keep_best": True}
    ball = make_ball("linf", problem.x, boxed=True)
    if case == "ends apart":
        options |= {"early_stop": True, "steps": 9}
    if case == "fast":
        options |= {"precision": "fast"}
    if case == "on hidden units":
        ball = Ball("l2", np.where(np.arange(samples) % 5, 0.7, 0.0))  # of which some are left to the dense loop
        options |= {"evaluation": "hidden"}
    ends = []
    for loop in ("launched", "auto"):
        library = FakeLibrary()
        backend = CudaBackend(library, Engine(engine))
        backend.loop = loop
        again = problem._replace(weights=problem.weights._replace(prepared={}))
        ends.append(run(backend, again, ball, **options))
        library.hold_guards()
        found = engine.plan_float32(call_of(backend), engine.current_device())
        assert (found["tiles"] > 1) == (loop == "auto")
    assert_same_bits(*ends)
    assert len(np.unique(ends[0].steps)) > 1 or case != "ends apart"
