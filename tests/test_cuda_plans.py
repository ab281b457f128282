"""Launch plans of the cuda backend against a device that is not there: what is asked for, given and touched.

The kernels run as fibres, and `FakeLibrary` is the CuPy that the backend is given: it fills every new array with a
pattern, keeps guard zones around it, counts what is copied and waited for, and can run out of memory.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stand_in
from fake_device import STREAM, Engine, FakeLibrary
from stand_in import DeviceArray
from support import (
    assert_same_bits,
    every_dtype,
    every_norm,
    make_ball,
    make_options,
    make_problem,
    take,
    take_ball,
    with_and_without_box,
)

from pyfirstorder.backends import cuda

engine = pytest.importorskip("pyfirstorder.backends._cuda_fibres", reason="the kernels were not built for fibres")

SOURCE = Path(__file__).parents[1] / "csrc" / "cuda" / "engine.cu"
PATTERNS = (0x00, 0xFF, 0x7F)  # zeros; NaN and -1; large numbers


def backend_on(library: FakeLibrary) -> cuda.CudaBackend:
    """Weights are prepared by each anew: problems here are made for one backend."""
    return cuda.CudaBackend(library, Engine(engine))


# ------------------------------------------------------------------ calls: every operation once


def attack(backend: cuda.CudaBackend, problem: Any, ball: Any, **changes: Any) -> Any:
    changes = {"steps": 3, "keep_best": True, "trace": True, "random_start": "ball", "restarts": 2} | changes
    return backend.attack(
        problem.weights, problem.x, problem.objective, ball, make_options(problem, ball, **changes), None
    )


def every_operation(backend: cuda.CudaBackend, problem: Any, ball: Any, **changes: Any) -> list[np.ndarray]:
    """All that the operations return."""
    weights, x = problem.weights._replace(prepared={}), problem.x
    problem = problem._replace(weights=weights)
    moved = backend.project((2 * x).astype(x.dtype), x, ball, 1)
    start = backend.random_start(x, ball, False, 3, 1, 5)
    results = [backend.forward(weights, x, 1), *backend.input_gradient(weights, x, problem.objective, 1), moved, start]
    for algorithm in ("pgd", "apgd"):
        end = attack(backend, problem, ball, algorithm=algorithm, **changes)
        results += [part for part in end if part is not None]
    return results


def assert_same(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for got, wanted in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


# ------------------------------------------------------------------ work space


@every_dtype
@every_norm
@with_and_without_box
def test_no_operation_reads_what_it_has_not_written_or_writes_beside_its_arrays(dtype, norm, boxed):
    problem = make_problem(samples=9, dtype=dtype)
    ball = make_ball(norm, problem.x, boxed=boxed)
    answers = []
    for pattern in PATTERNS:
        library = FakeLibrary(pattern)
        answers.append(every_operation(backend_on(library), problem, ball))
        assert any(library.workspaces)
        library.hold_guards()
    for answer in answers[1:]:
        assert_same(answer, answers[0])


@every_dtype
@pytest.mark.parametrize("outputs", [3, 33])
def test_the_loop_on_hidden_units_reads_and_writes_its_own_space_alone(dtype, outputs):
    problem = make_problem(d=17, m=9, k=outputs, samples=9, dtype=dtype)
    ball = make_ball("l2", problem.x, eps=np.where(np.arange(9) % 3, 0.7, 0.0))  # some are left to the dense loop
    answers = []
    for pattern in PATTERNS:
        library = FakeLibrary(pattern)
        again = problem._replace(weights=fresh(problem))
        answers.append(attack(backend_on(library), again, ball, evaluation="hidden"))
        library.hold_guards()
    for answer in answers[1:]:
        assert_same_bits(answer, answers[0])


@pytest.mark.parametrize("samples", range(34))
def test_work_space_is_enough_for_any_number_of_rows(samples):
    problem = make_problem(d=5, m=7, samples=samples, dtype=np.float32)
    ball = make_ball("l2", problem.x, boxed=True)
    library = FakeLibrary()
    every_operation(backend_on(library), problem, ball, steps=1)
    library.hold_guards()


@pytest.mark.parametrize("size", [(1, 1, 2), (2, 3, 2), (31, 32, 33), (32, 33, 31), (33, 31, 32), (65, 64, 4)])
def test_work_space_is_enough_for_any_network(size):
    d, m, k = size
    problem = make_problem(d=d, m=m, k=k, samples=3)
    library = FakeLibrary()
    every_operation(backend_on(library), problem, make_ball("l1", problem.x, boxed=True), steps=1)
    library.hold_guards()


def test_work_space_of_a_row_too_few_would_be_noticed():
    problem = make_problem(samples=9, dtype=np.float32)
    ball = make_ball("linf", problem.x)
    library = FakeLibrary()
    short = backend_on(library)
    short._engine.workspace_bytes_float32 = lambda operation, entries: engine.workspace_bytes_float32(
        operation, entries | {"rows": entries["rows"] - 1}
    )
    attack(short, problem, ball, restarts=1)
    with pytest.raises(AssertionError, match="written behind an array"):
        library.hold_guards()


@every_norm
@pytest.mark.parametrize("samples", [0, 1, 2, 3, 7, 8, 9, 16, 17, 31, 32, 33])
def test_a_call_cut_into_parts_gives_the_same_bits(samples, norm, monkeypatch):
    problem = make_problem(d=5, m=7, samples=samples, dtype=np.float32)
    ball = make_ball(norm, problem.x, boxed=True)
    whole_backend = backend_on(FakeLibrary())
    whole = attack(whole_backend, problem, ball)
    assert len(whole_backend._engine.calls) == (samples > 0)
    needed = 1 + max(whole_backend._library.workspaces, default=0)
    for share in (2, 5):
        monkeypatch.setattr(cuda, "MOST_WORKSPACE", needed // share)
        library = FakeLibrary()
        parts = backend_on(library)
        assert_same_bits(attack(parts, problem, ball), whole)
        library.hold_guards()
        hold_whole_jobs(parts._engine.calls, samples)


@every_dtype
def test_a_call_on_hidden_units_cut_into_parts_gives_the_same_bits(dtype, monkeypatch):
    problem = make_problem(d=17, m=9, samples=9, dtype=dtype)
    ball = make_ball("l2", problem.x)
    whole_backend = backend_on(FakeLibrary())
    whole = attack(whole_backend, problem, ball, evaluation="hidden")
    monkeypatch.setattr(cuda, "MOST_WORKSPACE", max(whole_backend._library.workspaces) // 3)
    library = FakeLibrary()
    parts = backend_on(library)
    assert_same_bits(attack(parts, problem, ball, evaluation="hidden"), whole)
    library.hold_guards()
    hold_whole_jobs(parts._engine.calls, 9)


def hold_whole_jobs(calls: list[tuple[str, dict[str, Any]]], samples: int) -> None:
    """The parts follow one another and keep the restarts of a job together."""
    at = 0
    for _, entries in calls:
        assert entries["first"] == at
        assert entries["rows"] % entries["restarts"] == 0
        at += entries["rows"]
    assert at == 2 * samples


@pytest.mark.parametrize("restarts", [1, 3])
def test_work_space_of_a_cut_call_is_within_its_bound(restarts):
    problem = make_problem(d=5, m=7, samples=33, dtype=np.float32)
    library, bound = FakeLibrary(), 40_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "MOST_WORKSPACE", bound)
        attack(backend_on(library), problem, make_ball("linf", problem.x), restarts=restarts)
    assert bound / 3 < max(library.workspaces) <= bound


def test_a_sample_alone_has_the_bits_that_it_has_among_others():
    problem = make_problem(samples=9, dtype=np.float32)
    ball = make_ball("l2", problem.x)
    together = attack(backend_on(FakeLibrary()), problem, ball)
    for row in (0, 8):
        only = problem._replace(
            weights=problem.weights._replace(prepared={}),
            x=problem.x[row : row + 1].copy(),
            objective=take(problem.objective, slice(row, row + 1)),
        )
        alone = attack(backend_on(FakeLibrary()), only, take_ball(ball, slice(row, row + 1)), sample_offset=row)
        assert_same_bits(alone, together.rows(row, row + 1))


# ------------------------------------------------------------------ out of memory


def test_out_of_memory_is_a_memory_error_wherever_it_strikes_and_leaves_the_backend_usable():
    problem = make_problem(samples=5, dtype=np.float32)
    ball = make_ball("linf", problem.x, boxed=True)
    expected = attack(backend_on(FakeLibrary()), problem._replace(weights=fresh(problem)), ball)
    library = FakeLibrary()
    backend = backend_on(library)
    failures = 0
    for allowed in range(200):
        again = problem._replace(weights=fresh(problem))
        library.allocations_left = allowed
        try:
            attack(backend, again, ball)
        except MemoryError:
            failures += 1
        else:
            break
        library.allocations_left = None
        assert_same_bits(attack(backend, again, ball), expected)
    else:
        pytest.fail("it never had enough")
    assert failures > 15  # weights, targets, radii, results, work space
    library.hold_guards()


def fresh(problem: Any) -> Any:
    return problem.weights._replace(prepared={})


# ------------------------------------------------------------------ what the host does


def host_work(steps: int, **changes: Any) -> tuple[int, int, int, int]:
    problem = make_problem(samples=4, dtype=np.float32)
    library = FakeLibrary()
    backend = backend_on(library)
    attack(backend, problem, make_ball("linf", problem.x), steps=steps, **changes)
    return library.copies, library.waits, len(library.guarded), len(backend._engine.calls)


@pytest.mark.parametrize("algorithm", ["pgd", "apgd"])
def test_the_host_does_the_same_for_many_steps_as_for_few(algorithm):
    few, many = host_work(2, algorithm=algorithm), host_work(40, algorithm=algorithm)
    assert few == many
    assert few[1] == 1  # for the weights, which it takes there
    assert few[3] == 1  # one call of the engine


def test_arrays_on_the_device_are_not_copied_to_the_host_and_back():
    problem = make_problem(samples=4, dtype=np.float32)
    library = FakeLibrary()
    backend = backend_on(library)
    ball = make_ball("linf", problem.x)
    objective = problem.objective._replace(labels=stand_in.asarray(problem.objective.labels))
    options = make_options(problem, ball, step_size=stand_in.asarray(ball.eps / 3))
    there = ball._replace(eps=stand_in.asarray(ball.eps))
    backend.forward(problem.weights, stand_in.asarray(problem.x), 1)  # which takes the weights there
    library.copies = library.waits = 0
    end = backend.attack(problem.weights, stand_in.asarray(problem.x), objective, there, options, None)
    assert isinstance(end.x_adv, DeviceArray)
    assert library.copies == 0
    assert library.waits == 0


def test_weights_go_to_the_device_once():
    problem = make_problem(samples=4, dtype=np.float32)
    library = FakeLibrary()
    backend = backend_on(library)
    copies = []
    for _ in range(3):
        before = library.copies
        backend.forward(problem.weights, problem.x, 1)
        copies.append(library.copies - before)
    assert copies[0] > copies[1] == copies[2] == 2  # x there, logits back


def test_the_gram_matrix_is_made_once_and_for_attacks_on_hidden_units_alone():
    problem = make_problem(d=40, m=9, samples=4, dtype=np.float32)
    ball = make_ball("l2", problem.x)
    backend = backend_on(FakeLibrary())
    for evaluation, has_gram in (("dense", False), ("hidden", True), ("hidden", True), ("auto", True)):
        attack(backend, problem, ball, evaluation=evaluation)
        assert ("gram.high" in backend._engine.calls[-1][1]) == has_gram
    assert len({entries["gram.high"] for _, entries in backend._engine.calls[1:]}) == 1
    attack(backend, problem, make_ball("linf", problem.x))
    assert "gram.high" not in backend._engine.calls[-1][1]


@pytest.mark.parametrize("direction", ["normalized", "gradient"])
def test_whether_an_attack_goes_on_hidden_units_does_not_depend_on_the_batch(direction):
    chosen = []
    for samples in (1, 70):
        problem = make_problem(d=40, m=9, samples=samples, dtype=np.float32)
        backend = backend_on(FakeLibrary())
        attack(backend, problem, make_ball("l2", problem.x), direction=direction, steps=5, restarts=1)
        chosen.append("gram.high" in backend._engine.calls[-1][1])
    assert chosen == [True, True]


def test_everything_is_launched_on_the_caller_s_stream():
    problem = make_problem(samples=4, dtype=np.float32)
    backend = backend_on(FakeLibrary())
    every_operation(backend, problem, make_ball("l2", problem.x))
    calls = backend._engine.calls
    assert {operation for operation, _ in calls} == {"forward", "input_gradient", "project", "random_start", "attack"}
    assert {entries["stream"] for _, entries in calls} == {STREAM}


def test_only_progress_waits_once_the_weights_are_there_and_once_for_a_part(monkeypatch):
    problem = make_problem(d=5, m=7, samples=33, dtype=np.float32)
    monkeypatch.setattr(cuda, "MOST_WORKSPACE", 20_000)
    library = FakeLibrary()
    backend = backend_on(library)
    shares: list[float] = []
    backend.forward(problem.weights, problem.x, 1)  # which takes the weights there
    library.waits = 0
    backend._engine.calls.clear()
    attack(backend, problem, make_ball("linf", problem.x), restarts=1, on_progress=shares.append)
    assert library.waits == len(shares) == len(backend._engine.calls) > 1
    assert shares[-1] == 1.0


# ------------------------------------------------------------------ failures


def test_a_failing_launch_reaches_the_caller_with_its_kernel_and_leaves_the_backend_usable():
    problem = make_problem(samples=4, dtype=np.float32)
    ball = make_ball("linf", problem.x)
    backend = backend_on(FakeLibrary())
    expected = attack(backend, problem, ball)

    def failing(operation: str, entries: dict[str, Any]) -> None:
        raise RuntimeError("gradient product: invalid configuration argument")

    backend._engine.run_float32 = failing
    with pytest.raises(RuntimeError, match="gradient product: invalid configuration"):
        attack(backend, problem, ball)
    del backend._engine.run_float32
    assert_same_bits(attack(backend, problem, ball), expected)


@pytest.mark.skipif(not SOURCE.exists(), reason="the C++ sources are not here: an installed copy is tested")
def test_every_launch_in_the_source_has_the_name_of_its_kernel():
    """A name for every kernel, in an operation no two with the same, and every failure begins with it."""
    text = SOURCE.read_text(encoding="utf-8")
    launches = 0
    for operation in re.split(r"^void run_", text, flags=re.MULTILINE)[1:]:
        kernels: dict[str, str] = {}
        for kernel, name in re.findall(r"rows<(\w+)<T>>\(\s*(\"[^\"]+\")?", operation):
            assert name, f"{kernel} has no name"
            assert kernels.setdefault(name, kernel) == kernel
            launches += 1
    assert launches > 10
    launcher = (SOURCE.parent / "launch.hpp").read_text(encoding="utf-8")
    assert "cuda::check(cudaGetLastError(), name);" in launcher
    assert "cuda::check(cudaLaunchKernelEx(&config, kernel, job), name);" in launcher
    assert re.findall(r"launch_clusters<\w+>\((.+?),", text) == ["name"]
    on_chip = re.findall(r"run_resident<(\w+)<T>>\((\"[^\"]+\"),", text)
    assert len({name for _, name in on_chip}) == len(on_chip) == 2
    thrown = re.findall(r"throw std::runtime_error\((.+)", launcher)
    assert thrown
    assert all("name" in what for what in thrown)
