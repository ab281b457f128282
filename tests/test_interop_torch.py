"""Two-layer networks in torch: the operator, its derivatives, the module, and attacks on live modules."""

from __future__ import annotations

import numpy as np
import pytest
from support import ACTIVATION_NAMES

import pyfirstorder as fo

torch = pytest.importorskip("torch", reason="needs torch")
F = torch.nn.functional
from pyfirstorder.interop import torch as ours  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
SMOOTH = [name for name in ACTIVATION_NAMES if not name.startswith(("relu", "leaky_relu", "elu", "identity"))]
IN_TORCH = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "gelu": F.gelu,
    "gelu_tanh": lambda h: F.gelu(h, approximate="tanh"),
    "silu": F.silu,
    "quadratic": lambda h: h * h,
    "identity": lambda h: h,
}


def make(d=6, m=7, k=3, samples=4, dtype=torch.float64, grad=True):
    """x, W, A, b and c."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((samples, d), (m, d), (k, m), (m,), (k,))
    parts = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    return [part.requires_grad_(grad) for part in parts]


def in_torch(x, w, a, b, c, activation):
    return IN_TORCH[activation.partition("(")[0]](x @ w.T + b) @ a.T + c


# ------------------------------------------------------------------ values and derivatives


@pytest.mark.parametrize("activation", list(IN_TORCH))
def test_the_operator_and_its_gradients_are_those_of_torch(activation):
    inputs = make()
    expected, actual = in_torch(*inputs, activation), ours.forward(*inputs, activation=activation)
    torch.testing.assert_close(actual, expected)
    v = torch.randn_like(expected)
    for one, other in zip(torch.autograd.grad(actual, inputs, v), torch.autograd.grad(expected, inputs, v)):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("activation", list(IN_TORCH))
def test_the_derivatives_of_the_input_gradient_are_those_of_torch(activation):
    found = []
    for forward in (in_torch, lambda *parts: ours.forward(*parts[:-1], activation=parts[-1])):
        x, w, a, b, c = make()
        v = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3).requires_grad_()
        (g,) = torch.autograd.grad(forward(x, w, a, b, c, activation), x, v, create_graph=True)
        penalty = (g * g * torch.linspace(0.5, 1, 6)).sum()
        found.append(torch.autograd.grad(penalty, (x, v, w, a, b), allow_unused=True, materialize_grads=True))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("activation", SMOOTH)
def test_torchs_own_checks_of_first_and_second_derivatives_pass(activation):
    x, *weights = make()

    def of_x(x):
        return ours.forward(x, *(part.detach() for part in weights), activation=activation)

    assert torch.autograd.gradcheck(lambda *parts: ours.forward(*parts, activation=activation), (x, *weights))
    assert torch.autograd.gradgradcheck(of_x, (x,))


def test_third_derivatives_are_refused():
    x, *weights = make()
    (g,) = torch.autograd.grad(ours.forward(x, *weights, activation="tanh").sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        torch.autograd.grad(h.sum(), x)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the check looks at tensors that have none
@pytest.mark.parametrize("operator", ["forward", "input_gradient", "weight_gradient", "second_order"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operators_pass_torchs_check(operator, dtype):
    x, w, a, b, c = make(dtype=dtype)
    v, u = torch.randn(4, 3, dtype=dtype), torch.randn(4, 6, dtype=dtype)
    arguments = {
        "forward": (x, w, b, a, c, "softplus(2)"),
        "input_gradient": (x, v.requires_grad_(), w, b, a, "softplus(2)"),
        "weight_gradient": (*(part.detach() for part in (x, v, w, b, a)), "softplus(2)"),
        "second_order": (*(part.detach() for part in (x, v, u, w, b, a)), "softplus(2)"),
    }
    torch.library.opcheck(getattr(torch.ops.pyfirstorder, operator).default, arguments[operator])


def test_a_compiled_training_step_has_no_graph_break():
    module = ours.TwoLayer(6, 7, 3, "tanh")
    x, y = torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])

    def loss(x):
        return F.cross_entropy(module(x), y)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    one, other = loss(x), compiled(x)
    torch.testing.assert_close(one, other)
    for value, gradient in zip(torch.autograd.grad(one, list(module.parameters())), grads(other, module)):
        torch.testing.assert_close(value, gradient)


def grads(loss, module):
    return torch.autograd.grad(loss, list(module.parameters()))


@pytest.mark.parametrize("shape", [(6,), (1, 6), (0, 6), (2, 3, 6)])
def test_leading_axes_are_those_of_a_linear_layer(shape):
    _, *weights = make(grad=False)
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(ours.forward(x, *weights), in_torch(x, *weights, "relu"))


def test_biases_may_be_left_out():
    x, w, a, b, c = make(grad=False)
    torch.testing.assert_close(ours.forward(x, w, a), in_torch(x, w, a, 0 * b, 0 * c, "relu"))


def test_strided_tensors_are_read_right():
    x, w, a, b, c = make(d=6, m=6, k=6, samples=6, grad=False)
    torch.testing.assert_close(ours.forward(x.T, w.T, a.T, b, c), in_torch(x.T, w.T, a.T, b, c, "relu"))


@pytest.mark.parametrize(
    ("change", "error", "pattern"),
    [
        ({"x": torch.zeros(2, 5, dtype=torch.float64)}, ValueError, r"x: expected shape \(\.\.\., 6\), got \(2, 5\)"),
        ({"x": torch.zeros(2, 6)}, TypeError, r"hidden_weight: expected the type of x, torch\.float32, got .*float64"),
        ({"activation": "mish"}, ValueError, r"activation: expected one of relu"),
        ({"x": torch.full((2, 6), float("nan"), dtype=torch.float64)}, ValueError, r"x: expected finite numbers"),
    ],
)
def test_wrong_arguments_are_refused(change, error, pattern):
    names = ("x", "hidden_weight", "output_weight", "hidden_bias", "output_bias")
    with pytest.raises(error, match=pattern):
        ours.forward(**(dict(zip(names, make(grad=False))) | change))


# ------------------------------------------------------------------ the module, and attacks on live ones


def test_the_module_is_two_linear_layers_to_torch():
    module = ours.TwoLayer(6, 7, 3, "leaky_relu(0.2)")
    plain = torch.nn.Sequential()
    plain.add_module("hidden", torch.nn.Linear(6, 7))
    plain.add_module("activation", torch.nn.LeakyReLU(0.2))
    plain.add_module("output", torch.nn.Linear(7, 3))
    plain.load_state_dict(module.state_dict())
    x = torch.randn(4, 6)
    torch.testing.assert_close(module(x), plain(x))
    assert repr(module).count("Linear") == 2
    assert "leaky_relu(0.2)" in repr(module)


def test_a_network_and_its_module_agree_both_ways():
    net = fo.random_network(6, 7, "softplus(3)", dtype=np.float64)
    module = ours.TwoLayer.from_network(net)
    x = np.random.default_rng(0).standard_normal((4, 6))
    np.testing.assert_array_equal(module(torch.from_numpy(x)).detach().numpy()[:, 0], fo.forward(net, x))
    np.testing.assert_array_equal(fo.forward(module.network(), x)[:, 0], fo.forward(net, x))


def live_modules():
    torch.manual_seed(0)
    return {
        "ours": ours.TwoLayer(6, 16, 3),
        "without bias": ours.TwoLayer(6, 16, 3, bias=False),
        "sequential": torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)),
    }


@pytest.mark.parametrize("kind", list(live_modules()))
@pytest.mark.parametrize("change", ["step of an optimizer", "written through .data", "replaced parameter"])
def test_an_attack_sees_the_weights_as_they_are(kind, change):
    module = live_modules()[kind]
    x, y = torch.rand(9, 6), torch.arange(9) % 3
    options = {"eps": 0.1, "steps": 5, "bounds": (0, 1)}
    before = ours.pgd(module, x, y, **options)
    assert torch.equal(before.x_adv, ours.pgd(module, x, y, **options).x_adv)
    layer = next(part for part in module.modules() if isinstance(part, torch.nn.Linear))
    if change == "step of an optimizer":
        F.cross_entropy(module(x), y).backward()
        torch.optim.SGD(module.parameters(), lr=0.5).step()
    elif change == "written through .data":
        layer.weight.data *= -1
    else:
        layer.weight = torch.nn.Parameter(-layer.weight.detach())
    after = ours.pgd(module, x, y, **options)
    with torch.no_grad():
        torch.testing.assert_close(after.output, module(after.x_adv))
    assert not torch.equal(before.x_adv, after.x_adv)


def test_apgd_and_evaluate_take_modules_too():
    module = live_modules()["ours"]
    x, y = torch.rand(9, 6), torch.arange(9) % 3
    assert ours.apgd(module, x, y, eps=0.1, steps=5).x_adv.shape == x.shape
    found = ours.evaluate(module, x, y, eps=0.1, steps=5)
    assert found.robust.dtype == torch.bool
    assert found.robust_accuracy <= found.clean_accuracy


def test_adversarial_training_with_the_operator_makes_a_network_more_robust():
    torch.manual_seed(0)
    centres = torch.tensor([[0.25, 0.5], [0.75, 0.5]])
    y = torch.arange(200) % 2
    x = (centres[y] + 0.05 * torch.randn(200, 2)).clamp(0, 1)
    module = ours.TwoLayer(2, 32, 2)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    attack = {"eps": 0.1, "bounds": (0, 1), "steps": 5}
    before = ours.pgd(module, x, y, **attack).success.float().mean()
    for _ in range(40):
        x_adv = ours.pgd(module, x, y, **attack).x_adv
        optimizer.zero_grad()
        F.cross_entropy(module(x_adv), y).backward()
        optimizer.step()
    assert ours.pgd(module, x, y, **attack).success.float().mean() < 0.2 < before
