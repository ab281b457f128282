"""The claims of Deng et al. 2020 (arXiv 2010.10650), each as an experiment with a verdict."""

from pyfirstorder.experiments.catalogue import EXPERIMENTS
from pyfirstorder.experiments.experiment import Experiment, Judgement, Outcome, Verdict

__all__ = ["EXPERIMENTS", "Experiment", "Judgement", "Outcome", "Verdict"]
