"""foolbox's gradient attacks, run by this library's engine: change the import, and nothing else.

    from pyfirstorder.interop.foolbox import LinfPGD       # was: from foolbox.attacks import LinfPGD
    raw, clipped, success = LinfPGD()(fmodel, x, y, epsilons=[0.1, 0.2])

Each class is a subclass of the original: arguments, criteria, epsilons, repetition and what is returned are its own.
ℓ∞ attacks run in the engine from start to end.  ℓ2 and ℓ1 attacks of foolbox scale into the ball and then clip to the
bounds, which is not the nearest point of both: so that end points stay its own, its loop runs there, on the engine's
gradients.  The model is a PyTorchModel of a two-layer network, see `pyfirstorder.interop.models.from_torch`.
"""

from __future__ import annotations

import inspect
from typing import Any

try:
    import eagerpy as ep
    import foolbox
    import torch
    from foolbox import attacks as originals
except ImportError as error:
    raise ImportError("foolbox with torch is not installed: pip install foolbox torch") from error

import numpy as np

import pyfirstorder as fo
from pyfirstorder.interop import originals as elsewhere
from pyfirstorder.interop import torch as interop
from pyfirstorder.interop.layers import normalized

TESTED = "3.3.4"  # the version whose PyTorchModel and loops were looked into


def network_of(model: Any, instead: str, shape: tuple[int, ...]) -> fo.TwoLayerNetwork:
    """The network of a PyTorchModel on raw inputs of a shape, its mean and standard deviation folded in."""
    with elsewhere.instead(instead):
        if not isinstance(model, foolbox.PyTorchModel):
            raise TypeError(f"model: expected a foolbox.PyTorchModel, got {type(model).__name__}")
        module, (mean, std, flip_axis) = _inside(model)
        if flip_axis is not None:
            raise ValueError("model: expected preprocessing without flip_axis")
        net = interop.network_of(module)
    if mean is None and std is None:
        return net
    centre = np.broadcast_to(0.0 if mean is None else mean.numpy(), shape)
    spread = np.broadcast_to(1.0 if std is None else std.numpy(), shape)
    return normalized(net, centre, spread)


def _inside(model: Any) -> tuple[Any, tuple[Any, Any, Any]]:
    """The module of a PyTorchModel, and its mean, standard deviation and axis, which foolbox gives nobody."""
    try:
        module = inspect.getclosurevars(model._model).nonlocals["model"]
        mean, std, flip_axis = model._preprocess_args
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TypeError(
            f"model: expected a PyTorchModel as foolbox {TESTED} makes it, got one of foolbox {foolbox.__version__} "
            "whose module and preprocessing are kept elsewhere"
        ) from error
    return module, (mean, std, flip_axis)


def _original(attack: Any) -> str:
    """The class of foolbox that an attack stands in for."""
    return f"foolbox.attacks.{_original_class(attack).__name__}"


def _original_class(attack: Any) -> Any:
    return next(kind for kind in type(attack).__mro__ if kind.__module__.startswith("foolbox.attacks"))


def _require_tensor(name: str, value: Any) -> None:
    """A tensor of torch: foolbox's own models of torch take no other array, and say nothing of it."""
    raw = value.raw if isinstance(value, ep.Tensor) else value
    if not isinstance(raw, torch.Tensor):
        said = f"; convert with torch.from_numpy({name})" if isinstance(raw, np.ndarray) else ""
        raise TypeError(f"{name}: expected a torch.Tensor, as a PyTorchModel takes it, got {type(raw).__name__}{said}")


class _Loss:
    """Cross-entropy of a network, to be ascended: what the originals' loop passes around."""

    def __init__(self, net: fo.TwoLayerNetwork, labels: Any, original: str) -> None:
        self.net, self.labels, self.original = net, labels, original

    def __call__(self, x: Any) -> Any:
        """The loss alone, summed over the samples, as estimators of gradients ask for it."""
        return self.value_and_gradient(x)[0]

    def value_and_gradient(self, x: Any) -> tuple[Any, Any]:
        with elsewhere.instead(self.original):
            loss, gradient = fo.input_gradient(
                self.net, x.raw, self.labels.raw, loss="cross_entropy", threads=torch.get_num_threads()
            )
        return ep.astensor(loss.sum()), ep.astensor(gradient)


class _Gradients:
    """The original's loop on the engine's gradients."""

    _classes: Any
    _shape: tuple[int, ...]

    def __call__(self, model: Any, inputs: Any, criterion: Any, *, epsilons: Any, **kwargs: Any) -> Any:
        """Attack inputs with one radius or several, as the original does."""
        elsewhere.refuse_network("model", model, "foolbox.PyTorchModel(TwoLayer.from_network(net), bounds=...)")
        if isinstance(model, torch.nn.Module):
            kind = type(model).__name__
            raise TypeError(
                f"model: expected foolbox.PyTorchModel(module.eval(), bounds=(0, 1)), got the module, a {kind}"
            )
        if isinstance(model, foolbox.PyTorchModel):
            _require_tensor("inputs", inputs)
            if not isinstance(criterion, foolbox.criteria.Criterion):
                _require_tensor("labels", criterion)
            raw = ep.astensor(inputs).raw
            if not raw.is_floating_point():
                raise TypeError(f"inputs: expected floats, got {raw.dtype}; convert images with inputs.float() / 255")
        return super().__call__(model, inputs, criterion, epsilons=epsilons, **kwargs)  # type: ignore[misc]

    def run(self, model: Any, inputs: Any, criterion: Any, *, epsilon: float, **kwargs: Any) -> Any:
        """Attack inputs with one radius."""
        self._shape = tuple(ep.astensor(inputs).shape[1:])
        return super().run(model, inputs, criterion, epsilon=epsilon, **kwargs)  # type: ignore[misc]

    def get_loss_fn(self, model: Any, labels: Any) -> _Loss:
        """The loss of the network behind the model."""
        original = _original(self)
        return _Loss(network_of(model, original, self._shape), labels, original)

    def value_and_grad(self, loss_fn: _Loss, x: Any) -> tuple[Any, Any]:
        """Loss and gradient, by the engine."""
        return loss_fn.value_and_gradient(x)


class _Whole(_Gradients):
    """The attack wholly in the engine: for ℓ∞, where the original's two clips are the projection."""

    _targets = True  # whether the original takes targeted criteria

    def run(self, model: Any, inputs: Any, criterion: Any, *, epsilon: float, **kwargs: Any) -> Any:
        """Attack inputs with one radius."""
        own: Any = self
        if self._has_steps_of_its_own():
            return super().run(model, inputs, criterion, epsilon=epsilon, **kwargs)
        if kwargs:
            raise TypeError(f"attack got an unexpected keyword argument {next(iter(kwargs))!r}")
        x0, restore_type = ep.astensor_(inputs)
        wanted = originals.base.get_criterion(criterion)
        originals.base.verify_input_bounds(x0, model)
        targeted = hasattr(wanted, "target_classes")
        if (targeted and not self._targets) or not (targeted or isinstance(wanted, foolbox.criteria.Misclassification)):
            raise ValueError("unsupported criterion")
        start = ep.clip(own.get_random_start(x0, epsilon), *model.bounds).raw if own.random_start else None
        net = network_of(model, _original(self), tuple(x0.shape[1:]))
        with elsewhere.instead(_original(self)):
            end = fo.pgd(
                net,
                x0.raw,
                (wanted.target_classes if targeted else wanted.labels).raw,
                eps=float(epsilon),
                step_size=float(own.rel_stepsize * epsilon if own.abs_stepsize is None else own.abs_stepsize),
                steps=own.steps,
                bounds=model.bounds,
                x_init=start,
                loss="cross_entropy",
                targeted=targeted,
                threads=torch.get_num_threads(),
            )
        return restore_type(ep.astensor(end.x_adv))

    def _has_steps_of_its_own(self) -> bool:
        """Whether a subclass, such as an estimator of gradients, changed what the engine would leave out."""
        original = _original_class(self)
        ours = {"value_and_grad": _Gradients, "get_loss_fn": _Gradients, "normalize": original, "project": original}
        return any(getattr(type(self), name) is not getattr(kind, name) for name, kind in ours.items())


class LinfProjectedGradientDescentAttack(_Whole, originals.LinfProjectedGradientDescentAttack):
    """`foolbox.attacks.LinfPGD` (Madry et al. 2018)."""


class LinfBasicIterativeAttack(_Whole, originals.LinfBasicIterativeAttack):
    """`foolbox.attacks.LinfBasicIterativeAttack` (Kurakin et al. 2017)."""


class LinfFastGradientAttack(_Whole, originals.LinfFastGradientAttack):
    """`foolbox.attacks.FGSM` (Goodfellow et al. 2015)."""

    _targets = False


class L2ProjectedGradientDescentAttack(_Gradients, originals.L2ProjectedGradientDescentAttack):
    """`foolbox.attacks.L2PGD`, its loop on the engine's gradients."""


class L2BasicIterativeAttack(_Gradients, originals.L2BasicIterativeAttack):
    """`foolbox.attacks.L2BasicIterativeAttack`, its loop on the engine's gradients."""


class L2FastGradientAttack(_Gradients, originals.L2FastGradientAttack):
    """`foolbox.attacks.FGM`, its loop on the engine's gradients."""


class L1ProjectedGradientDescentAttack(_Gradients, originals.L1ProjectedGradientDescentAttack):
    """`foolbox.attacks.L1PGD`, its loop on the engine's gradients."""


class L1BasicIterativeAttack(_Gradients, originals.L1BasicIterativeAttack):
    """`foolbox.attacks.L1BasicIterativeAttack`, its loop on the engine's gradients."""


class L1FastGradientAttack(_Gradients, originals.L1FastGradientAttack):
    """`foolbox.attacks.L1FastGradientAttack`, its loop on the engine's gradients."""


class LinfAdamProjectedGradientDescentAttack(_Gradients, originals.LinfAdamProjectedGradientDescentAttack):
    """`foolbox.attacks.LinfAdamPGD`, its loop on the engine's gradients."""


class L1AdamProjectedGradientDescentAttack(_Gradients, originals.L1AdamProjectedGradientDescentAttack):
    """`foolbox.attacks.L1AdamPGD`, its loop on the engine's gradients."""


class L2AdamProjectedGradientDescentAttack(_Gradients, originals.L2AdamProjectedGradientDescentAttack):
    """`foolbox.attacks.L2AdamPGD`, its loop on the engine's gradients."""


LinfPGD, L2PGD, L1PGD = (
    LinfProjectedGradientDescentAttack,
    L2ProjectedGradientDescentAttack,
    L1ProjectedGradientDescentAttack,
)
LinfAdamPGD, L2AdamPGD, L1AdamPGD = (
    LinfAdamProjectedGradientDescentAttack,
    L2AdamProjectedGradientDescentAttack,
    L1AdamProjectedGradientDescentAttack,
)
PGD, AdamPGD, FGSM, FGM = LinfPGD, LinfAdamPGD, LinfFastGradientAttack, L2FastGradientAttack
