"""The two-layer network ``f(x) = A σ(W x + b) + c``: its weights, its file format and the paper's random one."""

from __future__ import annotations

import difflib
import math
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder import checks, files, hints
from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.problem import Array, Weights

if TYPE_CHECKING:
    import os
    from collections.abc import Collection

    from numpy.typing import ArrayLike, DTypeLike

_ACTIVATION = re.compile(r"(?P<name>\w+)(\((?P<parameter>[^()]+)\))?")
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_NEEDED, _OPTIONAL = ("hidden_weight", "output_weight"), ("hidden_bias", "output_bias", "activation")  # of its file
_ALIKE = 0.8  # of difflib's ratio: two spellings of a name
_MOST_FEATURES = 2**31 - 1


def parse_activation(text: str) -> tuple[str, float]:
    """Name and parameter of ``"relu"``, ``"leaky_relu(0.2)"``, …"""
    if not isinstance(text, str):
        raise TypeError(f"activation: expected a name such as 'relu', got {type(text).__name__}")
    match = _ACTIVATION.fullmatch(text.replace(" ", ""))
    name = match["name"] if match else text
    if match is None or name not in ACTIVATIONS:
        meant = hints.did_you_mean(name, ACTIVATIONS)
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {text!r}{meant}")
    default = ACTIVATIONS[name].default_parameter
    if match["parameter"] is None:
        return name, 0.0 if default is None else default
    if default is None:
        raise ValueError(f"activation: {name} has no parameter, got {text!r}")
    try:
        parameter = float(match["parameter"])
    except ValueError:
        parameter = math.nan
    if not math.isfinite(parameter) or (name == "softplus" and parameter <= 0):
        raise ValueError(f"activation: expected a finite parameter (beta of softplus above 0), got {text!r}")
    return name, parameter


class TwoLayerNetwork:
    """A two-layer network ``f(x) = A σ(W x + b) + c``.

    Parameters
    ----------
    hidden_weight : array (m, d)
        W, float32 or float64.
    output_weight : array (k, m) or (m,)
        A.  With (m,) the network has one output and `pyfirstorder.forward` returns shape (B,) instead of (B, 1).
    hidden_bias : array (m,), optional
        b, zero if left out.
    output_bias : array (k,) or scalar, optional
        c, zero if left out.
    activation : str
        One of relu, leaky_relu, elu, softplus, sigmoid, tanh, erf, gelu, gelu_tanh, silu, quadratic and identity.  A
        parameter goes in brackets: ``"leaky_relu(0.2)"`` (slope), ``"elu(1.0)"`` (alpha), ``"softplus(10)"`` (beta).

    Raises
    ------
    TypeError
        If an array is not float32 or float64.
    ValueError
        If shapes do not fit, a weight is NaN or infinite, or the activation is unknown.

    Notes
    -----
    The weights are copied and cannot be changed afterwards: make a new network from new weights.  A computation runs in
    the floating type of its input ``x``, to which the weights are converted once.

    Examples
    --------
    >>> import numpy as np, pyfirstorder as fo
    >>> net = fo.TwoLayerNetwork(np.eye(3, 2), np.ones((4, 3)), activation="leaky_relu(0.2)")
    >>> net
    TwoLayerNetwork(2 -> 3 leaky_relu(0.2) -> 4, float64)
    """

    @hints.knows_other_names
    def __init__(
        self,
        hidden_weight: ArrayLike,
        output_weight: ArrayLike,
        hidden_bias: ArrayLike | None = None,
        output_bias: ArrayLike | None = None,
        activation: str = "relu",
    ) -> None:
        w = _weight("hidden_weight", hidden_weight)
        a = _weight("output_weight", output_weight)
        if w.ndim != 2:
            raise ValueError(f"hidden_weight: expected shape (hidden, features), got {w.shape}")
        self._scalar_output = a.ndim == 1
        if a.ndim not in (1, 2) or a.shape[-1] != w.shape[0]:
            raise ValueError(
                f"output_weight: expected shape (outputs, {w.shape[0]}) or ({w.shape[0]},) to follow hidden_weight "
                f"{w.shape}, got {a.shape}{_transposed(w, a)}"
            )
        if min(w.shape) == 0 or a.size == 0:
            raise ValueError(f"weights: expected no empty dimension, got hidden {w.shape} and output {a.shape}")
        self._dtype = np.result_type(w, a)
        self._activation, self._parameter = parse_activation(activation)
        a = a.reshape(-1, w.shape[0])
        b = np.zeros(len(w), self._dtype) if hidden_bias is None else _weight("hidden_bias", hidden_bias)
        c = np.zeros(len(a), self._dtype) if output_bias is None else np.atleast_1d(_weight("output_bias", output_bias))
        for name, bias, expected in (("hidden_bias", b, len(w)), ("output_bias", c, len(a))):
            if bias.shape != (expected,):
                raise ValueError(f"{name}: expected shape ({expected},), got {bias.shape}")
        self._weights: dict[np.dtype[Any], Weights] = {}
        self._sources = tuple(_frozen(array, self._dtype) for array in (w, b, a, c))

    @property
    def in_features(self) -> int:
        """d, the coordinates of an input."""
        return int(self._sources[0].shape[1])

    @property
    def hidden_features(self) -> int:
        """m, the hidden units."""
        return int(self._sources[0].shape[0])

    @property
    def out_features(self) -> int:
        """k, the outputs."""
        return int(self._sources[2].shape[0])

    @property
    def scalar_output(self) -> bool:
        """Whether outputs have shape (B,): the network was made with an output_weight of shape (m,)."""
        return self._scalar_output

    @property
    def hidden_weight(self) -> Array:
        """W (m, d), read-only."""
        return self._sources[0].view()

    @property
    def hidden_bias(self) -> Array:
        """B (m,), read-only."""
        return self._sources[1].view()

    @property
    def output_weight(self) -> Array:
        """A, (k, m) or (m,) as it was given, read-only."""
        return self._sources[2][0] if self._scalar_output else self._sources[2].view()

    @property
    def output_bias(self) -> Array:
        """C (k,), read-only."""
        return self._sources[3].view()

    @property
    def activation(self) -> str:
        """The activation, with its parameter where it has one."""
        has_parameter = ACTIVATIONS[self._activation].default_parameter is not None
        return f"{self._activation}({self._parameter!r})" if has_parameter else self._activation

    @property
    def dtype(self) -> np.dtype[Any]:
        """The floating type of the weights."""
        return self._dtype

    def weights(self, dtype: DTypeLike) -> Weights:
        """The weights in a floating type, for backends; converted once."""
        dtype = np.dtype(dtype)
        if dtype not in self._weights:
            sources = self._sources
            w, b, a, c = sources if dtype == self._dtype else (_frozen(array, dtype) for array in sources)
            if not all(checks.all_finite(array) for array in (w, b, a, c)):
                raise ValueError(f"network: its {self._dtype} weights overflow {dtype}; use {self._dtype} inputs")
            made = Weights(w, b, a, c, self._activation, self._parameter, {})
            self._weights.setdefault(dtype, made)  # another thread may have been sooner
        return self._weights[dtype]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to an .npz file, for `load_network`.

        The file appears when it is complete: where writing fails, one that was there before stays whole.

        Raises
        ------
        ValueError
            If the path does not end in .npz.
        OSError
            If the file cannot be written.
        """
        _require_npz(path)
        files.write_npz(path, arrays_of(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """What was given, without what backends prepared from it: that is made anew where it is needed."""
        weights = (self.hidden_weight, self.output_weight, self.hidden_bias, self.output_bias)
        return type(self), (*weights, self.activation)

    def __repr__(self) -> str:
        return (
            f"TwoLayerNetwork({self.in_features} -> {self.hidden_features} {self.activation} -> {self.out_features}, "
            f"{self._dtype})"
        )


def arrays_of(net: TwoLayerNetwork) -> dict[str, Any]:
    """What its file holds."""
    return {
        "hidden_weight": net.hidden_weight,
        "hidden_bias": net.hidden_bias,
        "output_weight": net.output_weight,
        "output_bias": net.output_bias,
        "activation": np.array(net.activation),
    }


def load_network(path: str | os.PathLike[str]) -> TwoLayerNetwork:
    """Read a network that `TwoLayerNetwork.save` wrote.

    Parameters
    ----------
    path : path
        An .npz file with ``hidden_weight``, ``output_weight``, and optionally ``hidden_bias``, ``output_bias`` and
        ``activation`` (relu if left out).

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    ValueError
        If the file is of another kind or damaged, or an array is missing or does not fit; the message names the file.
    OSError
        If the file cannot be opened.

    Examples
    --------
    >>> import tempfile, pyfirstorder as fo
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fo.random_network(784, 64).save(folder + "/net.npz")
    ...     fo.load_network(folder + "/net.npz")
    TwoLayerNetwork(784 -> 64 softplus(1.0) -> 1, float32)
    """
    _require_npz(path)
    parts = files.read_npz(path, _NEEDED, _OPTIONAL)
    _require_known(path, parts)
    activation = str(parts.pop("activation", "relu"))
    try:
        return TwoLayerNetwork(**parts, activation=activation)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


@hints.knows_other_names
def random_network(
    in_features: int,
    hidden_features: int,
    activation: str = "softplus",
    seed: int = 0,
    dtype: DTypeLike = np.float32,
) -> TwoLayerNetwork:
    """The paper's random network: ``W ~ N(0, 1)``, ``a`` uniform on {-1, +1}, ``A = a / sqrt(m)``, no biases.

    Parameters
    ----------
    in_features, hidden_features : int
        d and m.
    activation : str
        See `TwoLayerNetwork`.
    seed : int
        Seed of NumPy's default generator, which is not shared with anyone.
    dtype : float32 or float64
        Floating type of the weights.

    Returns
    -------
    TwoLayerNetwork
        With one output, of shape (B,).

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value; the message names it.

    References
    ----------
    Deng, He, Huang, Su, "Towards Understanding the Dynamics of the First-Order Adversaries", arXiv 2010.10650.

    Examples
    --------
    >>> import pyfirstorder as fo
    >>> fo.random_network(784, 1024)
    TwoLayerNetwork(784 -> 1024 softplus(1.0) -> 1, float32)
    """
    in_features = checks.integer("in_features", in_features, 1, _MOST_FEATURES)
    hidden_features = checks.integer("hidden_features", hidden_features, 1, _MOST_FEATURES)
    parse_activation(activation)
    generator = np.random.default_rng(checks.integer("seed", seed, 0, 2**64 - 1))
    kind = checks.float_type("dtype", dtype)
    if kind.newbyteorder("=") not in _FLOATS:
        raise TypeError(f"dtype: expected float32 or float64, got {kind}")
    w = generator.standard_normal((hidden_features, in_features)).astype(dtype)
    signs = generator.integers(0, 2, hidden_features) * 2 - 1
    return TwoLayerNetwork(w, (signs / math.sqrt(hidden_features)).astype(dtype), activation=activation)


def _transposed(w: Array, a: Array) -> str:
    """A hint for shapes that would follow each other if one or both were turned around."""
    parts = {
        "hidden_weight.T and output_weight.T": (w.T, a.T),
        "hidden_weight.T": (w.T, a),
        "output_weight.T": (w, a.T),
    }
    fits = [name for name, (w, a) in parts.items() if a.ndim in (1, 2) and a.shape[-1] == w.shape[0]]
    return f"; did you mean {' or '.join(fits)}?" if fits else ""


def _weight(name: str, value: ArrayLike) -> Array:
    array = checks.array(name, value)
    if array.dtype.newbyteorder("=") not in _FLOATS:
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}")
    try:
        np.empty(array.shape, array.dtype)  # as the copy will be: a huge view is refused before it is read for hours
    except MemoryError as error:
        raise checks.out_of_memory(name, error) from None
    if not checks.all_finite(array):
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    return array


def _frozen(array: Array, dtype: np.dtype[Any]) -> Array:
    """A copy whose memory is a bytes object, so that nobody can make it writable."""
    with np.errstate(over="ignore"):
        converted = array.astype(dtype, copy=False)
    return np.frombuffer(converted.tobytes(), dtype).reshape(array.shape)


def _require_known(path: str | os.PathLike[str], read: Collection[str]) -> None:
    """Refuse arrays that are misspelt, and warn of those that mean nothing here; the file may say who wrote it."""
    names = files.names_of_npz(path)
    if {files.JOB, "generator"} <= set(names) and "activation" not in names:
        raise ValueError(f"{path}: expected a network, got the checkpoint of a training, from which train goes on")
    others = [name for name in names if name not in read and name != files.JOB]
    for name in others:
        meant = hints.argument_meant(name, {*_NEEDED, *_OPTIONAL} - {*read})
        if meant is not None and _could_be(meant, name, path):
            raise ValueError(f"{path}: a network has no array {name}; did you mean {meant}?")
    if others:
        warnings.warn(f"{path}: not read, being no part of a network: {', '.join(others)}", stacklevel=5)


def _could_be(part: str, name: str, path: str | os.PathLike[str]) -> bool:
    """Whether an array is that part under another name: spelled much like it, or a name or a vector as it is."""
    if difflib.SequenceMatcher(None, name.lower(), part).ratio() >= _ALIKE:
        return True
    array = files.read_npz(path, (name,))[name]
    return array.dtype.kind == "U" if part == "activation" else array.ndim == 1


def _require_npz(path: str | os.PathLike[str]) -> None:
    if Path(path).suffix != ".npz":
        raise ValueError(f"path: expected a file ending in .npz, got {str(path)!r}")
