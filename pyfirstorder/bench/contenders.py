"""Ways to run a workload.

A contender prepares a workload for one number of threads and returns a function that runs the attack and gives x_adv as
an array of its own kind; data lie in that kind from the start.  What it needs is imported when it is prepared, so a
missing library is an ImportError, which the report shows.

Rivals are given their best honest settings: no graph of gradients kept, inference mode where gradients are written by
hand, compiled whole where they can be, in the same floating type and on the same number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder.bench.workloads import Data, Workload

if TYPE_CHECKING:
    from pyfirstorder.problem import Array

Run = Callable[[], Any]
Prepare = Callable[[Workload, Data, int], Run]


@dataclass(frozen=True)
class Contender:
    """A name, the library it needs and how it is prepared."""

    name: str
    prepare: Prepare
    settings: str
    ours: bool = False

    def refuses(self, workload: Workload) -> str | None:
        """Why it cannot run this workload, if it cannot."""
        return next((reason for start, reason in workload.why_not if self.name.startswith(start)), None)


def _own(backend: str, **changes: Any) -> Prepare:
    def prepare(workload: Workload, data: Data, threads: int) -> Run:
        from pyfirstorder import backends

        if isinstance(backends.available_backends()[backend], str) and (
            backends.available_backends()[backend] != "available"
        ):
            raise ImportError(backends.available_backends()[backend])
        return lambda: workload.run(data, backend=backend, threads=threads, **changes).x_adv

    return prepare


# ------------------------------------------------------------------ NumPy, by hand


def _numpy(workload: Workload, data: Data, threads: int) -> Run:
    """Two products a step through the BLAS that NumPy was built with."""
    net, x0, y = data.net, data.x, data.y
    w, b, a, c = net.hidden_weight, net.hidden_bias, net.output_weight, net.output_bias
    rows = np.arange(len(x0))
    low, high = workload.bounds or (None, None)

    def gradient(x: Array) -> Array:
        h = x @ w.T + b
        if net.activation == "relu":
            hidden, slope = np.maximum(h, 0), h > 0
        else:
            hidden, slope = np.logaddexp(h, 0), 1 / (1 + np.exp(-h))
        z = hidden @ a.T + c
        if workload.loss == "squared":
            residual = z - y
        else:
            residual = np.exp(z - z.max(axis=1, keepdims=True))
            residual /= residual.sum(axis=1, keepdims=True)
            residual[rows, y] -= 1
        return ((residual @ a) * slope) @ w

    def run() -> Array:
        x = x0
        for _ in range(workload.steps):
            g = gradient(x)
            if workload.norm == "linf":
                x = np.clip(x + workload.step_size * np.sign(g), x0 - workload.eps, x0 + workload.eps)
            else:
                if workload.direction != "gradient":
                    g /= np.linalg.norm(g, axis=1, keepdims=True) + 1e-12
                delta = x + workload.step_size * g - x0
                delta *= np.minimum(1, workload.eps / (np.linalg.norm(delta, axis=1, keepdims=True) + 1e-12))
                x = x0 + delta
            x = x if low is None else np.clip(x, low, high)
        return x.astype(x0.dtype)

    from threadpoolctl import threadpool_limits

    def limited() -> Array:
        with threadpool_limits(threads):
            return run()

    return limited


# ------------------------------------------------------------------ torch


def torch_parts(data: Data, threads: int) -> Any:
    """The network as a torch module, with x and y as tensors."""
    import torch

    torch.set_num_threads(threads)
    net = data.net
    activation = {"relu": torch.nn.ReLU, "softplus": torch.nn.Softplus}[net.activation.partition("(")[0]]()
    first = torch.nn.Linear(net.in_features, net.hidden_features)
    second = torch.nn.Linear(net.hidden_features, net.out_features)
    model = torch.nn.Sequential(first, activation, second)
    with torch.no_grad():
        for layer, weight, bias in (
            (first, net.hidden_weight, net.hidden_bias),
            (second, net.output_weight, net.output_bias),
        ):
            layer.weight.copy_(torch.tensor(np.array(weight)))
            layer.bias.copy_(torch.tensor(np.array(bias)))
    model.eval().requires_grad_(False)
    return model, torch.tensor(data.x), torch.tensor(data.y)


def _torch_move(workload: Workload) -> Callable[[Any, Any, Any], Any]:
    """One step along a gradient, projected: ball, then box, as torch users write it."""
    import torch

    def move(x: Any, x0: Any, g: Any) -> Any:
        if workload.norm == "linf":
            x = torch.clamp(x + workload.step_size * g.sign(), x0 - workload.eps, x0 + workload.eps)
        else:
            if workload.direction != "gradient":
                g = g / (g.norm(dim=1, keepdim=True) + 1e-12)
            delta = x + workload.step_size * g - x0
            x = x0 + delta * torch.clamp(workload.eps / (delta.norm(dim=1, keepdim=True) + 1e-12), max=1.0)
        return x if workload.bounds is None else torch.clamp(x, *workload.bounds)

    return move


def _torch_eager(workload: Workload, data: Data, threads: int) -> Run:
    import torch

    model, x0, y = torch_parts(data, threads)
    move = _torch_move(workload)

    def loss(z: Any) -> Any:
        if workload.loss == "squared":
            return ((z - y) ** 2).sum() / 2
        return torch.nn.functional.cross_entropy(z, y, reduction="sum")

    def run() -> Any:
        x = x0.clone()
        for _ in range(workload.steps):
            x.requires_grad_(True)
            (g,) = torch.autograd.grad(loss(model(x)), x)
            with torch.no_grad():
                x = move(x, x0, g)
        return x

    return run


def torch_step(workload: Workload, data: Data, threads: int, product_type: Any = None) -> Any:
    """One step with the gradient written by hand, and what it starts from; products in a narrower type if given."""
    import torch

    model, x0, y = torch_parts(data, threads)

    def narrow(tensor: Any) -> Any:
        return tensor if product_type is None else tensor.to(product_type)

    w, b, a, c = map(narrow, (model[0].weight, model[0].bias, model[2].weight, model[2].bias))
    move = _torch_move(workload)
    onehot = None if workload.loss == "squared" else torch.nn.functional.one_hot(y, data.net.out_features).to(x0.dtype)
    relu = data.net.activation == "relu"

    def step(x: Any) -> Any:
        h = torch.addmm(b, narrow(x), w.t())
        hidden = torch.relu(h) if relu else torch.nn.functional.softplus(h)
        z = torch.addmm(c, hidden, a.t()).to(x0.dtype)
        residual = z - y if onehot is None else torch.softmax(z, dim=1) - onehot
        s = narrow(residual) @ a
        g = (s * (h > 0) if relu else s * torch.sigmoid(h)) @ w
        return move(x, x0, g.to(x0.dtype))

    return step, x0


def _torch_by_hand(workload: Workload, data: Data, threads: int) -> Run:
    import torch

    step, x0 = torch_step(workload, data, threads)

    def run() -> Any:
        with torch.inference_mode():
            x = x0
            for _ in range(workload.steps):
                x = step(x)
            return x

    return run


def _torch_compiled(workload: Workload, data: Data, threads: int) -> Run:
    import torch

    step, x0 = torch_step(workload, data, threads)
    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=False)

    def run() -> Any:
        with torch.no_grad():
            x = x0
            for _ in range(workload.steps):
                x = compiled(x)
            return x

    return run


# ------------------------------------------------------------------ JAX


def _jax(workload: Workload, data: Data, threads: int) -> Run:
    """The whole loop in one compiled function, gradient by hand."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    import jax
    import jax.numpy as jnp

    if threads != available:
        raise ImportError(f"JAX takes all {available} processors; asked for {threads}")
    w, b, a, c = (jnp.asarray(getattr(data.net, part)) for part in PARTS)
    x0, y = jnp.asarray(data.x), jnp.asarray(data.y)
    relu = data.net.activation == "relu"
    onehot = None if workload.loss == "squared" else jax.nn.one_hot(y, data.net.out_features, dtype=x0.dtype)

    def move(x: Any, x0: Any, g: Any) -> Any:
        if workload.norm == "linf":
            x = jnp.clip(x + workload.step_size * jnp.sign(g), x0 - workload.eps, x0 + workload.eps)
        else:
            if workload.direction != "gradient":
                g = g / (jnp.linalg.norm(g, axis=1, keepdims=True) + 1e-12)
            delta = x + workload.step_size * g - x0
            x = x0 + delta * jnp.minimum(1.0, workload.eps / (jnp.linalg.norm(delta, axis=1, keepdims=True) + 1e-12))
        return x if workload.bounds is None else jnp.clip(x, *workload.bounds)

    def attack(w: Any, b: Any, a: Any, c: Any, x0: Any, target: Any) -> Any:
        def step(_: int, x: Any) -> Any:
            h = x @ w.T + b
            hidden = jax.nn.relu(h) if relu else jax.nn.softplus(h)
            z = hidden @ a.T + c
            residual = z - target if workload.loss == "squared" else jax.nn.softmax(z) - target
            s = residual @ a
            return move(x, x0, (jnp.where(h > 0, s, 0) if relu else s * jax.nn.sigmoid(h)) @ w)

        return jax.lax.fori_loop(0, workload.steps, step, x0)

    compiled = jax.jit(attack)
    arguments = (w, b, a, c, x0, y if onehot is None else onehot)
    return lambda: compiled(*arguments).block_until_ready()


PARTS = ("hidden_weight", "hidden_bias", "output_weight", "output_bias")

# ------------------------------------------------------------------ attack libraries


def _foolbox(workload: Workload, data: Data, threads: int) -> Run:
    import foolbox

    model, x, y = torch_parts(data, threads)
    wrapped = foolbox.PyTorchModel(model, bounds=workload.bounds or (-1e3, 1e3))
    kind = foolbox.attacks.LinfPGD if workload.norm == "linf" else foolbox.attacks.L2PGD
    attack = kind(abs_stepsize=workload.step_size, steps=workload.steps, random_start=False)
    return lambda: attack(wrapped, x, y, epsilons=workload.eps)[1]


def _torchattacks(workload: Workload, data: Data, threads: int) -> Run:
    """On images, because its ℓ2 norms are of shape (B, 1, 1, 1): rows would be spread to B² of them."""
    import torch
    import torchattacks

    layers, x, y = torch_parts(data, threads)
    model = torch.nn.Sequential(torch.nn.Flatten(), layers).eval()
    x = x.reshape(len(x), 1, 1, -1)
    kind = torchattacks.PGD if workload.norm == "linf" else torchattacks.PGDL2
    attack = kind(model, eps=workload.eps, alpha=workload.step_size, steps=workload.steps, random_start=False)
    return lambda: attack(x, y).flatten(1)


def _art(workload: Workload, data: Data, threads: int) -> Run:
    import torch
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    model, _, _ = torch_parts(data, threads)
    classifier = PyTorchClassifier(
        model,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=(data.net.in_features,),
        nb_classes=data.net.out_features,
        clip_values=workload.bounds,
        device_type="cpu",
    )
    attack = ProjectedGradientDescentPyTorch(
        classifier,
        norm=np.inf if workload.norm == "linf" else 2,
        eps=workload.eps,
        eps_step=workload.step_size,
        max_iter=workload.steps,
        batch_size=len(data.x),
        verbose=False,
    )
    return lambda: attack.generate(data.x, data.y)


CONTENDERS = (
    Contender("pyfirstorder", _own("cpu"), "backend cpu, everything automatic", ours=True),
    Contender("pyfirstorder, dense", _own("cpu", evaluation="dense", retire=False), "every step in full", ours=True),
    Contender("pyfirstorder, numba", _own("numba"), "backend numba", ours=True),
    Contender("NumPy", _numpy, "gradient by hand, NumPy's own BLAS limited by threadpoolctl"),
    Contender("torch eager", _torch_eager, "autograd, weights without gradients"),
    Contender("torch by hand", _torch_by_hand, "gradient by hand, inference mode"),
    Contender("torch.compile", _torch_compiled, "the step by hand, fullgraph, static shapes"),
    Contender("JAX jit", _jax, "gradient by hand, the whole loop one compiled function"),
    Contender("foolbox", _foolbox, "LinfPGD, L2PGD on PyTorchModel, tensors in and out"),
    Contender("torchattacks", _torchattacks, "PGD, PGDL2, tensors of images in and out"),
    Contender("ART", _art, "ProjectedGradientDescentPyTorch, one batch of all samples"),
)
