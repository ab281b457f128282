"""The Adversarial Robustness Toolbox (ART): two-layer networks as its classifiers, and its PGD run by this engine.

`TwoLayerClassifier` lets every attack of ART that needs predictions, class gradients or loss gradients attack a
`TwoLayerNetwork`.  `ProjectedGradientDescent` takes the place of ``art.attacks.evasion.ProjectedGradientDescent``.
"""

from pyfirstorder.interop.art.classifier import TwoLayerClassifier
from pyfirstorder.interop.art.descent import ProjectedGradientDescent

__all__ = ["ProjectedGradientDescent", "TwoLayerClassifier"]
