"""Every loss has a card, and what cards say can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from omegaconf import OmegaConf

from nstbench.cli.composition.overrides import overrides_from
from nstbench.config.files import conf_dir, groups
from nstbench.config.instantiate import TERM_KEYS
from nstbench.config.schema import Config, Role

CARDS = Path(__file__).resolve().parent.parent / "docs" / "losses"
OPTIONS = [(r, o) for r in get_args(Role) for o in groups()[f"loss/{r}"] if o != "none"]
PAGES = sorted(CARDS.glob("*.md"))


def node_of(role: str, option: str) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(
        OmegaConf.load(conf_dir() / "loss" / role / f"{option}.yaml"), resolve=False
    )
    (own,) = plain.values()
    return dict(own)


def card_of(role: str, option: str) -> Path:
    module = str(node_of(role, option)["_target_"]).split(".")[-2]
    return next(f for f in (CARDS / f"{option}.md", CARDS / f"{module}.md") if f.exists())


@pytest.mark.parametrize(("role", "option"), OPTIONS, ids=[f"{r}={o}" for r, o in OPTIONS])
def test_a_loss_has_a_card_that_tells_its_settings(role: str, option: str) -> None:
    text = card_of(role, option).read_text(encoding="utf-8")
    for heading in ("Formula", "How implementations differ", "Settings", "Cost", "When to use it"):
        assert f"## {heading}" in text
    assert re.search(rf"loss/{role}=\[?[\w,]*{option}\b|`{option}`", text)
    for setting in node_of(role, option).keys() - TERM_KEYS - {"_target_"}:
        assert f"`{setting}`" in text, f"the card does not tell what {setting} is"


@pytest.mark.parametrize("page", PAGES, ids=[p.name for p in PAGES])
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def test_the_index_lists_every_loss() -> None:
    index = (CARDS / "README.md").read_text(encoding="utf-8")
    for role, option in OPTIONS:
        assert f"[{role}/{option}](" in index


def test_what_cards_tell_to_type_can_be_typed(compose_config: Callable[..., Config]) -> None:
    typed = set()
    for page in PAGES:
        for code in re.findall(r"`([^`\n]*loss/[^`\n]*)`", page.read_text(encoding="utf-8")):
            words = shlex.split(code.removeprefix("nstbench run "))
            if all("=" in word for word in words):
                typed.add(tuple(words))
    assert len(typed) > 20
    for words in typed:
        compose_config(*overrides_from(list(words)))
