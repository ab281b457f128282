"""Wrong arguments: the kind of error, a message that names the argument, and the same from every backend.

Each case is the change of one argument of a call that is right.  The messages are compared between backends, so that an
error can be looked up whatever runs underneath.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from support import every_backend_name

import pyfirstorder as fo
from pyfirstorder import backends

NET = fo.TwoLayerNetwork(np.ones((3, 4)) * [[1.0], [-1.0], [0.5]], np.eye(3), activation="tanh")
SIGN_NET = fo.TwoLayerNetwork(np.eye(4), np.ones(4))
X = np.linspace(0, 1, 20).reshape(5, 4)
X32 = X.astype(np.float32)
Y = np.array([0, 1, 2, 0, 1])


def with_entry(array: np.ndarray, index, value) -> np.ndarray:
    changed = array.copy()
    changed[index] = value
    return changed


# name: (change of the arguments, error, what the message must say)
WRONG = {
    "not a network": ({"net": "net"}, TypeError, "net: expected a TwoLayerNetwork, got 'net'"),
    "x of integers": ({"x": np.full((5, 4), 255)}, TypeError, r"x: .*int64.*x\.astype\(np\.float32\) / 255"),
    "x of uint8": ({"x": np.full((5, 4), 9, np.uint8)}, TypeError, r"x: .*uint8.*convert images"),
    "x of float16": ({"x": np.ones((5, 4), np.float16)}, TypeError, r"x: .*float16.*astype\(np\.float32\)"),
    "x of longdouble": (
        {"x": np.ones((5, 4), np.longdouble)},
        TypeError,
        r"x: expected an array of float32 or float64",
    ),
    "x of complex": ({"x": np.ones((5, 4), complex)}, TypeError, r"x: .*complex128"),
    "x of bool": ({"x": np.ones((5, 4), bool)}, TypeError, r"x: .*bool"),
    "x of objects": ({"x": np.array([[None] * 4] * 5)}, TypeError, r"x: .*object"),
    "x a string": ({"x": "image"}, TypeError, r"x: .*'image'"),
    "x a list of integers": ({"x": [[0, 1, 2, 3]] * 5}, TypeError, r"x: .*list.*int64"),
    "x without batch axis": ({"x": X[0]}, ValueError, r"x: .*\(4,\).*batch axis: x\[None\]"),
    "x of too many features": ({"x": np.ones((5, 6))}, ValueError, r"x: .*4 numbers a sample, got \(5, 6\)"),
    "x a number": ({"x": np.float64(1)}, ValueError, r"x: expected shape"),
    "NaN in x": ({"x": with_entry(X, (3, 1), np.nan)}, ValueError, r"x: .*NaN or infinity first in row 3"),
    "infinity in x": ({"x": with_entry(X, (slice(2, None), 0), np.inf)}, ValueError, r"x: .*first in row 2"),
    "minus infinity in x": ({"x": with_entry(X, (0, 0), -np.inf)}, ValueError, r"x: .*first in row 0"),
    "unknown on_invalid": ({"on_invalid": "drop"}, ValueError, r"on_invalid: expected one of .*, got 'drop'"),
    "float labels": ({"y": Y.astype(float), "loss": "cross_entropy"}, TypeError, r"y: expected integer class indices"),
    "bool labels": ({"y": Y > 0, "loss": "cross_entropy"}, TypeError, r"y: .*bool"),
    "label too large": ({"y": with_entry(Y, 2, 3)}, ValueError, r"y: .*from 0 to 2, got 3 in row 2"),
    "label negative": ({"y": with_entry(Y, 4, -1)}, ValueError, r"y: .*got -1 in row 4"),
    "too few labels": ({"y": Y[:3]}, ValueError, r"y: expected shape \(5,\).*got \(3,\)"),
    "one-hot labels": ({"y": np.eye(3, dtype=int)[Y]}, ValueError, r"y: .*one class index per sample, got \(5, 3\)"),
    "squared with labels": ({"loss": "squared"}, TypeError, r"y: expected an array of floating-point targets"),
    "squared of wrong shape": ({"loss": "squared", "y": np.ones(5)}, ValueError, r"y: .*\(5, 3\), got \(5,\)"),
    "NaN in y": ({"loss": "squared", "y": with_entry(np.ones((5, 3)), (1, 1), np.nan)}, ValueError, r"y: .*row 1"),
    "logistic with three outputs": ({"loss": "logistic"}, ValueError, r"loss: logistic .*1 output, got 3"),
    "logistic of classes": (
        {"net": SIGN_NET, "loss": "logistic", "y": np.array([0, 1, 0, 1, 1])},
        ValueError,
        r"y: expected -1 or \+1, got 0 in row 0; turn .* with 2 \* y - 1",
    ),
    "classes of one output": ({"net": SIGN_NET, "loss": "margin"}, ValueError, r"loss: margin .*at least 2 outputs"),
    "targeted dlr of three": ({"loss": "dlr", "targeted": True}, ValueError, r"loss: targeted dlr .*at least 4"),
    "unknown loss": ({"loss": "hinge"}, ValueError, r"loss: expected one of 'squared', .*got 'hinge'"),
    "loss a number": ({"loss": 2}, TypeError, r"loss: .*got 2"),
    "targeted a number": ({"targeted": 1}, TypeError, r"targeted: expected True or False, got 1"),
    "negative eps": ({"eps": -0.1}, ValueError, r"eps: expected numbers of at least 0, got -0\.1"),
    "NaN eps": ({"eps": np.nan}, ValueError, r"eps: .*got nan"),
    "negative eps in a row": ({"eps": np.array([0, 1, -2, 0, 0.0])}, ValueError, r"eps: .*got -2\.0 in row 2"),
    "too few eps": ({"eps": np.ones(3)}, ValueError, r"eps: .*scalar or shape \(5,\).*got shape \(3,\)"),
    "eps a string": ({"eps": "8/255"}, TypeError, r"eps: expected a number"),
    "eps None": ({"eps": None}, TypeError, r"eps: expected a number"),
    "infinite eps without step": (
        {"eps": np.inf},
        ValueError,
        r"step_size: expected a number, because eps is infinite",
    ),
    "infinite eps with a random start": (
        {"eps": np.inf, "step_size": 0.1, "random_start": True},
        ValueError,
        r"eps: expected finite radii for a random start",
    ),
    "unknown norm": ({"norm": "l3"}, ValueError, r"norm: expected 'linf', 'l2', 'l1', inf, 2 or 1, got 'l3'"),
    "norm zero": ({"norm": 0}, ValueError, r"norm: .*got 0"),
    "norm NaN": ({"norm": np.nan}, ValueError, r"norm: .*got nan"),
    "norm None": ({"norm": None}, TypeError, r"norm: .*got None"),
    "norm True": ({"norm": True}, TypeError, r"norm: .*got True"),
    "fractional steps": ({"steps": 1.5}, TypeError, r"steps: expected an integer, got 1\.5"),
    "steps True": ({"steps": True}, TypeError, r"steps: .*got True"),
    "negative steps": ({"steps": -1}, ValueError, r"steps: .*from 0 to \d+, got -1"),
    "negative step size": ({"step_size": -0.1}, ValueError, r"step_size: .*got -0\.1"),
    "infinite step size": ({"step_size": np.inf}, ValueError, r"step_size: expected finite numbers"),
    "NaN step size": ({"step_size": np.nan}, ValueError, r"step_size: .*got nan"),
    "too few step sizes": ({"step_size": np.ones(2)}, ValueError, r"step_size: .*shape \(5,\)"),
    "two step sizes": ({"step_size": 0.1, "rel_step_size": 0.1}, ValueError, r"rel_step_size: expected None"),
    "negative rel_step_size": ({"rel_step_size": -1.0}, ValueError, r"rel_step_size: .*got -1\.0"),
    "unknown direction": ({"direction": "up"}, ValueError, r"direction: expected one of 'gradient', .*got 'up'"),
    "sparse_fraction above 1": ({"sparse_fraction": 1.5}, ValueError, r"sparse_fraction: .*from 0 to 1, got 1\.5"),
    "bounds a number": ({"bounds": 1.0}, TypeError, r"bounds: expected None or a pair \(lower, upper\), got 1\.0"),
    "three bounds": ({"bounds": (0, 1, 2)}, TypeError, r"bounds: .*pair"),
    "bounds of strings": ({"bounds": ("0", "1")}, TypeError, r"bounds: expected numbers for the lower bound"),
    "bounds of wrong shape": ({"bounds": (np.zeros(3), 1)}, ValueError, r"bounds: .*lower bound, got shape \(3,\)"),
    "NaN bounds": ({"bounds": (0, np.nan)}, ValueError, r"bounds: .*NaN in the upper bound"),
    "bounds upside down": ({"bounds": (1, 0)}, ValueError, r"bounds: .*got 1\.0 > 0\.0 at coordinate 0"),
    "x above bounds": ({"bounds": (0, 0.9)}, ValueError, r"x: .*outside \[0, 0\.9\] first in row 4, coordinate 2"),
    "x below bounds": ({"bounds": (0.5, 1)}, ValueError, r"x: .*outside \[0\.5, 1\] first in row 0, coordinate 0"),
    "x_init of wrong shape": ({"x_init": X[:2]}, ValueError, r"x_init: expected shape \(5, 4\).*got \(2, 4\)"),
    "x_init of wrong type": ({"x_init": X.astype(np.float32)}, ValueError, r"x_init: .*float64, got .*float32"),
    "NaN in x_init": ({"x_init": with_entry(X, (1, 0), np.nan)}, ValueError, r"x_init: .*first in row 1"),
    "masked x": ({"x": np.ma.masked_greater(X, 0.5)}, ValueError, r"x: expected an array without masked elements"),
    "masked y": ({"y": np.ma.masked_equal(Y, 2)}, ValueError, r"y: expected an array without masked elements"),
    "masked eps": ({"eps": np.ma.masked_less(X[:, 0], 0.5)}, ValueError, r"eps: .*masked"),
    "masked bounds": ({"bounds": (np.ma.masked_equal(np.zeros(4), 0), 1)}, ValueError, r"bounds: .*masked"),
    "ragged x": ({"x": [[0.0], [0.0, 1.0]]}, ValueError, r"x: expected an array, got a list"),
    "ragged y": ({"y": [[0], [0, 1]]}, ValueError, r"y: expected an array, got a list"),
    "ragged eps": ({"eps": [[0.1], [0.1, 0.2]]}, ValueError, r"eps: expected an array, got a list"),
    "huge eps": ({"eps": 10**400}, TypeError, r"eps: .*got an integer of 1329 bits"),
    "huge norm": ({"norm": 10**400}, ValueError, r"norm: .*got an integer of 1329 bits"),
    "norm of nearly two": ({"norm": 2.0000001}, ValueError, r"norm: .*got 2\.0000001"),
    "huge momentum": ({"momentum": 10**400}, ValueError, r"momentum: .*got an integer of 1329 bits"),
    "huge steps": ({"steps": 10**5000}, ValueError, r"steps: .*got an integer of 16610 bits"),
    "step size that overflows": ({"eps": 1.7e308, "steps": 1}, ValueError, r"step_size: .*1\.79769e\+308.*float64"),
    "rel_step_size that overflows": (
        {"eps": 100.0, "rel_step_size": 1e308},
        ValueError,
        r"rel_step_size: expected a step size of at most 1\.79769e\+308, the largest float64, got 1e\+308 \* 100",
    ),
    "eps beyond float32": (
        {"x": X32, "eps": 1e39},
        ValueError,
        r"eps: .*3\.40282e\+38, the largest float32",
    ),
    "step size beyond float32": ({"x": X32, "step_size": 1.7e308}, ValueError, r"step_size: .*3\.40282e\+38"),
    "momentum beyond float32": ({"x": X32, "momentum": 1.7e308}, ValueError, r"momentum: .*3\.40282e\+38"),
    "restarts of one start": ({"restarts": 2}, ValueError, r"restarts: expected 1 without a random start.*got 2"),
    "x_init and random start": ({"x_init": X, "random_start": True}, ValueError, r"x_init: expected None"),
    "unknown random_start": ({"random_start": "cube"}, ValueError, r"random_start: .*'ball' or 'sphere'"),
    "random_start a number": ({"random_start": 1}, TypeError, r"random_start: .*got 1"),
    "no restarts": ({"restarts": 0}, ValueError, r"restarts: .*from 1 to \d+, got 0"),
    "negative seed": ({"seed": -1}, ValueError, r"seed: .*got -1"),
    "seed beyond 64 bits": ({"seed": 2**64}, ValueError, r"seed: .*got 18446744073709551616"),
    "fractional seed": ({"seed": 0.5}, TypeError, r"seed: expected an integer"),
    "negative sample_offset": ({"sample_offset": -1}, ValueError, r"sample_offset: .*got -1"),
    "negative momentum": ({"momentum": -0.5}, ValueError, r"momentum: .*got -0\.5"),
    "NaN momentum": ({"momentum": np.nan}, ValueError, r"momentum: .*got nan"),
    "early_stop a number": ({"early_stop": 1}, TypeError, r"early_stop: expected True or False"),
    "early_stop without classes": (
        {"loss": "linear", "y": np.ones((5, 3)), "early_stop": True},
        ValueError,
        r"early_stop: expected False, because linear has no classes",
    ),
    "unknown keep": ({"keep": "first"}, ValueError, r"keep: expected one of 'last', 'best', 'both', got 'first'"),
    "trace a number": ({"trace": 2}, TypeError, r"trace: expected True or False"),
    "retire a number": ({"retire": 0}, TypeError, r"retire: expected True or False"),
    "progress a number": ({"progress": 3}, TypeError, r"progress: expected True, False or a function, got 3"),
    "no threads": ({"threads": 0}, ValueError, r"threads: .*from 1 to \d+, got 0"),
    "threads a string": ({"threads": "2"}, TypeError, r"threads: expected an integer, got '2'"),
}


def message(function, *positional, **arguments) -> str:
    with pytest.raises((TypeError, ValueError)) as caught:
        function(*positional, **arguments)
    return f"{type(caught.value).__name__}: {caught.value}"


@every_backend_name
@pytest.mark.parametrize("case", list(WRONG))
def test_pgd_refuses(backend_name, case):
    change, error, pattern = WRONG[case]
    arguments = {"net": NET, "x": X, "y": Y, "eps": 0.1, "steps": 2} | change
    net, x, y = (arguments.pop(name) for name in ("net", "x", "y"))
    with pytest.raises(error) as caught:
        fo.pgd(net, x, y, backend=backend_name, **arguments)
    assert type(caught.value) is error
    assert re.match(pattern, str(caught.value)), str(caught.value)
    reference = message(fo.pgd, net, x, y, backend="reference", **arguments)
    assert f"{error.__name__}: {caught.value}" == reference


@pytest.mark.parametrize("case", ["NaN in x", "negative eps", "unknown norm", "unknown loss", "label too large"])
def test_apgd_refuses_what_pgd_refuses(case):
    change, error, pattern = WRONG[case]
    arguments = {"x": X, "y": Y, "eps": 0.1, "steps": 2} | change
    with pytest.raises(error, match=pattern):
        fo.apgd(NET, arguments.pop("x"), arguments.pop("y"), **arguments)


def test_a_wrong_option_draws_no_progress_bar(capsys):
    with pytest.raises(ValueError, match="seed"):
        fo.pgd(NET, X, Y, eps=0.1, seed=-1, progress=True)
    assert not "".join(capsys.readouterr())


def test_apgd_refuses_restarts_of_one_start():
    with pytest.raises(ValueError, match=r"restarts: expected 1 without a random start"):
        fo.apgd(NET, X, Y, eps=0.1, random_start=False, restarts=2)


def test_apgd_refuses_an_infinite_radius():
    with pytest.raises(ValueError, match=r"eps: expected finite radii, because apgd"):
        fo.apgd(NET, X, Y, eps=np.inf)


@pytest.mark.parametrize("rho", [-0.1, 1.1, np.nan])
def test_apgd_refuses_a_rho_that_is_no_share(rho):
    with pytest.raises(ValueError, match=r"rho: expected a number from 0 to 1"):
        fo.apgd(NET, X, Y, eps=0.1, rho=rho)


def test_an_unknown_backend_is_refused_with_the_names_of_all():
    with pytest.raises(ValueError, match=r"backend: expected 'auto' or one of 'cpu', .*'reference', .*, got 'gpu'"):
        fo.pgd(NET, X, Y, eps=0.1, backend="gpu")


def test_a_missing_backend_says_what_to_do(monkeypatch):
    def load():
        raise ImportError("install it")

    monkeypatch.setitem(backends._LOADERS, "absent", load)
    monkeypatch.setattr(backends, "_loaded", {})
    with pytest.raises(ImportError, match="backend 'absent' is not available: install it"):
        fo.forward(NET, X, backend="absent")
    assert fo.available_backends()["absent"] == "install it"
    assert fo.available_backends()["reference"] == "available"


@pytest.mark.parametrize("name", [["cpu"], 3, None])
def test_a_backend_that_is_no_name_is_refused_by_name(name):
    for call in (fo.forward, fo.predict):
        with pytest.raises(TypeError, match="backend: expected a name, got"):
            call(NET, X, backend=name)
    for call in (fo.pgd, fo.apgd):
        with pytest.raises(TypeError, match="backend: expected a name, got"):
            call(NET, X, Y, eps=0.1, backend=name)


@pytest.mark.parametrize("function", [fo.pgd, fo.apgd, fo.input_gradient, fo.forward, fo.project])
def test_options_are_keyword_only(function):
    with pytest.raises(TypeError, match="by position, got 5 arguments there; name the others: "):
        function(NET, X, Y, 0.1, "linf")


# ------------------------------------------------------------------ the other functions


@pytest.mark.parametrize(
    "case", ["not a network", "x of uint8", "x without batch axis", "NaN in x", "threads a string"]
)
def test_forward_and_predict_refuse(case):
    change, error, pattern = WRONG[case]
    arguments = {"net": NET, "x": X} | change
    net, x = arguments.pop("net"), arguments.pop("x")
    for function in (fo.forward, fo.predict):
        with pytest.raises(error, match=pattern):
            function(net, x, **arguments)


@pytest.mark.parametrize("case", ["float labels", "label negative", "unknown loss", "NaN in x", "targeted a number"])
def test_input_gradient_refuses(case):
    change, error, pattern = WRONG[case]
    arguments = {"x": X, "y": Y} | change
    with pytest.raises(error, match=pattern):
        fo.input_gradient(NET, arguments.pop("x"), arguments.pop("y"), **arguments)


@pytest.mark.parametrize(
    ("change", "error", "pattern"),
    [
        ({"delta": np.ones((2, 3), int)}, TypeError, r"delta: .*int64"),
        ({"delta": np.ones(3)}, ValueError, r"delta: .*batch axis: \[None\]"),
        ({"delta": np.array([[1.0, 2, 3], [1, np.nan, 3]])}, ValueError, r"delta: .*first in row 1"),
        ({"eps": -1}, ValueError, r"eps: .*got -1"),
        ({"norm": "l0"}, ValueError, r"norm: "),
        ({"delta": np.ones((2, 3), np.float32), "eps": 1e39}, ValueError, r"eps: .*the largest float32"),
        ({"x": np.zeros((2, 4))}, ValueError, r"x: expected shape \(2, 3\)"),
        ({"x": np.zeros((2, 3), np.float32)}, ValueError, r"x: .*float64, got .*float32"),
        ({"x": np.full((2, 3), np.inf)}, ValueError, r"x: .*first in row 0"),
        ({"bounds": (1, 2)}, ValueError, r"x: expected values within bounds"),
        ({"bounds": (1, -1)}, ValueError, r"bounds: expected lower <= upper"),
    ],
)
def test_project_refuses(change, error, pattern):
    arguments = {"delta": np.ones((2, 3)), "eps": 1.0} | change
    with pytest.raises(error, match=pattern):
        fo.project(arguments.pop("delta"), **arguments)
