"""Public names of the laboratory and of training say how they fail and where they come from, and show an example."""

from __future__ import annotations

import inspect

import pytest

from pyfirstorder import certification, dynamics, training

PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (dynamics, certification, training)
    for name in module.__all__
    if callable(getattr(module, name))
}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
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
