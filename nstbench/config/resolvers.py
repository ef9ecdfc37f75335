"""Functions for YAML files: ``${scaled:…}`` and ``${times:…}``."""

from __future__ import annotations

from math import isfinite
from typing import Any

from omegaconf import OmegaConf


def register_resolvers() -> None:
    """Make two functions available in YAML: ``${scaled:${size},0.5}`` and ``${times:a,b}``, a product.

    The first is a share of a number: rounded, at least 1 or the third argument, at most the number itself.
    """

    def scaled(whole: Any, share: Any, least: int = 1) -> Any:
        if isinstance(whole, int | float) and isinstance(share, int | float) and isfinite(whole * share):
            return max(1, min(least, round(whole)), round(whole * share))
        return whole  # not a number: the schema reports it, with the setting that the user typed

    def times(a: Any, b: Any) -> Any:
        return a * b if isinstance(a, int | float) and isinstance(b, int | float) else a  # as above

    OmegaConf.register_new_resolver("scaled", scaled, replace=True)
    OmegaConf.register_new_resolver("times", times, replace=True)
