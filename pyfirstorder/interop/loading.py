"""Networks from files of any kind: this library's own, and those of others by the readers of `models`.

It stands here because what reads the files of other libraries is above what a network is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pyfirstorder import network

if TYPE_CHECKING:
    import os


def load_network(path: str | os.PathLike[str]) -> network.TwoLayerNetwork:
    """Read a network that `TwoLayerNetwork.save` wrote, or one of another library.

    Parameters
    ----------
    path : path
        An .npz file with ``hidden_weight``, ``output_weight``, and optionally ``hidden_bias``, ``output_bias`` and
        ``activation`` (relu if left out); an .onnx file, or a .safetensors file whose metadata names the activation:
        see `pyfirstorder.interop.models`.

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    ImportError
        If the package that reads files of that kind is not installed.
    TypeError, ValueError
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
    suffix = Path(path).suffix.lower()
    if suffix not in (".onnx", ".safetensors"):
        return network.load_network(path)
    from pyfirstorder.interop import models

    return models.from_onnx(path) if suffix == ".onnx" else models.from_safetensors(path)
