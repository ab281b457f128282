"""The laboratory: what projected gradient ascent does on one's own network, measured."""

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

__all__ = [
    "Landscape",
    "Maxima",
    "Plane",
    "Regularity",
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
    "three_point_plane",
    "trajectory_plane",
]
