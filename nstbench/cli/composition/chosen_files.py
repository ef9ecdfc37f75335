"""Mistakes in what a recipe or an experiment chose: settings and layers that the user did not type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nstbench.config.files import conf_dir, groups, options_with
from nstbench.config.messages import NO_SUCH_LAYER, NO_SUCH_SETTING
from nstbench.errors import UserError, as_typed

# Groups whose options set settings of other groups; what an experiment sets goes before a recipe's.
_FILES = ("experiment", "recipe")
_SUGGESTED = 3


def explain_choice(error: UserError, composed: DictConfig, overrides: Sequence[str]) -> UserError | None:
    """Return the error for a setting or a layer that does not exist, if a file that was chosen names it.

    ``recipe=gatys2016/authors encoder=efficientnet_lite0`` fails at ``encoder.pooling``, which only the
    recipe names: the message is about the two options that do not go together.

    Args:
        error: Error about the composed configuration.
        composed: Composed configuration, without Hydra's settings.
        overrides: Overrides that were typed.

    Returns:
        The error; None if no file that was chosen names the setting or the layer, or the user typed it.
    """
    typed = {key.lstrip("+"): value for key, _, value in (each.partition("=") for each in overrides)}
    setting = error.setting
    if any(setting == key or setting.startswith(f"{key}.") for key in typed if "." in key):
        return None
    if error.reason == NO_SUCH_SETTING:
        named = f"sets {setting}={as_typed(error.value)}"
        group = _group_of(setting)
        chooses = next((f for f in _files(typed) if OmegaConf.select(f[2], setting) is not None), None)
    elif error.reason == NO_SUCH_LAYER:
        named, group = f"needs the layer {as_typed(error.value)}", "encoder"
        chooses = next((f for f in _files(typed, "layers") if _names_layers(f[2], setting)), None)
    else:
        return None
    if chooses is None or not group:
        return None
    file, option, _ = chooses
    lacking = f"{group}={typed[group]}" if group in typed else f"the {group.replace('/', ' ')} that is chosen"
    good, is_vgg = _fitting(group, setting, composed)
    reason = f"it {named}, which {lacking} does not have"
    reason += "; it is made for a VGG" if is_vgg else ""
    instead = [f"{group}={name}" for name in good[:_SUGGESTED]]
    other = "layers=default" if file == "layers" else _sibling(file, option, typed.get(group, ""))
    if other:
        instead.append(other)
    elif file != "layers" and not is_vgg:
        instead.append(f"~{setting}")
    shown = " or ".join([", ".join(instead[:-1]), instead[-1]]) if len(instead) > 1 else "".join(instead)
    hint = f"Type {shown}" if shown else f"Choose another {group}"
    return UserError(file, option, reason, f"{hint}; or leave out {file}={option}.")


def _group_of(setting: str) -> str:
    """Return the group whose option is to have a setting; "" if there is none."""
    parts = setting.split(".")
    names = ["/".join(parts[:i]) for i in range(len(parts) - 1, 0, -1)]
    return next((name for name in names if name in groups()), "")


def _files(typed: Mapping[str, str], *more: str) -> Iterator[tuple[str, str, DictConfig]]:
    """Yield the groups, options and contents of the chosen files, each with the files that it starts from."""
    for group in (*more, *_FILES):
        if option := typed.get(group, "").strip("'\""):
            for content in _contents(group, option):
                yield group, option, content


def _contents(group: str, option: str) -> Iterator[DictConfig]:
    path = conf_dir() / group / f"{option}.yaml"
    if not path.is_file():  # it is in the folder of --config-dir
        return
    content = OmegaConf.load(path)
    assert isinstance(content, DictConfig)
    yield content
    for name, chosen in _defaults(content):
        if name in _FILES:
            yield from _contents(name, chosen)


def _defaults(content: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield the groups and options in the defaults of a file."""
    for entry in OmegaConf.to_container(content, resolve=False).get("defaults", []):  # type: ignore[union-attr]
        if isinstance(entry, str):
            group, _, option = entry.strip("/").partition("/")
            yield group, option
        else:
            for key, option in entry.items():
                yield str(key).removeprefix("override ").strip().lstrip("/"), str(option)


def _names_layers(content: DictConfig, setting: str) -> bool:
    """Return whether a file names the layers that a setting holds, or chooses an option that does."""
    if not setting.startswith("layers."):
        return OmegaConf.select(content, setting) is not None
    chosen = any(group == "layers" for group, _ in _defaults(content))
    own = OmegaConf.to_container(content, resolve=False)
    assert isinstance(own, dict)
    is_option = bool({"content", "style"} & own.keys()) and "defaults" not in own  # of the group layers
    return chosen or is_option or "layers" in own


def _fitting(group: str, setting: str, composed: DictConfig) -> tuple[list[str], bool]:
    """Return the options of a group that fit, the best first, and whether that means to be a VGG."""
    having = options_with(group, setting.rpartition(".")[2])
    if group != "encoder":
        return having, False
    from nstbench.encoders.registry import REGISTRY
    from nstbench.encoders.vgg import layer_names  # loads torch
    from nstbench.encoders.weights import find

    layers = set(_layers_in(OmegaConf.to_container(composed, resolve=False)))
    if not layers & layer_names("vgg19"):
        return having, False
    good: dict[str, bool] = {}
    for option in groups()["encoder"]:
        node = OmegaConf.load(conf_dir() / "encoder" / f"{option}.yaml")
        weights = REGISTRY.get(str(OmegaConf.select(node, "weights")))
        shape = OmegaConf.select(node, "shape")
        if weights is not None and shape is not None and layers <= {*layer_names(shape), "canvas"}:
            good[option] = find(weights) is not None
    # What is on this machine first, then the largest of torchvision's.
    return sorted(sorted(good, reverse=True), key=lambda name: (not good[name], "_" in name)), True


def _layers_in(node: Any, *, inside: bool = False) -> Iterator[str]:
    """Yield the names of layers in a configuration."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _layers_in(value, inside=inside or key == "layers")
    elif inside and isinstance(node, list):
        yield from (name for name in node if isinstance(name, str) and "$" not in name)


def _sibling(file: str, option: str, encoder: str) -> str:
    """Return the recipe of the same paper for the encoder that ships, if that is the one that was chosen."""
    other = f"{option.rpartition('/')[0]}/procedural"
    fits = encoder in {"", "procedural"} and other != option and other in groups().get(file, ())
    return f"{file}={other}" if fits else ""
