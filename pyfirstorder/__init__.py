"""pyfirstorder: the first-order adversaries of two-layer networks, fast and exact.

>>> import numpy as np, pyfirstorder as fo
>>> net = fo.random_network(in_features=8, hidden_features=32, activation="relu", seed=0)
>>> x = np.ones((2, 8), dtype=np.float32)
>>> result = fo.pgd(net, x, np.zeros(2, dtype=np.float32), eps=0.1, norm="l2", loss="squared")
>>> bool((np.linalg.norm(result.delta, axis=1) <= 0.1).all())
True
"""

from pyfirstorder.api import forward, input_gradient, predict, project
from pyfirstorder.ascent import apgd, pgd
from pyfirstorder.backends import available_backends
from pyfirstorder.certification import Certificate, certify
from pyfirstorder.config import __version__, show_config
from pyfirstorder.evaluation import Evaluation, evaluate
from pyfirstorder.interop.loading import load_network
from pyfirstorder.network import TwoLayerNetwork, random_network
from pyfirstorder.problem import Status
from pyfirstorder.results import (
    AttackResult,
    MinimalRadius,
    NotFiniteWarning,
    RobustnessCurve,
    Trace,
    ZeroGradientWarning,
)
from pyfirstorder.sweeps import minimal_eps, robustness_curve

__all__ = [
    "AttackResult",
    "Certificate",
    "Evaluation",
    "MinimalRadius",
    "NotFiniteWarning",
    "RobustnessCurve",
    "Status",
    "Trace",
    "TwoLayerNetwork",
    "ZeroGradientWarning",
    "__version__",
    "apgd",
    "available_backends",
    "certify",
    "evaluate",
    "forward",
    "input_gradient",
    "load_network",
    "minimal_eps",
    "pgd",
    "predict",
    "project",
    "random_network",
    "robustness_curve",
    "show_config",
]
