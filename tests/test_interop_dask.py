"""Attacks on dask arrays: bit by bit what one process gives, from any blocks, schedulers and workers, dead ones too."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections import Counter

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import pyfirstorder as fo
from pyfirstorder import validate

dask = pytest.importorskip("dask", reason="dask is not installed")
da = pytest.importorskip("dask.array", reason="dask.array is not installed")

from dask.sizeof import sizeof  # noqa: E402

from pyfirstorder.interop import dask as on_dask  # noqa: E402
from pyfirstorder.interop.dask import blocks  # noqa: E402

SAMPLES, SHAPE, CLASSES = 103, (4, 5), 5
BLOCKS = [(103,), (17,) * 6 + (1,), (1, 50, 0, 52)]
OPTIONS = {"eps": 0.1, "steps": 7, "bounds": (0, 1), "random_start": True, "seed": 3}


@pytest.fixture(scope="module")
def net():
    generator = np.random.default_rng(0)
    w = generator.standard_normal((32, 20), dtype=np.float32)
    return fo.TwoLayerNetwork(w, generator.standard_normal((CLASSES, 32), dtype=np.float32))


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(1)
    x = generator.random((SAMPLES, *SHAPE), dtype=np.float32)
    return x, generator.integers(0, CLASSES, SAMPLES)


def in_blocks(x, rows=17):
    return da.from_array(x, chunks=(rows, *x.shape[1:]))


def assert_same(got, want):
    """Every array of two results has the same type, shape and bits."""
    got, want = blocks.parts_of(got), blocks.parts_of(want)
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert isinstance(got[name], np.ndarray), name
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape), name
        assert got[name].tobytes() == array.tobytes(), name


def assert_same_evaluation(got, want):
    for name in ("robust", "fell_to", "x_adv"):
        assert_array_equal(getattr(got, name), getattr(want, name), strict=True)
    assert repr(got) == repr(want)
    assert got.accuracy_after == want.accuracy_after


# ------------------------------------------------------------------ what comes out


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("rows", BLOCKS, ids=str)
def test_blocks_of_any_size_give_what_one_call_gives(net, data, rows, scheduler):
    x, y = data
    result = on_dask.pgd(net, in_blocks(x, rows), y, restarts=2, **OPTIONS)
    assert_same(result.compute(scheduler=scheduler), fo.pgd(net, x, y, restarts=2, **OPTIONS))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_apgd_in_blocks_gives_what_one_call_gives(net, data, norm, dtype):
    x, y = data[0].astype(dtype), data[1]
    options = {"eps": 0.2, "norm": norm, "steps": 9, "restarts": 2}
    assert_same(on_dask.apgd(net, in_blocks(x), y, **options).compute(), fo.apgd(net, x, y, **options))


@pytest.mark.parametrize("rows", BLOCKS, ids=str)
def test_an_evaluation_in_blocks_gives_what_one_call_gives(net, data, rows):
    x, y = data
    options = {"eps": 0.05, "steps": 5, "restarts": 2, "bounds": (0, 1)}
    lazy, want = on_dask.evaluate(net, in_blocks(x, rows), y, **options), fo.evaluate(net, x, y, **options)
    assert_same_evaluation(lazy.compute(), want)
    assert dask.compute(lazy.clean_accuracy, lazy.robust_accuracy, lazy.accuracy_after) == (
        want.clean_accuracy,
        want.robust_accuracy,
        want.accuracy_after,
    )
    assert_array_equal(lazy.robust.compute(), want.robust)
    assert len(set(want.fell_to)) > 2  # some fell without an attack, some to one, some to none


def test_an_evaluation_says_what_it_is_and_refuses_what_it_can_at_once(net, data):
    x, y = data
    assert repr(on_dask.evaluate(net, in_blocks(x), y, eps=0.1)) == "DaskEvaluation(103 samples in 7 blocks)"
    with pytest.raises(TypeError, match="keep"):
        on_dask.evaluate(net, in_blocks(x), y, eps=0.1, keep="both")
    with pytest.raises(ValueError, match="norm: expected"):
        on_dask.evaluate(net, in_blocks(x), y, eps=0.1, norm="l3")


def test_traces_and_best_points_come_too(net, data):
    x, y = data
    options = {**OPTIONS, "trace": True, "keep": "both"}
    assert_same(on_dask.pgd(net, in_blocks(x), y, **options).compute(), fo.pgd(net, x, y, **options))


def test_losses_without_classes_have_no_success(net, data):
    x = data[0]
    y = np.random.default_rng(2).standard_normal((SAMPLES, CLASSES)).astype(np.float32)
    result = on_dask.pgd(net, in_blocks(x), in_blocks(y, 40), loss="squared", **OPTIONS)
    assert result.success is None
    assert result.robust_accuracy is None
    assert_same(result.compute(), fo.pgd(net, x, y, loss="squared", **OPTIONS))


@pytest.mark.parametrize("outputs", [1, 3])
def test_forward_and_predict_give_what_one_call_gives(data, outputs):
    generator = np.random.default_rng(4)
    a = generator.standard_normal((outputs, 32)) if outputs > 1 else generator.standard_normal(32)
    net = fo.TwoLayerNetwork(generator.standard_normal((32, 20)), a)
    x = data[0].astype(np.float64)
    for here, there in ((fo.forward, on_dask.forward), (fo.predict, on_dask.predict)):
        lazy, want = there(net, in_blocks(x)), here(net, x)
        assert (lazy.shape, lazy.dtype, lazy.chunks[0]) == (want.shape, want.dtype, (17, 17, 17, 17, 17, 17, 1))
        assert_array_equal(lazy.compute(), want)


def test_shapes_types_and_chunks_are_known_before_anything_is_computed(net, data):
    x, y = data
    result = on_dask.pgd(net, in_blocks(x), y, trace=True, keep="both", **OPTIONS)
    want = blocks.parts_of(fo.pgd(net, x, y, trace=True, keep="both", **OPTIONS))
    for name, lazy in blocks.parts_of(result).items():
        assert isinstance(lazy, da.Array), name
        assert (lazy.shape, lazy.dtype) == (want[name].shape, want[name].dtype), name
        assert lazy.chunks[0] == (17,) * 6 + (1,), name
        assert all(len(sizes) == 1 for sizes in lazy.chunks[1:]), name


def test_reductions_are_dask_scalars(net, data):
    x, y = data
    lazy, result = on_dask.pgd(net, in_blocks(x), y, **OPTIONS), fo.pgd(net, x, y, **OPTIONS)
    assert lazy.robust_accuracy.compute() == pytest.approx(1 - result.success.mean())
    assert lazy.zero_gradient.compute() == result.zero_gradient
    assert lazy.not_finite.compute() == result.not_finite
    assert_array_equal(lazy.delta.compute(), result.delta)


def test_arrays_computed_together_share_one_attack_of_each_block(net, data, monkeypatch):
    calls = []
    attack = blocks.Plan.call
    monkeypatch.setattr(blocks.Plan, "call", lambda *args, **kwargs: calls.append(1) or attack(*args, **kwargs))
    result = on_dask.pgd(net, in_blocks(*data[:1]), data[1], **OPTIONS)
    assert len(calls) == 1  # of no rows, for the shapes and the checks
    dask.compute(result.x_adv, result.success, result.robust_accuracy)
    assert len(calls) == 1 + 7


def test_a_persisted_result_is_not_computed_again(net, data, monkeypatch):
    x, y = data
    kept = on_dask.pgd(net, in_blocks(x), y, **OPTIONS).persist()
    monkeypatch.setattr(blocks.Plan, "call", None)
    assert_same(kept.compute(), fo.pgd(net, x, y, **OPTIONS))


def test_a_result_says_what_it_is_without_computing(net, data):
    assert repr(on_dask.pgd(net, in_blocks(data[0]), data[1], **OPTIONS)) == "DaskAttackResult(103 samples in 7 blocks)"


# ------------------------------------------------------------------ what goes in


@pytest.mark.parametrize(
    "wrap", [np.asarray, list, lambda y: da.from_array(y, chunks=10)], ids=["numpy", "list", "dask"]
)
def test_labels_may_be_in_memory_or_in_other_blocks(net, data, wrap):
    x, y = data
    assert_same(on_dask.pgd(net, in_blocks(x), wrap(y), **OPTIONS).compute(), fo.pgd(net, x, y, **OPTIONS))


@pytest.mark.parametrize("wrap", [np.asarray, lambda values: da.from_array(values, chunks=25)], ids=["numpy", "dask"])
def test_radii_and_step_sizes_may_be_one_per_sample(net, data, wrap):
    x, y = data
    eps = np.linspace(0, 0.3, SAMPLES)
    lazy = on_dask.pgd(net, in_blocks(x), y, eps=wrap(eps), step_size=wrap(eps / 3), steps=5, bounds=(0, 1))
    assert_same(lazy.compute(), fo.pgd(net, x, y, eps=eps, step_size=eps / 3, steps=5, bounds=(0, 1)))


def test_starts_and_bounds_may_be_arrays(net, data):
    x, y = data
    start, bounds = np.clip(x + 0.05, 0, 1), (np.zeros(SHAPE), np.ones(SHAPE))
    lazy = on_dask.pgd(net, in_blocks(x), y, eps=0.1, x_init=in_blocks(start, 31), bounds=bounds)
    assert_same(lazy.compute(), fo.pgd(net, x, y, eps=0.1, x_init=start, bounds=bounds))


def test_a_part_of_a_larger_data_set_may_say_where_it_begins(net, data):
    x, y = data
    part = on_dask.pgd(net, in_blocks(x[40:]), y[40:], sample_offset=40, **OPTIONS)
    assert_array_equal(part.compute().x_adv, fo.pgd(net, x, y, **OPTIONS).x_adv[40:])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((3, 20), np.float32)}, TypeError, r"x: expected a dask array, got an array of float32"),
        (
            {"x": da.zeros((103, 20), chunks=(50, 10))},
            ValueError,
            r"x: expected every sample whole .*rechunk\(\{1: -1",
        ),
        ({"x": da.zeros((103, 20), chunks=50, dtype=int)}, TypeError, r"x: expected an array of float32 or float64"),
        ({"x": da.zeros((103, 21), chunks=(50, 21))}, ValueError, r"x: expected shape \(batch, ...\) with 20 numbers"),
        ({"y": np.zeros(7, int)}, ValueError, r"y: expected an entry for each of the 103 samples .* got shape \(7,\)"),
        ({"y": np.zeros(103)}, TypeError, r"y: expected integer class indices"),
        ({"eps": np.zeros(5)}, ValueError, r"eps: expected an entry for each of the 103 samples"),
        ({"eps": -1.0}, ValueError, r"eps: expected numbers of at least 0"),
        ({"norm": "l3"}, ValueError, r"norm: expected"),
        ({"progress": True}, ValueError, r"progress: expected False; dask"),
        ({"net": None}, TypeError, r"net: expected a TwoLayerNetwork"),
        ({"no_such_option": 1}, TypeError, r"no_such_option"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_needs_no_samples_is_refused_before_anything_is_computed(net, data, change, error, message):
    given = {"net": net, "x": in_blocks(data[0]), "y": data[1], **OPTIONS, **change}
    with pytest.raises(error, match=message):
        on_dask.pgd(given.pop("net"), given.pop("x"), given.pop("y"), **given)


def test_blocks_of_unknown_sizes_are_refused_with_the_line_that_helps(net, data):
    x = in_blocks(data[0])
    with pytest.raises(ValueError, match=r"x: .* unknown ones; call x\.compute_chunk_sizes\(\)"):
        on_dask.pgd(net, x[x.sum(axis=(1, 2)) > 10], data[1], **OPTIONS)


def test_errors_of_a_block_say_where_it_begins(net, data):
    x = data[0].copy()
    x[40, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"infinity first in row 6; rows are counted from 34"):
        on_dask.pgd(net, in_blocks(x), data[1], **OPTIONS).compute(scheduler="synchronous")


# ------------------------------------------------------------------ processors


def test_blocks_take_the_processors_that_no_other_block_has(monkeypatch):
    monkeypatch.setattr(validate, "threads", lambda value: 4)
    monkeypatch.setattr(blocks, "_taken", Counter())
    with blocks.processors() as first, blocks.processors() as second:
        assert (first, second) == (4, 1)
    with blocks.processors() as later:
        assert later == 4


def test_threads_that_were_asked_for_are_taken(net, data, monkeypatch):
    seen = []
    monkeypatch.setattr(validate, "threads", lambda value: seen.append(value) or 1)
    on_dask.pgd(net, in_blocks(data[0]), data[1], threads=3, **OPTIONS).compute()
    assert set(seen) == {3}


def test_blocks_of_a_process_share_one_network_and_what_is_prepared_from_it(data, monkeypatch):
    generator = np.random.default_rng(0)
    net = fo.TwoLayerNetwork(generator.standard_normal((32, 20)), generator.standard_normal((CLASSES, 32)))
    used = set()
    call = blocks.Plan.call
    monkeypatch.setattr(
        blocks.Plan, "call", lambda plan, *args, **kwargs: used.add(id(plan.net)) or call(plan, *args, **kwargs)
    )
    on_dask.pgd(net, in_blocks(data[0]), data[1], **OPTIONS).compute(scheduler="threads")
    assert used == {id(net)}


def test_a_graph_holds_the_network_once_whatever_the_number_of_blocks():
    net, sizes = fo.random_network(20, 4096), {}
    for rows in (103, 1):
        lazy = on_dask.forward(net, da.zeros((SAMPLES, 20), dtype=np.float32, chunks=(rows, 20)))
        sizes[rows] = len(pickle.dumps(dict(lazy.dask)))
    network = len(pickle.dumps(net))
    assert sizes[1] - sizes[103] < network < sizes[103]


def test_dask_knows_how_large_networks_and_results_are(net, data):
    x, y = data
    result = fo.pgd(net, x, y, **OPTIONS)
    plan = blocks.Plan("pgd", net, (), {})
    assert sizeof(plan) >= 4 * (32 * 20 + 32 + CLASSES * 32 + CLASSES)
    assert sizeof(result) >= 2 * x.nbytes


# ------------------------------------------------------------------ a cluster


@pytest.fixture(scope="module", params=[1])
def cluster(request):
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    options = {
        "n_workers": 2,
        "threads_per_worker": request.param,
        "processes": True,
        "dashboard_address": None,
    }
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


PATIENCE = 60.0  # seconds to wait for a cluster to get somewhere


def pids(client):
    return set(client.run(os.getpid).values())


def test_worker_processes_give_what_one_process_gives(net, data, cluster):
    x, y = data
    lazy = on_dask.pgd(net, in_blocks(x), y, restarts=2, **OPTIONS)
    assert_same(lazy.compute(), fo.pgd(net, x, y, restarts=2, **OPTIONS))
    assert len(pids(cluster) - {os.getpid()}) == 2


@pytest.mark.parametrize("cluster", [1, 3], indirect=True)
def test_a_block_on_a_cluster_takes_the_processors_of_its_worker(cluster):
    def taken():
        with blocks.processors() as threads:
            return threads, threading.current_thread().name

    threads, name = cluster.submit(taken, pure=False).result()
    assert threads == next(iter(cluster.nthreads().values()))
    assert name != threading.main_thread().name


def test_the_network_is_sent_to_a_worker_once(net, data, cluster):
    cluster.run(_record_plans)
    on_dask.forward(net, in_blocks(data[0], 5)).compute()
    counts = cluster.run(_recorded_plans)
    assert sum(calls for calls, _ in counts.values()) == 21  # blocks; the call without samples was made here
    assert all(plans == 1 for calls, plans in counts.values() if calls), counts


def _record_plans():
    """On a worker: keep the plan of every call."""
    blocks.recorded, call = [], blocks.Plan.call
    blocks.Plan.call = lambda plan, *args, **kwargs: blocks.recorded.append(plan) or call(plan, *args, **kwargs)


def _recorded_plans():
    return len(blocks.recorded), len({id(plan) for plan in blocks.recorded})


def test_a_worker_that_is_killed_in_the_middle_changes_nothing(cluster):
    """Blocks of the dead worker, and results that it held, are computed again by the other one or by its successor."""
    futures_of = pytest.importorskip("distributed").futures_of
    generator = np.random.default_rng(5)
    x, y = generator.random((2000, 64), dtype=np.float32), generator.integers(0, 10, 2000)
    w, a = generator.standard_normal((256, 64)) / 8, generator.standard_normal((10, 256)) / 16
    net = fo.TwoLayerNetwork(w, a, activation="softplus")
    options = {"eps": 0.1, "steps": 400, "random_start": True, "retire": False}
    result = on_dask.pgd(net, in_blocks(x, 64), y, **options).persist()
    futures = futures_of(result.loss)
    until = time.monotonic() + PATIENCE
    while sum(future.done() for future in futures) < len(futures) // 4:
        assert time.monotonic() < until, "the attack did not get anywhere"
        time.sleep(0.01)
    victim = min(pids(cluster))
    os.kill(victim, signal.SIGKILL)
    assert not all(future.done() for future in futures), "the attack was over before the worker was killed"
    assert_same(result.compute(), fo.pgd(net, x, y, **options))
    assert victim not in pids(cluster)


def test_an_evaluation_survives_a_worker_that_is_killed(net, data, cluster):
    futures_of = pytest.importorskip("distributed").futures_of
    x, y = np.tile(data[0], (20, 1, 1)), np.tile(data[1], 20)
    options = {"eps": 0.05, "steps": 60, "bounds": (0, 1)}
    found = on_dask.evaluate(net, in_blocks(x, 40), y, **options).persist()
    futures, until = futures_of(found.fell_to), time.monotonic() + PATIENCE
    while sum(future.done() for future in futures) < len(futures) // 4:
        assert time.monotonic() < until, "the evaluation did not get anywhere"
        time.sleep(0.01)
    victim = min(pids(cluster))
    os.kill(victim, signal.SIGKILL)
    assert_same_evaluation(found.compute(), fo.evaluate(net, x, y, **options))
    assert victim not in pids(cluster)
