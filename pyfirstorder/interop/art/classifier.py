"""A two-layer network as a classifier of ART, with the gradients that ART's attacks ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import pyfirstorder as fo
from pyfirstorder import checks
from pyfirstorder.network import TwoLayerNetwork

try:
    from art.config import ART_NUMPY_DTYPE
    from art.estimators.classification.classifier import ClassGradientsMixin, ClassifierMixin
    from art.estimators.estimator import BaseEstimator, LossGradientsMixin, NeuralNetworkMixin
    from art.utils import check_and_transform_label_format
except ImportError as error:
    raise ImportError("ART is not installed: pip install adversarial-robustness-toolbox") from error

if TYPE_CHECKING:
    from pyfirstorder.problem import Array


class TwoLayerClassifier(ClassGradientsMixin, ClassifierMixin, LossGradientsMixin, NeuralNetworkMixin, BaseEstimator):
    """A two-layer network as a classifier of ART.

    Parameters
    ----------
    model : TwoLayerNetwork
        Its outputs are logits.  Of a single output z the classes are 0 and 1, which `pyfirstorder.predict` calls -1
        and +1, with logits -z/2 and z/2: their cross entropy is the logistic loss of z.
    input_shape : tuple of int, optional
        Shape of a sample; ``(model.in_features,)`` if left out.
    clip_values, preprocessing_defences, postprocessing_defences, preprocessing, channels_first
        As for ART's own classifiers: ``(smallest, largest)`` value of a feature, defences, ``(mean, std)``, and where
        images have their channels.

    Raises
    ------
    TypeError, ValueError
        If the model is no TwoLayerNetwork, or samples of that shape are not of its size.

    Notes
    -----
    The loss is the cross entropy, and its gradient that of each sample by itself (not of the batch's mean).  Labels may
    be class indices, one-hot or probabilities.  Everything is computed and returned in float32, as ART does.
    """

    estimator_params: ClassVar[list[str]] = [
        *BaseEstimator.estimator_params,
        *NeuralNetworkMixin.estimator_params,
        *ClassifierMixin.estimator_params,
        "input_shape",
    ]

    def __init__(
        self,
        model: TwoLayerNetwork,
        input_shape: tuple[int, ...] | None = None,
        clip_values: Any = None,
        preprocessing_defences: Any = None,
        postprocessing_defences: Any = None,
        preprocessing: Any = (0.0, 1.0),
        channels_first: bool = True,
    ) -> None:
        if not isinstance(model, TwoLayerNetwork):
            raise TypeError(f"model: expected a TwoLayerNetwork, got {checks.describe(model)}")
        shape = (model.in_features,) if input_shape is None else tuple(input_shape)
        if np.prod(shape) != model.in_features:
            raise ValueError(f"input_shape: expected {model.in_features} features, as the network has, got {shape}")
        super().__init__(
            model=model,
            clip_values=clip_values,
            preprocessing_defences=preprocessing_defences,
            postprocessing_defences=postprocessing_defences,
            preprocessing=preprocessing,
            channels_first=channels_first,
        )
        self._layer_names = ["hidden", "logits"]
        self.nb_classes = max(2, model.out_features)
        self._input_shape = shape
        self._logits_of: tuple[TwoLayerNetwork, TwoLayerNetwork] = (model, _with_two_outputs(model))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a sample."""
        return self._input_shape

    @property
    def network(self) -> TwoLayerNetwork:
        """The network whose outputs are the logits, one for each class."""
        if self._logits_of[0] is not self._model:  # ART's set_params changed it
            self._logits_of = (self._model, _with_two_outputs(self._model))
        return self._logits_of[1]

    def predict(self, x: Array, batch_size: int = 128, **kwargs: Any) -> Array:
        """Logits (B, nb_classes) of samples (B, ...); the batch size does not matter."""
        prepared, _ = self._prepared(x, None)
        return self._apply_postprocessing(fo.forward(self.network, prepared), fit=False)

    def fit(self, x: Array, y: Array, **kwargs: Any) -> None:
        """Not to be had: the weights of a TwoLayerNetwork do not change."""
        raise NotImplementedError(
            "the weights of a TwoLayerNetwork do not change: train with pyfirstorder.training.train or in your "
            "framework, and make a classifier of the new network"
        )

    def compute_loss(self, x: Array, y: Array, reduction: str = "none", **kwargs: Any) -> Array:
        """The cross entropy of each sample (B,), or with ``reduction`` "mean" or "sum" that of all."""
        reduce: dict[str, Any] = {"none": np.asarray, "mean": np.mean, "sum": np.sum}
        if reduction not in reduce:
            raise ValueError(f"reduction: expected 'none', 'mean' or 'sum', got {reduction!r}")
        return reduce[reduction](self._loss(*self._prepared(x, y))[0])

    def loss_gradient(self, x: Array, y: Array, **kwargs: Any) -> Array:
        """Gradient of the cross entropy of each sample, in the shape of x."""
        gradient = self._loss(*self._prepared(x, y))[1]
        return self._apply_preprocessing_gradient(x, gradient.reshape(x.shape))

    def class_gradient(self, x: Array, label: Any = None, **kwargs: Any) -> Array:
        """Gradients of logits: (B, nb_classes, ...) of all, or (B, 1, ...) of one label or one label per sample."""
        prepared, _ = self._prepared(x, None)
        if label is None:
            wanted = [np.full(len(x), label) for label in range(self.nb_classes)]
        else:
            wanted = [np.broadcast_to(np.asarray(label), len(x))]
        if not all(((labels >= 0) & (labels < self.nb_classes)).all() for labels in wanted):
            raise ValueError(f"label: expected classes from 0 to {self.nb_classes - 1}, got {label}")
        one_hot = np.eye(self.nb_classes, dtype=prepared.dtype)
        gradients = []
        for labels in wanted:
            gradient = fo.input_gradient(self.network, prepared, one_hot[labels], loss="linear")[1]
            gradients.append(self._apply_preprocessing_gradient(x, gradient.reshape(x.shape)))
        return np.stack(gradients, axis=1)

    def get_activations(self, x: Array, layer: int | str, batch_size: int = 128, framework: bool = False) -> Array:
        """What layer 0, "hidden", or 1, "logits", gives for samples (B, ...)."""
        if layer in (1, "logits"):
            return self.predict(x)
        if layer not in (0, "hidden"):
            raise ValueError(f"layer: expected 0, 1, 'hidden' or 'logits', got {layer!r}")
        net = self._model
        identity = np.eye(net.hidden_features, dtype=net.dtype)
        hidden = TwoLayerNetwork(net.hidden_weight, identity, net.hidden_bias, activation=net.activation)
        return fo.forward(hidden, self._prepared(x, None)[0])

    def _prepared(self, x: Array, y: Any) -> tuple[Array, Any]:
        """What the network is given: samples through ART's preprocessing, labels with a column for each class."""
        x, y = self._apply_preprocessing(x, y, fit=False)
        if y is not None:
            y = check_and_transform_label_format(np.asarray(y), nb_classes=self.nb_classes)
        return np.ascontiguousarray(x, dtype=ART_NUMPY_DTYPE), y

    def _loss(self, x: Array, y: Array) -> tuple[Array, Array]:
        if is_hard(y):
            return fo.input_gradient(self.network, x, np.argmax(y, axis=1), loss="cross_entropy")
        logits = fo.forward(self.network, x).astype(np.float64)
        largest = logits.max(axis=1, keepdims=True)
        log_sum = largest + np.log(np.exp(logits - largest).sum(axis=1, keepdims=True))
        mass = y.sum(axis=1, keepdims=True)
        residual = mass * np.exp(logits - log_sum) - y
        _, gradient = fo.input_gradient(self.network, x, residual.astype(x.dtype), loss="linear")
        return (mass * log_sum - (y * logits).sum(axis=1, keepdims=True))[:, 0].astype(x.dtype), gradient


def is_hard(labels: Array) -> bool:
    """Whether labels (B, k) are whole numbers and so name a class, as ART has it, and not probabilities."""
    return bool((labels == np.floor(labels)).all())


def _with_two_outputs(net: TwoLayerNetwork) -> TwoLayerNetwork:
    """The network itself, or of a single output z one of the two logits -z/2 and z/2."""
    if net.out_features > 1:
        return net
    a, c = np.atleast_2d(net.output_weight) / 2, net.output_bias / 2
    return TwoLayerNetwork(
        net.hidden_weight, np.vstack([-a, a]), net.hidden_bias, np.concatenate([-c, c]), net.activation
    )
