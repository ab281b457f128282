"""Two-layer networks in torch: the operator, its derivatives, the module, and attacks on live modules."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support import ACTIVATION_NAMES

import pyfirstorder as fo

torch = pytest.importorskip("torch", reason="needs torch")
F = torch.nn.functional
from torch.autograd import forward_ad  # noqa: E402

from pyfirstorder.interop import kept_networks, models  # noqa: E402
from pyfirstorder.interop import torch as ours  # noqa: E402

pytestmark = [  # torch warns of its own use of torch.jit, when it first compiles or differentiates forwards
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),
]


@pytest.fixture(autouse=True)
def _same_draws():
    torch.manual_seed(0)


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


def tangent_of_a_dual(function, x):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(x, x))).tangent


FORWARD_MODE = {
    "torch.func.jvp": lambda function, x: torch.func.jvp(function, (x,), (x,)),
    "torch.func.jacfwd": lambda function, x: torch.func.jacfwd(function)(x),
    "torch.autograd.functional": lambda function, x: torch.autograd.functional.jacobian(
        function, x, strategy="forward-mode", vectorize=True
    ),
    "forward_ad": tangent_of_a_dual,
}


@pytest.mark.parametrize("mode", FORWARD_MODE)
def test_forward_mode_is_refused(mode):
    x, *weights = make(grad=False)
    with pytest.raises(TypeError, match=r"x: expected a call outside forward-mode .* it has reverse mode"):
        FORWARD_MODE[mode](lambda x: ours.forward(x, *weights, activation="tanh"), x)
    ours.forward(x, *weights)  # the level is left


def test_forward_mode_is_refused_inside_a_compiled_function():
    x, *weights = make(grad=False)
    compiled = torch.compile(lambda x: torch.func.jvp(lambda x: ours.forward(x, *weights), (x,), (x,)), backend="eager")
    with pytest.raises(RuntimeError, match="x: expected a call outside forward-mode"):
        compiled(x)


def test_forward_mode_is_refused_in_the_upstream_gradient():
    x, *weights = make()
    z = ours.forward(x, *weights)
    with pytest.raises(TypeError, match="x: expected a call outside forward-mode"):
        tangent_of_a_dual(lambda v: torch.autograd.grad(z, x, v)[0], z.detach())


@pytest.mark.parametrize("upstream", [float("inf"), float("nan")])
def test_gradients_that_overflowed_come_back_as_torchs_do(upstream):
    inputs = make()
    v = torch.ones(4, 3, dtype=torch.float64)
    v[1] = upstream
    expected, actual = (
        torch.autograd.grad(forward(*inputs, activation="tanh"), inputs, v) for forward in (in_torch, ours.forward)
    )
    for one, other in zip(actual, expected):
        assert torch.equal(one.isfinite(), other.isfinite())
        torch.testing.assert_close(one[one.isfinite()], other[one.isfinite()])


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the check looks at tensors that have none
@pytest.mark.parametrize("operator", ["forward", "input_gradient", "weight_gradient", "second_order"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operators_pass_torchs_check(operator, dtype):
    x, w, a, b, c = make(dtype=dtype)
    v, u = torch.randn(4, 3, dtype=dtype), torch.randn(4, 6, dtype=dtype)
    arguments = {
        "forward": (x, w, b, a, c, "softplus(2)"),
        "input_gradient": (x, v.requires_grad_(), w, b, a, c, "softplus(2)"),
        "weight_gradient": (*(part.detach() for part in (x, v, w, b, a)), "softplus(2)"),
        "second_order": (*(part.detach() for part in (x, v, u, w, b, a)), "softplus(2)"),
    }
    torch.library.opcheck(getattr(torch.ops.pyfirstorder, operator).default, arguments[operator])


def test_an_attack_inside_a_compiled_step_runs_as_it_is():
    module = ours.TwoLayer(6, 7, 3, "tanh")
    x, y = torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])

    def step(x):
        return F.cross_entropy(module(ours.pgd(module, x, y, eps=0.1, steps=3).x_adv), y)

    torch.testing.assert_close(torch.compile(step, backend="aot_eager")(x), step(x))


def test_a_second_derivative_through_a_compiled_function_is_refused_by_torch():
    module, x = ours.TwoLayer(6, 7, 3, "tanh"), torch.randn(5, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        torch.compile(module, backend="aot_eager")(x).square().sum(), x, create_graph=True
    )
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_modules_of_half_precision_are_refused_by_name(dtype):
    module, x = ours.TwoLayer(6, 7, 3).to(dtype), torch.randn(5, 6)
    for one in (module, torch.nn.Sequential(module.hidden, torch.nn.ReLU(), module.output)):
        with pytest.raises(
            TypeError, match=f"expected weights of float32 or float64, got {dtype}; convert with .*float"
        ):
            ours.pgd(one, x, torch.zeros(5, dtype=torch.long), eps=0.1)
    with pytest.raises(TypeError, match=f"x: expected float32 or float64, got {dtype}"):
        module(x.to(dtype))


def networks_made(monkeypatch):
    """A list that grows with each network that is prepared from new weights."""
    made = []
    plain = kept_networks.TwoLayerNetwork
    monkeypatch.setattr(kept_networks, "_kept", [])
    monkeypatch.setattr(kept_networks, "TwoLayerNetwork", lambda *parts: made.append(1) or plain(*parts))
    return made


@pytest.mark.parametrize("bias", [True, False])
def test_weights_that_do_not_change_are_prepared_once(bias, monkeypatch):
    made, module, x = networks_made(monkeypatch), ours.TwoLayer(6, 7, 3, "tanh", bias=bias), torch.randn(5, 6)
    for _ in range(10):
        z = module(x.clone().requires_grad_())
        z.sum().backward()
        ours.pgd(module, x, torch.zeros(5, dtype=torch.long), eps=0.1, steps=2)
    assert len(made) == 1
    with torch.no_grad():
        module.hidden.weight.data[0, 0] += 1  # no version counter sees it
    torch.testing.assert_close(module(x), module.output(torch.tanh(module.hidden(x))))
    assert len(made) == 2


def test_a_normalisation_that_is_folded_leaves_what_was_prepared(monkeypatch):
    made = networks_made(monkeypatch)
    module = torch.nn.Sequential(
        torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 7), torch.nn.ReLU(), torch.nn.Linear(7, 3)
    ).eval()
    networks = {id(ours.network_of(module)) for _ in range(5)}
    assert len(networks) == len(made) == 1


def test_threads_that_alternate_between_modules_get_their_own_network():
    modules = [ours.TwoLayer(6, 7, 3) for _ in range(12)]  # more than are kept
    x = torch.randn(4, 6)
    expected = [module.output(torch.relu(module.hidden(x))) for module in modules]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            for one, other in zip(pool.map(lambda module: module(x).detach(), modules), expected):
                torch.testing.assert_close(one, other.detach())


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
        ({"x": [0.0] * 6}, TypeError, r"x: expected a torch\.Tensor, got list"),
        ({"x": np.zeros((2, 6))}, TypeError, r"x: expected a torch\.Tensor, got ndarray"),
        ({"x": torch.zeros(2, 6).to_sparse()}, TypeError, r"x: expected a dense tensor"),
        ({"x": torch.zeros(2, 6).bfloat16()}, TypeError, r"x: expected float32 or float64, got .*; .* x\.float\(\)"),
        ({"x": torch.zeros((), dtype=torch.float64)}, ValueError, r"x: expected shape \(\.\.\., 6\), got \(\)"),
        ({"hidden_weight": np.zeros((7, 6))}, TypeError, r"hidden_weight: expected a torch\.Tensor, got ndarray"),
        ({"hidden_weight": torch.zeros(6).double()}, ValueError, r"hidden_weight: expected ndim 2, got shape \(6,\)"),
        ({"output_weight": torch.zeros(()).double()}, ValueError, r"output_weight: expected ndim 2, got shape \(\)"),
        ({"hidden_bias": torch.zeros(7, 1).double()}, ValueError, r"hidden_bias: expected ndim 1"),
        (
            {"hidden_weight": torch.zeros(7, 6, dtype=torch.float64, device="meta")},
            TypeError,
            "hidden_weight: expected the device of x, cpu, got meta",
        ),
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


class Negated(ours.TwoLayer):
    def forward(self, x):
        return -super().forward(x)


def with_hook(module):
    module.register_forward_hook(lambda module, inputs, output: -output)
    return module


@pytest.mark.parametrize(
    ("make_module", "pattern"),
    [
        (lambda: Negated(6, 16, 3), "module: expected what TwoLayer computes, got Negated with a forward"),
        (lambda: with_hook(live_modules()["ours"]), "module: expected what TwoLayer computes, .* hook of its own"),
        (lambda: with_hook(torch.compile(live_modules()["sequential"])), "module: has a hook on its forward"),
        (lambda: with_hook(torch.compile(live_modules()["ours"])), "module: has a hook on its forward"),
        (lambda: with_hook(torch.nn.DataParallel(live_modules()["sequential"])), "module: has a hook on its forward"),
    ],
)
@pytest.mark.parametrize("read", [ours.network_of, models.from_torch])
def test_a_module_that_may_compute_something_else_is_refused(make_module, pattern, read):
    with pytest.raises(ValueError, match=pattern):
        read(make_module())


def test_compiled_and_parallel_modules_are_attacked_as_what_they_wrap():
    module = live_modules()["ours"]
    for wrapped in (torch.compile(module), torch.compile(torch.nn.DataParallel(module))):
        assert ours.network_of(wrapped) is module.network()


class Doubled(torch.nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("layer", [torch.nn.Sequential(torch.nn.Linear(6, 16)), Doubled(6, 16)])
def test_a_layer_of_another_kind_in_the_module_is_refused(layer):
    module = live_modules()["ours"]
    module.hidden = layer
    for call in (lambda: module(torch.rand(2, 6)), module.network):
        with pytest.raises(TypeError, match=rf"hidden: expected a torch\.nn\.Linear .* got {type(layer).__name__}"):
            call()


def test_weights_that_reading_would_change_are_refused():
    module = live_modules()["ours"]
    torch.nn.utils.parametrizations.spectral_norm(module.hidden)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=r"hidden: has buffers that reading its weight may change .* module\.eval\(\)"):
        module.network()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    x = torch.rand(4, 6)
    torch.testing.assert_close(fo.forward(module.eval().network(), x), module(x).detach())


def test_a_module_on_the_meta_device_is_refused_by_its_device():
    for kind, pattern in (("ours", "module: .* on the CPU, got some on meta"), ("sequential", "layer 0 .*meta device")):
        with pytest.raises(TypeError, match=pattern):
            ours.pgd(live_modules()[kind].to("meta"), torch.rand(9, 6), torch.arange(9) % 3, eps=0.1)


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
