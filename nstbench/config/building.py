"""From a node with a ``_target_`` to the object it stands for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

from nstbench.config.kinds import argument_types, locate

OWN_KEYS = frozenset({"_target_", "_partial_", "_recursive_", "_convert_"})
"""Keys of a node that are not arguments of its class: those of Hydra's ``instantiate``."""


def build(node: Mapping[str, Any], **supplied: Any) -> Any:
    """Return what a checked node describes; errors are those of the class itself.

    Hydra's ``instantiate`` finds names in another order, and builds nodes inside nodes; here, what
    `nstbench.config.kinds` has checked is what is called, and nothing else.

    Args:
        node: ``_target_`` and its arguments; ``_partial_: true`` for what is still to be called.
        supplied: Arguments that no configuration can give.

    Raises:
        TypeError: A function returned something else than its annotation says.
    """
    made = locate(node["_target_"], "_target_")
    arguments = {key: deepcopy(value) for key, value in node.items() if key not in OWN_KEYS}
    if node.get("_partial_"):
        return partial(made, **arguments, **supplied)
    built = made(**arguments, **supplied)
    if inspect.isfunction(made):
        promised = argument_types(made).get("return")
        if inspect.isclass(promised) and not isinstance(built, promised):
            raise TypeError(
                f"{node['_target_']} returned a {type(built).__name__}, not a {promised.__name__}"
            )
    return built
