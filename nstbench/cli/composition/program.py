"""Commands that are configured through Hydra."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nstbench.cli.composition.overrides import SHORTHANDS
from nstbench.config.files import groups as all_groups
from nstbench.config.schema import Config, list_settings


@dataclass(frozen=True)
class Program:
    """A command whose settings Hydra composes.

    Attributes:
        command: Command as typed, such as ``nstbench run``.
        config: Name of the file at the top of conf/ that the command starts from, without its suffix.
        schema: Dataclass of the composed configuration.
        chosen: Groups from which the file chooses; None: all groups.
        sweeps: Whether settings may have several values.
        shorthands: Settings by the short names that may be typed for them.
    """

    command: str
    config: str
    schema: Any
    chosen: frozenset[str] | None = None
    sweeps: bool = True
    shorthands: Mapping[str, str] = field(default_factory=dict)

    @property
    def help(self) -> str:
        """The hint for errors that have no better one."""
        return f"`{self.command} --help` lists settings and groups."

    def groups(self) -> dict[str, list[str]]:
        """Return the options of the groups that can be chosen from."""
        if self.chosen is None:
            return all_groups()
        return {g: o for g, o in all_groups(of_training=True).items() if g in self.chosen}

    def names(self) -> frozenset[str]:
        """Return the names that may be typed before ``=``: settings, groups and shorthands."""
        return frozenset([*list_settings(self.schema), *self.groups(), *self.shorthands])


RUN = Program("nstbench run", "config", Config, shorthands=SHORTHANDS)
