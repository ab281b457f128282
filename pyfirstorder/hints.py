"""What people who come from other libraries mean: their names, their models, and the words that lead on from there.

Checks decide; this module only finds what to add to their messages, and only once something is refused already.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Given = ParamSpec("Given")
    Result = TypeVar("Result")

# Arguments of torchattacks, foolbox, ART, CleverHans, AutoAttack and scikit-learn, by what they are here.
_ARGUMENTS = {
    "step_size": "alpha eps_step eps_iter stepsize abs_stepsize lr learning_rate",
    "rel_step_size": "rel_stepsize relative_step_size",
    "steps": "num_steps nb_steps n_steps nb_iter num_iter n_iter max_iter iters iterations nb_iterations perturb_steps",
    "eps": "epsilon epsilons max_eps radius",
    "bounds": "clip_min clip_max clip_values clip box",
    "norm": "ord p",
    "random_start": "rand_init random_init rand_start random_restart",
    "restarts": "num_random_init n_restarts nb_restarts num_restarts",
    "momentum": "decay mu decay_factor",
    "loss": "loss_fn criterion loss_function",
    "targeted": "is_targeted y_target",
    "rho": "thr_decr",
    "seed": "random_seed random_state rng key",
    "threads": "n_jobs num_threads n_threads",
    "progress": "verbose",
    "x": "images inputs x_orig X",
    "y": "labels target targets",
    "net": "model module network estimator",
    "hidden_weight": "W w w1 W1 weight",
    "hidden_bias": "b b1 bias",
    "output_weight": "A a w2 W2",
    "output_bias": "c b2",
    "activation": "act act_fn activation_fn nonlinearity sigma",
    "in_features": "n_features num_features input_dim input_size n_inputs d",
    "hidden_features": "hidden hidden_size hidden_sizes hidden_dim hidden_units hidden_layer_sizes n_hidden width "
    "units m",
    "learning_rate": "lr eta learning_rate_init step_size alpha",
    "epochs": "n_epochs num_epochs nb_epochs max_iter n_iter iterations steps",
    "batch_size": "batch bs minibatch_size",
    "optimizer": "optim opt solver",
    "weight_decay": "wd",
    "l2_penalty": "l2 l2_reg l2_regularization",
    "validation": "val validation_data validation_set eval_set",
    "adversary": "attack",
    "x0": "x x_clean clean x_natural images inputs",
    "x_adv": "adv adversarial x_best points ends",
    "starts": "restarts n_starts num_starts",
    "top": "k n_eigenvalues",
    "span": "extent limits",
}
# Values of theirs, without case, spaces, dashes and underscores.
_VALUES = {
    "cross_entropy": "ce crossentropy xent nll crossentropyloss softmaxcrossentropy",
    "logistic": "bce binarycrossentropy bcewithlogits",
    "squared": "mse l2 meansquarederror",
    "margin": "cw hinge carliniwagner logitdifference",
    "sigmoid": "logistic",
    "silu": "swish",
    "identity": "linear none",
    "gelu_tanh": "gelunew geluapproximate",
    "normalized": "l2 normalised",
    "linf": "linfinity max chebyshev",
    "l2": "euclidean",
    "l1": "manhattan",
    "cuda": "gpu nvidia",
    "cpu": "native",
    "reference": "numpy",
}
# Of difflib's ratio: "steps" and "eps" have 0.75, and so have "rely" and "relu".
_ALIKE_ARGUMENTS, _ALIKE_VALUES = 0.8, 0.75
_MODELS = {  # packages of what a model is made of, the first that is found
    "keras": "make a network of it with pyfirstorder.interop.models.from_keras(model)",
    "foolbox": "attack it with pyfirstorder.interop.foolbox",
    "art": "attack it with pyfirstorder.interop.art",
    "torch": "attack it with pyfirstorder.interop.torch.pgd(module, ...), or make a network of it with "
    "pyfirstorder.interop.models.from_torch(module)",
    "sklearn": "make a network of it with pyfirstorder.interop.models.from_sklearn(estimator)",
    "onnx": "make a network of it with pyfirstorder.interop.models.from_onnx(model)",
    "flax": "make a network of it with pyfirstorder.interop.models.from_flax(..., activation=...)",
    "equinox": "make a network of its parameters with pyfirstorder.interop.models.from_flax(..., activation=...)",
}


def knows_other_names(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """The function; a call that does not fit it is refused in words that lead on.

    An argument that it does not have is refused with the one that may be meant; one that is missing, and one too many
    by position, with those that it has.
    """

    @functools.wraps(function)
    def call(*args: Given.args, **named: Given.kwargs) -> Result:
        try:
            return function(*args, **named)
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise  # from inside
            words = _misfit(function, args, named)
            if words is None:
                raise
            raise TypeError(words) from None

    return call


def _misfit(function: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> str | None:
    """Why arguments do not fit a function, in words; None where Python's are as good."""
    name = function.__qualname__.removesuffix(".__init__")
    own = dict(inspect.signature(function).parameters)
    if own.pop("self", None) is not None:
        args = args[1:]
    takes_any = any(part.kind is part.VAR_KEYWORD for part in own.values())
    own = {key: part for key, part in own.items() if part.kind is not part.VAR_KEYWORD}
    unknown = [key for key in named if key not in own]
    if unknown and not takes_any:
        return no_argument(name, unknown, own)
    ordered = [key for key, part in own.items() if part.kind is part.POSITIONAL_OR_KEYWORD]
    if len(args) > len(ordered):
        others = ", ".join(f"{key}=" for key in own if key not in ordered)
        return f"{name} takes {', '.join(ordered)} by position, got {len(args)} arguments there" + (
            f"; name the others: {others}" if others else ""
        )
    given = {*ordered[: len(args)], *named}
    missing = [key for key, part in own.items() if part.default is part.empty and key not in given]
    if not missing:
        return None
    meant = [key for key in unknown if _meant(key, missing, _ARGUMENTS)]  # what others take may be among them
    return no_argument(name, meant, own) if meant else f"{name} needs {listed(missing)}; it has {', '.join(own)}"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them: a, b and c."""
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def no_argument(function: str, unknown: Iterable[str], known: Iterable[str]) -> str:
    """The message for arguments that a function does not have."""
    unknown, known = list(unknown), list(known)
    meant = dict.fromkeys(found for name in unknown for found in _meant(name, known, _ARGUMENTS))
    shown = " and ".join("bounds=(lower, upper)" if name == "bounds" else name for name in meant)
    return f"{function} has no argument {', '.join(unknown)}; " + (
        f"did you mean {shown}?" if meant else f"it has {', '.join(known)}"
    )


def argument_meant(name: str, known: Iterable[str]) -> str | None:
    """Which of the known names of arguments another name stands for, if any."""
    return next(iter(_meant(name, sorted(known), _ARGUMENTS)), None)


def did_you_mean(value: str, allowed: Iterable[str]) -> str:
    """The end of a message about a name that is not among those allowed; empty where nothing is like it."""
    meant = _meant(value, list(allowed), _VALUES)
    return f"; did you mean {meant[0]!r}?" if meant else ""


def _meant(name: str, known: list[str], others: dict[str, str]) -> list[str]:
    plain = _plain(name)
    same = [own for own in known if _plain(own) == plain]
    listed = [own for own in known if name in others.get(own, "").split() or plain in others.get(own, "").split()]
    alike = _ALIKE_ARGUMENTS if others is _ARGUMENTS else _ALIKE_VALUES
    return (same or listed or difflib.get_close_matches(name, known, 1, alike))[:1]


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def for_model(value: object) -> str:
    """The end of a message about a model where a network was expected: what takes it."""
    packages = {kind.__module__.partition(".")[0] for kind in type(value).__mro__}
    if packages & {"numpy"} or hasattr(value, "__dlpack__"):
        return ""
    if isinstance(value, (str, os.PathLike)):
        return "; read it with pyfirstorder.load_network(path)"
    if is_state_dict(value):
        return (
            "; load it into its module with module.load_state_dict(...), and read that with models.from_torch(module)"
        )
    if isinstance(value, Mapping):
        return "; make a network of parameters with pyfirstorder.interop.models.from_flax(parameters, activation=...)"
    if any(kind.__name__ == "TwoLayerNetwork" for kind in type(value).__mro__):
        return "; a TwoLayerNetwork goes to pyfirstorder.pgd, apgd and evaluate themselves"
    return next((f"; {words}" for package, words in _MODELS.items() if package in packages), "")


def is_sparse(value: object) -> bool:
    """Whether it is a sparse matrix or array of SciPy's kind, which NumPy would take for a single object."""
    return hasattr(value, "toarray") and hasattr(value, "nnz")


def is_radius(name: str) -> bool:
    """Whether the name of an argument is ``eps`` or what others call it."""
    return name == "eps" or name in _ARGUMENTS["eps"].split()


def is_state_dict(value: object) -> bool:
    """Whether it is what ``module.state_dict()`` gives."""
    return isinstance(value, Mapping) and any(type(part).__module__.startswith("torch") for part in value.values())


def is_keras(value: object) -> bool:
    """Whether it is a model of Keras, which computing with torch is a torch module, too."""
    return any(kind.__module__.partition(".")[0] == "keras" for kind in type(value).__mro__)


def divisor(largest: float) -> float:
    """What numbers from 0 to the largest are divided by to lie in [0, 1]: 255 for images of bytes, most of them."""
    if largest <= 1:
        return 1.0
    return 255.0 if 127 < largest <= 255 else largest
