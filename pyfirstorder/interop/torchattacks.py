"""torchattacks' attacks, run by this library's engine: change the import, and nothing else.

    from pyfirstorder.interop import torchattacks          # was: import torchattacks
    attack = torchattacks.PGD(model, eps=8/255, alpha=2/255, steps=10)

Each class is a subclass of the original: constructor, modes (targeted by label, by function, …), normalisation, device,
saving and `repr` are its own.  Random starts are torch's own draws, so that a seed gives the original's start.  The
model is a two-layer network, see `pyfirstorder.interop.models.from_torch`; another one is refused with the name of the
original.
"""

from __future__ import annotations

from typing import Any

try:
    import torch
    import torchattacks as originals
except ImportError as error:
    raise ImportError("torchattacks is not installed: pip install torchattacks") from error

import numpy as np

import pyfirstorder as fo
from pyfirstorder.interop import originals as elsewhere
from pyfirstorder.interop import torch as interop
from pyfirstorder.interop.layers import normalized

_ROUNDING = 1e-6  # of values in [0, 1] whose normalisation was undone
_LOSSES = {"ce": "cross_entropy", "dlr": "dlr"}


class _OnEngine:
    """What the attacks share: the network behind the model, and the labels to go to or away from."""

    def set_model(self, model: Any) -> None:
        """The model to attack."""
        elsewhere.refuse_network("model", model, "pyfirstorder.interop.torch.TwoLayer.from_network(net)")
        super().set_model(model)  # type: ignore[misc]

    def __call__(self, inputs: Any, labels: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Attack; what is refused leaves the model in the mode in which it came."""
        own: Any = self
        if not torch.is_tensor(inputs) or not inputs.is_floating_point():
            came = inputs.dtype if torch.is_tensor(inputs) else type(inputs).__name__
            raise TypeError(
                f"images: expected floats from 0 to 1, got {came}; convert images with images.float() / 255"
            )
        training, applied = own.model.training, own._normalization_applied
        try:
            with elsewhere.instead(f"torchattacks.{own.attack}"):
                return super().__call__(inputs, labels, *args, **kwargs)  # type: ignore[misc]
        except Exception:
            own._recover_model_mode(training)
            own._normalization_applied = applied
            raise

    def _network(self) -> fo.TwoLayerNetwork:
        own: Any = self
        if type(own).get_logits is not originals.PGD.get_logits:
            raise TypeError(
                f"get_logits: expected torchattacks' own, got that of {type(own).__name__}, which is not called here"
            )
        net = interop.network_of(own.model)
        if own._normalization_applied is False:  # points are in [0, 1], the model wants them normalised
            net = normalized(net, *(own.normalization_used[name].reshape(-1).numpy() for name in ("mean", "std")))
        return net

    def _prepared(self, images: Any, labels: Any) -> tuple[Any, Any]:
        """Points and labels; where targeted, the target's."""
        own: Any = self
        images, labels = images.detach().to(own.device), labels.detach().to(own.device)
        return images, own.get_target_label(images, labels) if own.targeted else labels

    def _ascend(self, images: Any, labels: Any, start: Any, step_size: float, steps: int) -> Any:
        """ℓ∞ steps in [0, 1]: there the original's two clamps are the projection onto ball and box."""
        own: Any = self
        net, values = self._network(), images.numpy()
        if values.size and not 0 <= values.min() <= values.max() <= 1:  # by rounding, where a normalisation was undone
            return self._step_by_step(net, images, labels, images if start is None else start, step_size, steps)
        return fo.pgd(
            net,
            images,
            labels,
            eps=float(own.eps),
            step_size=float(step_size),
            steps=steps,
            bounds=(0, 1),
            x_init=start,
            loss="cross_entropy",
            targeted=own.targeted,
            threads=torch.get_num_threads(),
        ).x_adv

    def _step_by_step(
        self, net: fo.TwoLayerNetwork, images: Any, labels: Any, adv: Any, step_size: float, steps: int
    ) -> Any:
        """The original's loop on the engine's gradients, for images that lie outside of [0, 1] themselves."""
        own: Any = self
        for _ in range(steps):
            gradient: Any = fo.input_gradient(
                net, adv, labels, loss="cross_entropy", targeted=own.targeted, threads=torch.get_num_threads()
            )[1]
            delta = (adv + step_size * gradient.sign() - images).clamp(-own.eps, own.eps)
            adv = (images + delta).clamp(0, 1)
        return adv


class PGD(_OnEngine, originals.PGD):
    """`torchattacks.PGD` (Madry et al. 2018): the same end points, up to the rounding of gradients near zero."""

    def forward(self, images: Any, labels: Any) -> Any:
        """Attack points in [0, 1]."""
        images, labels = self._prepared(images, labels)
        start = None
        if self.random_start:
            start = torch.empty_like(images).uniform_(-self.eps, self.eps)
            point = start.numpy()  # not by torch, whose idle threads would spin in the way of the engine's: 5 of 23 ms
            np.clip(np.add(point, images.numpy(), out=point), 0, 1, out=point)
        return self._ascend(images, labels, start, self.alpha, self.steps)


class FGSM(_OnEngine, originals.FGSM):
    """`torchattacks.FGSM` (Goodfellow et al. 2015)."""

    def forward(self, images: Any, labels: Any) -> Any:
        """Attack points in [0, 1]."""
        images, labels = self._prepared(images, labels)
        return self._ascend(images, labels, None, self.eps, 1)


class PGDL2(_OnEngine, originals.PGDL2):
    """`torchattacks.PGDL2`: the original's steps on the engine's gradients.

    The original scales into the ball and then clamps to [0, 1], which is not the nearest point of both.  So that end
    points stay its own, that is done here, too; `pyfirstorder.pgd` projects onto both, in the engine.
    """

    def forward(self, images: Any, labels: Any) -> Any:
        """Attack points in [0, 1]."""
        images, labels = self._prepared(images, labels)
        net, each = self._network(), (-1, *[1] * (images.ndim - 1))
        adv = images
        if self.random_start:
            delta = torch.empty_like(images).normal_()
            lengths = delta.flatten(1).norm(dim=1).view(each)
            radii = torch.zeros_like(lengths).uniform_(0, 1)
            adv = (images + delta * (radii / lengths * self.eps)).clamp(0, 1)
        guard = self.eps_for_division * len(images)  # the original divides gradients of the mean loss
        for _ in range(self.steps):
            gradient: Any = fo.input_gradient(
                net, adv, labels, loss="cross_entropy", targeted=self.targeted, threads=torch.get_num_threads()
            )[1]
            adv = adv + self.alpha * gradient / (gradient.flatten(1).norm(dim=1) + guard).view(each)
            delta = adv - images
            factors = (self.eps / delta.flatten(1).norm(dim=1)).clamp(max=1)
            adv = (images + delta * factors.view(each)).clamp(0, 1)
        return adv


class APGD(_OnEngine, originals.APGD):
    """`torchattacks.APGD` (Croce & Hein 2020): its restarts and starts, each run by `pyfirstorder.apgd`.

    Where an attack succeeds, the misclassified point kept is the one of largest loss, not the last one.
    """

    def attack_single_run(self, x_in: Any, y_in: Any) -> tuple[Any, Any, Any, Any]:
        """One restart: best points, whether each withstood, best losses, misclassified points."""
        if self.loss not in _LOSSES:
            raise ValueError(f"loss: expected 'ce' or 'dlr', got {self.loss!r}")
        each = (-1, *[1] * (x_in.ndim - 1))
        inside = x_in.clamp(0, 1)
        if (x_in - inside).abs().max() > _ROUNDING:
            raise ValueError("images: expected values from 0 to 1, got others")
        x_in = inside
        if self.norm == "Linf":
            draw = 2 * torch.rand(x_in.shape) - 1
            scale = draw.flatten(1).abs().amax(dim=1)
        else:
            draw = torch.randn(x_in.shape)
            scale = draw.flatten(1).norm(dim=1) + 1e-12
        start = (x_in + self.eps * draw.to(x_in) / scale.to(x_in).view(each)).clamp(0, 1)
        end: Any = fo.apgd(
            self._network(),
            x_in,
            y_in,
            eps=float(self.eps),
            norm=self.norm,
            steps=self.steps,
            bounds=(0, 1),
            x_init=start,
            random_start=False,
            loss=_LOSSES[self.loss],
            rho=float(self.thr_decr),
            keep="best",
            threads=torch.get_num_threads(),
        )
        return end.x_adv, ~end.success, end.best_loss, end.x_adv
