"""Training held against the same training written in torch, step by step in float64.

Same initial weights, same order of the samples, and projected gradient ascent as a plain loop on torch's autograd: one
wrong gradient, step or projection parts the two for good.
"""

from __future__ import annotations

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder.training import train
from pyfirstorder.training.trainer import Trainer

torch = pytest.importorskip("torch", reason="held against torch")

SEED, SAMPLES, BATCH, EPOCHS = 11, 100, 10, 5  # fifty steps
FEATURES, HIDDEN, CLASSES = 6, 9, 3
# Both sum some ten terms a product in another order (1e-15 of each), which fifty steps of training and three of ascent
# each may grow; a wrong term would show at 1e-3 and more.
CLOSE = 1e-10
ADVERSARIES = {
    "plain": None,
    "linf": {"eps": 0.1, "norm": "linf", "steps": 3, "step_size": 0.05},
    "l2": {"eps": 0.3, "norm": "l2", "steps": 3, "step_size": 0.15, "direction": "gradient"},
}
OPTIMIZERS = {
    "sgd with momentum and decay": {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.02, "learning_rate": 0.05},
    "sgd with momentum and penalty": {"optimizer": "sgd", "momentum": 0.9, "l2_penalty": 0.02, "learning_rate": 0.05},
    "adam": {"optimizer": "adam", "learning_rate": 0.01},
    "adam with decay": {"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.1},
    "adam with penalty": {"optimizer": "adam", "learning_rate": 0.01, "l2_penalty": 0.1},
}
LOSSES = {
    "cross_entropy": lambda z, y: torch.nn.functional.cross_entropy(z, y, reduction="none"),
    "squared": lambda z, y: 0.5 * ((z - torch.nn.functional.one_hot(y, CLASSES)) ** 2).sum(dim=1),
    "logistic": lambda z, y: torch.nn.functional.softplus(-y * z[:, 0]),
}


def made(loss: str, seed: int = 3):
    """A network, samples and targets in float64."""
    rng = np.random.default_rng(seed)
    k = 1 if loss == "logistic" else CLASSES
    net = fo.TwoLayerNetwork(
        rng.standard_normal((HIDDEN, FEATURES)) / 2, rng.standard_normal((k, HIDDEN)) / 3,
        0.3 * rng.standard_normal(HIDDEN), 0.1 * rng.standard_normal(k), "softplus",
    )  # fmt: skip
    y = rng.choice([-1, 1], SAMPLES) if k == 1 else rng.integers(0, k, SAMPLES)
    return net, rng.standard_normal((SAMPLES, FEATURES)), y


def output(parts, x):
    w, b, a, c = parts
    return torch.nn.functional.softplus(x @ w.T + b) @ a.T + c


def attacked(parts, x, y, loss, adversary):
    """Projected gradient ascent, as textbooks write it."""
    parts = [part.detach() for part in parts]
    x0 = x.clone()
    for _ in range(adversary["steps"]):
        x = x.detach().requires_grad_()
        (g,) = torch.autograd.grad(LOSSES[loss](output(parts, x), y).sum(), x)
        if adversary["norm"] == "linf":
            delta = (x + adversary["step_size"] * g.sign() - x0).clamp(-adversary["eps"], adversary["eps"])
        else:
            delta = x + adversary["step_size"] * g - x0
            delta = delta * (adversary["eps"] / delta.norm(dim=1, keepdim=True)).clamp(max=1)
        x = x0 + delta.detach()
    return x.detach()


def optimizer_of(parts, options):
    """torch's own; it decays biases as well unless they are a group of their own."""
    groups = [
        {"params": [part for part in parts if part.requires_grad and part.ndim == dim], "decays": dim == 2}
        for dim in (1, 2)
    ]
    rate, decay, penalty = (options.get(name, 0.0) for name in ("learning_rate", "weight_decay", "l2_penalty"))
    for group in groups:
        group["weight_decay"] = (decay or penalty) if group.pop("decays") else 0.0
    if options["optimizer"] == "sgd":
        if decay:  # which torch's has as a penalty alone: see shrink
            for group in groups:
                group["weight_decay"] = 0.0
        return torch.optim.SGD(groups, lr=rate, momentum=options["momentum"])
    return (torch.optim.AdamW if decay else torch.optim.Adam)(groups, lr=rate)


def train_in_torch(net, x, y, loss, trained, options, adversary):
    """The weights after every step, and the mean loss of every epoch."""
    weights = (net.hidden_weight, net.hidden_bias, np.atleast_2d(net.output_weight), net.output_bias)
    parts = [torch.tensor(part).requires_grad_(i < 2 or trained == "both") for i, part in enumerate(weights)]
    optimizer = optimizer_of(parts, options)
    generator = np.random.default_rng(SEED)
    x, y = torch.tensor(x), torch.tensor(y)
    seen, means = [], []
    for _ in range(EPOCHS):
        total = 0.0
        order = torch.tensor(generator.permutation(SAMPLES))
        for batch in order.split(BATCH):
            inputs = x[batch]
            if adversary is not None:
                generator.integers(2**63)  # the seed of the adversary, which starts at the sample
                inputs = attacked(parts, inputs, y[batch], loss, adversary)
            optimizer.zero_grad()
            losses = LOSSES[loss](output(parts, inputs), y[batch])
            losses.mean().backward()
            total += float(losses.detach().sum())
            if options["optimizer"] == "sgd" and "weight_decay" in options:
                with torch.no_grad():
                    for part in parts:
                        if part.requires_grad and part.ndim == 2:
                            part.mul_(1 - options["learning_rate"] * options["weight_decay"])
            optimizer.step()
            seen.append([part.detach().numpy().copy() for part in parts])
        means.append(total / SAMPLES)
    return seen, means


@pytest.mark.parametrize("adversary", ADVERSARIES.values(), ids=ADVERSARIES.keys())
@pytest.mark.parametrize("options", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
@pytest.mark.parametrize("trained", ["both", "first"])
@pytest.mark.parametrize("loss", LOSSES)
def test_each_of_fifty_steps_is_that_of_torch(monkeypatch, loss, trained, options, adversary):
    net, x, y = made(loss)
    common = {"loss": loss, "trained": trained, **options, "batch_size": BATCH, "seed": SEED, "adversary": adversary}
    seen, step = [], Trainer.step

    def watched(self, batch):
        done = step(self, batch)
        seen.append([np.array(part) for part in self.parameters])
        return done

    monkeypatch.setattr(Trainer, "step", watched)
    result = train(x, y, network=net, epochs=EPOCHS, **common)
    expected, losses = train_in_torch(net, x, y, loss, trained, options, adversary)
    assert len(seen) == len(expected) == EPOCHS * SAMPLES // BATCH
    for number, (found, wanted) in enumerate(zip(seen, expected, strict=True)):
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == np.float64
            np.testing.assert_allclose(
                one, other, rtol=CLOSE, atol=CLOSE * np.abs(other).max(), err_msg=f"step {number}"
            )
    for wanted, start in zip(expected[-1], (net.hidden_weight, net.hidden_bias), strict=False):
        assert np.abs(wanted - start).max() > 1e-3, "it was not trained"
    np.testing.assert_array_equal(result.network.hidden_weight, seen[-1][0])
    np.testing.assert_allclose([epoch.train_loss for epoch in result.history], losses, rtol=CLOSE)
