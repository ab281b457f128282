"""Training a two-layer network, on clean samples or on the adversary's: `train`.

Adversarial examples come from `pyfirstorder.pgd` on the network as it stands at that mini-batch (Madry et al. 2018,
arXiv 1706.06083), gradients from `pyfirstorder.gradients`.
"""

from pyfirstorder.gradients import Parameters, weight_gradients
from pyfirstorder.training.history import Epoch, TrainingResult, write_history
from pyfirstorder.training.loop import TRAINED, train
from pyfirstorder.training.targets import TRAINING_LOSSES

__all__ = [
    "TRAINED",
    "TRAINING_LOSSES",
    "Epoch",
    "Parameters",
    "TrainingResult",
    "train",
    "weight_gradients",
    "write_history",
]
