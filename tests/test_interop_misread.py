"""Models that look like what can be read and are something else: refused, or read as what they are."""

from __future__ import annotations

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder.interop import models

RNG = np.random.default_rng(0)
X = RNG.random((6, 8))


def tree(d: int, m: int, k: int, output_first: bool) -> dict:
    """Parameters as flax numbers them: in the order in which layers were made."""
    hidden = {"kernel": RNG.standard_normal((d, m)), "bias": RNG.standard_normal(m)}
    output = {"kernel": RNG.standard_normal((m, k)), "bias": RNG.standard_normal(k)}
    pair = (output, hidden) if output_first else (hidden, output)
    return {"params": {f"Dense_{i}": layer for i, layer in enumerate(pair)}}


@pytest.mark.parametrize("output_first", [False, True])
def test_shapes_tell_the_order_of_layers_that_a_library_numbered(output_first):
    given = tree(8, 16, 3, output_first)
    hidden, output = (given["params"][f"Dense_{i ^ output_first}"] for i in range(2))
    expected = np.maximum(X @ hidden["kernel"] + hidden["bias"], 0) @ output["kernel"] + output["bias"]
    np.testing.assert_allclose(fo.forward(models.from_flax(given, activation="relu"), X), expected, rtol=1e-12)


def test_numbers_of_a_library_are_not_taken_for_an_order_where_shapes_fit_both_ways():
    given = tree(8, 16, 8, output_first=True)
    with pytest.raises(ValueError, match=r"whose shapes fit both ways; pass names="):
        models.from_flax(given, activation="relu")
    net = models.from_flax(given, activation="relu", names=("Dense_1", "Dense_0"))
    np.testing.assert_array_equal(net.hidden_weight, given["params"]["Dense_1"]["kernel"].T)


@pytest.mark.parametrize("name", ["scale", "weight_scale", "running_mean"])
def test_a_vector_of_another_name_is_not_taken_for_a_bias(name):
    given = tree(8, 16, 3, output_first=False)
    given["params"]["Dense_0"] = {"kernel": given["params"]["Dense_0"]["kernel"], name: np.full(16, 9.0)}
    with pytest.raises(
        ValueError, match=f"Dense_0: expected the vector beside a matrix to be called bias or b, got {name}"
    ):
        models.from_flax(given, activation="relu")


def fitted(scaler):
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import Pipeline

    mlp = MLPClassifier((5,), max_iter=5).fit(X, np.arange(6) % 3)
    return Pipeline([("scale", scaler), ("mlp", mlp)])


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_scalers_that_do_not_belong_to_the_network_are_refused():
    preprocessing = pytest.importorskip("sklearn.preprocessing", reason="needs scikit-learn")

    class Tripled(preprocessing.StandardScaler):
        def transform(self, X, copy=None):
            return 3 * super().transform(X, copy)

    with pytest.raises(ValueError, match=r"StandardScaler\): expected a scaler of 8 features, got one of 4"):
        models.from_sklearn(fitted(preprocessing.StandardScaler().fit(X[:, :4])))
    with pytest.raises(ValueError, match=r"RobustScaler\): expected a fitted scaler; call fit first"):
        models.from_sklearn(fitted(preprocessing.RobustScaler()))
    with pytest.raises(TypeError, match="expected StandardScaler with its own transform, got Tripled"):
        models.from_sklearn(fitted(Tripled().fit(X)))


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_an_estimator_with_predictions_of_its_own_is_refused(method):
    neural_network = pytest.importorskip("sklearn.neural_network", reason="needs scikit-learn")
    own = getattr(neural_network.MLPClassifier, method)
    contrary = type("Contrary", (neural_network.MLPClassifier,), {method: lambda self, x: own(self, x)[:, ::-1]})
    with pytest.raises(TypeError, match=f"expected MLPClassifier with its own {method}, got Contrary"):
        models.from_sklearn(contrary((5,), max_iter=5).fit(X, np.arange(6) % 3))
