"""What a message gives as an example is a value that its setting takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import yaml

from nstbench.config.schema import Config, list_settings
from nstbench.config.validation import validate
from nstbench.errors import UserError

BAD = ("abc", -1, 1.5, [3], {"a": 1}, None, True)


def changed(plain: dict[str, Any], setting: str, value: object) -> dict[str, Any]:
    plain = deepcopy(plain)
    *sections, last = setting.split(".")
    node = plain
    for section in sections:
        node = node[section]
    node[last] = value
    return plain


def message(plain: dict[str, Any]) -> UserError | None:
    try:
        validate(plain)
    except UserError as error:
        return error
    return None


def test_every_example_is_taken(compose_config: Callable[..., Config]) -> None:
    plain = compose_config().plain
    names = [
        *list_settings(),
        "loss.style.gram.layers",
        "loss.style.gram.weight",
        "loss.style.gram.layer_weights",
    ]
    tried = set()
    for name in names:
        for bad in BAD:
            error = message(changed(plain, name, bad))
            match = re.match(r"Type (.*), for example", error.hint) if error else None
            for example in re.split(r" or |, (?=[\w.]+=)", match[1]) if match else []:
                setting, _, value = example.partition("=")
                if example not in tried:
                    tried.add(example)
                    after = message(changed(plain, setting, yaml.safe_load(value)))
                    assert after is None or not after.setting.startswith(setting), f"{error}\n{after}"
    assert len(tried) > 40


@pytest.mark.parametrize("setting", ["criterion", "pictures.background", "schedule.stages", "pictures.style"])
def test_there_is_an_example(compose_config: Callable[..., Config], setting: str) -> None:
    error = message(changed(compose_config().plain, setting, 5))
    assert error is not None
    assert error.hint.startswith(f"Type {setting}=")
