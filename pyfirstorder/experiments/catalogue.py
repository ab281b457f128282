"""The experiments by name, in the order of a report; a new one is a module and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfirstorder.experiments import convergence, general_loss, input_scale, surfaces, training_speed

if TYPE_CHECKING:
    from pyfirstorder.experiments.experiment import Experiment

_MODULES = (convergence, input_scale, surfaces, training_speed, general_loss)
EXPERIMENTS: dict[str, Experiment] = {module.EXPERIMENT.name: module.EXPERIMENT for module in _MODULES}
