"""Networks of weights that may change between calls: the one made before, as long as the numbers are the same.

A network keeps what the engine prepared from its weights.  Weights that live in another library are compared with those
of the last networks number by number (0.1 ms for 784-512-10): no version counter sees all the ways to write to them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pyfirstorder.network import TwoLayerNetwork

_MOST_KEPT = 8

# The one that was wanted last at the end.  It is read as a whole and written as a whole, without a lock, which a fork
# could leave locked: where two threads write at once, one network is forgotten.
_kept: list[tuple[str, TwoLayerNetwork]] = []


class Parts(NamedTuple):
    """The weights of a network, of whatever library: (m, d), (m,), (k, m) or (m,), (k,); biases may be None."""

    hidden_weight: Any
    hidden_bias: Any
    output_weight: Any
    output_bias: Any


def network(parts: Parts, activation: str) -> TwoLayerNetwork:
    """The network with these weights; one made before, with what was prepared for it, if it has the same numbers."""
    for entry in reversed(_kept.copy()):
        if entry[0] == activation and _is_made_of(entry[1], parts):
            break
    else:
        net = TwoLayerNetwork(
            parts.hidden_weight, parts.output_weight, parts.hidden_bias, parts.output_bias, activation
        )
        entry = activation, net
    _kept[:] = [*(one for one in _kept.copy() if one[1] is not entry[1]), entry][-_MOST_KEPT:]
    return entry[1]


def same(net: TwoLayerNetwork) -> TwoLayerNetwork:
    """The network made before that has the weights of this one, or this one."""
    weight = net.output_weight[0] if net.scalar_output else net.output_weight
    return network(Parts(net.hidden_weight, net.hidden_bias, weight, net.output_bias), net.activation)


def _is_made_of(net: TwoLayerNetwork, parts: Parts) -> bool:
    if net.dtype != np.result_type(parts.hidden_weight, parts.output_weight):
        return False
    for name in ("hidden_bias", "output_bias", "output_weight", "hidden_weight"):  # what is small first
        own, part = getattr(net, name), getattr(parts, name)
        if own.any() if part is None else not np.array_equal(own, np.atleast_1d(part)):
            return False
    return net.scalar_output == (np.ndim(parts.output_weight) == 1)
