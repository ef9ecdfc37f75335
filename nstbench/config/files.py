"""The folder of the YAML files of conf/, and the groups and options in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def conf_dir() -> Path:
    """Return the folder of the configuration: in the installed package, or beside it in a checkout.

    The environment variable ``NSTBENCH_CONF`` replaces it.
    """
    here = Path(__file__).resolve().parents[1]
    # The packaged copy first: the folder conf/ beside an installed package may belong to another one.
    for folder in (os.environ.get("NSTBENCH_CONF"), here / "conf", here.parent / "conf"):
        if folder and (Path(folder) / "config.yaml").is_file():
            return Path(folder).resolve()
    raise FileNotFoundError(
        f"conf/config.yaml is neither in {here} nor beside it: the installation is damaged"
    )


def groups(folder: Path | None = None, *, of_training: bool = False) -> dict[str, list[str]]:
    """Return the options of every config group, such as ``{"loss/style": ["gram", …], …}``.

    Args:
        folder: Folder of the groups; ``conf`` by default.
        of_training: Whether to return also the group ``training``, which runs do not have.
    """
    folder = folder or conf_dir()
    found: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*.yaml")):
        option = file.relative_to(folder)
        parts = option.parts
        if len(parts) == 1 or (parts[0] == "training" and not of_training):
            continue
        # experiment/gatys2016/fig3.yaml is the option gatys2016/fig3 of the group experiment.
        depth = 2 if parts[0] in {"loss", "hydra"} else 1
        group, name = "/".join(parts[:depth]), "/".join(parts[depth:]).removesuffix(".yaml")
        found.setdefault(group, []).append(name)
    return found


def describe(group: str, option: str, folder: Path | None = None) -> str:
    """Return the comment on the first line of an option's file, which describes the option."""
    file = (folder or conf_dir()) / group / f"{option}.yaml"
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        return line.removeprefix("# ").strip() if line.startswith("#") else ""
    return ""


def options_with(group: str, setting: str) -> list[str]:
    """Return the options of a group whose own files have a setting."""
    folder = conf_dir()
    files = {option: folder / group / f"{option}.yaml" for option in groups(folder).get(group, [])}
    return [option for option, file in files.items() if setting in OmegaConf.load(file)]


def formulations(role: str) -> dict[str, dict[str, Any]]:
    """Return the terms of every option of ``loss/<role>``, by the option's name, with the default layers."""
    folder = conf_dir()
    layers = OmegaConf.load(folder / "layers" / "default.yaml")
    formulas = OmegaConf.load(folder / "config.yaml").formulas
    found = {}
    for option in groups(folder)[f"loss/{role}"]:
        terms = OmegaConf.load(folder / "loss" / role / f"{option}.yaml")
        known = OmegaConf.create({"layers": layers, "formulas": formulas, "terms": terms})
        plain = OmegaConf.to_container(known, resolve=True)
        if isinstance(plain, dict) and plain["terms"]:  # `none` has no term
            found[option] = plain["terms"]
    return found
