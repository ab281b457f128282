"""Modes of precision, emulated: what the products of tensor cores lose, against float64, for 784-512 and ε = 8/255.

`precision` states formats, products and budgets.  A budget is the sum of what rounding can do to every term, so it
holds for any data; the hidden values of one attack are then far below it, because roundings differ in sign.  What is
compared between modes is compared on the same data in the same test.

The kernels of a GPU, or the same on fibres, are to be held to the budgets of this emulation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import precision
import pytest
from precision import (
    UNIT,
    accumulate_in_pieces,
    accumulation_budget,
    delta_hidden,
    exact,
    float32_budget,
    magnitude,
    operand_budget,
    product,
    rounded,
    scaled_budget,
    scaled_product,
    split,
    split_budget,
    split_product,
)
from support import CUDA_ON_FIBRES

from pyfirstorder import TwoLayerNetwork

D, M, ROWS, EPS = 784, 512, 24, 8 / 255
RANGES = (1e-6, 1.0, 1e6)  # of W: fp16 begins to lose bits below 6e-5, and ends at 65504


class Hidden(NamedTuple):
    """A first layer, samples in [0, 1] and perturbations inside of the ball."""

    weight: np.ndarray  # (M, D) float32
    x: np.ndarray  # (ROWS, D) float32
    delta: np.ndarray  # (ROWS, D) float32


def hidden(size: float = 1.0, seed: int = 0) -> Hidden:
    rng = np.random.default_rng(seed)
    weight = size * rng.standard_normal((M, D)) / np.sqrt(D)
    x, delta = rng.random((ROWS, D)), EPS * np.clip(1.5 * rng.uniform(-1, 1, (ROWS, D)), -1, 1)
    return Hidden(*(part.astype(np.float32) for part in (weight, x, delta)))


def hold(actual: np.ndarray, expected: np.ndarray, budget: np.ndarray) -> None:
    """Every element within its budget."""
    ratio = np.abs(actual - expected) / budget
    assert np.all(ratio <= 1), f"off by {np.nanmax(ratio):.3g} budgets"


def error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean((actual - expected) ** 2)))


# ------------------------------------------------------------------ formats


@pytest.mark.parametrize("kind", UNIT)
def test_a_format_rounds_to_the_nearest_number_of_its_bits(kind):
    values = np.random.default_rng(0).uniform(1, 2, 4000).astype(np.float32)
    step = 2 * UNIT[kind]  # between neighbours in [1, 2)
    near = rounded(values, kind)
    assert np.all(near / step == np.round(near / step))
    assert np.max(np.abs(near - values)) <= step / 2


def test_two_halves_know_a_number_to_22_bits():
    values = np.random.default_rng(1).uniform(-(2.0**15), 2.0**15, 4000).astype(np.float32)
    high, low = split(values)
    assert np.all(np.abs(high + low / precision.LOW_SHIFT - values) <= UNIT["fp16"] ** 2 * np.abs(values))


def test_truncation_never_rounds_away_from_zero():
    wide = np.random.default_rng(2).standard_normal(4000)
    near = precision.truncated(wide).astype(np.float64)
    assert np.all(np.abs(near) <= np.abs(wide))
    assert np.all(np.abs(near - wide) <= precision.TRUNCATION * np.abs(wide))


def test_additions_of_a_tensor_core_stay_within_their_budget():
    weight, x, _ = hidden()
    a, b = rounded(x, "fp16"), rounded(weight, "fp16")
    hold(precision.accumulate(a, b), exact(a, b), accumulation_budget(a, b))


# ------------------------------------------------------------------ operands rounded once


@pytest.mark.parametrize("kind", UNIT)
def test_rounded_operands_stay_within_two_roundoffs_of_every_term(kind):
    weight, x, _ = hidden()
    true, budget = exact(x, weight), operand_budget(x, weight, kind)
    hold(product(x, weight, kind, add=exact), true, budget)
    hold(product(x, weight, kind), true, budget + accumulation_budget(x, weight))


@pytest.mark.parametrize("kind", UNIT)
def test_the_budget_of_rounded_operands_is_two_roundoffs(kind):
    weight, x, _ = hidden()
    share = np.max(operand_budget(x, weight, kind) / magnitude(x, weight))
    assert 2 * UNIT[kind] < share < 2.02 * UNIT[kind]  # u² and the steps of subnormals are the rest


@pytest.mark.parametrize("size", RANGES)
def test_scaling_keeps_fp16_within_its_budget_whatever_the_range_of_the_weights(size):
    weight, x, _ = hidden(size)
    true, budget = exact(x, weight), scaled_budget(x, weight)
    assert np.max(budget / magnitude(x, weight)) < 2.02 * UNIT["fp16"]
    hold(scaled_product(x, weight, add=exact), true, budget)
    hold(scaled_product(x, weight), true, budget + accumulation_budget(x, weight))


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_fp16_without_scaling_loses_weights_that_do_not_fit(size):
    weight, x, _ = hidden(size)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        off = np.abs(product(x, weight, "fp16", add=exact) - exact(x, weight))
    assert not np.all(off <= 2.02 * UNIT["fp16"] * magnitude(x, weight))


def test_hidden_units_of_different_ranges_are_scaled_each_for_itself():
    weight, x, _ = hidden()
    weight = weight * np.logspace(-6, 6, M, dtype=np.float32)[:, None]
    true = exact(x, weight)
    off = np.abs(scaled_product(x, weight, add=exact) - true)
    assert np.all(off <= 2.02 * UNIT["fp16"] * magnitude(x, weight))
    scale = precision.scale_of(weight)  # one for all
    together = product(x, weight * scale, "fp16", add=exact) / scale
    assert not np.all(np.abs(together - true) <= 2.02 * UNIT["fp16"] * magnitude(x, weight))


@pytest.mark.parametrize("size", RANGES)
def test_the_gradient_s_product_stays_within_its_budget_with_signals_far_apart(size):
    weight = hidden(size).weight
    rng = np.random.default_rng(4)
    signal = (rng.standard_normal((ROWS, M)) * np.logspace(-12, 0, ROWS)[:, None]).astype(np.float32)
    true, budget = exact(signal, weight.T), scaled_budget(signal, weight.T)
    hold(scaled_product(signal, weight.T), true, budget + accumulation_budget(signal, weight.T))


# ------------------------------------------------------------------ fast: the change of H alone


@pytest.mark.parametrize("size", RANGES)
def test_the_delta_form_is_off_by_roundoffs_of_what_moved_alone(size):
    weight, x, delta = hidden(size)
    start, true = exact(x, weight), exact(x, weight) + exact(delta, weight)
    moved = scaled_budget(delta, weight) + accumulation_budget(delta, weight)
    # start, what moved and their sum are float32; delta/eps is divided in float32
    sums = 4 * 2.0**-24 * (np.abs(start) + magnitude(delta, weight))
    hold(delta_hidden(start, delta, EPS, weight), true, moved + sums)


def test_fp16_of_what_moved_is_closer_than_tf32_of_the_whole_by_the_ratio_of_their_lengths():
    weight, x, delta = hidden()
    true = exact(x, weight) + exact(delta, weight)
    fast = error(delta_hidden(exact(x, weight), delta, EPS, weight), true)
    whole = {kind: error(product(x + delta, weight, kind), true) for kind in ("tf32", "bf16")}
    lengths = np.sqrt(np.mean((x + delta) ** 2) / np.mean(delta**2))  # same roundoffs, of shorter rows
    assert whole["tf32"] / fast > 0.8 * lengths
    assert whole["bf16"] / whole["tf32"] == pytest.approx(UNIT["bf16"] / UNIT["tf32"], rel=0.2)


# ------------------------------------------------------------------ strict: the kernels, and two halves


def test_the_hidden_product_of_the_kernels_is_within_the_budget_of_float32():
    """Alone in the logits: the identity as activation and as output weights adds zeros to it."""
    weight, x, _ = hidden()
    weight, x = weight[:40], x[:9]
    net = TwoLayerNetwork(weight, np.eye(len(weight), dtype=np.float32), activation="identity")
    if CUDA_ON_FIBRES is None:
        pytest.skip("the kernels were not built for fibres")
    output = CUDA_ON_FIBRES.forward(net.weights(np.float32), x, 1)
    hold(output, exact(x, weight), float32_budget(x, weight))


@pytest.mark.parametrize("size", RANGES)
def test_split_operands_stay_within_three_quarters_of_two_to_the_minus_twenty(size):
    weight, x, _ = hidden(size)
    true, budget = exact(x, weight), split_budget(x, weight)
    assert np.max(budget / magnitude(x, weight)) < 1.51 * 2.0**-21
    hold(split_product(x, weight, add=exact), true, budget)
    hold(split_product(x, weight), true, budget + 1.01 * accumulation_budget(x, weight))  # and of the mixed products


def float32_chain(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left @ right.T`` by one fused multiply-add after another."""
    total = np.zeros((len(left), len(right)), dtype=np.float32)
    for at in range(left.shape[1]):
        total = (total + np.outer(left[:, at].astype(np.float64), right[:, at])).astype(np.float32)
    return total.astype(np.float64)


def test_split_operands_lose_less_than_a_float32_product():
    weight, x, _ = hidden()
    true = exact(x, weight)
    assert error(split_product(x, weight, add=exact), true) < error(float32_chain(x, weight), true) / 2


def test_split_operands_added_in_pieces_come_as_close_as_a_float32_product():
    weight, x, _ = hidden()
    true = exact(x, weight)
    assert error(split_product(x, weight, add=accumulate_in_pieces), true) <= error(float32_chain(x, weight), true)


def test_split_operands_added_in_one_chain_of_truncations_do_not():
    """Strict products must not be left to the tensor cores' accumulator for their whole depth."""
    weight, x, _ = hidden()
    true = exact(x, weight)
    assert error(split_product(x, weight), true) > 2 * error(float32_chain(x, weight), true)


def test_leaving_out_a_mixed_product_would_break_the_budget_of_split_operands():
    weight, x, _ = hidden()
    high, low = split(weight * precision.scale_of(weight, axis=1))
    one_side = exact(rounded(x, "fp16"), high) + exact(rounded(x, "fp16"), low) / precision.LOW_SHIFT
    one_side /= precision.scale_of(weight, axis=1).T
    assert not np.all(np.abs(one_side - exact(x, weight)) <= split_budget(x, weight))
