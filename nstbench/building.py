"""From a node with a ``_target_`` to the object it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate


def build(node: Mapping[str, Any], **supplied: Any) -> Any:
    """Return what a checked node describes; errors are those of the class itself.

    Args:
        node: ``_target_`` and its arguments; ``_partial_`` for a function still to be called.
        supplied: arguments that no configuration can give.
    """
    try:
        if not supplied:
            return instantiate(dict(node), _convert_="all")
        # Given to Hydra, a supplied object would be taken for configuration, and what looks like a
        # node inside it built.
        return instantiate({**node, "_partial_": True}, _convert_="all")(**supplied)
    except InstantiationException as error:
        if error.__cause__ is not None:
            raise error.__cause__ from None
        raise
