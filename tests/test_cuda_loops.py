"""The loops of the cuda engine: steps launched kernel after kernel by the host or the device, and all in one kernel.

Which of them runs depends on how many rows there are, so they must give the same bits, whatever is asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import stand_in
from numpy.testing import assert_array_equal
from support import (
    ACTIVATION_NAMES,
    LOSS_NAMES,
    assert_same_bits,
    every_dtype,
    every_norm,
    make_ball,
    make_problem,
    reweigh,
    run,
    with_and_without_box,
)

from pyfirstorder import backends
from pyfirstorder.backends.cuda import CudaBackend
from pyfirstorder.problem import Ball, Status

engine = pytest.importorskip("pyfirstorder.backends._cuda_fibres", reason="the kernels were not built for fibres")

EVERYTHING = {"keep_best": True, "trace": True, "random_start": "ball", "restarts": 2, "steps": 6}
OPTIONS = {
    "gradient steps": {"direction": "gradient"},
    "signs": {"direction": "sign"},
    "normalized steps": {"direction": "normalized"},
    "sparse steps": {"direction": "sparse"},
    "momentum": {"momentum": 0.5},
    "apgd": {"algorithm": "apgd"},
    "an early stop": {"early_stop": True, "restarts": 1},
    "all iterates": {"keep_iterates": True, "restarts": 1},
    "no trace": {"trace": False},
    "end points alone": {"trace": False, "keep_best": False},
    "no steps": {"steps": 0},
    "one step": {"steps": 1},
    "steps of a piece": {"steps": 3},
    "steps of a piece and one": {"steps": 4},
}


def devices() -> list[Any]:
    """Arrays and kernels: on fibres, and on the GPU where there is one."""
    params = [pytest.param((stand_in.library(), engine), id="fibres")]
    if backends.available_backends()["cuda"] == "available":
        found: Any = backends.get("cuda")
        params.append(pytest.param((found._library, found._engine), id="gpu", marks=pytest.mark.gpu))
    return params


@pytest.fixture(params=devices())
def hold_same(request: pytest.FixtureRequest) -> Any:
    """Holds an attack to the same bits in both loops."""
    both = [CudaBackend(*request.param) for _ in range(2)]
    both[0].loop, both[1].loop = "launched", "resident"

    def hold(problem: Any, ball: Any, x_init: Any = None, **options: Any) -> Any:
        launched, resident = (run(backend, problem, ball, x_init, **EVERYTHING | options) for backend in both)
        assert_same_bits(resident, launched)
        return resident

    return hold


@every_dtype
@every_norm
@with_and_without_box
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_both_loops_give_the_same_bits(hold_same, dtype, norm, boxed, options):
    problem = make_problem(samples=9, dtype=dtype)
    hold_same(problem, make_ball(norm, problem.x, boxed=boxed), **options)


@every_dtype
@pytest.mark.parametrize("direction", ["gradient", "normalized"])
@pytest.mark.parametrize("outputs", [3, 33])
@pytest.mark.parametrize("more", [{}, {"early_stop": True}, {"trace": False, "keep_best": False}])
def test_both_loops_give_the_same_bits_on_hidden_units(hold_same, dtype, direction, outputs, more):
    problem = make_problem(m=40, k=outputs, samples=9, dtype=dtype)
    ball = Ball("l2", np.repeat([0.7, 0.0], 9))  # of which those without a radius are left to the dense loop
    hold_same(problem, ball, direction=direction, evaluation="hidden", **more)


@every_dtype
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_both_loops_give_the_same_bits_for_every_loss(hold_same, dtype, loss):
    for targeted in (False, True):
        if targeted and loss == "logistic":
            continue
        problem = make_problem(samples=5, loss=loss, targeted=targeted, dtype=dtype)
        hold_same(problem, make_ball("linf", problem.x))


@every_dtype
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_both_loops_give_the_same_bits_for_every_activation(hold_same, dtype, activation):
    problem = make_problem(samples=5, activation=activation, dtype=dtype)
    hold_same(problem, make_ball("l2", problem.x))


@every_dtype
@pytest.mark.parametrize("size", [1, 2, 8, 9, 16, 17, 33, 65])
def test_both_loops_give_the_same_bits_for_every_size(hold_same, dtype, size):
    for shape in ({"d": size}, {"m": size}, {"k": size + 1}, {"samples": size, "d": 5, "m": 6}):
        problem = make_problem(**{"samples": 3, "dtype": dtype} | shape)
        hold_same(problem, make_ball("l1", problem.x, boxed=True), steps=3)


@pytest.mark.parametrize("outputs", [3, 40])
def test_both_loops_give_the_same_bits_in_fast_mode(hold_same, outputs):
    problem = make_problem(d=33, m=65, k=outputs, samples=19, dtype=np.float32)
    hold_same(problem, make_ball("linf", problem.x), precision="fast", trace=False)


@every_dtype
def test_both_loops_give_the_same_bits_from_given_starts_at_many_radii(hold_same, dtype):
    problem = make_problem(samples=9, dtype=dtype)
    ball = Ball("l2", np.repeat([0.0, 1e-3, 0.3, 5.0], 9))
    given = problem.x + np.random.default_rng(5).standard_normal(problem.x.shape).astype(dtype)
    hold_same(problem, ball, given, random_start="none", restarts=1)


@every_dtype
def test_both_loops_end_rows_where_they_come_again(hold_same, dtype):
    problem = make_problem(samples=37, dtype=dtype)
    ball = make_ball("linf", problem.x)
    end = hold_same(problem, ball, steps=40, step_size=ball.eps / 2, restarts=1, random_start="none")
    assert {Status.FIXED_POINT, Status.PERIOD_TWO} & set(end.status.tolist())
    assert len(np.unique(end.steps)) > 1


@every_dtype
def test_both_loops_end_rows_that_overflow(hold_same, dtype):
    problem = make_problem(samples=9, dtype=dtype)
    weights = reweigh(problem.weights, output_weight=problem.weights.output_weight * np.finfo(dtype).max)
    end = hold_same(problem._replace(weights=weights), make_ball("l2", problem.x))
    assert (end.status == Status.NOT_FINITE).any()


# ------------------------------------------------------------------ a loop that the device ends


def ended_by_device(device: Any) -> CudaBackend:
    backend = CudaBackend(*device)
    backend.loop = "conditional"
    return backend


@every_dtype
@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_loop_that_the_device_ends_has_the_same_bits(device, dtype, options):
    problem = make_problem(samples=9, dtype=dtype)
    ball = make_ball("l2", problem.x, boxed=True)
    both = (CudaBackend(*device), ended_by_device(device))
    assert_same_bits(*(run(backend, problem, ball, **EVERYTHING | options) for backend in both))


@every_dtype
@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("outputs", [3, 33])
def test_a_loop_on_hidden_units_that_the_device_ends_has_the_same_bits(device, dtype, outputs):
    problem = make_problem(m=40, k=outputs, samples=9, dtype=dtype)
    ball = Ball("l2", np.repeat([0.7, 0.0], 9))
    options = EVERYTHING | {"direction": "normalized", "evaluation": "hidden", "steps": 7}
    ends = [run(backend, problem, ball, **options) for backend in (CudaBackend(*device), ended_by_device(device))]
    assert_same_bits(*ends)


@every_dtype
def test_the_device_ends_a_loop_with_its_last_row(dtype):
    problem = make_problem(samples=9, dtype=dtype)
    ball = make_ball("linf", problem.x)
    backend = ended_by_device((stand_in.library(), engine))
    ends, launches = [], []
    for steps in (60, 600):
        before = engine.launches()
        ends.append(run(backend, problem, ball, steps=steps, step_size=ball.eps / 2))
        launches.append(engine.launches() - before)
    assert (ends[0].steps < 60).all()  # no row uses them up
    assert_same_bits(*ends)
    pieces_more = (600 - 60) // 4  # on fibres
    assert launches[1] - launches[0] == pieces_more
    assert launches[0] < 60 * 3


WAYS = {"strict": {}, "fast": {"precision": "fast", "trace": False}, "on hidden units": {"evaluation": "hidden"}}


@every_dtype
@pytest.mark.parametrize("outputs", [3, 40])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_hidden_unit_that_overflows_is_never_taken_for_one_that_saturates(hold_same, dtype, outputs, way):
    problem = make_problem(k=outputs, activation="tanh", samples=9, dtype=dtype)
    hidden_weight = problem.weights.hidden_weight.copy()
    hidden_weight[20] = np.finfo(dtype).max / 2
    x = problem.x / 100
    x[[2, 5]] = 1  # where that unit, and it alone, overflows
    problem = problem._replace(weights=reweigh(problem.weights, hidden_weight=hidden_weight), x=x)
    end = hold_same(problem, Ball("l2", np.full(9, 1e-3)), random_start="none", restarts=1, **way)
    overflowed = np.isin(np.arange(9), [2, 5])
    assert_array_equal(end.status == Status.NOT_FINITE, overflowed)
    assert_array_equal(np.isnan(end.output), np.broadcast_to(overflowed[:, None], end.output.shape))
    assert not end.success[overflowed].any()
