"""The laboratory: what projected gradient ascent does on one's own network, measured.

Trajectories of the ascent, what their ends are, and the landscape in which they run.  Source: Deng, He, Huang, Su,
"Towards Understanding the Dynamics of the First-Order Adversaries" (arXiv 2010.10650).
"""

from pyfirstorder.dynamics.landscape import Landscape, landscape, landscapes
from pyfirstorder.dynamics.maxima import Maxima, distinct_maxima
from pyfirstorder.dynamics.planes import (
    Plane,
    hessian_plane,
    line_through,
    plane_along,
    random_plane,
    three_point_plane,
    trajectory_plane,
)
from pyfirstorder.dynamics.regularity import (
    Regularity,
    curvature_spectrum,
    gradient_lipschitz,
    regularity,
    segments,
)
from pyfirstorder.dynamics.stationarity import Stationarity, Verdict, stationarity
from pyfirstorder.dynamics.trajectories import Trajectories, trace

__all__ = [
    "Landscape",
    "Maxima",
    "Plane",
    "Regularity",
    "Stationarity",
    "Trajectories",
    "Verdict",
    "curvature_spectrum",
    "distinct_maxima",
    "gradient_lipschitz",
    "hessian_plane",
    "landscape",
    "landscapes",
    "line_through",
    "plane_along",
    "random_plane",
    "regularity",
    "segments",
    "stationarity",
    "three_point_plane",
    "trace",
    "trajectory_plane",
]
