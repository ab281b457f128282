"""Two-layer networks in JAX: values, derivatives of any order, and attacks under jit, vmap and grad."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
from support import ACTIVATION_NAMES

import pyfirstorder as fo
from pyfirstorder.backends.reference.activations import ACTIVATIONS

jax = pytest.importorskip("jax", reason="needs jax")
import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

from pyfirstorder.interop import jax as ours  # noqa: E402
from pyfirstorder.interop import kept_networks  # noqa: E402
from pyfirstorder.interop.jax import derivatives  # noqa: E402
from pyfirstorder.interop.kept_networks import Parts  # noqa: E402

SMOOTH = [name for name in ACTIVATIONS if name not in ("relu", "leaky_relu", "elu", "identity")]
IN_JAX: dict[str, Any] = {
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
    "erf": jax.scipy.special.erf,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
    "quadratic": lambda h: h * h,
}
LINF = {"eps": 0.125, "bounds": (0, 1), "steps": 6}  # a radius that float32 has


@pytest.fixture
def x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def make_params(d=6, m=7, k=3, dtype=np.float32, seed=0):
    generator = np.random.default_rng(seed)
    shapes = {"hidden_weight": (m, d), "hidden_bias": (m,), "output_weight": (k, m), "output_bias": (k,)}
    return {name: jnp.asarray(generator.standard_normal(shape), dtype) for name, shape in shapes.items()}


def make_net(activation="tanh", **sizes):
    return fo.TwoLayerNetwork(**make_params(**sizes), activation=activation)


def make_samples(samples=5, d=6, k=3, dtype=np.float32, seed=1):
    generator = np.random.default_rng(seed)
    return jnp.asarray(generator.random((samples, d)), dtype), jnp.asarray(generator.integers(0, k, samples))


def in_jax(params, x, activation):
    h = x @ params["hidden_weight"].T + params["hidden_bias"]
    return IN_JAX[activation](h) @ params["output_weight"].T + params["output_bias"]


def assert_trees_close(actual, expected, rtol=1e-10):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)


def assert_same_bits(actual, expected):
    assert_trees_close(actual, expected, rtol=0)


# ------------------------------------------------------------------ values and derivatives


def test_every_activation_of_the_library_is_there():
    assert list(derivatives.ACTIVATIONS) == list(ACTIVATIONS)


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_slopes_and_curvatures_are_those_of_the_reference_at_kinks_too(x64, activation):
    h = np.array([-3.0, -0.5, 0.0, 0.5, 3.0])
    name, parameter = fo.network.parse_activation(activation)
    sigma = derivatives.Model(None, activation).sigma
    value, slope, bend = jax.jit(jax.vmap(lambda h: (sigma(h), jax.grad(sigma)(h), jax.grad(jax.grad(sigma))(h))))(h)
    np.testing.assert_allclose(value, ACTIVATIONS[name].value(h, parameter), atol=1e-14)
    np.testing.assert_allclose(slope, ACTIVATIONS[name].derivative(h, parameter), atol=1e-14)
    np.testing.assert_allclose(bend, ACTIVATIONS[name].curvature(h, parameter), atol=1e-13)


def transforms(*names):
    """With jit for every name, and for the first without it too: that is slow to trace, and no different."""
    return pytest.mark.parametrize(
        ("name", "transform"),
        [(name, jax.jit) for name in names] + [(names[0], lambda f: f)],
        ids=[*names, f"{names[0]} without jit"],
    )


@transforms("elu", "softplus", "erf", "quadratic")
def test_outputs_and_gradients_are_those_of_jax(x64, name, transform):
    params, (x, _) = make_params(dtype=np.float64), make_samples(dtype=np.float64)

    def loss(forward, params, x):
        return jnp.sum(jnp.sin(forward(params, x, activation=name)))

    found, expected = (
        wrap(jax.value_and_grad(partial(loss, forward), argnums=(0, 1)))(params, x)
        for forward, wrap in ((ours.forward, transform), (in_jax, jax.jit))
    )
    assert_trees_close(found, expected)


@pytest.mark.parametrize(("activation", "fixed"), [("relu", False), ("silu", False), ("gelu", True)])
def test_derivatives_of_the_input_gradient_are_those_of_jax(x64, activation, fixed):
    params, (x, _) = make_params(dtype=np.float64), make_samples(dtype=np.float64)
    net = fo.TwoLayerNetwork(**params, activation=activation)
    v = jnp.linspace(-1, 1, 15).reshape(5, 3)

    def penalty(forward, x, v, params):
        _, back = jax.vjp(lambda x: forward(params, x), x)
        return jnp.sum(back(v)[0] ** 2 * jnp.linspace(0.5, 1, 6))

    def of_net(params, x):
        return ours.forward(net, x) if fixed else ours.forward(params, x, activation=activation)

    arguments = (0, 1) if fixed else (0, 1, 2)
    found, expected = (
        jax.jit(jax.grad(partial(penalty, forward), argnums=arguments))(x, v, params)
        for forward in (of_net, partial(in_jax, activation=activation))
    )
    assert_trees_close(found, expected, 1e-9)


@pytest.mark.parametrize("activation", SMOOTH)
def test_jaxs_own_check_of_first_and_second_derivatives_passes(x64, activation):
    net, (x, _) = make_net(activation, dtype=np.float64), make_samples(2, dtype=np.float64)
    check_grads(jax.jit(partial(ours.forward, net)), (x,), order=2, modes=["rev"])


def test_jaxs_own_check_passes_for_weights_too(x64):
    params, (x, _) = make_params(dtype=np.float64), make_samples(2, dtype=np.float64)
    check_grads(jax.jit(partial(ours.forward, activation="tanh")), (params, x), order=2, modes=["rev"])


def test_third_derivatives_are_there_as_well(x64):
    params, (x, _) = make_params(dtype=np.float64), make_samples(dtype=np.float64)

    def third(f):
        for _ in range(3):
            f = jax.grad(f)
        return jax.jit(f)(0.3)

    found = third(lambda t: ours.forward(params, t * x, activation="tanh").sum())
    np.testing.assert_allclose(found, third(lambda t: in_jax(params, t * x, "tanh").sum()), rtol=1e-9)


def test_the_hessian_of_a_sample_comes_by_reverse_mode_twice(x64):
    net, params = make_net(dtype=np.float64), make_params(dtype=np.float64)
    x = make_samples(dtype=np.float64)[0][0]
    found = jax.jit(jax.jacrev(jax.jacrev(lambda x: ours.forward(net, x)[1])))(x)
    assert_trees_close(found, jax.jit(jax.hessian(lambda x: in_jax(params, x, "tanh")[1]))(x))


def test_forward_mode_is_refused():
    net, (x, _) = make_net(), make_samples()
    with pytest.raises(TypeError, match="can't apply forward-mode"):
        jax.jvp(partial(ours.forward, net), (x,), (x,))


def test_gradients_of_single_samples_map_over_a_batch(x64):
    net, (x, _) = make_net(dtype=np.float64), make_samples(dtype=np.float64)
    found = jax.vmap(jax.grad(lambda x: ours.forward(net, x)[0]))(x)
    upstream = np.tile([1.0, 0, 0], (5, 1))
    np.testing.assert_array_equal(found, fo.input_gradient(net, np.asarray(x), upstream, loss="linear")[1])


@pytest.mark.parametrize("shape", [(0, 6), (4, 2, 3), (4, 6)])
def test_samples_of_any_shape_are_flattened(shape):
    net, x = make_net(), jnp.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    expected = fo.forward(net, np.asarray(x))
    for forward in (ours.forward, jax.jit(ours.forward, static_argnums=0)):
        np.testing.assert_array_equal(forward(net, x), expected)
    assert jax.grad(lambda x: ours.forward(net, x).sum())(x).shape == shape


@pytest.mark.parametrize("traced", [False, True])
def test_an_output_weight_without_a_row_axis_gives_outputs_without_one(traced):
    params, (x, _) = make_params(k=1), make_samples()
    params["output_weight"] = params["output_weight"][0]
    forward = partial(ours.forward, activation="relu")
    forward = jax.jit(forward) if traced else forward
    found = forward(params, x)
    np.testing.assert_array_equal(found, fo.forward(fo.TwoLayerNetwork(**params), np.asarray(x)))
    assert found.shape == (5,)
    assert forward(params, x[0]).shape == ()
    gradients = jax.grad(lambda params: forward(params, x).sum())(params)
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, params)


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "squared", "linear"])
@pytest.mark.parametrize("targeted", [False, True])
def test_losses_and_input_gradients_are_those_of_the_library(loss, targeted):
    net, (x, y) = make_net(), make_samples()
    y = y if loss in ("cross_entropy", "margin") else jnp.linspace(-1, 1, 15).reshape(5, 3)
    options = {"loss": loss, "targeted": targeted}
    expected = jax.tree.map(jnp.asarray, fo.input_gradient(net, np.asarray(x), np.asarray(y), **options))
    call = partial(ours.input_gradient, net, **options)
    assert_trees_close(call(x, y), expected, 1e-5)
    assert_trees_close(jax.jit(call)(x, y), expected, 1e-5)
    assert_trees_close(jax.vmap(call)(x, y), expected, 1e-5)


def test_the_input_gradient_of_the_linear_loss_has_derivatives(x64):
    params, (x, _) = make_params(dtype=np.float64), make_samples(2, dtype=np.float64)
    v = jnp.linspace(-1, 1, 6).reshape(2, 3)
    call = jax.jit(partial(ours.input_gradient, loss="linear", activation="tanh"))
    check_grads(call, (params, x, v), order=2, modes=["rev"])


def test_input_gradients_of_other_losses_say_what_to_differentiate_instead():
    net, (x, y) = make_net(), make_samples()
    with pytest.raises(TypeError, match=r"input_gradient: only loss='linear'.*take jax.grad of your own loss"):
        jax.grad(lambda x: ours.input_gradient(net, x, y)[1].sum())(x)


# ------------------------------------------------------------------ attacks


ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "linf": ("pgd", LINF),
    "l2 at random": ("pgd", {"eps": 0.5, "norm": "l2", "random_start": True, "restarts": 2, "seed": 3, "steps": 5}),
    "everything kept": ("pgd", LINF | {"keep": "both", "trace": True}),
    "apgd": ("apgd", {"eps": 0.125, "steps": 8, "norm": "l1"}),
}
every_attack = pytest.mark.parametrize(("function", "options"), ATTACKS.values(), ids=list(ATTACKS))


@pytest.mark.parametrize("weights", ["network", "params"])
@every_attack
def test_attacks_have_the_bits_of_numpy_with_and_without_jit(function, options, weights):
    net, (x, y) = make_net(), make_samples()
    expected = getattr(fo, function)(net, np.asarray(x), np.asarray(y), **options)
    attack = partial(getattr(ours, function), **options)
    given = net
    if weights == "params":
        attack, given = partial(attack, activation="tanh"), make_params()
    found = attack(given, x, y)
    jitted = jax.jit(attack, static_argnums=0)(net, x, y) if weights == "network" else jax.jit(attack)(given, x, y)
    assert_same_bits(jitted, found)
    for name in ours.AttackResult._fields:
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None)
        for part, wanted in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
            assert isinstance(part, jax.Array)
            np.testing.assert_array_equal(part, wanted.astype(part.dtype))


def test_counts_are_int32_without_x64_and_labels_may_be():
    net, (x, y) = make_net(), make_samples()
    assert y.dtype == np.int32
    found = jax.jit(partial(ours.pgd, net, trace=True, **LINF))(x, y)
    kinds = (found.x_adv.dtype, found.steps.dtype, found.status.dtype, found.success.dtype, found.trace.loss.dtype)
    assert kinds == (np.float32, np.int32, np.int8, np.bool_, np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_with_x64_types_are_those_of_numpy(x64, dtype):
    net, (x, y) = make_net(dtype=np.float64), make_samples(dtype=dtype)
    found = jax.jit(partial(ours.pgd, net, trace=True, **LINF))(x, y)
    kinds = (found.x_adv.dtype, found.loss.dtype, found.steps.dtype, found.trace.loss.dtype)
    assert kinds == (dtype, dtype, np.int64, np.float64)


MAPPED: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "x": ({}, {"x": 0}),
    "y": ({}, {"y": 0}),
    "x along its second axis": ({}, {"x": 1}),
    "x and y": ({}, {"x": 0, "y": 0}),
    "eps": ({}, {"eps": 0}),
    "x and eps": ({}, {"x": 0, "eps": 0}),
    "radii": ({}, {"radii": 0}),
    "x_init": ({}, {"x_init": 0}),
    "step_size": ({}, {"step_size": 0}),
    "lower": ({}, {"lower": 0}),
    "momentum": ({"norm": "l2"}, {"momentum": 0}),
    "weights": ({}, {"weights": 0}),
    "weights and x": ({}, {"weights": 0, "x": 0}),
    "seed": ({"random_start": True}, {"seed": 0}),
    "eps from a random start": ({"random_start": True}, {"eps": 0}),
    "everything": ({}, dict.fromkeys(("x", "y", "eps", "lower", "weights", "momentum", "x_init"), 0)),
}


def mapped_attack(options, names):
    """An attack of the named arrays, and such arrays with a mapped axis of 3 where an axis says so."""
    generator = np.random.default_rng(5)

    def attack(given):
        given = dict(given)
        arrays = {"eps": jnp.float32(0.125), "lower": jnp.float32(0), "weights": make_params()["hidden_weight"]}
        arrays |= dict(zip("xy", make_samples())) | given
        params = make_params() | {"hidden_weight": arrays.pop("weights")}
        arrays["eps"] = arrays.pop("radii", arrays["eps"])
        bounds = arrays.pop("lower"), jnp.float32(1)
        x, y = arrays.pop("x"), arrays.pop("y")
        return ours.pgd(params, x, y, activation="tanh", steps=4, bounds=bounds, **arrays, **options)

    shapes = {"x": (5, 6), "x_init": (5, 6), "radii": (5,), "weights": (7, 6)}
    given = {}
    for name, axis in names.items():
        shape = list(shapes.get(name, ()))
        shape.insert(axis, 3)
        given[name] = jnp.asarray(generator.random(shape, dtype=np.float32)) * (0.2 if name in ("eps", "lower") else 1)
    for name, values in {"y": generator.integers(0, 3, (3, 5)), "seed": generator.integers(0, 2**31, 3)}.items():
        if name in names:
            given[name] = jnp.asarray(values)
    if "lower" in names:
        given["lower"] = -given["lower"]  # so that x is within bounds
    return attack, given


@transforms(*MAPPED)
def test_a_mapped_attack_has_the_bits_of_one_attack_for_each(name, transform):
    options, names = MAPPED[name]
    attack, given = mapped_attack(options, names)
    found = transform(jax.vmap(attack, in_axes=(names,)))(given)
    each = [attack({name: jnp.take(given[name], i, axis) for name, axis in names.items()}) for i in range(3)]
    assert_same_bits(found, jax.tree.map(lambda *parts: jnp.stack(parts), *each))


def test_nested_maps_have_the_bits_of_one_attack_for_each():
    net, (x, y) = make_net(), make_samples()
    eps, sizes = jnp.array([0.0, 0.0625, 0.25]), jnp.array([0.0625, 0.125])

    def attack(x, y, eps, step_size):
        return ours.pgd(net, x, y, eps=eps, step_size=step_size, steps=3)

    over_samples = jax.vmap(attack, (0, 0, None, None))
    found = jax.jit(jax.vmap(jax.vmap(over_samples, (None, None, 0, None)), (None, None, None, 0)))(x, y, eps, sizes)
    assert found.x_adv.shape == (2, 3, 5, 6)
    for i, size in enumerate(sizes):
        for j, radius in enumerate(eps):
            expected = attack(x, y, radius, size)
            assert_same_bits(jax.tree.map(lambda part, i=i, j=j: part[i, j], found), expected)


@pytest.mark.parametrize(("options", "calls"), [({}, 1), ({"random_start": True}, 3)])
def test_mapped_axes_join_the_batch_unless_the_start_is_random(monkeypatch, options, calls):
    net, (x, y) = make_net(), make_samples()
    seen = []
    original = fo.pgd
    attack = jax.jit(jax.vmap(lambda eps: ours.pgd(net, x, y, eps=eps, steps=3, **options)))
    compiled = attack.lower(jnp.array([0.1, 0.2, 0.3])).compile()
    monkeypatch.setattr(fo, "pgd", lambda net, x, *rest, **more: seen.append(len(x)) or original(net, x, *rest, **more))
    compiled(jnp.array([0.1, 0.2, 0.3])).x_adv.block_until_ready()
    assert len(seen) == calls
    assert sum(seen) == 15


def test_an_end_point_is_a_constant_to_derivatives():
    params, (x, y) = make_params(), make_samples()

    def robust_loss(params, x, frozen=None):
        x_adv = ours.pgd(params, x, y, activation="tanh", **LINF).x_adv if frozen is None else frozen
        z = ours.forward(params, x_adv, activation="tanh")
        return -jnp.mean(jax.nn.log_softmax(z)[jnp.arange(5), y])

    frozen = ours.pgd(params, x, y, activation="tanh", **LINF).x_adv
    gradient = jax.grad(robust_loss, argnums=(0, 1))
    expected = jax.jit(gradient)(params, x, frozen)
    for found in (gradient(params, x), jax.jit(gradient)(params, x)):
        assert_trees_close(found, expected, 1e-5)
        np.testing.assert_array_equal(found[1], np.zeros_like(x))
    of_eps = jax.grad(lambda eps: ours.pgd(params, x, y, activation="relu", eps=eps).loss.sum())(0.1)
    assert of_eps == 0


# ------------------------------------------------------------------ training


def blobs():
    generator = np.random.default_rng(0)
    y = np.arange(200) % 2
    centres = np.array([[0.25, 0.5], [0.75, 0.5]])
    x = np.clip(centres[y] + 0.05 * generator.standard_normal((200, 2)), 0, 1)
    return jnp.asarray(x, np.float32), jnp.asarray(y)


ADVERSARY = {"eps": 0.1, "bounds": (0, 1), "steps": 5, "random_start": True}


def sgd_step(params, key, x, y):
    x_adv = ours.pgd(params, x, y, activation="relu", seed=jax.random.bits(key), **ADVERSARY).x_adv

    def loss(params):
        return -jnp.mean(jax.nn.log_softmax(ours.forward(params, x_adv, activation="relu"))[jnp.arange(len(y)), y])

    value, gradient = jax.value_and_grad(loss)(params)
    return jax.tree.map(lambda part, slope: part - 0.5 * slope, params, gradient), value


def test_adversarial_training_in_one_compiled_program_lowers_the_robust_loss():
    x, y = blobs()
    params = jax.tree.map(lambda part: 0.5 * part, make_params(2, 16, 2))
    attack = jax.jit(partial(ours.pgd, activation="relu", **ADVERSARY))
    before = attack(params, x, y)

    @partial(jax.jit, donate_argnums=0)
    def train(params, keys):
        return jax.lax.scan(lambda params, key: sgd_step(params, key, x, y), params, keys)

    trained, losses = train(params, jax.random.split(jax.random.key(0), 60))
    after = attack(trained, x, y)
    assert losses.shape == (60,)
    assert after.loss.mean() < 0.5 * before.loss.mean()
    assert after.success.mean() < 0.2 < before.success.mean()


def test_a_step_takes_another_random_start_for_another_seed_without_a_new_compilation():
    net, (x, y) = make_net(), make_samples()
    traces = []

    @jax.jit
    def attack(seed):
        traces.append(seed)
        return ours.pgd(net, x, y, eps=0.1, steps=0, random_start=True, seed=seed).x_adv

    starts = [attack(jnp.uint32(seed)) for seed in (1, 2, 2**32 - 1)]
    assert len(traces) == 1
    assert not np.array_equal(starts[0], starts[1])
    expected = fo.pgd(net, np.asarray(x), np.asarray(y), eps=0.1, steps=0, random_start=True, seed=2**32 - 1)
    np.testing.assert_array_equal(starts[2], expected.x_adv)


# ------------------------------------------------------------------ memory, devices, threads


def test_arrays_outside_programs_are_read_in_place(monkeypatch):
    net, (x, y) = make_net(), make_samples(d=6)
    x = x.reshape(5, 2, 3)
    seen = {}
    for name in ("pgd", "forward"):
        original = getattr(fo, name)

        def record(net, x, *rest, original=original, name=name, **options):
            seen[name] = x.ctypes.data
            return original(net, x, *rest, **options)

        monkeypatch.setattr(fo, name, record)
    ours.pgd(net, x, y, **LINF)
    ours.forward(net, x)
    assert set(seen.values()) == {x.unsafe_buffer_pointer()}
    assert len(seen) == 2


def test_a_network_is_made_anew_only_for_other_weights():
    parts = Parts(*(np.asarray(make_params()[name]) for name in Parts._fields))
    first = kept_networks.network(parts, "relu")
    assert kept_networks.network(Parts(*(part.copy() for part in parts)), "relu") is first
    for change in (
        {"hidden_weight": -parts.hidden_weight},
        {"output_bias": None},
        {"hidden_weight": parts.hidden_weight.astype(np.float64)},
    ):
        assert kept_networks.network(parts._replace(**change), "relu") is not first
    assert kept_networks.network(parts, "tanh") is not first


def test_the_same_call_is_equal_to_itself_so_that_maps_outside_jit_compile_once():
    net, (x, y) = make_net(), make_samples()
    attack = jax.vmap(lambda eps: ours.pgd(net, x, y, eps=eps, norm="l2", steps=3).x_adv)
    attack(jnp.array([0.1, 0.2]))
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None
    )
    attack(jnp.array([0.3, 0.4]))
    assert compiled == []
    attack(jnp.array([0.3, 0.4, 0.5]))
    assert compiled


def test_donated_samples_give_the_same_end_points():
    net, (x, y) = make_net(), make_samples()
    attack = partial(ours.pgd, net, **LINF)
    expected = attack(x, y).x_adv
    given = jnp.array(x)
    found = jax.jit(lambda x, y: attack(x, y).x_adv, donate_argnums=0)(given, y)
    np.testing.assert_array_equal(found, expected)
    assert given.is_deleted()


ON_TWO_DEVICES = """
import jax, jax.numpy as jnp, numpy as np, pyfirstorder as fo
from pyfirstorder.interop import jax as ours
first, second = jax.devices()
net = fo.random_network(6, 16, "relu", seed=0)
x = np.random.default_rng(0).random((8, 6), dtype=np.float32)
y = np.where(np.arange(8) % 2, 1, -1)
expected = fo.pgd(net, x, y, eps=0.125).x_adv
attack = jax.jit(lambda x, y: ours.pgd(net, x, y, eps=0.125).x_adv)
committed = attack(jax.device_put(x, second), y)
assert committed.devices() == {second}
assert np.array_equal(committed, expected)
spread = jax.sharding.NamedSharding(jax.make_mesh((2,), ("batch",)), jax.sharding.PartitionSpec("batch"))
assert np.array_equal(attack(jax.device_put(x, spread), y), expected)
assert np.array_equal(ours.pgd(net, jax.device_put(x, second), y, eps=0.125).x_adv, expected)
"""


def test_committed_and_sharded_samples_give_the_same_end_points():
    code = "import os; os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=2'\n" + ON_TWO_DEVICES
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_many_large_calls_in_flight_at_once_all_come_back():
    net = fo.random_network(1000, 2, "relu", seed=0)
    blocks = [jnp.full((500, 1000), i / 8, np.float32) for i in range(8)]

    @jax.jit
    def both(x):
        return ours.forward(net, x * 2), ours.forward(net, x + 1)

    found = [both(block) for block in blocks * 3]
    jax.block_until_ready(found)
    expected = fo.forward(net, np.full((500, 1000), 2 * 7 / 8, np.float32))
    np.testing.assert_array_equal(found[-1][0], expected)


def test_the_fields_of_a_result_are_those_of_the_library():
    names = [field.name for field in dataclasses.fields(fo.AttackResult)]
    assert ["x", *ours.AttackResult._fields] == names
