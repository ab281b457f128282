"""The ways of evaluation that save work, `hidden` and `incremental`: the answer of the dense loop up to rounding.

Each is held to the reference as the dense loop is, to float64 over a thousand steps, and to the promises that do not
depend on how a product is found: bits independent of neighbours, and a result that is what the network says of x_adv.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from support import (
    ACTIVATION_NAMES,
    BACKENDS,
    CUDA_ON_FIBRES,
    LOSS_NAMES,
    REFERENCE,
    assert_same_bits,
    every_dtype,
    make_ball,
    make_network,
    make_problem,
    reweigh,
    run,
    take_ball,
)
from test_trajectories import hold_attack

import pyfirstorder as fo
from pyfirstorder.backends.cuda import CudaBackend
from pyfirstorder.problem import EVALUATIONS, PIECEWISE_LINEAR, TRACE_QUANTITIES, Status

SIZES = [1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 127]
ASCENTS = ["gradient", "normalized"]
STARTS = ["none", "ball", "sphere"]
# Of the kernels that run as fibres, which are slow: below and above a vector, a tile and all tiles at once.
SIZES_ON_FIBRES = [1, 2, 9, 17, 33]
every_native = pytest.mark.parametrize("backend", [part for part in BACKENDS if str(part.id).startswith("cpu")])

# An attack of each kind that has another way: evaluation, norm, direction, activation.
KINDS = {
    "hidden, gradient": ("hidden", "l2", "gradient", "softplus"),
    "hidden, normalized": ("hidden", "l2", "normalized", "relu"),
    "incremental, smooth": ("incremental", "linf", "sign", "tanh"),
    "incremental, relu": ("incremental", "linf", "sign", "relu"),
    "incremental gradients alone": ("incremental", "l2", "normalized", "leaky_relu"),
}


def evaluations_of(part):
    """The ways that the backend of a parameter knows, which may be one that is not here."""
    if str(part.id).startswith("cuda"):
        return CudaBackend.evaluations
    return EVALUATIONS if str(part.id).startswith("cpu") else ()


def ways(*others):
    """Every backend with every kind of attack for which it has another way, and with one of each of others."""
    params = []
    for part in BACKENDS:
        kinds = [kind for kind, (evaluation, *_) in KINDS.items() if evaluation in evaluations_of(part)]
        rest = [SIZES_ON_FIBRES if one is SIZES and part.id == "cuda-on-fibres" else one for one in others]
        for values in product(kinds, *rest):
            name = "-".join(map(str, (part.id, *values)))
            params.append(pytest.param(*part.values, *values, id=name, marks=part.marks))
    return params


every_way = pytest.mark.parametrize(("backend", "kind"), ways())
every_hidden = pytest.mark.parametrize("backend", [part for part in BACKENDS if "hidden" in evaluations_of(part)])


def make_kind(kind, dtype=np.float64, samples=9, **shape):
    """Backend-independent parts of an attack of that kind: problem, ball, options."""
    evaluation, norm, direction, activation = KINDS[kind]
    problem = make_problem(activation=activation, samples=samples, dtype=dtype, seed=20, **shape)
    options = {"evaluation": evaluation, "direction": direction, "keep_best": True, "steps": 12}
    return problem, make_ball(norm, problem.x), options


# ------------------------------------------------------------------ against the reference


@every_hidden
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("direction", ASCENTS)
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_the_hidden_space_loop_follows_the_reference(backend, activation, direction, start, conformance):
    index = ACTIVATION_NAMES.index(activation) + STARTS.index(start)
    problem = make_problem(activation=activation, loss=LOSS_NAMES[index % 6], targeted=index % 4 == 3, seed=21)
    ball = make_ball("l2", problem.x)
    options = {"direction": direction, "random_start": start, "trace": False, "evaluation": "hidden"}
    hold_attack(conformance, backend, problem, ball, **options)


@every_native
@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "identity", "gelu"])
def test_the_incremental_loop_follows_the_reference(backend, activation, loss, conformance):
    problem = make_problem(activation=activation, loss=loss, seed=22)
    for norm, boxed in product(["linf", "l2", "l1"], [False, True]):
        ball = make_ball(norm, problem.x, boxed=boxed)
        hold_attack(conformance, backend, problem, ball, evaluation="incremental", direction="sign")


@pytest.mark.parametrize(("backend", "kind", "size"), ways(SIZES))
def test_every_size_follows_the_reference(backend, kind, size, conformance):
    for shape in ({"d": size}, {"m": size}, {"k": size + 1}, {"samples": size}):
        problem, ball, options = make_kind(kind, **shape)
        hold_attack(conformance, backend, problem, ball, **options, trace=False, retire=False)


@every_way
def test_restarts_radii_and_given_starts_follow_the_reference(backend, kind, conformance):
    problem, ball, options = make_kind(kind)
    radii = np.array([0.0, 1e-300, 1e-8, 0.1, 0.2, 0.5, 1.0, 3.0, 10.0])
    some = make_ball(ball.norm, problem.x, eps=radii)
    options |= {"trace": False, "retire": False}
    hold_attack(conformance, backend, problem, some, **options)
    hold_attack(conformance, backend, problem, ball, **options, restarts=3, random_start="ball")
    rng = np.random.default_rng(5)
    given = problem.x + 0.3 * rng.standard_normal(problem.x.shape)
    hold_attack(conformance, backend, problem, ball, given, **options)


@every_way
def test_the_first_success_ends_a_sample(backend, kind, conformance):
    problem, ball, options = make_kind(kind, samples=127)
    end = hold_attack(conformance, backend, problem, ball, **options, trace=False, early_stop=True, retire=False)
    assert (end.status == Status.SUCCESS).any()
    assert end.success[end.status == Status.SUCCESS].all()


@every_hidden
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("direction", ASCENTS)
@pytest.mark.parametrize("start", ["none", "ball"])
@pytest.mark.parametrize("units", [5, 40], ids=["m < d", "m > d"])
def test_a_trace_on_hidden_units_is_that_of_the_dense_loop(backend, activation, direction, start, units):
    problem = make_problem(d=17, m=units, k=3, samples=11, activation=activation)
    ball = make_ball("l2", problem.x)
    options = {"direction": direction, "random_start": start, "steps": 60, "trace": True, "retire": False}
    dense, hidden = (run(backend, problem, ball, evaluation=way, **options) for way in ("dense", "hidden"))
    assert np.isfinite(dense.trace).all()
    for q, name in enumerate(TRACE_QUANTITIES):
        # a residual is the root of a sum in which half of the digits may cancel
        atol = 1e-7 if name == "residual" else 1e-9
        np.testing.assert_allclose(hidden.trace[:, q], dense.trace[:, q], rtol=1e-8, atol=atol, err_msg=name)
    np.testing.assert_array_equal(hidden.trace[:, 0, -1], hidden.loss)


@every_hidden
def test_a_trace_on_hidden_units_ends_with_its_row(backend):
    problem = make_problem(d=17, m=9, samples=60)
    options = {"steps": 30, "trace": True, "retire": False, "early_stop": True}
    ball = make_ball("l2", problem.x)
    dense, hidden = (run(backend, problem, ball, evaluation=way, **options) for way in ("dense", "hidden"))
    assert (hidden.status == Status.SUCCESS).any()
    np.testing.assert_array_equal(np.isnan(hidden.trace), np.isnan(dense.trace))


@every_hidden
def test_a_trace_on_hidden_units_goes_on_where_the_gradient_is_zero(backend):
    problem = make_problem(d=6, m=4, samples=3)
    dead = problem._replace(weights=reweigh(problem.weights, hidden_bias=np.full(4, -1e3)))
    options = {"steps": 5, "trace": True, "retire": False}
    ball = make_ball("l2", dead.x)
    dense, hidden = (run(backend, dead, ball, evaluation=way, **options) for way in ("dense", "hidden"))
    assert (hidden.status == Status.ZERO_GRADIENT).all()
    np.testing.assert_allclose(hidden.trace, dense.trace, rtol=1e-12)


# ------------------------------------------------------------------ accuracy


def median_error(backend, problem, ball, truth, **options):
    """Median distance of end points to those of the dense loop in float64."""
    end = run(backend, problem, ball, **options)
    return np.median(np.linalg.norm(end.x_adv.astype(np.float64) - truth, axis=1))


@every_native
@pytest.mark.parametrize("activation", ["relu", "softplus", "tanh"])
@pytest.mark.parametrize("direction", ASCENTS)
@pytest.mark.parametrize("start", ["none", "sphere"])
def test_a_thousand_hidden_steps_are_as_accurate_as_dense_ones(backend, activation, direction, start):
    options = {"direction": direction, "random_start": start, "steps": 1000, "retire": False}
    hold_accuracy(backend, "l2", activation, "hidden", options)


@pytest.mark.skipif(CUDA_ON_FIBRES is None, reason="the kernels were not built for fibres")
def test_hidden_steps_of_a_gpu_are_as_accurate_as_its_dense_ones():
    options = {"direction": "normalized", "random_start": "sphere", "steps": 60, "retire": False}
    hold_accuracy(CUDA_ON_FIBRES, "l2", "tanh", "hidden", options)


@every_native
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "softplus"])
@pytest.mark.parametrize("steps", [30, 200])
def test_incremental_steps_are_as_accurate_as_dense_ones(backend, activation, steps):
    hold_accuracy(backend, "linf", activation, "incremental", {"direction": "sign", "steps": steps})


def hold_accuracy(backend, norm, activation, evaluation, options):
    narrow = make_problem(d=127, m=65, k=3, samples=33, activation=activation, dtype=np.float32, seed=23)
    weights = (np.asarray(part, np.float64) for part in narrow.weights[:4])
    names = ("hidden_weight", "hidden_bias", "output_weight", "output_bias")
    wide = narrow._replace(weights=reweigh(narrow.weights, **dict(zip(names, weights))), x=narrow.x.astype(np.float64))
    ball = make_ball(norm, narrow.x)
    options = {"step_size": ball.eps / 40} | options
    truth = run(backend, wide, ball, evaluation="dense", **options).x_adv
    dense, other = (
        median_error(backend, narrow, ball, truth, evaluation=name, **options) for name in ("dense", evaluation)
    )
    assert other <= 1.5 * dense


def kept_after_a_thousand(backend, problem, ball, evaluation):
    """End of a long incremental attack with small steps, in which many units come and go."""
    return run(backend, problem, ball, evaluation=evaluation, direction="sign", steps=1000, step_size=ball.eps / 30)


@every_native
@every_dtype
def test_a_gradient_of_zero_stays_zero_where_units_come_and_go(backend, dtype):
    """Of each unit one coordinate in two counts, so that often no unit that is on sees a coordinate."""
    problem = make_problem(d=40, m=12, k=3, samples=33, dtype=dtype, seed=24)
    keep = np.random.default_rng(1).random((12, 40)) < 0.2
    weights = reweigh(problem.weights, hidden_weight=np.where(keep, problem.weights.hidden_weight, dtype(0)))
    problem = problem._replace(weights=weights)
    ball = make_ball("linf", problem.x)
    dense, incremental = (kept_after_a_thousand(backend, problem, ball, name) for name in ("dense", "incremental"))
    unmoved = dense.x_adv == problem.x
    assert unmoved.any(axis=1).sum() > 10
    np.testing.assert_array_equal(incremental.x_adv == problem.x, unmoved)
    np.testing.assert_array_equal(incremental.status, dense.status)


@every_native
@every_dtype
def test_a_unit_that_dwarfs_the_others_leaves_no_rounding_behind(backend, dtype):
    """It is on at some samples and in some steps; where it is off, the gradient is that of the small ones."""
    problem = make_problem(d=33, m=65, k=3, samples=65, dtype=dtype, seed=25)
    hidden_weight, hidden_bias = problem.weights.hidden_weight.copy(), problem.weights.hidden_bias.copy()
    output_weight = problem.weights.output_weight.copy()
    output_weight[:, 7] *= dtype(1e7 if dtype == np.float32 else 1e15)
    hidden_bias[7] -= 3 * np.abs(hidden_bias[7]) + 3
    weights = reweigh(
        problem.weights, hidden_weight=hidden_weight, hidden_bias=hidden_bias, output_weight=output_weight
    )
    problem = problem._replace(weights=weights)
    ball = make_ball("linf", problem.x)
    for steps in (1, 20):
        options = {"direction": "sign", "steps": steps, "step_size": ball.eps / 30}
        dense, incremental = (
            run(backend, problem, ball, evaluation=name, **options) for name in ("dense", "incremental")
        )
        np.testing.assert_array_equal(incremental.x_adv, dense.x_adv)


# ------------------------------------------------------------------ promises


@every_way
@every_dtype
def test_bits_depend_neither_on_threads_nor_on_neighbours(backend, dtype, kind):
    samples, steps = (35, 9) if backend.name == "cuda" else (127, 70)  # kernels that run as fibres are slow
    problem, ball, options = make_kind(kind, dtype, samples=samples, d=65)
    options |= {"steps": steps}
    whole = run(backend, problem, ball, **options)
    assert_same_bits(run(backend, problem, ball, threads=5, **options), whole)
    for rows in ([0], [samples - 1, 3], list(range(13, 30))):
        part = run(backend, problem.rows(rows), take_ball(ball, rows), **options)
        for name in ("x_adv", "loss", "output", "x_best", "steps", "status"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows], err_msg=name)


@every_way
@every_dtype
@pytest.mark.parametrize("start", ["none", "ball"])
def test_the_result_is_what_the_network_says_of_its_points(backend, dtype, kind, start):
    problem, ball, options = make_kind(kind, dtype, samples=33)
    end = run(backend, problem, ball, **options, random_start=start)
    for points, output, success in ((end.x_adv, end.output, end.success), (end.x_best, end.x_best_output, None)):
        np.testing.assert_array_equal(backend.forward(problem.weights, points, 1), output)
        if success is not None:
            np.testing.assert_array_equal(np.argmax(output, axis=1) != problem.objective.labels, success)
    assert (end.best_loss >= end.loss).all()


@every_way
@every_dtype
def test_rows_that_overflow_end_as_in_the_dense_loop(backend, dtype, kind):
    problem, ball, options = make_kind(kind, dtype)
    huge = 1e30 if dtype == np.float32 else 1e200
    weights = reweigh(problem.weights, hidden_weight=problem.weights.hidden_weight * dtype(huge))
    ends = [
        run(backend, problem._replace(weights=weights), ball, **options | {"evaluation": name})
        for name in (options["evaluation"], "dense")
    ]
    assert_same_bits(*ends, but=("x_adv", "loss", "output", "best_loss", "x_best", "x_best_loss", "x_best_output"))
    np.testing.assert_allclose(ends[0].loss, ends[1].loss, rtol=1e-3)


@every_native
def test_a_sign_attack_that_comes_again_ends_early_with_the_same_answer(backend):
    problem, ball, options = make_kind("incremental, relu", samples=127)
    options |= {"steps": 60, "step_size": ball.eps / 4}
    early, full = (run(backend, problem, ball, **options, retire=retire) for retire in (True, False))
    assert (early.steps < full.steps).any()
    assert {Status.FIXED_POINT, Status.PERIOD_TWO} & set(early.status.tolist())
    np.testing.assert_allclose(early.loss, full.loss, rtol=1e-9)


# ------------------------------------------------------------------ choice


@pytest.mark.parametrize("name", ["reference", "numba"])
def test_backends_without_another_way_say_so(name):
    net = make_network()
    with pytest.raises(ValueError, match=f"evaluation: expected one of auto, dense of {name}, got 'hidden'"):
        fo.pgd(net, np.zeros((1, 17)), [0], eps=0.1, norm="l2", evaluation="hidden", backend=name)


REFUSED = {
    "a box": {"norm": "l2", "bounds": (-9, 9)},
    "another norm": {"norm": "linf", "direction": "normalized"},
    "another direction": {"norm": "l2", "direction": "sign"},
    "momentum": {"norm": "l2", "momentum": 0.5},
}


@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED)
def test_the_hidden_space_loop_refuses_what_it_cannot_do(options):
    with pytest.raises(ValueError, match="evaluation: 'hidden' is for l2 without bounds"):
        fo.pgd(make_network(), np.zeros((1, 17)), [0], eps=0.1, evaluation="hidden", backend="cpu", **options)


def test_the_incremental_loop_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="evaluation: 'incremental' is for direction sign or activations relu"):
        fo.pgd(
            make_network(activation="tanh"),
            np.zeros((1, 17)),
            [0],
            eps=0.1,
            norm="l2",
            evaluation="incremental",
            backend="cpu",
        )


def test_piecewise_linear_activations_are_those_with_zero_curvature():
    h = np.linspace(-3, 3, 1001)
    for name in ACTIVATION_NAMES:
        net = make_network(d=1, m=1, k=1, activation=name)
        single = reweigh(net.weights(np.float64), hidden_weight=np.ones((1, 1)), hidden_bias=np.zeros(1))
        values = REFERENCE.forward(single, h[:, None], 1)[:, 0]
        bends = np.abs(np.diff(values, 2)) > 1e-9 * np.abs(values).max()
        assert (bends.sum() <= 2) == (name.partition("(")[0] in PIECEWISE_LINEAR), name
