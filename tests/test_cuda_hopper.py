"""Products of Hopper GPUs, on fibres: the bits of the generic products, and who decides which of both are used."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stand_in
from fake_device import Engine, FakeLibrary
from numpy.testing import assert_array_equal
from support import GPU_BACKENDS, assert_same_bits, make_ball, make_problem, run, take, take_ball

import pyfirstorder as fo
from pyfirstorder import backends
from pyfirstorder.backends.cuda import CudaBackend, products
from pyfirstorder.backends.cuda.products import Products

engine = pytest.importorskip("pyfirstorder.backends._cuda_fibres", reason="the kernels were not built for fibres")

SOURCE = Path(__file__).parents[1] / "csrc" / "cuda" / "hopper.cu"
FLOAT = np.float32
# Inputs, hidden units, outputs (those of 32 and more are a product, too) and samples: tiles are 128 x 128, stages 64 of
# the depth and three of them a round, tensor cores take 16 at a time.
SIZES = [
    (1, 1, 2, 1),
    (15, 127, 3, 63),
    (16, 128, 32, 64),
    (17, 129, 33, 65),
    (63, 15, 5, 127),
    (64, 64, 40, 128),
    (65, 17, 3, 129),
    (192, 5, 3, 3),
    (9, 300, 3, 3),
    (456, 9, 3, 5),
    (200, 130, 3, 130),
]


def backend_with(for_hopper: bool, library: Any = None) -> CudaBackend:
    backend = CudaBackend(library or stand_in.library(), Engine(engine), Products(for_hopper, ""))
    backend.loop = "launched"  # a resident kernel has products of its own
    return backend


GENERIC, HOPPER = backend_with(False), backend_with(True)


# ------------------------------------------------------------------ the kernels


@pytest.mark.parametrize("size", SIZES)
def test_they_have_the_bits_of_the_generic_products(size):
    d, m, k, samples = size
    problem = make_problem(d=d, m=m, k=k, samples=samples, dtype=FLOAT)
    of_both = [each.input_gradient(problem.weights, problem.x, problem.objective, 1) for each in (GENERIC, HOPPER)]
    for generic, hopper in zip(*of_both):
        assert_array_equal(hopper, generic)
        assert np.isfinite(generic).all()


@pytest.mark.parametrize(
    "changes",
    [{"precision": "fast", "evaluation": "dense"}, {"early_stop": True, "restarts": 2}, {"evaluation": "hidden"}],
    ids=["fast", "strict", "hidden"],
)
@pytest.mark.parametrize("size", [(17, 129, 33, 65), (200, 20, 3, 9), (128, 64, 3, 9)])
def test_attacks_have_the_same_bits_where_rows_end_one_by_one(size, changes):
    d, m, k, samples = size
    problem = make_problem(d=d, m=m, k=k, samples=samples, dtype=FLOAT)
    ball = make_ball("l2", problem.x)
    options = {"steps": 3, "random_start": "ball", "keep_best": True, "trace": True} | changes
    generic, hopper = (run(each, problem, ball, **options) for each in (GENERIC, HOPPER))
    assert_same_bits(hopper, generic)
    assert HOPPER._engine.calls[-1][1]["for_hopper"]
    if "early_stop" in changes:
        assert len(set(generic.steps.tolist())) > 1, "all rows ended together"


def test_they_read_nothing_of_the_matrix_beyond_its_depth():
    """As the generic ones do, whose padding must be zero: here is seen which of both ran."""
    problem = make_problem(d=17, m=9, samples=5, dtype=FLOAT)
    expected = GENERIC.forward(problem.weights, problem.x, 1)
    (kept,) = problem.weights.prepared.values()
    for part in ("high", "low"):
        kept[f"hidden.{part}"]._values[:, 17:] = np.nan
    assert_array_equal(HOPPER.forward(problem.weights, problem.x, 1), expected)
    assert np.isnan(GENERIC.forward(problem.weights, problem.x, 1)).all()


def test_a_sample_alone_has_the_bits_that_it_has_among_others():
    problem = make_problem(d=40, m=20, k=33, samples=130, dtype=FLOAT)
    ball = make_ball("l2", problem.x)
    together = run(HOPPER, problem, ball, steps=2)
    for row in (0, 129):
        rows = slice(row, row + 1)
        only = problem._replace(x=problem.x[rows].copy(), objective=take(problem.objective, rows))
        assert_same_bits(run(HOPPER, only, take_ball(ball, rows), steps=2), together.rows(row, row + 1))


def test_no_product_reads_what_it_has_not_written_or_writes_beside_its_arrays():
    problem = make_problem(d=33, m=17, k=33, samples=9, dtype=FLOAT)
    answers = []
    for pattern in (0x00, 0xFF, 0x7F):
        library = FakeLibrary(pattern)
        fresh = problem._replace(weights=problem.weights._replace(prepared={}))
        answers.append(run(backend_with(True, library), fresh, make_ball("l2", problem.x), steps=2, precision="fast"))
        library.hold_guards()
    for answer in answers[1:]:
        assert_same_bits(answer, answers[0])


def test_the_host_waits_for_the_weights_alone_and_does_the_same_for_many_steps_as_for_few():
    problem = make_problem(samples=4, dtype=FLOAT)

    def host_work(steps: int) -> tuple[int, int, int, int]:
        library = FakeLibrary()
        backend = backend_with(True, library)
        fresh = problem._replace(weights=problem.weights._replace(prepared={}))
        run(backend, fresh, make_ball("linf", problem.x), steps=steps)
        return library.copies, library.waits, len(library.guarded), len(backend._engine.calls)

    few = host_work(2)
    assert few == host_work(12)
    assert few[1] == 1  # for the weights, which it takes there
    assert few[3] == 1


@pytest.mark.skipif(not SOURCE.exists(), reason="the C++ sources are not here: an installed copy is tested")
def test_every_failure_of_a_launch_begins_with_the_name_of_its_kernel():
    text = SOURCE.read_text(encoding="utf-8")
    thrown = re.findall(r"throw std::runtime_error\((.+)", text)
    checked = re.findall(r"cuda::check\((.+?)\);", text, flags=re.DOTALL)
    assert len(thrown) >= 3
    assert len(checked) >= 3
    assert all(words.startswith("std::string(name)") for words in thrown)
    assert all(re.search(r",\s*name$", words) for words in checked)


# ------------------------------------------------------------------ which are used


def a_backend(monkeypatch: pytest.MonkeyPatch, name: str | None, of_engine: Any = engine) -> CudaBackend:
    if name is None:
        monkeypatch.delenv(products.VARIABLE, raising=False)
    else:
        monkeypatch.setenv(products.VARIABLE, name)
    monkeypatch.setattr(products, "SIZES", ((70, 9, 33, 5),))
    return CudaBackend(stand_in.library(), of_engine)


@pytest.mark.parametrize("name", [None, "generic"])
def test_they_are_not_used_where_nobody_asks_for_them(name, monkeypatch):
    watched = Engine(engine)
    assert a_backend(monkeypatch, name, watched).products() == (False, "generic")
    assert watched.calls == []


def test_where_they_are_asked_for_both_are_compared_at_the_first_use_and_once(monkeypatch):
    watched = Engine(engine)
    backend = a_backend(monkeypatch, "hopper", watched)
    problem = make_problem(dtype=FLOAT)
    backend.forward(problem.weights, problem.x, 1)
    kinds = [entries["for_hopper"] for _, entries in watched.calls]
    assert backend.products().for_hopper
    assert kinds.count(False) == kinds.count(True) - 1 > 0
    backend.forward(problem.weights, problem.x, 1)
    assert len(watched.calls) == len(kinds) + 1


def test_another_name_is_refused_at_the_first_use(monkeypatch):
    backend = a_backend(monkeypatch, "volta")
    problem = make_problem(dtype=FLOAT)
    with pytest.raises(ValueError, match="PYFIRSTORDER_GPU_PRODUCTS: expected one of generic, hopper, got 'volta'"):
        backend.forward(problem.weights, problem.x, 1)


def test_a_gpu_of_another_kind_keeps_the_generic_ones(monkeypatch):
    watched = Engine(engine)
    monkeypatch.setattr(watched, "has_hopper_products", lambda: False, raising=False)
    chosen = a_backend(monkeypatch, "hopper", watched).products()
    assert not chosen.for_hopper
    assert "no Hopper GPU" in chosen.words
    assert watched.calls == []


class Altered(Engine):
    """An engine whose products for Hopper GPUs do what ``fault`` says; ``lost`` where nothing runs after them."""

    def __init__(self, fault: Any, *, lost: bool = False) -> None:
        super().__init__(engine)
        self.fault, self.lost, self.failed = fault, lost, False

    def run_float32(self, operation: str, entries: dict[str, Any]) -> None:
        if self.lost and self.failed:
            raise RuntimeError("load: an illegal memory access was encountered")
        engine.run_float32(operation, entries)
        if entries["for_hopper"]:
            self.failed = True
            self.fault(entries)


def off_by_an_ulp(entries: dict[str, Any]) -> None:
    """In one of the logits beside a gradient."""
    if "output_out" in entries:
        place = np.ctypeslib.as_array((ctypes.c_float * 1).from_address(entries["output_out"]))
        place[:] = np.nextafter(place, FLOAT(np.inf))


def fails(entries: dict[str, Any]) -> None:
    raise RuntimeError("hidden product: unspecified launch failure")


def test_a_difference_in_one_bit_brings_the_generic_ones_back_with_a_warning(monkeypatch):
    backend = a_backend(monkeypatch, "hopper", Altered(off_by_an_ulp))
    with pytest.warns(UserWarning, match="the generic products are used .* 1 of 5 results differ"):
        chosen = backend.products()
    assert not chosen.for_hopper
    assert chosen.words == "generic: 1 of 5 results differ from the generic ones"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        assert backend.products() == chosen


def test_products_that_fail_bring_the_generic_ones_back_with_a_warning(monkeypatch):
    backend = a_backend(monkeypatch, "hopper", Altered(fails))
    with pytest.warns(UserWarning, match="hidden product: unspecified launch failure"):
        chosen = backend.products()
    assert not chosen.for_hopper
    assert "unspecified launch failure" in chosen.words


def test_products_that_take_the_device_along_say_how_to_go_on_without_them(monkeypatch):
    backend = a_backend(monkeypatch, "hopper", Altered(fails, lost=True))
    with pytest.raises(RuntimeError, match="start it without PYFIRSTORDER_GPU_PRODUCTS=hopper"):
        backend.products()


def test_the_configuration_tells_which_are_used(monkeypatch):
    monkeypatch.setitem(backends._loaded, "cuda", CudaBackend(stand_in.library(), engine, Products(False, "because")))
    assert fo.show_config()["products of the cuda backend"] == "because"


@pytest.mark.gpu
@pytest.mark.skipif(
    backends.available_backends()["cuda"] != "available", reason=f"none of {GPU_BACKENDS} with a compiled engine here"
)
def test_a_hopper_gpu_gives_the_same_bits():
    """In a process of its own: a kernel that fails takes its process's use of the device along."""
    code = "from pyfirstorder import backends; print(*backends.get('cuda').products(), sep='\\n')"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {products.VARIABLE: products.HOPPER},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for_hopper, words = ended.stdout.splitlines()
    if "no Hopper GPU" in words:
        pytest.skip(words)
    assert for_hopper == "True", words
