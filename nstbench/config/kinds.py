"""The classes that each place of the configuration accepts as a ``_target_``.

Naming a class in a configuration imports its module, which runs that module's code: see docs/trust.md.
Nothing is called before the class or function is known to be of the kind that its place accepts.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, get_type_hints

from nstbench.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Kind:
    """The classes that one place of the configuration accepts.

    Attributes:
        noun: Name of the kind with its article, for messages.
        base: Full name of the class that all of them inherit from.
        choose: Setting that chooses an option that ships with nstbench, as typed; "" where there is none.
        defines: Attributes that a subclass has to define itself; of names joined by ``|``, one suffices.
        supplied: Argument that nstbench supplies when it builds one; "" for none.
        partial: Whether a node of this kind has ``_partial_: true``: it is built later, with that argument.
        inside: Keys of a node whose values are nodes too, with the places in `KINDS` that describe them.
    """

    noun: str
    base: str
    choose: str
    defines: tuple[str, ...] = ()
    supplied: str = ""
    partial: bool = False
    inside: Mapping[str, str] = field(default_factory=dict)


def _loss_kind(role: str) -> Kind:
    noun = f"a formulation of a {'' if role == 'regularizer' else f'{role} '}loss"
    base = "nstbench.losses.base.Formulation"
    return Kind(noun, base, f"loss/{role}=…", ("views", "target", "forward"))


KINDS: Mapping[str, Kind] = {
    "encoder": Kind("an encoder", "nstbench.encoders.base.Encoder", "encoder=…", ("_features|forward",)),
    "judge": Kind("an encoder", "nstbench.encoders.base.Encoder", "judge=…", ("_features|forward",)),
    "optimizer": Kind(
        *("an optimiser", "torch.optim.Optimizer", "optimizer=…", ("step",)), supplied="params", partial=True
    ),
    "canvas.parametrization": Kind(
        "a canvas", "nstbench.canvas.base.Canvas", "canvas=…", ("forward", "paint")
    ),
    "loss.content.*": _loss_kind("content"),
    "loss.style.*": _loss_kind("style"),
    "loss.regularizer.*": _loss_kind("regularizer"),
    "metrics.*": Kind(
        *("a metric", "nstbench.metrics.base.Metric", "metrics=…"),
        ("__call__", "higher_is_better", "compares_with"),
        inside={"encoder": "encoder"},
    ),
    "logger.*": Kind(
        "a logger", "pytorch_lightning.loggers.Logger", "logger=…", supplied="run", defines=("log_metrics",)
    ),
    "hydra.launcher": Kind("a launcher of Hydra's", "hydra.plugins.launcher.Launcher", "hydra/launcher=…"),
    "hydra.sweeper": Kind(
        *("a sweeper of Hydra's", "hydra.plugins.sweeper.Sweeper", "hydra/sweeper=…"),
        inside={"sampler": "hydra.sweeper.sampler"},
    ),
    "hydra.sweeper.sampler": Kind(
        "a sampler of Optuna's", "optuna.samplers.BaseSampler", "hydra.sweeper.sampler=tpe"
    ),
    "hydra.callbacks.*": Kind("a callback of Hydra's", "hydra.experimental.callback.Callback", ""),
}
"""Every place of a configuration that takes a class path; anywhere else it is refused."""


def kind_at(place: str) -> Kind:
    """Return the kind that a place accepts.

    Raises:
        KeyError: Nothing is built at this place.
    """
    return (
        next((kind for pattern, kind in KINDS.items() if fnmatchcase(place, pattern)), None) or KINDS[place]
    )


def check_kind(setting: str, class_path: object, kind: Kind) -> Any:
    """Return the class or function that a class path names, if it is of a kind. Nothing is called.

    A function is accepted if its return annotation is of the kind.

    Args:
        setting: Name of the setting that holds the class path, for messages.
        class_path: Full name of the class or function.
        kind: Kind that the place accepts.

    Raises:
        UserError: There is no such class or function, or it is of another kind.
    """
    made = locate(class_path, setting)
    base = locate(kind.base, setting)
    choose = f"Choose one with {kind.choose}, or name" if kind.choose else "Remove it, or name"
    use = f"{choose} a subclass of {kind.base}."
    returned = (
        made if inspect.isclass(made) else _type_hints(made).get("return") if inspect.isfunction(made) else 0
    )
    if not inspect.isclass(returned) or not issubclass(returned, base):
        raise UserError(setting, class_path, f"it is not {kind.noun}", use)
    if inspect.isclass(made):
        abstract = (
            inspect.isabstract(made) or made.__module__ == base.__module__.removesuffix(".base") + ".base"
        )
        if lacking := [names.split("|")[0] for names in kind.defines if not _defines(made, base, names)]:
            raise UserError(setting, class_path, f"it is {kind.noun} that defines no {lacking[0]}", use)
        if abstract:
            raise UserError(setting, class_path, f"it is only a base for {kind.noun}", use)
    parameters = signature(made)
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if kind.supplied and kind.supplied not in parameters and not anything:
        reason = f"it takes no argument {kind.supplied}, with which {kind.noun} is built"
        raise UserError(setting, class_path, reason, f"Add {kind.supplied} to its arguments.")
    return made


def _defines(made: type, base: type, names: str) -> bool:
    """Return whether a class defines one of the attributes in ``names`` itself, and not its base."""
    nothing = object()
    of = [(getattr(made, name, nothing), getattr(base, name, nothing)) for name in names.split("|")]
    return any(own is not nothing and own is not inherited for own, inherited in of)


def locate(class_path: object, setting: str) -> Any:
    """Return the class or function that a class path names. Its module is imported, nothing is called.

    Args:
        class_path: Full name of the class or function, such as ``torch.optim.Adam``.
        setting: Name of the setting that holds it, for messages.

    Raises:
        UserError: There is no class or function of that name.
    """
    module, _, name = class_path.rpartition(".") if isinstance(class_path, str) else ("", "", "")
    if (
        not isinstance(class_path, str)
        or not module
        or not all(p.isidentifier() for p in class_path.split("."))
    ):
        reason = "it is not the full name of a class"
        raise UserError(setting, class_path, reason, "Type one such as torch.optim.Adam.")
    inside = _import(module, setting, class_path)
    made = getattr(inside, name, None)
    if not callable(made):
        classes = [n for n, value in vars(inside).items() if inspect.isclass(value) and n[0] != "_"]
        hint = did_you_mean(name, classes, what=f"classes of {module}")
        raise UserError(setting, class_path, f"{module} has no such class or function", hint)
    return made


def _import(module: str, setting: str, class_path: str) -> Any:
    try:
        return import_module(module)
    except (Exception, SystemExit) as error:  # the module may be the user's own, and raise anything
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is None or not f"{module}.".startswith(f"{missing}."):
            reason = f"importing it failed ({type(error).__name__}: {' '.join(str(error).split())})"
            raise UserError(setting, class_path, reason, "Correct that module.") from error
        parent, _, last = missing.rpartition(".")
        hint = did_you_mean(last, _modules_in(parent), what="modules") if parent else ""
        hint = hint or "Is its package installed?"
        raise UserError(setting, class_path, f"there is no module {missing}", hint) from error


def _modules_in(package: str) -> list[str]:
    try:
        return [m.name for m in iter_modules(import_module(package).__path__)]
    except (ImportError, AttributeError):
        return []


def signature(made: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a class or function by name; if unknown, one that takes any arguments."""
    try:
        return inspect.signature(made).parameters
    except (ValueError, TypeError):  # a built-in without a signature
        return {"any": inspect.Parameter("any", inspect.Parameter.VAR_KEYWORD)}


def argument_types(made: Any) -> dict[str, Any]:
    """Return the annotations of the arguments of a class or function, as far as they can be read."""
    return _type_hints(made.__init__ if inspect.isclass(made) else made)


def _type_hints(function: Any) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}
