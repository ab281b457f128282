"""Planes, the loss on them, and where they cut ball and box; held against the whole network and plain definitions."""

from __future__ import annotations

import io

import numpy as np
import pytest
from support import (
    ACTIVATION_NAMES,
    LOSS_NAMES,
    every_backend_name,
    every_dtype,
    every_norm,
    make_network,
    smallest_outputs,
)

import pyfirstorder as fo
from pyfirstorder import dynamics
from pyfirstorder.dynamics.sections import Region
from pyfirstorder.problem import NORMS

RNG_SEED = 7
# Of the sizes that were added: h of the plane is a sum of three products instead of one, each rounded some d times.
SAME = {np.float32: 2e-4, np.float64: 2e-12}


def rng(*key):
    return np.random.default_rng([RNG_SEED, *key])


def target(loss, k, dtype=np.float64):
    """A target of one sample."""
    if loss in ("cross_entropy", "margin", "dlr"):
        return k - 1
    return 1 if loss == "logistic" else rng(k).standard_normal(k).astype(dtype)


def whole(net, y, surface, **options):
    """Loss and gradient of the original network at every point of the grid."""
    grid = np.stack(np.meshgrid(*surface.axes, indexing="ij"), axis=-1).reshape(-1, len(surface.axes))
    x = surface.plane.points(grid).astype(surface.loss.dtype)
    each = np.repeat(np.asarray(y).reshape(1, -1), len(x), axis=0)
    each = each[:, 0] if each.shape[1] == 1 else each
    loss, gradient = fo.input_gradient(net, x, each, **options)
    return loss.reshape(surface.loss.shape), gradient.reshape(*surface.loss.shape, -1)


# ------------------------------------------------------------------ the surface


@every_dtype
@pytest.mark.parametrize("k", [1, 10])
@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus"])
def test_the_loss_on_a_plane_is_that_of_the_network_at_784_inputs(activation, k, dtype):
    net = make_network(784, 128, k, activation, dtype)
    x = rng(k).random(784).astype(dtype)
    y = 3 if k > 1 else np.array(0.5, dtype)
    surface = dynamics.landscape(net, x, y, dynamics.random_plane(x), span=2.0, points=11)
    expected, _ = whole(net, y, surface)
    assert surface.loss.dtype == dtype
    np.testing.assert_allclose(surface.loss, expected, atol=SAME[dtype] * max(1, np.abs(expected).max()), rtol=0)


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_every_activation_has_its_landscape_and_its_gradient_in_the_plane(activation):
    net = make_network(30, 40, 3, activation)
    x = rng(1).standard_normal(30)
    plane = dynamics.random_plane(x)
    surface = dynamics.landscape(net, x, 2, plane, span=1.5, points=7, gradient=True, output=True)
    expected, gradient = whole(net, 2, surface)
    np.testing.assert_allclose(surface.loss, expected, atol=1e-11)
    np.testing.assert_allclose(surface.gradient, gradient @ plane.directions.T, atol=1e-11)
    grid = np.stack(np.meshgrid(*surface.axes, indexing="ij"), axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(surface.output.reshape(49, 3), fo.forward(net, plane.points(grid)), atol=1e-11)


@every_backend_name
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_every_loss_has_its_landscape_on_every_backend(backend_name, loss, targeted):
    k = 1 if loss == "logistic" else max(5, smallest_outputs(loss, targeted))
    net = make_network(12, 20, k, "softplus")
    x, y = rng(2).standard_normal(12), target(loss, k)
    plane = dynamics.random_plane(x, dimensions=1)
    options = {"loss": loss, "targeted": targeted, "backend": backend_name}
    without = dynamics.landscape(net, x, y, plane, span=0.5, points=5, **options)
    surface = dynamics.landscape(net, x, y, plane, span=0.5, points=5, gradient=True, **options)
    np.testing.assert_allclose(without.loss, surface.loss, atol=1e-12)
    if loss == "dlr" and targeted:  # the label it moves away from is that predicted at x, on all of the plane
        z = fo.forward(net, plane.points(surface.axes[0][:, None]))
        source = np.argsort(-fo.forward(net, x[None])[0])
        source = source[source != y][0]
        order = np.sort(z, axis=1)[:, ::-1]
        expected = -(z[:, source] - z[:, y]) / (order[:, 0] - 0.5 * (order[:, 2] + order[:, 3]))
        np.testing.assert_allclose(surface.loss, expected, atol=1e-9)
        return
    expected, gradient = whole(net, y, surface, loss=loss, targeted=targeted)
    np.testing.assert_allclose(surface.loss, expected, atol=1e-11)
    np.testing.assert_allclose(surface.gradient, gradient @ plane.directions.T, atol=1e-11)


def test_the_gradient_in_the_plane_is_the_slope_of_the_surface():
    net = make_network(40, 60, 1, "tanh")
    x = rng(3).standard_normal(40)
    surface = dynamics.landscape(net, x, 0.5, dynamics.random_plane(x), span=1e-4, points=3, gradient=True)
    step = surface.axes[0][1] - surface.axes[0][0]
    slopes = [
        (surface.loss[2, 1] - surface.loss[0, 1]) / (2 * step),
        (surface.loss[1, 2] - surface.loss[1, 0]) / (2 * step),
    ]
    # central differences: third derivatives of order one times 1e-8, and rounding 1e-16 over 1e-4
    np.testing.assert_allclose(surface.gradient[1, 1], slopes, atol=1e-7)


def test_a_quadratic_network_has_a_quadratic_surface():
    net = fo.TwoLayerNetwork(np.diag([1.0, 2.0, 3.0]), np.ones(3), activation="quadratic")
    plane = dynamics.plane_along(np.zeros(3), np.eye(3)[1:])
    surface = dynamics.landscape(net, np.zeros(3), 1.0, plane, loss="linear", span=2.0, points=5)
    a, b = np.meshgrid(*surface.axes, indexing="ij")
    np.testing.assert_allclose(surface.loss, 4 * a**2 + 9 * b**2, atol=1e-13)


def test_a_linear_network_has_a_plane_for_a_surface():
    net = make_network(9, 5, 1, "identity")
    x = rng(4).standard_normal(9)
    surface = dynamics.landscape(net, x, 1.0, dynamics.random_plane(x), loss="linear", span=3.0, points=9)
    for axis in (0, 1):
        np.testing.assert_allclose(np.diff(surface.loss, n=2, axis=axis), 0, atol=1e-13)


def test_a_batch_of_planes_gives_what_each_gives_alone():
    net = make_network(20, 30, 4)
    x, y = rng(5).standard_normal((3, 4, 5)), np.array([0, 3, 1])
    planes = [
        dynamics.random_plane(x[0]),
        dynamics.random_plane(x[1], dimensions=1),
        dynamics.hessian_plane(net, x[2], 1),
    ]
    radii = [0.5, 0.25, 1.0]
    together = dynamics.landscapes(net, x, y, planes, eps=radii, norm="linf", bounds=(-5, 5), points=9)
    for i, surface in enumerate(together):
        alone = dynamics.landscape(net, x[i], y[i], planes[i], eps=radii[i], norm="linf", bounds=(-5, 5), points=9)
        np.testing.assert_array_equal(surface.loss, alone.loss)
        np.testing.assert_array_equal(surface.feasible, alone.feasible)


@every_dtype
def test_a_landscape_does_not_depend_on_threads(dtype):
    net = make_network(50, 40, 3, "gelu", dtype)
    x = rng(6).standard_normal(50).astype(dtype)
    one, two = (
        dynamics.landscape(net, x, 1, dynamics.random_plane(x), span=1.0, points=40, threads=threads)
        for threads in (1, 2)
    )
    np.testing.assert_array_equal(one.loss, two.loss)


def test_a_trajectory_is_projected_onto_the_plane_and_its_distance_is_told():
    net = make_network(6, 10, 1)
    x = np.zeros(6)
    plane = dynamics.plane_along(x, np.eye(6)[:2])
    path = np.zeros((4, 6))
    path[:, 0], path[:, 5] = [0, 1, 2, 3], [0, 0, 4, np.nan]
    path[3] = np.nan
    surface = dynamics.landscape(net, x, 0.0, plane, trajectories=[path])
    np.testing.assert_allclose(surface.trajectories[0], [[0, 0], [1, 0], [2, 0]], atol=1e-15)
    np.testing.assert_allclose(surface.off_plane_distances[0], [0, 0, 4], atol=1e-15)


def test_the_default_span_holds_the_ball_and_the_trajectories():
    net = make_network(6, 10, 1)
    x, plane = np.zeros(6), dynamics.plane_along(np.zeros(6), np.eye(6)[:2])
    surface = dynamics.landscape(net, x, 0.0, plane, eps=1.0, trajectories=[np.array([[0.0] * 6, [3.0] + [0.0] * 5])])
    for axis in surface.axes:
        assert axis[0] <= -1
        assert axis[-1] >= 1
    assert surface.axes[0][-1] >= 3


# ------------------------------------------------------------------ ball and box


@every_norm
@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("offset", [0.0, 0.05])
def test_the_mask_is_what_ball_and_box_are_by_definition(norm, boxed, offset):
    d, eps = 8, {"linf": 0.5, "l2": 1.0, "l1": 2.0}[norm]
    net, x = make_network(d, 10, 1), rng(8).random(d)
    plane = dynamics.random_plane(x + offset * rng(9).standard_normal(d) * eps / 3)
    bounds = (0, 1) if boxed else None
    surface = dynamics.landscape(net, x, 0.0, plane, eps=eps, norm=norm, bounds=bounds, span=1.5, points=41)
    grid = plane.points(np.stack(np.meshgrid(*surface.axes, indexing="ij"), axis=-1))
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    excess = np.linalg.norm((grid - x).reshape(-1, d), ord=order, axis=1).reshape(41, 41) - eps
    if boxed:
        excess = np.maximum(excess, np.maximum(-grid, grid - 1).max(axis=2))
    clear = np.abs(excess) > 1e-8  # the mask decides to 1e-9 of the radius
    np.testing.assert_array_equal(surface.feasible[clear], (excess <= 0)[clear])
    assert surface.feasible.any()


@every_norm
def test_the_boundary_lies_on_the_edge_of_ball_or_box(norm):
    d, eps = 8, {"linf": 0.3, "l2": 0.7, "l1": 1.2}[norm]
    net, x = make_network(d, 10, 1), rng(10).random(d)
    surface = dynamics.landscape(net, x, 0.0, dynamics.random_plane(x), eps=eps, norm=norm, bounds=(0, 1), points=3)
    edge = surface.plane.points(surface.boundary)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    of_ball = np.linalg.norm(edge - x, ord=order, axis=1) - eps
    of_box = np.maximum(-edge, edge - 1).max(axis=1)
    np.testing.assert_allclose(np.maximum(of_ball, of_box), 0, atol=1e-8)
    np.testing.assert_array_equal(surface.boundary[0], surface.boundary[-1])


@every_norm
def test_a_line_is_cut_where_a_search_by_halves_finds_the_edge(norm):
    d, order = 9, {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    for case in range(20):
        draw = rng(11, case)
        offset, direction = 0.2 * draw.standard_normal(d), draw.standard_normal(d) * (draw.random(d) < 0.7)
        direction[0] += 1.0
        region = Region(np.zeros(d), norm, 3.0, None, None)
        low, high = (float(end[0]) for end in region.chords(offset[None], direction))
        for end, sign in ((high, 1), (low, -1)):
            inside, outside = 0.0, sign * 100.0
            for _ in range(80):
                middle = 0.5 * (inside + outside)
                is_in = np.linalg.norm(offset + middle * direction, ord=order) <= 3.0
                inside, outside = (middle, outside) if is_in else (inside, middle)
            assert end == pytest.approx(inside, abs=1e-7)


@pytest.mark.parametrize("norm", NORMS)
def test_a_line_that_misses_the_ball_has_nothing_in_it(norm):
    low, high = Region(np.zeros(3), norm, 1.0, None, None).chords(
        np.array([[0.0, 5.0, 0.0]]), np.array([1.0, 0.0, 0.0])
    )
    assert low[0] > high[0]


def test_a_coordinate_on_the_edge_of_the_box_in_all_three_points_does_not_close_the_section():
    points = rng(12).random((3, 20))
    points[:, ::3] = 0.0
    net, plane = make_network(20, 5, 1), dynamics.three_point_plane(*points)
    surface = dynamics.landscape(net, points.mean(axis=0), 0.0, plane, bounds=(0, 1), eps=1.0, points=21)
    corners = surface.plane.coordinates(points)
    for corner in corners:  # all three points of the box lie within the outline
        nearest = np.linalg.norm(surface.boundary - surface.boundary.mean(axis=0), axis=1).max()
        assert np.linalg.norm(corner - surface.boundary.mean(axis=0)) <= nearest
    assert surface.feasible.sum() > 50


# ------------------------------------------------------------------ pictures


def drawn(surfaces, **options):
    """The panels of a figure, after it was really drawn."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from pyfirstorder import plots

    figure = plots.landscape_figure(surfaces, title="a title", **options)
    with io.BytesIO() as page:
        figure.savefig(page, dpi=40)
    return [axes for axes in figure.axes if axes.get_title(loc="left")]


def lines(axes):
    """The lines of a panel by their names."""
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def test_a_picture_shows_surface_ball_and_trajectory_in_coordinates_of_the_plane():
    net, x = make_network(6, 10, 1), rng(24).random(6)
    paths = [x + 0.1 * np.cumsum(rng(25).standard_normal((4, 6)), axis=0)]
    plane = dynamics.random_plane(x)
    surface = dynamics.landscape(net, x, 0.0, plane, eps=0.5, trajectories=paths, points=21)
    (panel,) = drawn({"a plane": surface})
    found = lines(panel)
    np.testing.assert_array_equal(found["ascent, projected"], surface.trajectories[0])
    np.testing.assert_array_equal(found["its end"], surface.trajectories[0][-1:])
    np.testing.assert_array_equal(found["edge of ball and box"], surface.boundary)
    np.testing.assert_array_equal(found["the sample, projected"], surface.centre[None])
    assert panel.get_xlim() == (surface.axes[0][0], surface.axes[0][-1])


def test_the_first_direction_of_a_picture_runs_to_the_right():
    net = fo.TwoLayerNetwork(np.eye(2), np.array([1.0, 0.0]), activation="identity")  # rises along the first input
    plane = dynamics.plane_along(np.zeros(2), np.eye(2))
    surface = dynamics.landscape(net, np.zeros(2), 1.0, plane, loss="linear", span=1.0, points=21)
    (panel,) = drawn({"a plane": surface})
    bands = [path.to_polygons() for path in panel.collections[0].get_paths()]
    middles = [np.concatenate(list(band)).mean(axis=0) for band in bands if band]
    assert (np.diff([middle[0] for middle in middles]) > 0).all()
    np.testing.assert_allclose([middle[1] for middle in middles], 0, atol=0.35)


def test_a_picture_of_a_line_is_its_profile_and_panels_can_share_a_scale():
    net, x = make_network(6, 10, 1), rng(26).random(6)
    line = dynamics.landscape(net, x, 0.0, dynamics.random_plane(x, dimensions=1), eps=0.5, norm="l1", points=21)
    flat = fo.TwoLayerNetwork(np.eye(6), np.zeros(6))
    level = dynamics.landscape(flat, x, 0.0, dynamics.random_plane(x, dimensions=1), span=0.5, points=21)
    first, second = drawn({"a line": line, "nothing": level}, same_scale=True)
    np.testing.assert_array_equal(first.get_lines()[0].get_xydata(), np.stack([line.axes[0], line.loss], axis=1))
    assert first.get_ylim() == second.get_ylim()


# ------------------------------------------------------------------ what is refused


NET, X = make_network(6, 8, 3), np.zeros(6)
PLANE = dynamics.random_plane(X)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dynamics.landscape("net", X, 0, PLANE, span=1.0), TypeError, "net: expected a TwoLayerNetwork"),
        (
            lambda: dynamics.landscape(NET, np.zeros(5), 0, PLANE, span=1.0),
            ValueError,
            "x: expected one sample of 6 numbers",
        ),
        (lambda: dynamics.landscape(NET, X, 3, PLANE, span=1.0), ValueError, "y: expected class indices from 0 to 2"),
        (lambda: dynamics.landscape(NET, X, 0, PLANE), ValueError, "span: .* no ball, box or trajectory"),
        (
            lambda: dynamics.landscape(NET, X, 0, PLANE, eps=0.0),
            ValueError,
            "span: .* because ball and traj.* are one point",
        ),
        (
            lambda: dynamics.landscape(NET, X, 0, PLANE, span="wide"),
            TypeError,
            r"span: expected a number, .* \[\(low, high\), \(low, high\)\], got 'wide'",
        ),
        (
            lambda: dynamics.landscape(NET, X, 0, PLANE, span=-1.0),
            ValueError,
            "span: expected finite numbers, (each low below its high|above 0)",
        ),
        (
            lambda: dynamics.landscape(NET, X, 0, PLANE, span=[[0, 1]]),
            ValueError,
            r"span: expected a number, half the .*\(low, high\)",
        ),
        (lambda: dynamics.landscape(NET, X, 0, PLANE, span=1.0, points=1), ValueError, "points: expected an integer"),
        (
            lambda: dynamics.landscape(NET, X, 0, PLANE, span=1.0, eps=-1.0),
            ValueError,
            "eps: expected numbers of at",
        ),
        (lambda: dynamics.landscape(NET, X, 0, PLANE, span=1.0, gradient=1), TypeError, "gradient: expected True or"),
        (
            lambda: dynamics.landscape(NET, X, 0, PLANE, trajectories=[np.zeros((3, 5))]),
            ValueError,
            "trajectories: expected iterates of 6 numbers, got 5",
        ),
        (
            lambda: dynamics.landscape(NET, X, 0, dynamics.random_plane(np.zeros(7)), span=1.0),
            ValueError,
            "plane: expected an origin of 6 numbers",
        ),
        (
            lambda: dynamics.landscape(NET, X, 0, dynamics.Plane(X, np.ones((2, 6))), span=1.0),
            ValueError,
            "plane: expected orthonormal directions",
        ),
        (lambda: dynamics.landscape(NET, X, 0, X, span=1.0), TypeError, "plane: expected a Plane, as random_plane"),
        (
            lambda: dynamics.landscapes(NET, X[None], [0], [], span=1.0),
            ValueError,
            "planes: expected one for each of 1",
        ),
        (
            lambda: dynamics.trajectory_plane(np.full((2, 6), np.inf)),
            ValueError,
            "trajectory: expected finite iterates",
        ),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
