"""torchattacks' attacks with one import changed: the original's end points, modes, and ways of being called."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
originals = pytest.importorskip("torchattacks", reason="needs torchattacks")
from pyfirstorder.interop import torchattacks as ours  # noqa: E402

SHAPE, CLASSES = (2, 4, 4), 4


def make(activation=None, samples=16, seed=0):
    """A smooth model, so that gradients have no kinks, with images and labels."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(32, 24),
        activation or torch.nn.Softplus(3),
        torch.nn.Linear(24, CLASSES),
    )
    images = torch.rand(samples, *SHAPE)
    return model, images, torch.arange(samples) % CLASSES


ATTACKS = {
    "PGD": {"eps": 0.1, "alpha": 0.03, "steps": 7},
    "PGD without start": {"eps": 0.1, "alpha": 0.03, "steps": 7, "random_start": False},
    "PGDL2": {"eps": 0.7, "alpha": 0.2, "steps": 7},
    "PGDL2 without start": {"eps": 0.7, "alpha": 0.2, "steps": 7, "random_start": False},
    "FGSM": {"eps": 0.1},
}
every_attack = pytest.mark.parametrize("name", ATTACKS)


def both(name, model, prepare=lambda attack: None, **changes):
    """The original and ours, made alike."""
    made = [getattr(module, name.partition(" ")[0])(model, **(ATTACKS[name] | changes)) for module in (originals, ours)]
    for attack in made:
        prepare(attack)
    return made


def run(attack, images, labels):
    torch.manual_seed(7)
    return attack(images, labels)


def hold_equal(actual, expected, atol=1e-6):
    """Within rounding: a few ulp of pixels in [0, 1], and no more (1.2e-7 was seen)."""
    assert type(actual) is type(expected)
    assert actual.dtype == expected.dtype
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@every_attack
def test_end_points_are_those_of_the_original(name):
    model, images, labels = make()
    theirs, attack = both(name, model)
    expected, actual = run(theirs, images, labels), run(attack, images, labels)
    assert (expected - images).abs().max() > 0.01
    hold_equal(actual, expected)
    assert not actual.requires_grad


@every_attack
@pytest.mark.parametrize("mode", ["by_label", "by_function", "least_likely", "random"])
def test_targeted_modes_are_those_of_the_original(name, mode):
    model, images, labels = make()

    def prepare(attack):
        if mode == "by_function":
            attack.set_mode_targeted_by_function(lambda x, y: (y + 1) % CLASSES, quiet=True)
        else:
            getattr(attack, f"set_mode_targeted_{mode}")(quiet=True)

    theirs, attack = both(name, model, prepare)
    hold_equal(run(attack, images, labels), run(theirs, images, labels))
    attack.set_mode_default()
    assert attack.get_mode() == "default"


@every_attack
def test_normalised_inputs_are_handled_as_by_the_original(name):
    model, images, labels = make()
    mean, std = [0.3, 0.6], [0.2, 0.4]

    def prepare(attack):
        attack.set_normalization_used(mean=mean, std=std)

    theirs, attack = both(name, model, prepare)
    normalised = (images - torch.tensor(mean).view(1, 2, 1, 1)) / torch.tensor(std).view(1, 2, 1, 1)
    hold_equal(run(attack, normalised, labels), run(theirs, normalised, labels))


@every_attack
def test_repr_and_training_mode_are_those_of_the_original(name):
    model, images, labels = make()
    theirs, attack = both(name, model)
    assert repr(attack) == repr(theirs)
    for training in (True, False):
        model.train(training)
        run(attack, images, labels)
        assert model.training is training


def test_relu_networks_end_where_the_original_ends_but_for_kinks():
    model, images, labels = make(torch.nn.ReLU(), samples=64)
    theirs, attack = both("PGD", model, steps=10)
    expected, actual = run(theirs, images, labels), run(attack, images, labels)
    assert ((actual - expected).abs() < 2e-5).float().mean() > 0.98
    losses = [torch.nn.functional.cross_entropy(model(points), labels).item() for points in (actual, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd_brings_down_what_the_original_does_and_gives_the_rest_back(norm, loss):
    model, images, _ = make(samples=40)
    with torch.no_grad():
        labels = model(images).argmax(1)
    options = {"norm": norm, "eps": 0.06 if norm == "Linf" else 0.4, "steps": 20, "loss": loss, "n_restarts": 2}
    found = []
    for module in (originals, ours):
        adv = run(module.APGD(model, **options), images, labels)
        with torch.no_grad():
            stands = model(adv).argmax(1) == labels
        torch.testing.assert_close(adv[stands], images[stands])
        found.append(stands)
    delta = (adv - images).flatten(1).norm(dim=1, p=np.inf if norm == "Linf" else 2)
    assert (delta <= options["eps"]).all()
    assert 0 < found[0].sum() < 40
    assert found[1].sum() <= found[0].sum() + 1
    assert (found[0] == found[1]).float().mean() >= 0.9


def test_saved_attacks_can_be_loaded(tmp_path):
    model, images, labels = make()
    attack = ours.PGD(model, eps=0.1, random_start=False)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=5)
    attack.save(loader, save_path=str(tmp_path / "adv.pt"), verbose=False)
    loaded = attack.load(str(tmp_path / "adv.pt"))
    points = torch.cat([batch for batch, _ in loaded])
    assert points.shape == images.shape
    assert sorted(points.flatten(1).sum(1).tolist()) == pytest.approx(
        sorted(attack(images, labels).flatten(1).sum(1).tolist())
    )


@every_attack
def test_a_model_of_another_shape_is_sent_to_the_original(name):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Flatten(), torch.nn.Linear(12, CLASSES))
    _, images, labels = make()
    original = name.partition(" ")[0]
    with pytest.raises(ValueError, match=rf"layer 0 \(Conv2d\).*use torchattacks\.{original} for it"):
        run(both(name, model)[1], images, labels)


@pytest.mark.parametrize("name", ["PGD", "PGD without start", "FGSM", "PGDL2"])
@pytest.mark.parametrize("mode", ["normalised", "beyond the box"])
def test_images_that_lie_a_little_outside_of_the_box_are_attacked_as_by_the_original(name, mode):
    model, images, labels = make()
    mean, std = [0.4914, 0.4465], [0.2023, 0.2010]
    images = (images * 255).round() / 255
    images[0, 0, 0] = torch.tensor([0.0, 1.0, 0.0, 1.0])

    def prepare(attack):
        if mode == "normalised":
            attack.set_normalization_used(mean, std)

    if mode == "normalised":
        points = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    else:
        points = images + 5e-5 * (images == 1) - 5e-5 * (images == 0)
    theirs, attack = both(name, model, prepare)
    hold_equal(run(attack, points, labels), run(theirs, points, labels), 1e-6 if mode != "normalised" else 1e-5)


def test_apgd_takes_images_that_lie_outside_by_rounding_alone():
    model, images, labels = make()
    attack = ours.APGD(model, eps=0.1, steps=5)
    assert (
        run(attack, images.clamp(0.1, 0.9) + 0.1 + 6e-8, labels).max() <= 1 + 1e-6
    )  # samples that fell are given back
    with pytest.raises(ValueError, match=r"images: expected values from 0 to 1.*use torchattacks\.APGD"):
        run(attack, images + 0.1, labels)


def test_a_subclass_with_logits_of_its_own_is_refused():
    model, images, labels = make()

    class Doubled(ours.PGD):
        def get_logits(self, inputs, labels=None, *args, **kwargs):
            return 2 * super().get_logits(inputs)

    with pytest.raises(TypeError, match=r"get_logits: .*Doubled, .*use torchattacks\.PGD"):
        Doubled(model)(images, labels)
