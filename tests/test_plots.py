"""Figures: what they say of what is projected, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="figures need matplotlib")

import pyfirstorder as fo
from pyfirstorder import dynamics, plots

NET = fo.random_network(6, 10, activation="tanh", seed=1, dtype=np.float64)
X = np.linspace(-0.5, 0.5, 6)
AXES = dynamics.plane_along(X, np.eye(6)[:2])
CURVE = plots.Curve(np.array([0.0, 0.1]), np.array([1.0, 0.5]))
IMAGES = np.zeros((2, 4))
EXAMPLES = plots.Examples(0.1, IMAGES, IMAGES + 0.1, np.array([0, 1]), np.array([0, 2]))


def ascents(*heights):
    """Trajectories of two iterates from the sample, which end that far off the plane of the first two axes."""
    return [
        X + np.outer([0.0, 0.5, 1.0], 0.1 * np.eye(6)[0]) + np.outer([0.0, 2 * h, h], np.eye(6)[5]) for h in heights
    ]


def notes(surface):
    """What stands below the picture of one landscape."""
    figure = plots.landscape_figure({"a panel": surface}, title="a title")
    return figure.axes[0].get_xlabel().splitlines()[1:]


def test_each_ascent_is_told_by_its_largest_off_plane_distance_and_that_of_its_end():
    paths = ascents(0.01, 0.2)
    surface = dynamics.landscape(NET, X, 0.0, AXES, eps=0.5, points=9, trajectories=paths)
    np.testing.assert_allclose(surface.off_plane_distances, [[0, 0.02, 0.01], [0, 0.4, 0.2]], atol=1e-12)
    assert surface.centre_off_plane_distance == 0
    assert notes(surface) == [
        "ℓ2 ball, ε = 0.5",
        "off-plane distances: the sample 0",
        "ascent 1 at most 0.04 ε, at its end 0.02 ε",
        "ascent 2 at most 0.8 ε, at its end 0.4 ε",
    ]


def test_a_sample_that_lies_off_the_plane_is_told_and_not_called_the_sample():
    plane = dynamics.plane_along(X + 0.25 * np.eye(6)[4], np.eye(6)[:2])
    surface = dynamics.landscape(NET, X, 0.0, plane, eps=0.5, points=9)
    assert surface.centre_off_plane_distance == pytest.approx(0.25)
    figure = plots.landscape_figure({"a panel": surface}, title="a title")
    assert "off-plane distances: the sample 0.5 ε" in figure.axes[0].get_xlabel()
    assert "the sample, projected" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_without_a_ball_distances_are_in_the_units_of_x_and_many_ascents_share_a_line():
    paths = ascents(*np.arange(1, 8) / 100)
    surface = dynamics.landscape(NET, X, 0.0, AXES, points=9, trajectories=paths)
    found = notes(surface)
    assert found[1] == "ascent 1 at most 0.02, at its end 0.01"
    assert found[-1] == "3 more ascents at most 0.14"
    assert len(found) == 6


def test_a_line_tells_its_distances_too():
    line = dynamics.plane_along(X, np.eye(6)[:1])
    surface = dynamics.landscape(NET, X, 0.0, line, eps=0.5, points=9, trajectories=ascents(0.1))
    assert notes(surface)[1:] == [
        "off-line distances: the sample 0",
        "the ascent at most 0.4 ε, at its end 0.2 ε",
    ]


def surface():
    return dynamics.landscape(NET, X, 0.0, AXES, eps=0.5, points=5)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (
            lambda: plots.landscape_figure(surface(), title="t"),
            TypeError,
            r"surfaces: expected a mapping .*; name it: {",
        ),
        (
            lambda: plots.landscape_figure({}, title="t"),
            ValueError,
            "surfaces: expected at least one Landscape, got an em",
        ),
        (
            lambda: plots.landscape_figure({"a": 1}, title="t"),
            TypeError,
            "surfaces: expected a Landscape, got 1 as 'a'",
        ),
        (lambda: plots.landscape_figure({1: surface()}, title="t"), TypeError, "surfaces: expected a name, got 1"),
        (lambda: plots.landscape_figure({"a": surface()}, title=None), TypeError, "title: expected a name, got None"),
        (
            lambda: plots.landscape_figure({"a": surface()}, title="t", same_scale=2),
            TypeError,
            "same_scale: expected True or False",
        ),
        (
            lambda: plots.landscape_figure({"a": surface()}, name="t"),
            TypeError,
            "landscape_figure has no argument name",
        ),
        (lambda: plots.accuracy_figure({"a": CURVE}, norm="l3", title="t"), ValueError, "norm: expected 'linf'"),
        (
            lambda: plots.accuracy_figure([CURVE], norm="l2", title="t"),
            TypeError,
            "curves: expected a mapping of names",
        ),
        (lambda: plots.accuracy_figure({}, norm="l2", title="t"), ValueError, "curves: expected at least one Curve"),
        (
            lambda: plots.accuracy_figure({"a": CURVE._replace(eps=np.zeros(3))}, norm="l2", title="t"),
            ValueError,
            r"curves: expected as many accuracies as radii, got shapes \(2,\) and \(3,\) of 'a'",
        ),
        (
            lambda: plots.accuracy_figure({"a": CURVE}, norm="l2", title="t", quantity=1),
            TypeError,
            "quantity: expected a name",
        ),
        (
            lambda: plots.examples_figure(IMAGES, norm="l2", image_shape=(2, 2)),
            TypeError,
            "examples: expected Examples, got an array",
        ),
        (
            lambda: plots.examples_figure(EXAMPLES, norm="l2", image_shape=4),
            TypeError,
            r"image_shape: expected \(height, width",
        ),
        (
            lambda: plots.examples_figure(EXAMPLES, norm="l2", image_shape=(3, 2, 2)),
            ValueError,
            r"image_shape: .* got \(3, 2, 2\); channels come last",
        ),
        (
            lambda: plots.examples_figure(EXAMPLES, norm="l2", image_shape=(3, 2)),
            ValueError,
            r"examples: expected one or more images of 6 numbers, as image_shape \(3, 2\) has, got shape \(2, 4\)",
        ),
        (
            lambda: plots.examples_figure(EXAMPLES._replace(clean_classes=[1]), norm="l2", image_shape=(2, 2)),
            ValueError,
            r"examples: expected clean_classes for 2 images of 4 numbers, got shape \(1,\)",
        ),
        (
            lambda: plots.examples_figure(EXAMPLES._replace(adversarial=IMAGES[:1]), norm="l2", image_shape=(2, 2)),
            ValueError,
            r"examples: expected adversarial for 2 images of 4 numbers, got shape \(1, 4\)",
        ),
    ],
)
def test_a_bad_argument_is_named(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", np.inf, 2, 1])
def test_every_spelling_of_a_norm_is_drawn(norm):
    assert plots.accuracy_figure({"a": CURVE}, norm=norm, title="t").axes[0].get_xlabel().startswith("radius of the ℓ")
    assert len(plots.examples_figure(EXAMPLES, norm=norm, image_shape=(2, 2, 1)).axes) == 7
