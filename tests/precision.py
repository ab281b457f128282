"""The number formats of tensor cores, emulated, and what their products may be off by.

Formats.  An operand is rounded to p bits: |fl(a) - a| <= u |a| with u = 2^-p for what the format holds as a normal
number, and fp16 holds less far from one: at most 65504, and below 2^-14 only multiples of 2^-24.

Products.  Tensor cores multiply exactly and add a few products at a time to a float32 accumulator, truncating (Fasi,
Higham, Mikaitis and Pranesh, *Numerical behavior of NVIDIA tensor cores*, PeerJ CS 2021, sections 3.2 and 3.3).  So
does `accumulate`, in blocks of 8, as the A100; the H100 takes larger blocks and truncates less often.

Budgets are element by element, from unit roundoffs alone: `operand_budget` for the rounding of operands, where the
products are added exactly, and `accumulation_budget` for the additions.  No number in them is fitted to a result.
"""

from __future__ import annotations

import numpy as np

BITS = {"fp16": 11, "tf32": 11, "bf16": 8}  # of the significand, the leading one counted
UNIT = {name: 2.0**-bits for name, bits in BITS.items()}
LARGEST_FP16 = 65504.0
SMALLEST_HALF_STEP = {"fp16": 2.0**-25, "tf32": 2.0**-137, "bf16": 2.0**-134}  # half the distance of subnormals
SCALED_EXPONENT = 15  # numbers are scaled below 2^15: 2^29 times smaller ones are still normal, and twice it still fits
LOW_SHIFT = 2.0**11  # of the low half: what the high half leaves is at most 2^-11 of it
BLOCK = 8  # products that are added at once
TRUNCATION = 2.0**-23  # of the accumulator, at each addition


def rounded(values: np.ndarray, kind: str) -> np.ndarray:
    """The nearest numbers of a format, as float64; infinite where fp16 overflows."""
    if kind == "fp16":
        with np.errstate(over="ignore"):
            return values.astype(np.float32).astype(np.float16).astype(np.float64)
    dropped = 24 - BITS[kind]
    bits = values.astype(np.float32).view(np.uint32)
    half = np.uint32(1 << (dropped - 1))
    nearest = (bits + half) >> np.uint32(dropped) << np.uint32(dropped)  # ties away from zero, as cvt.rna
    return nearest.view(np.float32).astype(np.float64)


def scale_of(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """The power of two that brings the largest magnitude (of each row with ``axis=1``) to [2^14, 2^15)."""
    largest = np.max(np.abs(values), axis=axis, keepdims=axis is not None)
    exponent = np.where(largest > 0, np.frexp(largest)[1], 0)
    return np.ldexp(1.0, SCALED_EXPONENT - exponent)


def exact(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left @ right.T`` in float64, whose own error is 2^-29 of a budget."""
    return left.astype(np.float64) @ right.astype(np.float64).T


def accumulate(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left @ right.T`` as tensor cores add: blocks of exact products, truncated to float32 at each addition."""
    total = np.zeros((len(left), len(right)), dtype=np.float32)
    for at in range(0, left.shape[1], BLOCK):
        wide = total + exact(left[:, at : at + BLOCK], right[:, at : at + BLOCK])
        total = truncated(wide)
    return total.astype(np.float64)


def accumulate_in_pieces(left: np.ndarray, right: np.ndarray, piece: int = 64) -> np.ndarray:
    """The same, a piece of the depth at a time, and the pieces added as float32 adds: rounded to the nearest.

    Truncated sums are all off towards zero, and a chain of them drifts; one of a piece has no time to.
    """
    total = np.zeros((len(left), len(right)), dtype=np.float32)
    for at in range(0, left.shape[1], piece):
        total = total + accumulate(left[:, at : at + piece], right[:, at : at + piece]).astype(np.float32)
    return total.astype(np.float64)


def truncated(wide: np.ndarray) -> np.ndarray:
    """Float32, towards zero."""
    nearest = wide.astype(np.float32)
    beyond = np.abs(nearest.astype(np.float64)) > np.abs(wide)
    return np.where(beyond, np.nextafter(nearest, np.float32(0)), nearest)


def product(left: np.ndarray, right: np.ndarray, kind: str, *, add=accumulate) -> np.ndarray:
    """``left @ right.T`` of operands rounded as they are."""
    return add(rounded(left, kind), rounded(right, kind))


def scaled_product(left: np.ndarray, right: np.ndarray, *, add=accumulate) -> np.ndarray:
    """The same in fp16, with every row of either side scaled by a power of two of its own: exact, and undone after."""
    of_left, of_right = scale_of(left, axis=1), scale_of(right, axis=1)
    return product(left * of_left, right * of_right, "fp16", add=add) / of_left / of_right.T


def split(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two numbers of fp16, high + low / 2^11 = values up to 2^-22 of them."""
    high = rounded(values, "fp16")
    return high, rounded((values.astype(np.float64) - high) * LOW_SHIFT, "fp16")


def split_product(left: np.ndarray, right: np.ndarray, *, add=accumulate) -> np.ndarray:
    """``left @ right.T`` of scaled and split operands: high high + (high low + low high) / 2^11, without low low."""
    of_left, of_right = scale_of(left, axis=1), scale_of(right, axis=1)
    (high, low), (other_high, other_low) = split(left * of_left), split(right * of_right)
    mixed = add(np.concatenate([high, low], axis=1), np.concatenate([other_low, other_high], axis=1))
    return (add(high, other_high) + mixed / LOW_SHIFT) / of_left / of_right.T


def delta_hidden(start: np.ndarray, delta: np.ndarray, eps: float, weight: np.ndarray, *, add=accumulate) -> np.ndarray:
    """``H = H0 + eps * (delta/eps) Wᵀ`` with the product in scaled fp16, and the sum in float32."""
    moved = eps * scaled_product(delta / eps, weight, add=add)
    return (start.astype(np.float32) + moved.astype(np.float32)).astype(np.float64)


# ------------------------------------------------------------------ budgets


def magnitude(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Σ |a| |b| of every element of the product."""
    return exact(np.abs(left), np.abs(right))


def operand_budget(left: np.ndarray, right: np.ndarray, kind: str) -> np.ndarray:
    """Of `product`: both operands are off by u of themselves, or by half a subnormal step.

    Σ (|a| + e_a)(|b| + e_b) - |a||b| with e = u |a| + half a step.
    """
    wide_left, wide_right = ((1 + UNIT[kind]) * np.abs(values) + SMALLEST_HALF_STEP[kind] for values in (left, right))
    return exact(wide_left, wide_right) - magnitude(left, right)


def scaled_budget(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of `scaled_product`: the same of the scaled operands."""
    of_left, of_right = scale_of(left, axis=1), scale_of(right, axis=1)
    return operand_budget(left * of_left, right * of_right, "fp16") / of_left / of_right.T


def split_budget(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of `split_product`: 3 · 2^-22 Σ |a||b| = 1.5 · 2^-21 Σ |a||b|, and half a step of low halves.

    Each side is known to u² = 2^-22, and the product of the low halves, which is left out, is u² of the product again.
    The low half's step is 2^-11 of the high half's, 2^-36 of a number that is at least 2^14 in every row.
    """
    step = SMALLEST_HALF_STEP["fp16"] / LOW_SHIFT
    of_left, of_right = scale_of(left, axis=1), scale_of(right, axis=1)
    a, b = np.abs(left * of_left), np.abs(right * of_right)
    edges = step * (np.sum(a, axis=1, keepdims=True) + np.sum(b, axis=1, keepdims=True).T)
    return 1.5 * 2.0**-21 * magnitude(left, right) * (1 + 2.0**-10) + 2 * edges / of_left / of_right.T


def float32_budget(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of a chain of float32 multiply-adds in any order: 2^-24 of Σ |a||b| an addition, to first order."""
    depth = left.shape[1] + 1  # a start value is added, too
    return 1.01 * depth * 2.0**-24 * magnitude(left, right)


def accumulation_budget(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of `accumulate`: every addition truncates a partial sum, which is at most Σ |a||b| (here with 1% to spare).

    The operands were rounded before, by at most 2^-8 of themselves each, which the spare covers.
    """
    additions = -(-left.shape[1] // BLOCK)
    return 1.01 * additions * TRUNCATION * magnitude(left, right)
