"""Random starts from a counter-based generator: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers").

A number depends only on (seed, restart, sample index, coordinate), so a start is the same whatever the batch, its
split, the thread or the backend.  Key: the 64-bit seed.  Counter words: (block, sample low, sample high, restart); one
block holds two 64-bit words, those of coordinates 2 * block and 2 * block + 1, and the last block belongs to the sample
as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder.backends.reference.projections import (
    below,
    box_room,
    linf_limits,
    place,
    radii,
    scale_of,
    towards_zero,
    wide,
)

if TYPE_CHECKING:
    from pyfirstorder.problem import Array, Ball

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW = np.uint64(0xFFFFFFFF)
THIRTY_TWO = np.uint64(32)
SAMPLE_BLOCK = 0xFFFFFFFF  # the words of the sample as a whole: radius or face, and the Dirichlet remainder


def words(seed: int, restart: int, samples: Array, blocks: Array) -> Array:
    """The two 64-bit words of each (sample, block): shape (samples, blocks, 2)."""
    shape = (len(samples), len(blocks))
    index = samples.astype(np.uint64)[:, None]
    counter = [
        np.broadcast_to(blocks.astype(np.uint64), shape),
        np.broadcast_to(index & LOW, shape),
        np.broadcast_to(index >> THIRTY_TWO, shape),
        np.full_like(samples, restart, dtype=np.uint64, shape=shape),
    ]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(ROUNDS):
        left, right = counter[0] * MULTIPLIERS[0], counter[2] * MULTIPLIERS[1]
        counter = [
            (right >> THIRTY_TWO) ^ counter[1] ^ np.uint64(key[0]),
            right & LOW,
            (left >> THIRTY_TWO) ^ counter[3] ^ np.uint64(key[1]),
            left & LOW,
        ]
        key = [(key[0] + WEYL[0]) & 0xFFFFFFFF, (key[1] + WEYL[1]) & 0xFFFFFFFF]
    return np.stack([(counter[1] << THIRTY_TWO) | counter[0], (counter[3] << THIRTY_TWO) | counter[2]], axis=-1)


def uniform(word: Array) -> Array:
    """The top 52 bits as a number of the open interval (0, 1): with one more, the largest would round to 1."""
    return ((word >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def random_sign(word: Array) -> Array:
    """+1 or -1 by the lowest bit, which ``uniform`` does not use."""
    return 1.0 - 2.0 * (word & np.uint64(1)).astype(np.float64)


def unit_ball(norm: str, on_sphere: bool, seed: int, restart: int, samples: Array, features: int) -> Array:
    """Uniform points (float64) of the unit ball or its boundary, one row per sample index.

    ℓ∞: uniform coordinates, and one of them at ±1 for the boundary; ℓ2: a normal direction (Box & Muller 1958) times
    U^(1/d); ℓ1: exponentials with random signs over their sum, one extra exponential taking the Dirichlet remainder.
    """
    blocks = np.arange((features + 1) // 2, dtype=np.uint64, like=samples)
    word = words(seed, restart, samples, blocks)
    whole = words(seed, restart, samples, np.full_like(samples, SAMPLE_BLOCK, dtype=np.uint64, shape=1))[:, 0, 0]
    flat = word.reshape(len(samples), 2 * len(blocks))[:, :features]
    if norm == "linf":
        point = 2.0 * uniform(flat) - 1.0
        if on_sphere:
            face = np.floor(uniform(whole) * features).astype(np.int64)
            point[np.arange(len(samples), like=samples), face] = random_sign(whole)
        return point
    if norm == "l2":
        angle = 2.0 * np.pi * uniform(word[..., 1])
        length = np.sqrt(-2.0 * np.log(uniform(word[..., 0])))
        normals = np.stack([length * np.cos(angle), length * np.sin(angle)], axis=-1)
        normals = normals.reshape(len(samples), 2 * len(blocks))[:, :features]
        point = normals / np.sqrt(np.sum(normals * normals, axis=1, keepdims=True))
        return point if on_sphere else point * (uniform(whole) ** (1.0 / features))[:, None]
    exponentials = -np.log(uniform(flat))
    remainder = 0.0 if on_sphere else -np.log(uniform(whole))
    return random_sign(flat) * exponentials / (np.sum(exponentials, axis=1) + remainder)[:, None]


def random_start(x0: Array, samples: Array, ball: Ball, on_sphere: bool, seed: int, restart: int) -> Array:
    """Points drawn uniformly from the ball (or its boundary) around each x0, clipped to the box."""
    point = unit_ball(ball.norm, on_sphere, seed, restart, samples, x0.shape[1])
    if ball.norm == "linf":
        step = point * below(ball.eps, x0.dtype)[:, None].astype(np.float64)
        return np.clip((x0 + step).astype(x0.dtype), *linf_limits(x0, ball))
    scale = scale_of(ball.eps)
    target = radii((ball.eps * scale).astype(wide(x0)), ball.norm, x0.dtype, x0.shape[1]).target
    step = towards_zero(point * target[:, None], x0.dtype, scale[:, None])
    return place(x0, np.clip(step, *box_room(x0, ball)), ball)
