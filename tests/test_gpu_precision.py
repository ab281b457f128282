"""The products of the cuda backend on tensor cores, and what its fast mode may round and may not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import truth
from numpy.testing import assert_array_equal
from support import BACKENDS, DTYPES, every_norm, make_ball, make_network, make_problem, run, with_and_without_box

from pyfirstorder.backends.reference import ReferenceBackend

on_a_gpu = pytest.mark.parametrize("backend", [part for part in BACKENDS if str(part.id).startswith("cuda")])
FLOAT = np.float32
WIDE = 40  # outputs whose products are those of tensor cores
UNIT = 2.0**-24


def relative_error(given: np.ndarray, weights: Any, x: np.ndarray) -> float:
    """Of the outputs of a linear network, beside the sum of magnitudes that float32 chains are held to."""
    wide = [part.astype(np.float64) for part in (weights.hidden_weight, weights.output_weight, x)]
    w, a, points = wide
    sizes = np.abs(points) @ np.abs(w).T @ np.abs(a).T
    return float((np.abs(given - points @ w.T @ a.T) / sizes).max())


@on_a_gpu
@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1.0, 1e4, 1e30])
@pytest.mark.parametrize("k", [3, WIDE])
def test_products_of_halves_are_as_good_as_floats_at_any_scale(backend: Any, scale: float, k: int) -> None:
    net = make_network(65, 33, k, "identity", FLOAT)
    w, a = net.hidden_weight * FLOAT(scale), net.output_weight / FLOAT(scale)
    weights = net.weights(FLOAT)._replace(
        hidden_weight=w, output_weight=a, hidden_bias=np.zeros(33, FLOAT), output_bias=np.zeros(k, FLOAT), prepared={}
    )
    x = np.random.default_rng(1).standard_normal((9, 65)).astype(FLOAT)
    x[3] *= FLOAT(1e-4)  # hidden units of 1e-34 are still normal numbers
    # 2⁻²² for each of the factors that are split, and the cut sums of 16
    assert relative_error(backend.forward(weights, x, 1), weights, x) <= 16 * UNIT


@on_a_gpu
def test_numbers_of_one_row_may_differ_by_twelve_orders_of_magnitude(backend: Any) -> None:
    rng = np.random.default_rng(2)
    weights = make_network(64, 32, 3, "identity", FLOAT).weights(FLOAT)
    x = (rng.standard_normal((5, 64)) * 10.0 ** -rng.integers(0, 13, 64)).astype(FLOAT)
    weights = weights._replace(hidden_bias=np.zeros(32, FLOAT), output_bias=np.zeros(3, FLOAT), prepared={})
    assert relative_error(backend.forward(weights, x, 1), weights, x) <= 16 * UNIT


def attacked(backend: Any, precision: str, norm: str = "l2", boxed: bool = False, k: int = 4, **changes: Any) -> Any:
    problem = make_problem(d=40, m=24, k=k, samples=7, activation="tanh", dtype=FLOAT)
    options = {"steps": 12, "keep_best": True, "precision": precision} | changes
    return problem, run(backend, problem, make_ball(norm, problem.x, boxed=boxed), **options)


@on_a_gpu
@every_norm
@with_and_without_box
@pytest.mark.parametrize("k", [4, WIDE])
def test_fast_mode_claims_what_a_full_evaluation_says(backend: Any, norm: str, boxed: bool, k: int) -> None:
    problem, result = attacked(backend, "fast", norm, boxed, k, random_start="ball", restarts=2)
    for x, output, loss, success in (
        (result.x_adv, result.output, result.loss, result.success),
        (result.x_best, result.x_best_output, result.x_best_loss, result.x_best_success),
    ):
        expected = truth.evaluate(problem, x)
        assert (np.abs(output - expected.output) <= expected.output_error).all()
        assert (np.abs(loss - expected.loss) <= expected.loss_error).all()
        assert_array_equal(output, backend.forward(problem.weights, x, 1))
        assert_array_equal(success, np.argmax(output, axis=1) != problem.objective.labels)
    assert_array_equal(result.best_loss, np.maximum(result.best_loss, result.loss))
    assert (result.best_loss >= result.x_best_loss).all()
    ball = make_ball(norm, problem.x, boxed=boxed)
    moved = result.x_adv.astype(np.float64) - problem.x
    assert (np.linalg.norm(moved, {"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1) <= ball.eps).all()


@on_a_gpu
def test_fast_mode_goes_where_strict_mode_goes(backend: Any) -> None:
    """Half precision of x - x₀, of W and of the signal: some 2⁻¹¹ of each step, along a smooth network."""
    problem, strict = attacked(backend, "strict", direction="normalized")
    _, fast = attacked(backend, "fast", direction="normalized")
    apart = np.linalg.norm(fast.x_adv - strict.x_adv, axis=1)
    steps_taken = 12 * make_ball("l2", problem.x).eps / 3
    assert (apart <= 2.0**-10 * steps_taken).all()
    assert (apart > 0).any(), "nothing was rounded"


@on_a_gpu
def test_a_step_of_fast_mode_from_the_clean_sample_has_its_full_hidden_units(backend: Any) -> None:
    """There x - x₀ is zero: losses of the first iterate are those of strict mode."""
    _, strict = attacked(backend, "strict", trace=True)
    _, fast = attacked(backend, "fast", trace=True)
    assert_array_equal(fast.trace[:, 0, 0], strict.trace[:, 0, 0])


@on_a_gpu
@pytest.mark.parametrize(
    ("changes", "dtype"), [({"early_stop": True}, np.float32), ({}, np.float64)], ids=["early stop", "float64"]
)
def test_nothing_is_rounded_where_that_would_change_a_claim(backend: Any, changes: dict[str, Any], dtype: Any) -> None:
    problem = make_problem(d=20, m=24, samples=7, dtype=dtype)
    ball = make_ball("linf", problem.x)
    strict, fast = (run(backend, problem, ball, precision=mode, **changes) for mode in ("strict", "fast"))
    for name, part in strict._asdict().items():
        if part is not None:
            assert_array_equal(getattr(fast, name), part, err_msg=name)


@pytest.mark.parametrize("backend", [part for part in BACKENDS if str(part.id).startswith(("cpu-", "numba"))])
@pytest.mark.parametrize("dtype", DTYPES)
def test_backends_without_a_fast_mode_take_the_permission_and_do_not_use_it(backend: Any, dtype: Any) -> None:
    problem = make_problem(dtype=dtype)
    ball = make_ball("linf", problem.x)
    strict, fast = (run(backend, problem, ball, precision=mode) for mode in ("strict", "fast"))
    assert_array_equal(fast.x_adv, strict.x_adv)


@on_a_gpu
@pytest.mark.parametrize("samples", [1, 2, 31, 33, 130])
def test_halves_do_not_depend_on_the_rows_beside(backend: Any, samples: int) -> None:
    """More rows than a block of threads multiplies, and fewer."""
    problem = make_problem(d=18, m=20, k=3, samples=130, dtype=FLOAT)
    rows = slice(0, samples)
    part = problem.rows(rows)
    together = backend.input_gradient(problem.weights, problem.x, problem.objective, 1)
    alone = backend.input_gradient(part.weights, part.x, part.objective, 1)
    for of_all, of_part in zip(together, alone):
        assert_array_equal(of_all[rows], of_part)


def test_the_reference_has_no_fast_mode() -> None:
    problem = make_problem(dtype=FLOAT)
    ball = make_ball("l2", problem.x)
    strict, fast = (run(ReferenceBackend(), problem, ball, precision=mode) for mode in ("strict", "fast"))
    assert_array_equal(fast.x_adv, strict.x_adv)
