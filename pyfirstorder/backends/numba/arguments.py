"""The problem as the compiled code takes it: named tuples of arrays and numbers, the same types in every call.

A type of its own for an absent array would double the compilations, so absent arrays are empty and a flag says so;
inputs are passed as read-only views, whether or not the caller could write to them; names become positions in tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder.backends.numba.activations import ACTIVATIONS
from pyfirstorder.backends.numba.directions import DIRECTIONS
from pyfirstorder.backends.numba.losses import LOSSES
from pyfirstorder.problem import NORMS, STARTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyfirstorder.problem import Array, AttackOptions, Ball, Objective, Weights


class NetworkArrays(NamedTuple):
    """The weights, each in the order in which a product reads it row by row."""

    inputs_to_hidden: Array  # Wᵀ (d, m)
    hidden_bias: Array  # b (m,)
    hidden_to_outputs: Array  # Aᵀ (m, k)
    output_bias: Array  # c (k,)
    outputs_to_hidden: Array  # A (k, m)
    hidden_to_inputs: Array  # W (m, d)
    activation: int
    parameter: float


class Network(NamedTuple):
    """What the compiled code takes, and the shape for Python."""

    arrays: NetworkArrays
    shape: tuple[int, int, int]  # (d, m, k)


class Targets(NamedTuple):
    """The objective."""

    loss: int
    negated: bool  # a targeted loss that is minimised
    targeted: bool
    has_labels: bool
    has_signs: bool  # logistic
    has_sources: bool
    labels: Array  # int64 (B,)
    values: Array  # T (B, k)
    sources: Array  # int64 (B,)


class BallArrays(NamedTuple):
    """Ball and box; the shares give the radii that rounding cannot carry past eps."""

    norm: int
    accept_share: float
    target_share: float
    has_box: bool
    lower: Array  # T (d,)
    upper: Array  # T (d,)


class Plan(NamedTuple):
    """The options of an attack."""

    apgd: bool
    steps: int
    direction: int
    raw_gradient: bool  # whether the direction keeps the scale of the gradient
    sparse_count: int
    momentum: float
    start: int  # of STARTS
    seed: Any  # np.uint64
    sample_offset: int
    early_stop: bool
    keep_best: bool
    trace: bool
    rho: float
    retire: bool  # asked for, and the step rule has no memory
    keep_iterates: bool


def frozen(array: Array) -> Array:
    """A read-only view."""
    view = array.view()
    view.flags.writeable = False
    return view


def position(name: str, table: Iterable[str]) -> int:
    """Where the name stands in an ordered table."""
    return list(table).index(name)


def network_arrays(weights: Weights) -> Network:
    """The weights in both orders, made once per network and type."""
    if "numba" not in weights.prepared:
        weights.prepared["numba"] = _network_arrays(weights)
    network: Network = weights.prepared["numba"]
    return network


def _network_arrays(weights: Weights) -> Network:
    hidden, features = weights.hidden_weight.shape
    arrays = NetworkArrays(
        frozen(np.ascontiguousarray(weights.hidden_weight.T)),
        frozen(weights.hidden_bias),
        frozen(np.ascontiguousarray(weights.output_weight.T)),
        frozen(weights.output_bias),
        frozen(weights.output_weight),
        frozen(weights.hidden_weight),
        position(weights.activation, ACTIVATIONS),
        float(weights.parameter),
    )
    return Network(arrays, (features, hidden, len(weights.output_bias)))


def targets(objective: Objective, dtype: np.dtype[Any]) -> Targets:
    """The objective with empty arrays for what it lacks."""
    targeted_dlr = objective.targeted and objective.loss == "dlr"
    no_labels = np.zeros(0, dtype=np.int64)
    return Targets(
        position("targeted dlr" if targeted_dlr else objective.loss, LOSSES),
        objective.targeted and not targeted_dlr,
        objective.targeted,
        objective.labels is not None,
        objective.loss == "logistic",
        objective.sources is not None,
        frozen(no_labels if objective.labels is None else objective.labels),
        frozen(np.zeros((0, 1), dtype=dtype) if objective.values is None else objective.values),
        frozen(no_labels if objective.sources is None else objective.sources),
    )


def ball_arrays(ball: Ball, features: int, dtype: np.dtype[Any]) -> BallArrays:
    """Ball and box with the shares of ``radii`` in the reference, where they are explained."""
    terms = 2 if ball.norm == "l1" else 1
    if dtype == np.float32:
        unit = 2.0**-24
        share = (8 + int(np.ceil(np.log2(features)))) * unit * terms
    else:
        unit = 2.0**-53
        share = (16 + features) * unit * terms
    nowhere = np.zeros(0, dtype=dtype)
    return BallArrays(
        position(ball.norm, NORMS),
        share,
        4 * unit + (16 + features) * 2.0**-52,
        ball.lower is not None,
        frozen(nowhere if ball.lower is None else ball.lower),
        frozen(nowhere if ball.upper is None else ball.upper),
    )


def plan(options: AttackOptions) -> Plan:
    """The options that the compiled loop reads."""
    has_memory = options.algorithm == "apgd" or options.momentum != 0
    return Plan(
        options.algorithm == "apgd",
        int(options.steps),
        position(options.direction, DIRECTIONS),
        options.direction == "gradient",
        int(options.sparse_count),
        float(options.momentum),
        position(options.random_start, STARTS),
        np.uint64(options.seed),
        int(options.sample_offset),
        bool(options.early_stop),
        bool(options.keep_best),
        bool(options.trace),
        float(options.rho),
        bool(options.retire and not has_memory),
        bool(options.keep_iterates),
    )
