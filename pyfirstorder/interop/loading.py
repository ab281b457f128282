"""Networks from files of any kind: this library's own, and those of others by the readers of `models`.

It stands here because what reads the files of other libraries is above what a network is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pyfirstorder import checks, hints, network

if TYPE_CHECKING:
    import os

_KINDS = (".npz", ".onnx", ".safetensors")
_ELSEWHERE = {  # what reads the files of other libraries, where this function does not
    **dict.fromkeys(
        (".pt", ".pth", ".bin", ".ckpt"),
        "load it with torch, module.load_state_dict(torch.load(path)), and read that with models.from_torch(module)",
    ),
    **dict.fromkeys(
        (".keras", ".h5"), "load it with keras.saving.load_model(path), and read that with models.from_keras(model)"
    ),
    **dict.fromkeys(
        (".pkl", ".pickle", ".joblib"),
        "load it with what wrote it, and read an estimator with models.from_sklearn(estimator)",
    ),
    ".msgpack": "load it with flax, and read the parameters with models.from_flax(parameters, activation=...)",
}


@hints.knows_other_names
def load_network(path: str | os.PathLike[str], *, activation: str | None = None) -> network.TwoLayerNetwork:
    """Read a network that `TwoLayerNetwork.save` wrote, or one of another library.

    Parameters
    ----------
    path : path
        An .npz file with ``hidden_weight``, ``output_weight``, and optionally ``hidden_bias``, ``output_bias`` and
        ``activation`` (relu if left out); an .onnx file, or a .safetensors file: see `pyfirstorder.interop.models`.
    activation : str, optional
        The activation of a .safetensors file whose metadata names none; of other files it must be the one they name.

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    ImportError
        If the package that reads files of that kind is not installed.
    TypeError, ValueError
        If the file is of another kind or damaged, an array is missing, misspelt or does not fit, or the file names
        another activation; the message names the file.
    OSError
        If the file cannot be opened.

    Warns
    -----
    UserWarning
        If an .npz file holds arrays that are no part of a network.

    Examples
    --------
    >>> import tempfile, pyfirstorder as fo
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fo.random_network(784, 64).save(folder + "/net.npz")
    ...     fo.load_network(folder + "/net.npz")
    TwoLayerNetwork(784 -> 64 softplus(1.0) -> 1, float32)
    """
    if isinstance(path, (bytes, bytearray)) or (not hasattr(path, "__fspath__") and not isinstance(path, str)):
        raise TypeError(f"path: expected a path, got {checks.describe(path)}{hints.for_model(path)}")
    suffix = Path(path).suffix.lower()
    if suffix not in _KINDS:
        instead = f"; {_ELSEWHERE[suffix]}" if suffix in _ELSEWHERE else ""
        raise ValueError(
            f"path: expected a file ending in {', '.join(_KINDS[:-1])} or {_KINDS[-1]}, got {str(path)!r}{instead}"
        )
    if suffix == ".safetensors":
        from pyfirstorder.interop import models

        return models.from_safetensors(path, activation=activation)
    if suffix == ".onnx":
        from pyfirstorder.interop import models

        net = models.from_onnx(path)
    else:
        net = network.load_network(path)
    if activation is not None and network.parse_activation(activation) != network.parse_activation(net.activation):
        raise ValueError(f"activation: expected None, or that of {path}, {net.activation!r}, got {activation!r}")
    return net
