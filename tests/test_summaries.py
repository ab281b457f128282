"""Results are shown in a line that holds no array, of one sample as of many."""

from __future__ import annotations

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder import dynamics, summaries
from pyfirstorder.training import train

LONGEST = 400  # characters, four or five lines of a terminal


def results(samples: int) -> dict[str, object]:
    """One of each kind."""
    rng = np.random.default_rng(0)
    net = fo.TwoLayerNetwork(rng.standard_normal((16, 8)), rng.standard_normal((3, 16)), activation="tanh")
    x, y = rng.random((samples, 8)), rng.integers(0, 3, samples)
    plane = dynamics.random_plane(x[0])
    traced = fo.pgd(net, x, y, eps=0.1, steps=50, trace=True)
    return {
        "AttackResult": traced,
        "Trace": traced.trace,
        "RobustnessCurve": fo.robustness_curve(net, x, y, eps=np.linspace(0, 1, 50), steps=1),
        "MinimalRadius": fo.minimal_eps(net, x, y, eps_max=1.0, steps=2, tol=0.1),
        "Evaluation": fo.evaluate(net, x, y, eps=0.1, steps=2),
        "Certificate": fo.certify(net, x, y, eps=0.1),
        "Trajectories": dynamics.trace(net, x, y, eps=0.1, steps=50, iterates=True),
        "Stationarity": dynamics.stationarity(net, traced.x_adv, y, x0=x, eps=0.1),
        "Maxima": dynamics.distinct_maxima(net, x, y, eps=0.1, starts=4, steps=5),
        "Regularity": dynamics.regularity(net, x, y, eps=0.1, starts=3, steps=5),
        "Plane": plane,
        "Landscape": dynamics.landscape(net, x[0], y[0], plane, span=1.0, points=11),
        "TrainingResult": train(x, y, hidden_features=4, out_features=3, activation="tanh", epochs=60),
    }


FEW, MANY = results(1), results(300)


@pytest.mark.parametrize("kind", MANY)
def test_a_result_is_shown_in_a_line_without_arrays(kind):
    for found in (FEW[kind], MANY[kind]):
        shown = repr(found)
        assert shown.startswith(f"{kind}(")
        assert shown.endswith(")")
        assert "array" not in shown
        assert "\n" not in shown
        assert len(shown) <= LONGEST
    assert "1 samples" not in repr(FEW[kind])


def test_every_kind_of_result_is_looked_at():
    public = {name for module in (fo, dynamics) for name in module.__all__}
    classes = {name for name in public if isinstance(getattr(fo, name, getattr(dynamics, name, None)), type)}
    assert classes - set(MANY) == {"NotFiniteWarning", "Status", "TwoLayerNetwork", "Verdict", "ZeroGradientWarning"}


def test_what_is_shown_is_so():
    verdict = MANY["Stationarity"].verdict
    for kind in dynamics.Verdict:
        number = np.count_nonzero(verdict == kind)
        assert (f", {number} {kind.name.lower().replace('_', ' ')}" in repr(MANY["Stationarity"])) == (number > 0)
    certificate = MANY["Certificate"]
    assert f"(300 samples, linear, {certificate.certified.sum()} certified, bound from " in repr(certificate)
    reached = MANY["Trajectories"].steps_to_tolerance
    assert f"300 samples, 51 iterates of shape (8,), {(reached >= 0).sum()} within" in repr(MANY["Trajectories"])
    assert repr(FEW["Plane"]) == "Plane(8 numbers, 2 directions)"


def test_numbers_that_are_not_finite_have_no_extent():
    assert summaries.extent("loss", np.array([np.nan, np.inf])) == ""
    assert summaries.extent("loss", np.array([np.nan, 2.0])) == "loss 2"
    assert summaries.extent("loss", np.array([-1.0, np.nan, 2.5])) == "loss from -1 to 2.5"
    assert summaries.summarise("Name", "", "one", "") == "Name(one)"
