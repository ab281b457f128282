"""Promises of every attack: the same bits whatever the threads and the neighbours, and fields that agree."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from support import (
    ACTIVATION_NAMES,
    Problem,
    assert_same_bits,
    every_backend,
    every_backend_name,
    every_dtype,
    every_fast_backend,
    every_norm,
    make_ball,
    make_options,
    make_problem,
    run,
    take,
    take_ball,
)

import pyfirstorder as fo
from pyfirstorder.problem import TRACE_QUANTITIES, AttackArrays, Status

EVERYTHING = {"keep_best": True, "trace": True, "steps": 12}
KINDS = {
    "pgd": {},
    "momentum": {"momentum": 0.9},
    "early stop": {"early_stop": True},
    "gradient": {"direction": "gradient"},
    "apgd": {"algorithm": "apgd"},
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def make_case(norm, dtype, boxed=True, samples=33, **changes) -> tuple[Problem, object]:
    problem = make_problem(samples=samples, dtype=dtype, seed=50, **changes)
    return problem, make_ball(norm, problem.x, eps=np.linspace(0.01, 2, samples), boxed=boxed)


# ------------------------------------------------------------------ the same bits


@every_backend
@every_dtype
@every_norm
@every_kind
def test_thread_counts_change_no_bit(backend, dtype, norm, kind):
    problem, ball = make_case(norm, dtype)
    options = EVERYTHING | KINDS[kind] | {"random_start": "ball", "restarts": 2}
    one = run(backend, problem, ball, threads=1, **options)
    for threads in (2, 3, 7):
        assert_same_bits(run(backend, problem, ball, threads=threads, **options), one)


@every_backend
@every_dtype
@every_norm
@every_kind
def test_a_batch_split_changes_no_bit(backend, dtype, norm, kind):
    problem, ball = make_case(norm, dtype, boxed=kind != "pgd")
    options = EVERYTHING | KINDS[kind] | {"random_start": "ball", "restarts": 2, "threads": 2}
    whole = run(backend, problem, ball, sample_offset=5, **options)
    for rows in (slice(0, 1), slice(1, 9), slice(9, 33)):
        part = run(backend, problem.rows(rows), take_ball(ball, rows), sample_offset=5 + rows.start, **options)
        assert_same_bits(part, whole.rows(rows.start, rows.stop))


@every_backend
@every_dtype
@every_norm
@every_kind
def test_the_place_in_the_batch_changes_no_bit(backend, dtype, norm, kind):
    problem, ball = make_case(norm, dtype)
    rng = np.random.default_rng(0)
    x_init = (problem.x + 0.1 * rng.standard_normal(problem.x.shape)).astype(dtype)
    order = rng.permutation(len(problem.x))
    options = EVERYTHING | KINDS[kind]
    straight = run(backend, problem, ball, x_init, **options)
    mixed = run(backend, problem.rows(order), take_ball(ball, order), np.ascontiguousarray(x_init[order]), **options)
    assert_same_bits(mixed, AttackArrays(*(None if field is None else field[order] for field in straight)))


@every_fast_backend
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(("norm", "boxed", "activation"), [("linf", True, "relu"), ("l2", False, "gelu")])
def test_threads_that_share_products_change_no_bit(backend, samples, norm, boxed, activation):
    problem = make_problem(samples=samples, d=517, m=523, activation=activation, dtype=np.float32, seed=53)
    ball = make_ball(norm, problem.x, boxed=boxed)
    options = {"keep_best": True, "steps": 20}
    one = run(backend, problem, ball, threads=1, **options)
    output = backend.forward(problem.weights, problem.x, 1)
    for threads in (2, 7):
        assert_same_bits(run(backend, problem, ball, threads=threads, **options), one)
        np.testing.assert_array_equal(backend.forward(problem.weights, problem.x, threads), output)


@every_backend
@every_dtype
def test_outputs_and_gradients_do_not_depend_on_threads_or_neighbours(backend, dtype):
    problem = make_problem(samples=127, dtype=dtype, k=33)
    whole = backend.input_gradient(problem.weights, problem.x, problem.objective, 1)
    for threads in (2, 3, 7):
        for got, wanted in zip(backend.input_gradient(problem.weights, problem.x, problem.objective, threads), whole):
            np.testing.assert_array_equal(got, wanted)
    for rows in ([0], [126, 3], list(range(40, 57))):
        part = problem.rows(rows)
        for got, wanted in zip(backend.input_gradient(part.weights, part.x, part.objective, 2), whole):
            np.testing.assert_array_equal(got, wanted[rows])


@every_fast_backend
@every_dtype
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_outputs_alone_are_those_that_come_with_gradients_to_the_bit(backend, dtype, activation):
    problem = make_problem(samples=9, activation=activation, dtype=dtype)
    output = backend.input_gradient(problem.weights, problem.x, problem.objective, 1)[2]
    np.testing.assert_array_equal(backend.forward(problem.weights, problem.x, 1), output)


@every_backend
@every_dtype
@every_norm
@pytest.mark.parametrize("direction", ["sign", "normalized", "sparse", "gradient"])
@pytest.mark.parametrize("steps", [39, 40])
def test_leaving_fixed_points_and_cycles_early_changes_no_bit(backend, dtype, norm, direction, steps):
    problem, ball = make_case(norm, dtype, boxed=direction == "sign")
    options = {"keep_best": True, "trace": True, "steps": steps, "direction": direction, "step_size": ball.eps / 4}
    options["evaluation"] = "dense"  # of which a point that comes again repeats what followed it, to the bit
    early, full = (run(backend, problem, ball, retire=retire, **options) for retire in (True, False))
    assert_same_bits(early, full, but=("steps", "status"))
    assert (early.steps <= full.steps).all()
    if direction == "sign":
        assert (early.steps < full.steps).any(), "some sample must retire for this to be a test"


@every_backend
@every_dtype
def test_both_ways_to_retire_occur_and_say_so(backend, dtype):
    problem, ball = make_case("linf", dtype, samples=127, activation="gelu")
    end = run(backend, problem, ball, steps=40, step_size=ball.eps / 4)
    statuses = set(end.status.tolist())
    assert {Status.FIXED_POINT, Status.PERIOD_TWO} <= statuses
    assert (end.steps[end.status == Status.STEPS_USED_UP] == 40).all()
    assert (end.steps[end.status == Status.FIXED_POINT] < 41).all()


# ------------------------------------------------------------------ consistent fields


@every_backend
@every_dtype
@every_norm
@every_kind
def test_loss_and_output_are_those_of_evaluating_x_adv_to_the_bit(backend, dtype, norm, kind):
    problem, ball = make_case(norm, dtype)
    end = run(backend, problem, ball, **EVERYTHING | KINDS[kind])
    loss, _, output = backend.input_gradient(problem.weights, end.x_adv, problem.objective, 1)
    np.testing.assert_array_equal(end.loss, loss)
    np.testing.assert_array_equal(end.output, output)
    np.testing.assert_array_equal(end.output, backend.forward(problem.weights, end.x_adv, 1))
    best_loss, _, best_output = backend.input_gradient(problem.weights, end.x_best, problem.objective, 1)
    np.testing.assert_array_equal(end.x_best_loss, best_loss)
    np.testing.assert_array_equal(end.x_best_output, best_output)


@every_backend
@every_dtype
@every_kind
@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
def test_success_is_what_predicting_x_adv_again_gives(backend, dtype, kind, targeted):
    problem, ball = make_case("l2", dtype, targeted=targeted)
    end = run(backend, problem, ball, **EVERYTHING | KINDS[kind])
    for x, success in ((end.x_adv, end.success), (end.x_best, end.x_best_success)):
        hit = np.argmax(backend.forward(problem.weights, x, 1), axis=1) == problem.objective.labels
        np.testing.assert_array_equal(success, hit == targeted)


@every_backend
@every_dtype
@every_norm
@every_kind
def test_best_loss_is_the_largest_of_the_trace(backend, dtype, norm, kind):
    problem, ball = make_case(norm, dtype)
    end = run(backend, problem, ball, **EVERYTHING | KINDS[kind])
    loss = end.trace[:, TRACE_QUANTITIES.index("loss")]
    np.testing.assert_array_equal(end.best_loss, np.nanmax(loss, axis=1).astype(dtype))
    last = np.count_nonzero(~np.isnan(loss), axis=1) - 1
    np.testing.assert_array_equal(end.loss, loss[np.arange(len(loss)), last].astype(dtype))


@every_backend
@every_dtype
@every_norm
def test_every_step_count_gives_the_losses_of_one_trace(backend, dtype, norm):
    problem, ball = make_case(norm, dtype)
    trace = run(backend, problem, ball, trace=True, steps=6).trace
    for t in range(7):
        loss = run(backend, problem, ball, steps=t, step_size=ball.eps / 3).loss
        np.testing.assert_array_equal(trace[:, 0, t].astype(dtype), loss)


@every_backend
@every_dtype
@every_norm
def test_first_success_is_the_first_step_count_that_succeeds(backend, dtype, norm):
    problem, ball = make_case(norm, dtype)
    ends = [run(backend, problem, ball, steps=t) for t in range(7)]
    success = np.stack([end.success for end in ends])
    first = np.where(success.any(axis=0), np.argmax(success, axis=0), -1)
    np.testing.assert_array_equal(ends[-1].first_success, first)
    assert len(set(first.tolist())) > 2
    stopped = run(backend, problem, ball, steps=6, early_stop=True)
    np.testing.assert_array_equal(stopped.first_success, first)
    np.testing.assert_array_equal(stopped.status == Status.SUCCESS, first >= 0)


@every_backend
@every_dtype
@every_norm
def test_the_best_iterate_succeeds_if_any_does_and_then_has_the_largest_loss(backend, dtype, norm):
    problem, ball = make_case(norm, dtype, activation="gelu", loss="margin")
    options = {"step_size": ball.eps * 0.9, "direction": "sign"}  # long steps across: the best is often not the last
    ends = [run(backend, problem, ball, steps=t, **options) for t in range(9)]
    best = run(backend, problem, ball, steps=8, keep_best=True, **options)
    success, loss = np.stack([end.success for end in ends]), np.stack([end.loss for end in ends])
    np.testing.assert_array_equal(best.x_best_success, success.any(axis=0))
    eligible = np.where(success == best.x_best_success, loss, -np.inf)
    np.testing.assert_array_equal(best.x_best_loss, eligible.max(axis=0))
    chosen = np.argmax(eligible, axis=0)
    expected = np.stack([end.x_adv for end in ends])[chosen, np.arange(len(problem.x))]
    np.testing.assert_array_equal(best.x_best, expected)
    assert (chosen < 8).any(), "the best must not always be the last for this to be a test"


@every_backend
@every_dtype
@pytest.mark.parametrize("field", ["x_adv", "x_best"])
def test_a_restart_that_succeeds_is_kept_before_one_with_a_larger_loss(backend, dtype, field):
    """With many classes the cross-entropy can be larger where no rival has overtaken the class yet."""
    problem = make_problem(samples=127, k=33, dtype=dtype, seed=51)
    labels = np.argmax(backend.forward(problem.weights, problem.x, 1), axis=1)
    problem = problem._replace(objective=problem.objective._replace(labels=labels))
    ball = make_ball("l2", problem.x, eps=1.5)
    kept = run(backend, problem, ball, steps=0, random_start="ball", restarts=5, keep_best=True)
    starts = np.stack([backend.random_start(problem.x, ball, False, 0, restart, 0) for restart in range(5)])
    evaluated = [backend.input_gradient(problem.weights, x, problem.objective, 1) for x in starts]
    loss = np.stack([part[0] for part in evaluated])
    success = np.stack([np.argmax(part[2], axis=1) != labels for part in evaluated])
    chosen = np.argmax(np.where(success == success.any(axis=0), loss, -np.inf), axis=0)
    assert (chosen != np.argmax(loss, axis=0)).any(), "loss and success must disagree for this to be a test"
    np.testing.assert_array_equal(getattr(kept, field), starts[chosen, np.arange(127)])


@every_backend
@every_dtype
@every_norm
def test_results_do_not_depend_on_what_is_recorded(backend, dtype, norm):
    problem, ball = make_case(norm, dtype)
    bare = run(backend, problem, ball, steps=12)
    full = run(backend, problem, ball, **EVERYTHING)
    for name in ("x_adv", "loss", "output", "success", "best_loss", "steps", "first_success", "status"):
        np.testing.assert_array_equal(getattr(full, name), getattr(bare, name), err_msg=name)


# ------------------------------------------------------------------ inputs and global state


@every_backend
@every_dtype
@every_norm
def test_an_attack_changes_none_of_its_inputs(backend, dtype, norm):
    problem, ball = make_case(norm, dtype)
    x_init = problem.x + dtype(0.01)
    options = make_options(problem, ball, random_start="none", momentum=0.5, keep_best=True, trace=True)
    labels = take(problem.objective, slice(None)).labels
    inputs = [problem.x, x_init, problem.objective.labels, ball.eps, ball.lower, ball.upper, options.step_size]
    inputs += [part for part in problem.weights if isinstance(part, np.ndarray)]
    before = [part.copy() for part in inputs]
    for part in inputs:
        part.flags.writeable = False  # as read-only inputs are allowed, writing would be an error
    end = backend.attack(problem.weights, problem.x, problem.objective, ball, options, x_init)
    for part, given in zip(inputs, before):
        np.testing.assert_array_equal(part, given)
    np.testing.assert_array_equal(problem.objective.labels, labels)
    assert not any(np.shares_memory(end.x_adv, part) for part in inputs)


@every_backend_name
def test_results_own_their_memory(backend_name):
    net = fo.random_network(4, 5, dtype=np.float64)
    x, y = np.ones((3, 4)), np.zeros(3)
    clean = fo.pgd(net, x, y, eps=0.0, keep="both", backend=backend_name)
    still = fo.project(np.zeros((3, 4)), eps=1.0, backend=backend_name)
    for array in (clean.x_adv, clean.x_best, still):
        array[...] = 7
    np.testing.assert_array_equal(x, np.ones((3, 4)))
    assert not np.shares_memory(clean.x_adv, clean.x_best)


@every_backend_name
def test_no_global_random_state_is_read_or_changed(backend_name):
    net = fo.random_network(4, 5, seed=3, dtype=np.float64)
    x, y = np.ones((3, 4)), np.zeros(3)
    ends = []
    for seed in (0, 1):
        np.random.seed(seed)  # noqa: NPY002 - the global generator is the subject
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        ends.append(fo.pgd(net, x, y, eps=1.0, random_start=True, restarts=3, backend=backend_name).x_adv)
        fo.apgd(net, x, y, eps=1.0, backend=backend_name)
        fo.random_network(4, 5, seed=3)
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.testing.assert_array_equal(ends[0], ends[1])


@every_backend_name
def test_two_equal_calls_give_equal_bits(backend_name):
    net = fo.random_network(9, 16, activation="relu", seed=2)
    x = np.random.default_rng(1).standard_normal((5, 9)).astype(np.float32)
    ends = [
        fo.pgd(net, x, np.zeros(5, np.float32), eps=1.0, norm="l2", random_start=True, backend=backend_name)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(ends[0].x_adv, ends[1].x_adv)


@every_backend_name
@pytest.mark.parametrize("on_invalid", ["raise", "mark"])
def test_an_attack_leaves_what_it_was_given(backend_name, on_invalid):
    net = fo.random_network(4, 5, dtype=np.float64)
    x, y, eps = np.ones((3, 4)), np.zeros(3), np.full(3, 0.5)
    if on_invalid == "mark":
        x[1, 2] = np.nan
    given = {"x_init": x + 0.1, "step_size": np.full(3, 0.1), "bounds": (np.full(4, -2.0), np.full(4, 2.0))}
    before = copy.deepcopy((x, y, eps, given))
    fo.pgd(net, x, y, eps=eps, keep="both", on_invalid=on_invalid, backend=backend_name, **given)
    np.testing.assert_equal((x, y, eps, given), before)


@every_backend_name
def test_progress_is_reported_up_to_the_end_and_changes_no_bit(backend_name):
    net = fo.random_network(4, 5, dtype=np.float64)
    x, y, shares = np.ones((3, 4)), np.zeros(3), []
    options = {"eps": 1.0, "random_start": True, "restarts": 3, "backend": backend_name}
    watched = fo.pgd(net, x, y, progress=shares.append, **options)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert all(0 <= share <= 1 for share in shares)
    np.testing.assert_array_equal(watched.x_adv, fo.pgd(net, x, y, **options).x_adv)


@every_backend_name
def test_an_error_in_the_progress_function_reaches_the_caller(backend_name):
    net = fo.random_network(4, 5, dtype=np.float64)

    def interrupt(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fo.pgd(net, np.ones((3, 4)), np.zeros(3), eps=1.0, progress=interrupt, backend=backend_name)
