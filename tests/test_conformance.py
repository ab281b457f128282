"""Every backend against the reference: outputs and gradients, single steps, and whole loops.

Signs and choices of the largest coordinates jump, so two float32 loops may part at a coordinate whose gradient is
within rounding of zero, and both be right.  Loops are therefore held step by step: from the backend's own iterate t, is
its iterate t + 1 the right step?  In float64 whole trajectories are compared too (test_trajectories.py).
"""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import truth
from support import (
    ACTIVATION_NAMES,
    AWKWARD_SIZES,
    CLASS_LOSSES,
    LOSS_NAMES,
    Problem,
    every_backend,
    every_dtype,
    every_norm,
    make_ball,
    make_network,
    make_problem,
    reweigh,
    run,
    tolerance,
)

from pyfirstorder.backends.reference import directions
from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.problem import DIRECTIONS, NORMS, Objective

STEPS = 5


def hold_evaluation(conformance, backend, problem: Problem, threads: int = 1) -> None:
    true = truth.evaluate(problem)
    loss, gradient, output = backend.input_gradient(problem.weights, problem.x, problem.objective, threads)
    assert loss.dtype == gradient.dtype == output.dtype == problem.x.dtype
    conformance.check("output", output, true.output, true.output_error)
    conformance.check("loss", loss, true.loss, true.loss_error)
    sure = true.decisive
    assert not len(sure) or sure.mean() > 0.5
    conformance.check("gradient", gradient[sure], true.gradient[sure], true.gradient_error[sure])


@every_backend
@every_dtype
@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_every_activation_and_loss_gives_the_reference_gradient(
    backend, dtype, activation, loss, targeted, conformance
):
    hold_evaluation(
        conformance, backend, make_problem(activation=activation, loss=loss, targeted=targeted, dtype=dtype), threads=2
    )


@every_backend
@every_dtype
@pytest.mark.parametrize("size", [n for n in AWKWARD_SIZES if n])
@pytest.mark.parametrize("dimension", ["d", "m", "k"])
def test_every_awkward_layer_size_gives_the_reference_gradient(backend, dtype, dimension, size, conformance):
    loss = "cross_entropy" if dimension != "k" or size > 1 else "squared"
    problem = make_problem(activation="softplus", loss=loss, dtype=dtype, **{dimension: size})
    hold_evaluation(conformance, backend, problem)


@every_backend
@every_dtype
@pytest.mark.parametrize("samples", AWKWARD_SIZES)
def test_every_awkward_batch_size_gives_the_reference_gradient(backend, dtype, samples, conformance):
    hold_evaluation(conformance, backend, make_problem(samples=samples, dtype=dtype), threads=3)


@every_backend
@every_dtype
def test_a_wide_network_of_a_thousand_outputs_gives_the_reference_gradient(backend, dtype, conformance):
    hold_evaluation(conformance, backend, make_problem(d=70, m=130, k=1000, samples=5, dtype=dtype))


@every_backend
@every_dtype
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_forward_gives_the_output_of_input_gradient(backend, dtype, activation):
    problem = make_problem(activation=activation, dtype=dtype)
    _, _, output = backend.input_gradient(problem.weights, problem.x, problem.objective, 1)
    np.testing.assert_array_equal(backend.forward(problem.weights, problem.x, 1), output)


def single_unit(activation: str, dtype) -> tuple[Problem, np.ndarray]:
    """The network σ(h) itself, at values of h of every magnitude."""
    net = make_network(1, 1, 1, activation, dtype)
    one, zero = np.ones((1, 1), dtype), np.zeros(1, dtype)
    weights = reweigh(net.weights(dtype), hidden_weight=one, hidden_bias=zero, output_weight=one, output_bias=zero)
    positive = np.concatenate([np.geomspace(1e-30, 1e-3, 60), np.linspace(1e-3, 20, 4000), np.geomspace(20, 1e4, 60)])
    h = np.concatenate([-positive, [0.0, -0.0], positive]).astype(dtype)[:, None]
    return Problem(weights, h, Objective("linear", False, None, np.ones_like(h))), h[:, 0].astype(np.float64)


@every_backend
@every_dtype
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_activations_are_accurate_over_their_whole_range(backend, dtype, activation, conformance):
    problem, h = single_unit(activation, dtype)
    value = ACTIVATIONS[problem.weights.activation].value(h, problem.weights.parameter)
    allowed = tolerance("activation", dtype) * np.maximum(np.abs(value), np.minimum(np.abs(h), 1)) + 1e-37
    conformance.check("σ", backend.forward(problem.weights, problem.x, 1)[:, 0], value, allowed)


@every_backend
@every_dtype
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_derivatives_of_activations_are_accurate_over_their_whole_range(backend, dtype, activation, conformance):
    problem, h = single_unit(activation, dtype)
    slope = ACTIVATIONS[problem.weights.activation].derivative(h, problem.weights.parameter)
    _, gradient, _ = backend.input_gradient(problem.weights, problem.x, problem.objective, 1)
    allowed = tolerance("derivative", dtype) * np.maximum(np.abs(slope), 1)
    conformance.check("σ'", gradient[:, 0], slope, allowed)


# ------------------------------------------------------------------ step by step

# Each ball and direction three times, with other activations, losses and targets each time.
LOOPS = [
    pytest.param(
        norm,
        direction,
        boxed,
        ACTIVATION_NAMES[(7 * index + 4 * variant) % len(ACTIVATION_NAMES)],
        LOSS_NAMES[(index + variant) % len(LOSS_NAMES)],
        (index // 2 + variant) % 2 == 1,
        id=f"{norm}-{direction}-{'boxed' if boxed else 'free'}-{variant}",
    )
    for index, (norm, direction, boxed) in enumerate(product(NORMS, DIRECTIONS, [False, True]))
    for variant in range(3)
]


def hold_steps(conformance, backend, problem: Problem, ball, x_init=None, **options) -> None:
    """Hold each step of a loop to the truth at the backend's own iterates."""
    run_options = {"steps": STEPS, "direction": "sign", "step_size": ball.eps / 3, "sparse_count": 3, "momentum": 0.0}
    run_options |= options
    name, momentum = run_options["direction"], run_options["momentum"]
    iterates = [run(backend, problem, ball, x_init, **run_options | {"steps": t}) for t in range(STEPS + 1)]
    undecided = np.zeros(len(problem.x), dtype=bool)
    velocity, velocity_error = np.zeros((2, *problem.x.shape))
    told = 0
    for now, after in pairwise(iterates):
        true = truth.evaluate(problem, now.x_adv)
        conformance.check("output", now.output, true.output, true.output_error)
        conformance.check("loss", now.loss, true.loss, true.loss_error)
        g, error = true.direction, true.direction_error
        if name == "gradient":
            g, error = true.gradient, true.gradient_error
        if momentum:
            if name != "gradient":
                g, error = _unit_l1(g, error)
            velocity, velocity_error = momentum * velocity + g, momentum * velocity_error + error
            g, error = velocity, velocity_error
        step = truth.advance(
            problem, ball, now.x_adv, g, error, name, run_options["step_size"], run_options["sparse_count"]
        )
        sure = true.decisive & ~(step.undecided | undecided)
        if momentum:  # remembers what could not be told
            undecided |= ~true.decisive | step.undecided
        told += np.count_nonzero(sure)
        difference = after.x_adv.astype(np.float64)[sure] - step.x[sure]
        if ball.norm == "linf":  # each coordinate by itself
            conformance.check("step", difference, np.zeros_like(difference), step.error[sure])
        else:
            length = np.linalg.norm(difference, axis=1)
            conformance.check("step", length, np.zeros_like(length), np.linalg.norm(step.error[sure], axis=1))
    assert told >= 0.4 * STEPS * len(problem.x), "most steps must be decidable for this to be a test"


def _unit_l1(g: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    length = np.sum(np.abs(g), axis=1, keepdims=True)
    length = np.where(length > 0, length, 1)
    unit = directions.unit_l1(g)
    return unit, error / length + np.abs(unit) * np.sum(error, axis=1, keepdims=True) / length


@every_backend
@every_dtype
@pytest.mark.parametrize(("norm", "direction", "boxed", "activation", "loss", "targeted"), LOOPS)
def test_every_step_is_the_reference_step(
    backend, dtype, norm, direction, boxed, activation, loss, targeted, conformance
):
    problem = make_problem(activation=activation, loss=loss, targeted=targeted, dtype=dtype, seed=3)
    ball = make_ball(norm, problem.x, boxed=boxed)
    hold_steps(conformance, backend, problem, ball, direction=direction)


@every_backend
@every_dtype
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_every_activation_and_loss_steps_like_the_reference(backend, dtype, activation, loss, conformance):
    index = ACTIVATION_NAMES.index(activation) + LOSS_NAMES.index(loss)
    problem = make_problem(d=9, m=16, activation=activation, loss=loss, dtype=dtype, samples=5, seed=3)
    ball = make_ball(NORMS[index % 3], problem.x, boxed=index % 2 == 1)
    hold_steps(conformance, backend, problem, ball, direction=("sign", "normalized", "sparse")[index % 3])


@every_backend
@every_dtype
@pytest.mark.parametrize("size", [n for n in AWKWARD_SIZES if n])
@pytest.mark.parametrize("dimension", ["d", "m", "k", "samples"])
def test_every_awkward_size_steps_like_the_reference(backend, dtype, dimension, size, conformance):
    index = AWKWARD_SIZES.index(size) + len(dimension)
    loss = CLASS_LOSSES[index % 2] if dimension != "k" or size > 1 else "linear"
    problem = make_problem(loss=loss, dtype=dtype, activation=("silu", "tanh")[index % 2], **{dimension: size})
    ball = make_ball(NORMS[index % 3], problem.x, boxed=index % 2 == 0)
    hold_steps(conformance, backend, problem, ball, direction=("sign", "normalized", "sparse")[index % 3])


@every_backend
@every_dtype
@every_norm
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_momentum_steps_like_the_reference(backend, dtype, norm, direction, conformance):
    problem = make_problem(activation="gelu", dtype=dtype, seed=4)
    ball = make_ball(norm, problem.x, boxed=norm == "l2")
    hold_steps(conformance, backend, problem, ball, direction=direction, momentum=0.9)


@every_backend
@every_dtype
@every_norm
def test_radii_and_step_sizes_of_each_sample_are_its_own(backend, dtype, norm, conformance):
    problem = make_problem(dtype=dtype, activation="erf", seed=5)
    radii = np.geomspace(1e-3, 3.0, len(problem.x))
    radii[4] = 0.0
    ball = make_ball(norm, problem.x, eps=radii)
    step_size = radii[::-1] / 4
    hold_steps(conformance, backend, problem, ball, direction="normalized", step_size=np.ascontiguousarray(step_size))


@every_backend
@every_dtype
@every_norm
def test_an_infinite_radius_leaves_the_steps_free(backend, dtype, norm, conformance):
    problem = make_problem(dtype=dtype, activation="softplus", seed=6)
    ball = make_ball(norm, problem.x, eps=np.inf)
    hold_steps(conformance, backend, problem, ball, direction="normalized", step_size=np.full(len(problem.x), 0.1))


@every_backend
@every_dtype
@every_norm
def test_a_start_outside_is_projected_before_the_first_step(backend, dtype, norm, conformance):
    problem = make_problem(dtype=dtype, activation="sigmoid", seed=7)
    ball = make_ball(norm, problem.x, boxed=True)
    x_init = (problem.x + np.random.default_rng(0).standard_normal(problem.x.shape)).astype(dtype)
    wide = truth.widen_ball(ball)
    x0 = problem.x.astype(np.float64)
    nearest = truth.projections.project(x_init.astype(np.float64) - x0, x0, wide)
    start = run(backend, problem, ball, x_init, steps=0).x_adv
    allowed = tolerance("projection", dtype) * (truth.amplification(nearest, x0, wide) * ball.eps + 1)
    distance = np.linalg.norm(start - (x0 + nearest), axis=1)
    conformance.check("start", distance, np.zeros_like(distance), allowed)
    hold_steps(conformance, backend, problem, ball, x_init, direction="normalized")
