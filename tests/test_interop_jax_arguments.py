"""Arguments of the functions for JAX: the trees that weights come in, and what is refused, in programs and outside."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from test_interop_jax import LINF, make_net, make_params, make_samples

import pyfirstorder as fo

jax = pytest.importorskip("jax", reason="needs jax")
import jax.numpy as jnp  # noqa: E402

from pyfirstorder.interop import jax as ours  # noqa: E402
from pyfirstorder.interop.kept_networks import Parts  # noqa: E402

# ------------------------------------------------------------------ trees


def test_weights_come_in_the_trees_that_jax_users_have():
    params, (x, y) = make_params(), make_samples()
    w, b, a, c = (params[name] for name in Parts._fields)
    trees = {
        "names": params,
        "named tuple": Parts(w, b, a, c),
        "flax": {"params": {"Dense_0": {"kernel": w.T, "bias": b}, "Dense_1": {"kernel": a.T, "bias": c}}},
        "haiku": {"mlp/linear": {"w": w.T, "b": b}, "mlp/linear_1": {"w": a.T, "b": c}},
        "list": [(w.T, b), (a.T, c)],
    }
    expected = fo.pgd(fo.TwoLayerNetwork(**params), np.asarray(x), np.asarray(y), **LINF).x_adv
    for tree in trees.values():
        np.testing.assert_array_equal(ours.pgd(tree, x, y, activation="relu", **LINF).x_adv, expected)
        gradient = jax.grad(lambda tree: ours.forward(tree, x, activation="relu").sum())(tree)
        assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, tree)
    without = {"first": {"kernel": w.T}, "second": {"kernel": a.T}}
    np.testing.assert_array_equal(
        ours.forward(without, x, activation="relu"), fo.forward(fo.TwoLayerNetwork(w, a), np.asarray(x))
    )


def test_layers_without_numbers_are_ordered_by_their_shapes_or_asked_for():
    rng = np.random.default_rng(0)
    w, a = rng.standard_normal((4, 6)).astype(np.float32), rng.standard_normal((6, 3)).astype(np.float32)
    x = rng.standard_normal((5, 4)).astype(np.float32)
    expected = ours.forward([{"w": w}, {"w": a}], x, activation="relu")
    np.testing.assert_array_equal(
        ours.forward({"output": {"w": a}, "encoder": {"w": w}}, x, activation="relu"), expected
    )
    np.testing.assert_array_equal(
        ours.forward({"input": {"weight": w.T}, "head": {"weight": a.T}}, x, activation="relu"), expected
    )
    square = np.eye(4, dtype=np.float32)
    with pytest.raises(ValueError, match="expected names that tell which layer is first"):
        ours.forward({"encoder": {"w": square}, "decoder": {"w": 2 * square}}, x, activation="relu")


def layers_of(params, first, second):
    w, b, a, c = (params[name] for name in Parts._fields)
    return {first: {"kernel": w.T, "bias": b}, second: {"kernel": a.T, "bias": c}}


@pytest.mark.parametrize("names", [("Dense_1", "Dense_0"), ("linear_1", "linear")])
def test_a_number_that_a_library_gave_does_not_make_a_layer_the_first(names):
    params, (x, _) = make_params(), make_samples()
    expected = fo.forward(fo.TwoLayerNetwork(**params), np.asarray(x))
    np.testing.assert_array_equal(ours.forward(layers_of(params, *names), x, activation="relu"), expected)
    square = make_params(6, 6, 6)
    tree = layers_of(square, *names)
    with pytest.raises(
        ValueError, match=rf"{names[1]}'.* whose shapes fit both ways; pass a list of the two, in order"
    ):
        ours.forward(tree, x, activation="relu")
    expected = fo.forward(fo.TwoLayerNetwork(**square), np.asarray(x))
    np.testing.assert_array_equal(ours.forward([tree[name] for name in names], x, activation="relu"), expected)


@pytest.mark.parametrize("names", [("fc1", "fc2"), ("9", "10"), (0, 2)])
def test_a_number_that_a_user_gave_tells_the_order_of_square_layers(names):
    params, (x, _) = make_params(6, 6, 6), make_samples()
    expected = fo.forward(fo.TwoLayerNetwork(**params), np.asarray(x))
    np.testing.assert_array_equal(ours.forward(layers_of(params, *names), x, activation="relu"), expected)


def test_a_layer_inside_the_other_one_is_not_first_by_its_place():
    params, (x, _) = make_params(6, 6, 6), make_samples()
    tree = layers_of(params, "outer", "inner")
    with pytest.raises(ValueError, match=r"the top and \['inner'\], whose shapes fit both ways"):
        ours.forward({**tree["outer"], "inner": tree["inner"]}, x, activation="relu")


def test_a_vector_of_another_name_is_not_taken_for_a_bias():
    params, (x, _) = make_params(), make_samples()
    tree = layers_of(params, "first", "second")
    tree["first"]["scale"] = tree["first"].pop("bias")
    with pytest.raises(ValueError, match=r"net_or_params\['first'\]: .* vector named bias or b, got 'scale'"):
        ours.forward(tree, x, activation="relu")


# ------------------------------------------------------------------ integers that JAX's types cannot hold


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("y", np.full(5, 2**32 + 1), 2**32 + 1),
        ("y", [2**32 + 1] * 5, 2**32 + 1),
        ("y", [0, 1, 2, 0, -(2**31) - 1], -(2**31) - 1),
        ("eps", np.array(2**40), 2**40),
        ("eps", [0, 1, 2, 3, 2**31], 2**31),
        ("bounds", (np.full(6, -(2**32)), 2), -(2**32)),
    ],
)
def test_wide_integers_are_refused_by_name(name, value, shown):
    net, (x, y) = make_net(), make_samples()
    given = {"y": y, "eps": 0.1} | {name: value}
    for transform in (jax.jit, lambda function: function):
        with pytest.raises(ValueError, match=rf"^{name}: expected integers from .* jax_enable_x64, got {shown}(\n|$)"):
            transform(lambda x: ours.pgd(net, x, **given))(x)


def test_integers_beyond_every_type_are_refused_by_name():
    net, (x, _) = make_net(), make_samples()
    with pytest.raises(TypeError, match=r"y: expected an array, got a list that NumPy reads as object"):
        ours.pgd(net, x, [2**70] * 5, eps=0.1)


@pytest.mark.parametrize(("name", "value"), [("seed", 2**31), ("seed", 2**32), ("sample_offset", 2**33)])
def test_a_single_integer_of_numpy_is_not_cut_to_the_types_of_jax(name, value):
    net, (x, y) = make_net(), make_samples()
    options = {"eps": 0.1, "steps": 0, "random_start": True}
    expected = fo.pgd(net, np.asarray(x), np.asarray(y), **options, **{name: value}).x_adv
    attack = partial(ours.pgd, net, **options, **{name: np.array(value)})
    np.testing.assert_array_equal(attack(x, y).x_adv, expected)
    np.testing.assert_array_equal(jax.jit(attack)(x, y).x_adv, expected)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "change",
    [
        {"x": np.zeros((5, 7), np.float32)},
        {"x": np.zeros((5, 6), np.int32)},
        {"x": np.zeros((5, 6), np.float16)},
        {"y": np.zeros(4, np.int32)},
        {"y": np.zeros(1, np.int32)},
        {"y": np.array(1, np.int32)},
        {"y": np.zeros(5, np.float32)},
        {"y": np.zeros((5, 2), np.float32), "loss": "squared"},
        {"eps": np.ones(4, np.float32)},
        {"eps": np.ones(1, np.float32)},
        {"x_init": np.zeros((5, 5), np.float32)},
        {"x_init": np.zeros((1, 6), np.float32)},
        {"x_init": np.zeros(6, np.float32)},
        {"step_size": np.ones(3, np.float32)},
        {"step_size": np.ones(1, np.float32)},
        {"bounds": np.array([0, 1], np.float32)},
        {"bounds": [0, 1, 2]},
        {"bounds": (np.zeros(7, np.float32), np.ones(7, np.float32))},
        {"norm": "l3"},
        {"loss": "hinge"},
        {"loss": "logistic"},
        {"direction": "up"},
        {"steps": -1},
        {"restarts": 2},
        {"colour": "red"},
        {"backend": "abacus"},
        {"keep": ["last"]},
    ],
    ids=",".join,
)
def test_what_needs_no_numbers_is_refused_as_without_jax_in_programs_and_outside(change):
    net, (x, y) = make_net(), make_samples()
    given = {"x": np.asarray(x), "y": np.asarray(y), "eps": 0.1} | change
    with pytest.raises((TypeError, ValueError)) as usual:
        fo.pgd(net, **given)
    arrays = {
        name: value for name, value in given.items() if isinstance(jax.tree.leaves(value)[0], (np.ndarray, float))
    }
    others = {name: value for name, value in given.items() if name not in arrays}
    for transform in (jax.jit, lambda function: function):
        with pytest.raises(usual.type) as found:
            transform(lambda arrays: ours.pgd(net, **arrays, **others))(arrays)
        assert str(found.value) == str(usual.value)


@pytest.mark.parametrize(
    ("y", "loss"),
    [
        (np.array(1, np.int32), None),
        (np.zeros((1, 3), np.float32), "linear"),
        (np.zeros((5, 1), np.float32), "linear"),
        (np.array(1, np.float32), "linear"),
    ],
)
def test_targets_of_another_shape_are_refused_as_without_jax(y, loss):
    net, (x, _) = make_net(), make_samples()
    with pytest.raises(ValueError, match="y: expected shape") as usual:
        fo.input_gradient(net, np.asarray(x), y, loss=loss)
    for transform in (jax.jit, lambda function: function):
        with pytest.raises(ValueError, match="y: expected shape") as found:
            transform(partial(ours.input_gradient, net, loss=loss))(x, y)
        assert str(found.value) == str(usual.value)


def test_a_number_is_no_sample():
    with pytest.raises(ValueError, match=r"x: expected shape \(batch, ...\) with 6 numbers a sample, got \(\)"):
        ours.forward(make_net(), 1.0)


def test_wrong_weights_are_refused_when_traced_as_without_jax():
    params, (x, _) = make_params(), make_samples()
    params["hidden_bias"] = jnp.zeros(8)
    with pytest.raises(ValueError, match=r"hidden_bias: expected shape \(7,\), got \(8,\)"):
        jax.jit(partial(ours.forward, activation="relu"))(params, x)
    with pytest.raises(ValueError, match=r"hidden_bias: expected shape \(7,\), got \(8,\)"):
        ours.forward(params, x, activation="relu")


@pytest.mark.parametrize(
    ("params", "error", "pattern"),
    [
        ("weights", TypeError, r"net_or_params: expected a TwoLayerNetwork or a pytree of weights, got 'weights'"),
        ({}, TypeError, r"net_or_params: expected a TwoLayerNetwork or a pytree"),
        (
            {"kernel": np.ones((2, 3))},
            ValueError,
            r"expected hidden_weight and output_weight .* got the top: \[\(2, 3\)\]",
        ),
        ([(np.ones((6, 6)),)] * 3, ValueError, r"two layers with a matrix .* got \[0\]: \[\(6, 6\)\], \[1\]"),
    ],
)
def test_what_is_no_network_is_refused(params, error, pattern):
    with pytest.raises(error, match=pattern):
        ours.forward(params, make_samples()[0], activation="relu")


def test_a_network_has_its_own_activation():
    with pytest.raises(ValueError, match="activation: expected None with a TwoLayerNetwork"):
        ours.forward(make_net(), make_samples()[0], activation="relu")


def test_options_that_must_be_known_when_traced_say_so():
    net, (x, y) = make_net(), make_samples()
    with pytest.raises(TypeError, match=r"steps: expected a value that is known when the program is traced.*static"):
        jax.jit(lambda steps: ours.pgd(net, x, y, eps=0.1, steps=steps))(5)
    with pytest.raises(TypeError, match=r"seed: expected an integer, got an array of float32"):
        jax.jit(lambda seed: ours.pgd(net, x, y, eps=0.1, seed=seed, random_start=True))(0.5)


def test_what_only_numbers_show_is_raised_when_the_program_runs():
    net, (x, y) = make_net(), make_samples()
    pattern = r"x: expected values within bounds, got 2\.0 outside \[0, 1\] first in row 3, coordinate 2"
    wrong = x.at[3, 2].set(2)
    with pytest.raises(ValueError, match=pattern):
        ours.pgd(net, wrong, y, **LINF)
    with pytest.raises(jax.errors.JaxRuntimeError, match=rf"\nValueError: {pattern}; scale x .*\n"):
        jax.jit(partial(ours.pgd, net, **LINF))(wrong, y).x_adv.block_until_ready()


@pytest.mark.parametrize(
    "call", [ours.forward, partial(ours.pgd, **LINF), partial(ours.apgd, **LINF), ours.input_gradient]
)
def test_weights_in_a_tree_need_the_name_of_their_activation(call):
    x, y = make_samples()
    given = (x,) if call is ours.forward else (x, y)
    with pytest.raises(ValueError, match=r'activation: expected what .* such as activation="relu", .* got None'):
        call(make_params(), *given)
    assert jax.tree.leaves(call(make_params(), *given, activation="relu"))


def test_names_of_other_libraries_are_answered_with_ours():
    with pytest.raises(TypeError, match=r"pgd has no argument num_steps; did you mean steps\?"):
        ours.pgd(make_net(), *make_samples(), eps=0.1, num_steps=3)
