"""Whether a network computes what the model that it was read from computes: both are run on the same random samples.

A reader knows layers by their kind, but not what a model does with them: one layer applied twice, a branch, a hook.  So
wherever the model itself can be run, it has the last word.

The allowed difference is a share of what rounding can come to, ``|A| (|W||x| + |b|) max(1, |σ'|) + |c|``.  The samples
are scaled so that hidden units are about 2 in size, where activations differ: gelu and its tanh form are told apart in
float32, too; and again to 10, 100 and 1000 times that, where bounds and biases show: relu6 is no relu.  Smaller ones
would meet little but the rounding of what a normalisation subtracts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder.api import forward
from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.interop.layers import Layer, Nothing, Softmax, is_probabilities
from pyfirstorder.network import parse_activation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

ROWS = 16  # at each of the scales
_SCALES = (1, 10, 100, 1000)
_SIZE = 2.0  # of hidden units at scale 1
# float64: torch's softplus is the identity above its threshold, which is off by 2e-9
_SHARES = {np.dtype(np.float32): 8 * 2.0**-24, np.dtype(np.float64): 1e-8}


def samples(net: TwoLayerNetwork, rows: int = ROWS) -> Array:
    """Random samples in the network's type, rows of them at each scale."""
    x = np.random.default_rng(0).standard_normal((rows, net.in_features))
    size = np.sqrt(np.mean(np.square(x @ net.hidden_weight.T.astype(np.float64))))
    x = x * (_SIZE / size if size > 0 else 1.0)
    return np.concatenate([scale * x for scale in _SCALES]).astype(net.dtype)


def error(net: TwoLayerNetwork, x: Array, theirs: Any, dropped: Layer | None = None) -> str | None:
    """How their outputs differ from those of the network; None where they agree."""
    theirs = np.asarray(theirs)
    share = max(_SHARES[net.dtype], _SHARES.get(theirs.dtype, 0.0))  # a model may compute in a type of its own
    theirs = theirs.astype(np.float64)
    if theirs.size != len(x) * net.out_features:
        return f"it has outputs of shape {theirs.shape} for {len(x)} random samples"
    reach, hidden = _reach(net, x)
    allowed = share * reach
    ours = forward(net, x).reshape(len(x), -1).astype(np.float64)
    if dropped is not None:  # no function of these more than doubles the largest difference of a row
        ours = _probabilities(ours, dropped)
        allowed = 2 * allowed.max(axis=1, keepdims=True) + share * (1 + np.abs(ours))
    theirs = theirs.reshape(ours.shape)
    is_finite = np.isfinite(theirs)
    if not is_finite.any():
        return "it has no finite outputs on random samples"
    difference = np.abs(ours - theirs)
    # log(1 + exp(h)) overflows in the model itself: that tells nothing, but where hidden units are of the usual size
    agrees = np.where(is_finite, difference <= allowed, hidden > 4 * _SIZE)
    return None if agrees.all() else f"its outputs on random samples differ by up to {difference[~agrees].max():.3g}"


def _reach(net: TwoLayerNetwork, x: Array) -> tuple[Array, Array]:
    """What rounding is a share of, for each output, and the largest hidden unit of each sample."""
    weights = net.weights(net.dtype)
    w, b, a, c = (
        part.astype(np.float64)
        for part in (weights.hidden_weight, weights.hidden_bias, weights.output_weight, weights.output_bias)
    )
    x = x.astype(np.float64)
    name, parameter = parse_activation(net.activation)
    h = x @ w.T + b
    slope = np.abs(ACTIVATIONS[name].derivative(h, parameter))
    size = np.abs(x) @ np.abs(w).T + np.abs(b)
    reach = (size * np.maximum(slope, 1)) @ np.abs(a).T + np.abs(c)
    return reach, np.abs(h).max(axis=1, keepdims=True)


def require(
    name: str, layers: Sequence[Layer], net: TwoLayerNetwork, run: Callable[[Array], Any], rows: int | None = None
) -> None:
    """Refuse a model that computes something else than the network read from its layers."""
    x = samples(net, rows or ROWS)
    theirs = np.stack([np.asarray(run(part)) for part in np.split(x, len(_SCALES))])
    said = error(net, x, theirs, dropped_of(layers))
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
