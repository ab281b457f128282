"""Public names of laboratory, training, figures and loaders say how they fail and show an example, which is run."""

from __future__ import annotations

import inspect

import pytest

from pyfirstorder import certification, dynamics, training
from pyfirstorder.interop import models

PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (dynamics, certification, training)
    for name in module.__all__
    if callable(getattr(module, name))
}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
LOADERS = {f"models.{name}": getattr(models, name) for name in models.__all__}
WITHOUT_SOURCE = ("pyfirstorder.training.write_history", "pyfirstorder.certification.gap")  # a table; a difference


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example(name):
    assert "Examples\n--------\n>>> " in inspect.getdoc(PUBLIC[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_parameters_results_and_errors(name):
    text = inspect.getdoc(FUNCTIONS[name])
    for section in ("Parameters", "Returns", "Raises") if name != WITHOUT_SOURCE[0] else ("Parameters", "Raises"):
        assert f"{section}\n{'-' * len(section)}\n" in text, section


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in WITHOUT_SOURCE])
def test_every_function_names_its_source(name):
    assert "References\n----------\n" in inspect.getdoc(FUNCTIONS[name])


@pytest.mark.parametrize("name", LOADERS)
def test_every_loader_has_parameters_results_errors_and_an_example(name):
    require_sections(LOADERS[name], "Parameters", "Returns", "Raises", "Examples")


@pytest.mark.parametrize("name", ["accuracy_figure", "examples_figure", "landscape_figure"])
def test_every_figure_has_parameters_results_errors_and_an_example(name):
    plots = pytest.importorskip("pyfirstorder.plots", reason="figures need matplotlib")
    require_sections(getattr(plots, name), "Parameters", "Returns", "Raises", "Examples")


def test_what_figures_are_made_of_has_an_example():
    plots = pytest.importorskip("pyfirstorder.plots", reason="figures need matplotlib")
    for each in (plots.Curve, plots.Examples, plots.new_figure, plots.style):
        require_sections(each, "Examples")


def require_sections(named, *sections):
    for section in sections:
        assert f"{section}\n{'-' * len(section)}\n" in inspect.getdoc(named), section
