"""Attacks on models of torch, and drop-ins for those of others: what is refused says what to pass, and that works."""

from __future__ import annotations

import numpy as np
import pytest
from only_import import import_art

import pyfirstorder as fo
from pyfirstorder.interop import models

torch = pytest.importorskip("torch", reason="needs torch")
from torch import nn  # noqa: E402

from pyfirstorder.interop import torch as fot  # noqa: E402

EPS = {"eps": 0.1, "steps": 3}


class Net(nn.Module):
    def __init__(self, end=lambda z: z):
        super().__init__()
        self.fc1, self.fc2, self.end = nn.Linear(12, 8), nn.Linear(8, 3), end

    def forward(self, x):
        return self.end(self.fc2(torch.relu(self.fc1(x.flatten(1)))))


@pytest.fixture
def data():
    torch.manual_seed(0)
    return torch.rand(6, 3, 2, 2), torch.arange(6) % 3


def sequential(*more, activation=nn.Tanh, outputs=3):
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), activation(), nn.Linear(8, outputs), *more)


def same(one, other):
    np.testing.assert_array_equal(np.asarray(one.x_adv), np.asarray(other.x_adv))


@pytest.mark.parametrize("name", ["pgd", "apgd", "evaluate"])
def test_a_module_with_a_forward_of_its_own_is_attacked_with_its_activation(name, data):
    module = Net()
    with pytest.raises(ValueError, match=r'module\.fc1, torch\.nn\.ReLU\(\), module\.fc2\).* with activation="relu"'):
        getattr(fot, name)(module, *data, **EPS)
    ours = getattr(fot, name)(module, *data, activation="relu", **EPS)
    line = torch.nn.Sequential(torch.nn.Flatten(), module.fc1, torch.nn.ReLU(), module.fc2)  # as the message has it
    same(ours, getattr(fot, name)(line, *data, **EPS))
    with pytest.raises(ValueError, match=r"module: expected Net to compute .* with tanh, but its outputs"):
        getattr(fot, name)(module, *data, activation="tanh", **EPS)


def test_the_module_is_read_as_it_is_now(data):
    module = Net()
    fot.pgd(module, *data, activation="relu", **EPS)
    with torch.no_grad():
        module.fc1.weight.mul_(2)
    same(
        fot.pgd(module, *data, activation="relu", **EPS),
        fo.pgd(models.from_torch(module, activation="relu"), *data, **EPS),
    )


def test_nested_layers_are_named_by_a_path_that_works():
    module = Net()
    module.fc1 = nn.Sequential(nn.Linear(12, 8))
    with pytest.raises(ValueError, match=r"module\.get_submodule\('fc1\.0'\), torch"):
        models.from_torch(module)
    assert module.get_submodule("fc1.0").out_features == 8


def test_linear_layers_left_over_are_counted(data):
    deep = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(ValueError, match="expected two linear layers, got 3"):
        fot.pgd(deep, *data, **EPS)
    module = Net()
    module.fc3 = nn.Linear(3, 3)
    with pytest.raises(ValueError, match=r"module: .* got Net with 3 Linear"):
        fot.pgd(module, *data, **EPS)


def test_a_final_softmax_is_left_out_by_the_line_of_the_message(data):
    module = sequential(nn.Softmax(1))
    with pytest.raises(ValueError, match=r"take the model without it \(module\[:-1\] of a torch Sequential\)"):
        fot.pgd(module, *data, **EPS)
    same(fot.pgd(module[:-1], *data, **EPS), fot.pgd(module, *data, drop_softmax=True, **EPS))
    own = Net(end=lambda z: z.softmax(1))
    with pytest.raises(ValueError, match="it ends with probabilities, .*: pass drop_softmax=True"):  # noqa: RUF043
        fot.pgd(own, *data, activation="relu", **EPS)
    same(
        fot.pgd(own, *data, activation="relu", drop_softmax=True, **EPS),
        fot.pgd(_logits(own), *data, **EPS),
    )


def _logits(own):
    return nn.Sequential(nn.Flatten(), own.fc1, nn.ReLU(), own.fc2)


def test_what_is_no_module_is_sent_where_it_belongs(data):
    module = sequential()
    net = models.from_torch(module)
    with pytest.raises(TypeError, match=r"got TwoLayerNetwork; a TwoLayerNetwork goes to pyfirstorder\.pgd, apgd and"):
        fot.pgd(net, *data, **EPS)
    with pytest.raises(TypeError, match=r"got OrderedDict; load it into its module .* models\.from_torch\(module\)"):
        models.from_torch(module.state_dict())
    with pytest.raises(TypeError, match=r"has no argument alpha; did you mean step_size\?"):
        fot.pgd(module, *data, eps=0.1, alpha=0.1)
    with pytest.raises(ValueError, match="activation: expected None, or that of the TwoLayer, 'tanh', got 'relu'"):
        fot.pgd(fot.TwoLayer.from_network(net), *data, activation="relu", **EPS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:keras")
def test_a_model_of_keras_is_sent_to_its_reader(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="needs keras")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(3)])
    with pytest.raises(TypeError, match=r"got Sequential.*; .*models\.from_keras\(model\)"):
        models.from_torch(model)


# ------------------------------------------------------------------ torchattacks


@pytest.fixture
def torchattacks():
    pytest.importorskip("torchattacks", reason="needs torchattacks")
    from pyfirstorder.interop import torchattacks

    return torchattacks


def test_torchattacks_says_what_to_make_of_a_network(torchattacks, data):
    net = models.from_torch(sequential())
    with pytest.raises(
        TypeError, match=r"model: .* or pass pyfirstorder\.interop\.torch\.TwoLayer\.from_network\(net\)"
    ):
        torchattacks.PGD(net)
    assert torchattacks.PGD(fot.TwoLayer.from_network(net))(*data).shape == data[0].shape


@pytest.mark.parametrize("name", ["PGD", "FGSM", "PGDL2", "APGD"])
def test_torchattacks_names_the_original_for_what_it_cannot_attack(torchattacks, name, data):
    images, labels = data
    kind = getattr(torchattacks, name)
    with pytest.raises(ValueError, match=rf"loss: cross_entropy needs .* with 1; use torchattacks\.{name} for it"):
        kind(sequential(outputs=1))(images, 0 * labels)
    if name != "APGD":  # the original itself fails there
        with pytest.raises(ValueError, match=rf"one-hot labels take y\.argmax\(1\); use torchattacks\.{name} for it"):
            kind(sequential())(images, nn.functional.one_hot(labels, 3))
    if name == "PGD":
        with pytest.raises(ValueError, match=r"step_size: expected .* got -0\.1; use torchattacks\.PGD for it"):
            kind(sequential(), alpha=-0.1)(images, labels)


@pytest.mark.parametrize("name", ["PGD", "FGSM", "PGDL2", "APGD"])
def test_torchattacks_asks_for_floating_images(torchattacks, name, data):
    images, labels = (255 * data[0]).byte(), data[1]
    attack = getattr(torchattacks, name)(sequential())
    with pytest.raises(
        TypeError, match=r"images: expected floats from 0 to 1, got torch\.uint8; .*images\.float\(\) / 255"
    ):
        attack(images, labels)
    assert attack(images.float() / 255, labels).shape == images.shape


def test_torchattacks_leaves_a_refused_model_in_its_mode(torchattacks, data):
    model = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten(), nn.Linear(4, 3)).train()
    attack = torchattacks.PGD(model)
    attack.set_normalization_used(mean=[0.5] * 3, std=[0.5] * 3)
    with pytest.raises(ValueError, match="Conv2d"):
        attack(*data)
    assert model.training
    assert attack._normalization_applied is True


# ------------------------------------------------------------------ foolbox


@pytest.fixture
def foolbox():
    return pytest.importorskip("foolbox", reason="needs foolbox")


@pytest.mark.parametrize("name", ["LinfPGD", "L2PGD", "FGSM"])
def test_foolbox_attacks_say_what_to_pass(foolbox, name, data):
    from pyfirstorder.interop import foolbox as ours

    images, labels = data
    attack, full = getattr(ours, name)(), getattr(ours, name).__name__
    fmodel = foolbox.PyTorchModel(sequential().eval(), bounds=(0, 1))
    with pytest.raises(
        TypeError, match=r"inputs: expected a torch.Tensor, .* got ndarray; .* torch\.from_numpy\(inputs\)"
    ):
        attack(fmodel, images.numpy(), labels, epsilons=0.1)
    with pytest.raises(
        TypeError, match=r"labels: expected a torch.Tensor, .* got ndarray; .* torch\.from_numpy\(labels\)"
    ):
        attack(fmodel, images, labels.numpy(), epsilons=0.1)
    with pytest.raises(TypeError, match=r"inputs: expected floats, got torch\.uint8; .* inputs\.float\(\) / 255"):
        attack(fmodel, (255 * images).byte(), labels, epsilons=0.1)
    with pytest.raises(TypeError, match=r"model: .* or pass foolbox\.PyTorchModel\(TwoLayer\.from_network\(net\)"):
        attack(models.from_torch(sequential()), images, labels, epsilons=0.1)
    with pytest.raises(TypeError, match=r"model: expected foolbox\.PyTorchModel\(module\.eval\(\), bounds=\(0, 1\)\)"):
        attack(sequential(), images, labels, epsilons=0.1)
    one = foolbox.PyTorchModel(sequential(outputs=1).eval(), bounds=(0, 1))
    with pytest.raises(ValueError, match=rf"with 1; use foolbox\.attacks\.{full} for it"):
        attack(one, images, 0 * labels, epsilons=0.1)
    with pytest.raises(ValueError, match=rf"take y\.argmax\(1\); use foolbox\.attacks\.{full} for it"):
        attack(fmodel, images, nn.functional.one_hot(labels, 3), epsilons=0.1)


def test_a_foolbox_that_keeps_its_module_elsewhere_is_refused_by_its_version(foolbox, data, monkeypatch):
    from pyfirstorder.interop import foolbox as ours

    fmodel = foolbox.PyTorchModel(sequential().eval(), bounds=(0, 1))
    own = fmodel._model
    for change in ({"_model": lambda x: own(x)}, {"_preprocess_args": (None, None)}):  # noqa: PLW0108
        with monkeypatch.context() as patch:
            for name, value in change.items():
                patch.setattr(fmodel, name, value)
            with pytest.raises(
                TypeError, match=rf"as foolbox {ours.TESTED} makes it, got one of foolbox .* elsewhere; use"
            ):
                ours.LinfPGD().run(fmodel, *data, epsilon=0.1)


def test_dropout_is_refused_where_foolbox_would_attack_it_in_training_mode(foolbox, data):
    from pyfirstorder.interop import foolbox as ours

    module = nn.Sequential(nn.Dropout(), *sequential())
    with pytest.warns(UserWarning, match="is in training mode"):  # and foolbox attacks it there
        fmodel = foolbox.PyTorchModel(module, bounds=(0, 1))
    with pytest.raises(ValueError, match=r"Dropout\): is random in training mode; call module\.eval\(\) first"):
        ours.LinfPGD()(fmodel, *data, epsilons=0.1)
    assert module.training


# ------------------------------------------------------------------ ART


@pytest.fixture
def art():
    import_art()
    from art.estimators.classification import PyTorchClassifier

    def classifier(module, classes=3):
        return PyTorchClassifier(module, nn.CrossEntropyLoss(), (3, 2, 2), classes, clip_values=(0, 1))

    return classifier


def test_dropout_is_left_out_where_art_does_and_in_its_modes(art, data):
    from art.attacks.evasion import ProjectedGradientDescent as Original

    from pyfirstorder.interop.art import ProjectedGradientDescent

    found, modes = [], []
    for kind in (Original, ProjectedGradientDescent):
        module = nn.Sequential(nn.Flatten(), nn.Dropout(), *sequential()[1:]).train()
        attack = kind(art(module), eps=0.1, eps_step=0.02, max_iter=5, verbose=False)
        before = [part.training for part in module.modules()]
        found.append(attack.generate(data[0].numpy(), data[1].numpy()))
        modes.append((before, [part.training for part in module.modules()]))
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    assert modes[0] == modes[1]
    assert all(modes[1][0])
    assert not any(modes[1][1])


def test_art_says_what_takes_a_single_output(art):
    from pyfirstorder.interop.art import ProjectedGradientDescent, TwoLayerClassifier

    module = sequential(outputs=1).eval()
    pattern = r"got one; pass TwoLayerClassifier\(models.from_torch\(model\)\), .* or use art\.attacks\.evasion"
    with pytest.raises(ValueError, match=pattern):
        ProjectedGradientDescent(art(module, 2))
    ProjectedGradientDescent(TwoLayerClassifier(models.from_torch(module)))
