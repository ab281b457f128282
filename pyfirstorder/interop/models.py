"""Models of other libraries as two-layer networks: a reader lists the model's layers, `layers.assemble` does the rest.

A model that is not a two-layer network is refused with the layer that does not fit, and one that can be run is compared
with what was read of it (`agreement`).  Weights are copied, in float32 or float64 as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyfirstorder.interop import trees
from pyfirstorder.interop.layers import Activation, Layer, assemble, normalized, sample_shape, with_scalar_output

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from pyfirstorder.network import TwoLayerNetwork

__all__ = ["from_flax", "from_keras", "from_onnx", "from_safetensors", "from_sklearn", "from_torch", "normalized"]


def from_torch(
    module: Any, *, activation: str | None = None, shape: tuple[int, ...] | None = None, drop_softmax: bool = False
) -> TwoLayerNetwork:
    """The network of a torch module.

    Parameters
    ----------
    module : torch.nn.Module
        A Sequential (nested, too) of two Linear with an activation between them; Flatten, Identity, Dropout in
        evaluation mode, batch normalisation in evaluation mode, and modules with ``mean`` and ``std`` that compute
        ``(x - mean) / std`` are folded in or left out.  With ``activation``, any module that has two Linear: what it
        computes is compared with the network on random samples.
    activation : str, optional
        The activation of a module that is no Sequential.
    shape : tuple of int, optional
        Of a sample, where a module that is no Sequential does not take flat ones.
    drop_softmax : bool
        Whether to take the logits before a final Softmax, LogSoftmax, or Sigmoid of one output, which is refused
        otherwise.

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    ImportError
        If torch is not installed.
    TypeError, ValueError
        If the module is not a two-layer network; the message names the layer.

    Examples
    --------
    >>> import torch
    >>> from pyfirstorder.interop import models
    >>> module = torch.nn.Sequential(torch.nn.Linear(784, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    >>> models.from_torch(module)
    TwoLayerNetwork(784 -> 64 relu -> 10, float32)
    """
    from pyfirstorder.interop import torch as own
    from pyfirstorder.interop import torch_layers

    if isinstance(module, own.TwoLayer):
        return module.network()
    if activation is None:
        return assemble(torch_layers.torch_layers(module), drop_softmax=drop_softmax)
    shape = None if shape is None else sample_shape(shape)
    return torch_layers.read_compared(module, activation, shape, drop_softmax=drop_softmax)


def from_sklearn(estimator: Any) -> TwoLayerNetwork:
    """The network of a fitted MLPClassifier or MLPRegressor with one hidden layer, scalers in a Pipeline folded in.

    Parameters
    ----------
    estimator : MLPClassifier, MLPRegressor or a Pipeline that ends with one
        StandardScaler, RobustScaler, MinMaxScaler and MaxAbsScaler may stand before it.

    Returns
    -------
    TwoLayerNetwork
        Of logits.  A classifier of two classes has one output, whose labels are -1 (``classes_[0]``) and +1; one of
        more classes has an output per class, in the order of ``classes_``.

    Warns
    -----
    UserWarning
        If a classifier's classes are numbers other than 0, 1, …: labels are places in ``classes_``,
        ``np.searchsorted(estimator.classes_, y)``, and the numbers themselves would name other classes.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    TypeError, ValueError
        If it is of another kind, not fitted, or has not one hidden layer.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from pyfirstorder.interop import models
    >>> x = np.random.default_rng(0).standard_normal((40, 3))
    >>> perceptron = MLPRegressor(hidden_layer_sizes=(8,), activation="tanh", solver="lbfgs", max_iter=5000)
    >>> models.from_sklearn(make_pipeline(StandardScaler(), perceptron).fit(x, x[:, 0]))
    TwoLayerNetwork(3 -> 8 tanh -> 1, float64)
    """
    from pyfirstorder.interop.sklearn_layers import sklearn_layers, warn_of_classes

    net = assemble(sklearn_layers(estimator))
    warn_of_classes(getattr(estimator, "classes_", None))
    return with_scalar_output(net) if net.out_features == 1 else net


def from_flax(
    parameters: Any, *, activation: str, module: Any = None, names: Sequence[str] | None = None
) -> TwoLayerNetwork:
    """The network of parameters in a tree: of flax.linen, flax.nnx, haiku, equinox, or made by hand.

    Parameters
    ----------
    parameters : mapping, sequence or flax.nnx module
        Two layers, each with a matrix and optionally a vector; a dict with the one key "params" is opened.  A matrix
        called ``weight`` is (outputs, inputs), every other (inputs, outputs).
    activation : str
        What the model's code applies between them, since parameters do not tell: see `pyfirstorder.TwoLayerNetwork`.
    module : flax.linen module, optional
        The module of the parameters, to compare its outputs with the network's on random samples; one of flax.nnx is
        always compared.
    names : pair of str, optional
        The two layers in order, with dots between levels, where their names leave the order open, or there are more.

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    ImportError
        If a module is given and flax is not installed.
    TypeError, ValueError
        If there are not two layers whose shapes fit, their order is open, or the module computes something else.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder.interop import models
    >>> tree = {"Dense_0": {"kernel": np.ones((4, 3)), "bias": np.ones(3)}, "Dense_1": {"kernel": np.ones((3, 2))}}
    >>> models.from_flax(tree, activation="silu")
    TwoLayerNetwork(4 -> 3 silu -> 2, float64)
    """
    run = None
    if module is not None:
        run = _linen_outputs(module, parameters)
    elif callable(parameters) and not hasattr(parameters, "items"):
        run, parameters = parameters, _nnx_parameters(parameters)
    first, second = trees.two_layers("parameters", parameters, names)
    layers: list[Layer] = [first, Activation("the activation", activation), second]
    net = assemble(layers)
    if run is not None:
        import jax

        from pyfirstorder.interop import agreement

        with jax.default_matmul_precision("highest"):
            agreement.require("module", layers, net, run)
    return net


def _linen_outputs(module: Any, parameters: Any) -> Callable[[Any], Any]:
    try:
        from flax import linen
    except ImportError as error:
        raise ImportError("flax is not installed: pip install flax") from error
    if not isinstance(module, linen.Module):
        raise TypeError(f"module: expected a module of flax.linen, got {type(module).__name__}")
    if not hasattr(parameters, "items"):
        raise TypeError(f"parameters: expected those of the module, got {type(parameters).__name__}")
    variables = parameters if "params" in parameters else {"params": parameters}
    return lambda x: module.apply(variables, x)


def _nnx_parameters(module: Any) -> Any:
    try:
        from flax import nnx
    except ImportError as error:
        raise ImportError("flax is not installed: pip install flax") from error
    if not isinstance(module, nnx.Module):
        raise TypeError(f"parameters: expected a tree of arrays or a module of flax.nnx, got {type(module).__name__}")
    return nnx.to_pure_dict(nnx.state(module, nnx.Param))


def from_safetensors(
    path: str | os.PathLike[str], *, activation: str | None = None, names: Sequence[str] | None = None
) -> TwoLayerNetwork:
    """The network in a .safetensors file of a module with two linear layers, such as a torch state dict.

    Parameters
    ----------
    path : path
        Two matrices and their vectors, called by layer and part with a dot between: ``fc1.weight`` is (outputs,
        inputs), ``Dense_0.kernel`` (inputs, outputs).
    activation : str, optional
        The activation, unless the file's metadata has an entry of that name.
    names : pair of str, optional
        The two layers in order, where their names leave it open, or the file holds more.

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    ImportError
        If safetensors is not installed.
    TypeError, ValueError
        If the file does not hold two layers, says nothing of the activation, or holds half precision.
    OSError
        If the file cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from safetensors.numpy import save_file
    >>> from pyfirstorder.interop import models
    >>> weights = {"fc1.weight": np.ones((64, 784)), "fc1.bias": np.zeros(64), "fc2.weight": np.ones((10, 64))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file(weights, folder + "/net.safetensors")
    ...     models.from_safetensors(folder + "/net.safetensors", activation="gelu")
    TwoLayerNetwork(784 -> 64 gelu -> 10, float64)
    """
    from pyfirstorder.interop.safetensors_layers import safetensors_layers

    return assemble(safetensors_layers(path, activation, names))


def from_keras(model: Any, *, drop_softmax: bool = False) -> TwoLayerNetwork:
    """The network of a Keras model.

    Parameters
    ----------
    model : keras.Model
        A Sequential, or a functional model without branches, of two Dense; Flatten, Dropout, Normalization, Rescaling
        and BatchNormalization are folded in or left out, as at inference.  What is read is compared with the model on
        random samples.
    drop_softmax : bool
        See `from_torch`.

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    ImportError
        If keras is not installed.
    TypeError, ValueError
        If the model is not a two-layer network; the message names the layer.

    Examples
    --------
    >>> import os
    >>> chosen = os.environ.setdefault("KERAS_BACKEND", "torch")  # or "jax", or "tensorflow"
    >>> import keras
    >>> from pyfirstorder.interop import models
    >>> layers = [keras.layers.Input((784,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)]
    >>> models.from_keras(keras.Sequential(layers))
    TwoLayerNetwork(784 -> 64 relu -> 10, float32)
    """
    from pyfirstorder.interop import agreement, keras_layers

    layers = list(keras_layers.keras_layers(model))
    net = assemble(layers, drop_softmax=drop_softmax)
    agreement.require("model", layers, net, lambda x: keras_layers.outputs(model, x))
    return net


def from_onnx(model: Any, *, output: str | None = None, drop_softmax: bool = False) -> TwoLayerNetwork:
    """The network of an ONNX model.

    Parameters
    ----------
    model : path or onnx.ModelProto
        A chain of Gemm or MatMul and Add, an activation (one node, or several that compute one), and the same again;
        Flatten, Reshape, Cast and arithmetic with constants (normalisation) are folded in or left out.  What is read is
        compared with the model, by onnx's own evaluator.
    output : str, optional
        The output, or any value inside, up to which the model is read; needed where there are several outputs.
    drop_softmax : bool
        See `from_torch`.

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    ImportError
        If onnx is not installed.
    TypeError, ValueError
        If the file is none, or the model is not a two-layer network; the message names the node.
    OSError
        If the file cannot be opened.

    Examples
    --------
    >>> import numpy as np, onnx
    >>> from onnx import helper, numpy_helper
    >>> from pyfirstorder.interop import models
    >>> shapes = {"w": (4, 3), "b": (3,), "a": (3, 2), "c": (2,)}
    >>> weights = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in shapes.items()]
    >>> nodes = [
    ...     helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
    ...     helper.make_node("Tanh", ["h"], ["v"]),
    ...     helper.make_node("Gemm", ["v", "a", "c"], ["z"]),
    ... ]
    >>> x, z = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ("B", k)) for n, k in (("x", 4), ("z", 2)))
    >>> models.from_onnx(helper.make_model(helper.make_graph(nodes, "network", [x], [z], weights)))
    TwoLayerNetwork(4 -> 3 tanh -> 2, float32)
    """
    from pyfirstorder.interop import agreement, onnx_layers

    graph = onnx_layers.Graph(onnx_layers.load(model), output)
    layers = list(graph.layers())
    net = assemble(layers, drop_softmax=drop_softmax)
    if graph.can_run:
        agreement.require("model", layers, net, graph.outputs, rows=graph.rows)
    return net
