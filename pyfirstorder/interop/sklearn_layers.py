"""The layers of scikit-learn's estimators, as `pyfirstorder.interop.layers` has them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

try:
    from sklearn import preprocessing
    from sklearn.neural_network import MLPClassifier, MLPRegressor
except ImportError as error:
    raise ImportError("scikit-learn is not installed: pip install scikit-learn") from error

import numpy as np

from pyfirstorder.interop.layers import Activation, Affine, Layer, Linear, Nothing

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCALERS = (
    preprocessing.StandardScaler,
    preprocessing.RobustScaler,
    preprocessing.MinMaxScaler,
    preprocessing.MaxAbsScaler,
)
_NAMES = {"logistic": "sigmoid"}  # all others are called the same here


def sklearn_layers(estimator: Any) -> Iterator[Layer]:
    """The scalers of a Pipeline and the two layers of its network, up to the logits."""
    *scalers, mlp = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    if not isinstance(mlp, (MLPClassifier, MLPRegressor)):
        hint = "; pass its best_estimator_" if hasattr(mlp, "best_estimator_") else ""
        raise TypeError(f"estimator: expected MLPClassifier or MLPRegressor, got {type(mlp).__name__}{hint}")
    if not hasattr(mlp, "coefs_"):
        raise ValueError(f"estimator: expected a fitted {type(mlp).__name__}; call fit first")
    if len(mlp.coefs_) != 2:
        raise ValueError(f"estimator: expected one hidden layer, got {len(mlp.coefs_) - 1}")
    (w, a), (b, c) = mlp.coefs_, mlp.intercepts_
    if mlp.out_activation_ == "logistic" and a.shape[1] > 1:
        raise ValueError("estimator: expected one label per sample, got a classifier of several labels at once")
    if mlp.out_activation_ not in ("identity", "logistic", "softmax"):
        raise ValueError(f"estimator: expected outputs A σ(W x + b) + c, got {mlp.out_activation_} of them")
    _refuse_overrides("estimator", mlp, (MLPClassifier, MLPRegressor), ("predict", "predict_proba"))
    for place, scaler in enumerate(scalers):
        yield _scaler(f"step {place} ({type(scaler).__name__})", scaler, len(w))
    yield Linear("coefs_[0]", w.T, b)
    yield Activation("activation", _NAMES.get(mlp.activation, mlp.activation))
    yield Linear("coefs_[1]", a.T, c)


def _refuse_overrides(where: str, estimator: Any, kinds: tuple[type, ...], methods: tuple[str, ...]) -> None:
    """Refuse a subclass that computes something else than the class whose attributes are read."""
    base: Any = next(kind for kind in kinds if isinstance(estimator, kind))
    for method in methods:
        if getattr(type(estimator), method, None) is not getattr(base, method, None):
            kind = type(estimator).__name__
            raise TypeError(f"{where}: expected {base.__name__} with its own {method}, got {kind}, which has another")


def _scaler(where: str, scaler: Any, features: int) -> Layer:
    if scaler is None or scaler == "passthrough":
        return Nothing(where)
    if isinstance(scaler, _SCALERS):
        _refuse_overrides(where, scaler, _SCALERS, ("transform",))
        if not hasattr(scaler, "n_features_in_"):
            raise ValueError(f"{where}: expected a fitted scaler; call fit first")
        if scaler.n_features_in_ != features:
            raise ValueError(f"{where}: expected a scaler of {features} features, got one of {scaler.n_features_in_}")
    if isinstance(scaler, preprocessing.StandardScaler):
        return _centred(where, scaler.mean_ if scaler.with_mean else 0.0, scaler.scale_ if scaler.with_std else 1.0)
    if isinstance(scaler, preprocessing.RobustScaler):
        centre = scaler.center_ if scaler.with_centering else 0.0
        return _centred(where, centre, scaler.scale_ if scaler.with_scaling else 1.0)
    if isinstance(scaler, (preprocessing.MinMaxScaler, preprocessing.MaxAbsScaler)):
        if getattr(scaler, "clip", False):
            raise ValueError(f"{where}: expected clip=False, because clipping is not affine")
        if isinstance(scaler, preprocessing.MinMaxScaler):
            return Affine(where, scaler.scale_, scaler.min_)
        return _centred(where, 0.0, scaler.scale_)
    raise ValueError(f"{where}: expected StandardScaler, RobustScaler, MinMaxScaler or MaxAbsScaler before the network")


def _centred(where: str, centre: Any, scale: Any) -> Affine:
    gain = 1 / np.asarray(scale, dtype=np.float64)
    return Affine(where, gain, -gain * centre)


def warn_of_classes(classes: Any) -> None:
    """Warn where numbers that name classes are not their places, so that labels would be taken for other classes."""
    if classes is None or classes.dtype.kind not in "iuf" or (classes == np.arange(len(classes))).all():
        return
    if len(classes) == 2:
        if tuple(classes) == (-1, 1):
            return
        labels = "-1 and +1, 2 * np.searchsorted(estimator.classes_, y) - 1"
    else:
        labels = "their places from 0, np.searchsorted(estimator.classes_, y)"
    warnings.warn(
        f"estimator: its classes are {np.array2string(classes, threshold=6)}; labels here are {labels}", stacklevel=3
    )
