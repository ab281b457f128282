"""Whether a network computes what the model that it was read from computes: both are run on the same random samples.

A reader knows layers by their kind, but not what a model does with them: one layer applied twice, a branch, a hook.  So
wherever the model itself can be run, it has the last word.

The allowed difference is a share of what rounding can come to, ``|A| (|W||x| + |b|) + |c|``.  The samples are scaled so
that hidden units are about 2 in size, where activations differ: gelu and its tanh form are told apart in float32, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder.api import forward
from pyfirstorder.interop.layers import Layer, Nothing, Softmax, is_probabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

ROWS = 16
# float64: torch's softplus is the identity above its threshold, which is off by 2e-9
_SHARES = {np.dtype(np.float32): 8 * 2.0**-24, np.dtype(np.float64): 1e-8}


def samples(net: TwoLayerNetwork, rows: int = ROWS) -> Array:
    """Random samples (rows, d) in the network's type."""
    x = np.random.default_rng(0).standard_normal((rows, net.in_features))
    size = np.sqrt(np.mean(np.square(x @ net.hidden_weight.T.astype(np.float64))))
    return (x * (2 / size if size > 0 else 1.0)).astype(net.dtype)


def error(net: TwoLayerNetwork, x: Array, theirs: Any, dropped: Layer | None = None) -> str | None:
    """How their outputs differ from those of the network; None where they agree."""
    theirs = np.asarray(theirs)
    share = max(_SHARES[net.dtype], _SHARES.get(theirs.dtype, 0.0))  # a model may compute in a type of its own
    theirs = theirs.astype(np.float64)
    if theirs.size != len(x) * net.out_features:
        return f"it has outputs of shape {theirs.shape} for {len(x)} random samples"
    weights = net.weights(net.dtype)
    w, b, a, c = (
        np.abs(part.astype(np.float64))
        for part in (weights.hidden_weight, weights.hidden_bias, weights.output_weight, weights.output_bias)
    )
    allowed = share * ((np.abs(x.astype(np.float64)) @ w.T + b) @ a.T + c)
    ours = forward(net, x).reshape(len(x), -1).astype(np.float64)
    if dropped is not None:  # no function of these more than doubles the largest difference of a row
        ours = _probabilities(ours, dropped)
        allowed = 2 * allowed.max(axis=1, keepdims=True) + share * (1 + np.abs(ours))
    difference = np.abs(ours - theirs.reshape(ours.shape))
    if (difference <= allowed).all():
        return None
    return f"its outputs on random samples differ by up to {difference.max():.3g}"


def require(
    name: str, layers: Sequence[Layer], net: TwoLayerNetwork, run: Callable[[Array], Any], rows: int | None = None
) -> None:
    """Refuse a model that computes something else than the network read from its layers."""
    x = samples(net, rows or ROWS)
    said = error(net, x, run(x), dropped_of(layers))
    if said is not None:
        raise ValueError(
            f"{name}: expected it to compute A σ(W x + b) + c of its layers, with {net.activation}, but {said}"
        )


def dropped_of(layers: Sequence[Layer]) -> Layer | None:
    """The layer at the end that makes probabilities of logits, if there is one."""
    end = [layer for layer in layers if not isinstance(layer, Nothing)][-1]
    return end if is_probabilities(end) else None


def _probabilities(logits: Array, layer: Layer) -> Array:
    if not isinstance(layer, Softmax):
        return 0.5 + 0.5 * np.tanh(logits / 2)  # the sigmoid
    shifted = logits - logits.max(axis=1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms if layer.logarithm else np.exp(logarithms)
