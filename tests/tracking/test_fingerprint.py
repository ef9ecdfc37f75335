"""What makes two runs the same run, and what does not."""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nstbench.config.schema import Config
from nstbench.runs.inputs import load_inputs
from nstbench.runs.run import run
from nstbench.tracking.fingerprint import fingerprint, fingerprinted_settings

Compose = Callable[..., Config]

INPUTS = {"content": "c" * 64, "style": ["a" * 64, "b" * 64], "start": None, "weights": "e" * 64}
# The settings that leave the picture as it is, or whose bytes are hashed instead.
COSMETIC = (
    "study",
    "output",
    "retry_failed",
    "criterion",
    "panel",
    "formulas",
    "formulas",
    "record.",
    "logger.",
    "metrics.",
    "judge.",
    "trainer.",
)
COSMETIC += ("encoder.download",)
HASHED = ("pictures.content", "pictures.style", "pictures.max_pixels", "pictures.cast")
HASHED += ("pictures.guides.sky.content", "pictures.guides.sky.style")


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every single value in a configuration."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if not items:
        yield path
        return
    for key, value in items:
        yield from leaves(value, (*path, key))


def changed(plain: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    plain = copy.deepcopy(plain)
    at: Any = plain
    for key in path[:-1]:
        at = at[key]
    old = at[path[-1]]
    if isinstance(old, bool):
        at[path[-1]] = not old
    elif isinstance(old, int | float):
        at[path[-1]] = old + 1
    else:
        at[path[-1]] = "other"
    return plain


@pytest.mark.parametrize("encoder", ["random", "vgg19", "torchvision", "squeezenet"])
def test_every_setting_is_part_of_it_but_those_that_leave_the_picture_alone(
    compose_config: Compose, encoder: str
) -> None:
    Path("sky.png").write_bytes(b"its pixels do not matter here")
    settings = [
        "metrics=all",
        "logger=[wandb,tensorboard,csv]",
        "schedule=coarse_to_fine",
        "loss/style=[gram]",
        "+pictures.guides.sky={content: sky.png, style: null, picture: 0, weight: 2.0}",
    ]
    plain = compose_config(f"encoder={encoder}", *settings, tiny=False).plain
    before = fingerprint(plain, INPUTS)
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for path in leaves(plain):
        name = ".".join(map(str, path))
        expected = not (name.startswith(COSMETIC) or name in HASHED)
        assert (fingerprint(changed(plain, path), INPUTS) != before) == expected, name
        found[expected].add(name)
    assert {"seed", "steps", "canvas.start", "loss.style.gram.weight", "schedule.stages.0.size"} <= found[
        True
    ]
    assert {"pictures.guides.sky.weight", "pictures.guide_propagation", "colour.control"} <= found[True]
    assert {"encoder._target_", "optimizer.lr", "weights.unit", "pictures.background.0"} <= found[True]
    assert {"study", "output", "trainer.threads", "logger.wandb.mode", "record.progress"} <= found[False]
    assert ("encoder.download" in found[False]) == (encoder != "random")


@pytest.mark.parametrize("key", INPUTS)
def test_every_input_is_part_of_it(compose_config: Compose, key: str) -> None:
    plain = compose_config().plain
    other: Any = (
        ["b" * 64, "a" * 64] if key == "style" else "f" * 64
    )  # the order of styles is that of their weights
    assert fingerprint(plain, {**INPUTS, key: other}) != fingerprint(plain, INPUTS)


def test_choosing_other_options_changes_it(compose_config: Compose) -> None:
    choices = [
        "",
        "optimizer=adam",
        "loss/style=none",
        "loss/regularizer=none",
        "schedule=two_sizes",
        "encoder=vgg19",
    ]
    prints = [fingerprint(compose_config(*([c] if c else []), tiny=False).plain, INPUTS) for c in choices]
    assert len(set(prints)) == len(choices)


def reordered(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: reordered(v) for k, v in reversed(node.items())}
    return [reordered(v) for v in node] if isinstance(node, list) else node


def test_the_order_of_keys_and_the_spelling_of_numbers_do_not_matter(compose_config: Compose) -> None:
    plain = compose_config().plain
    assert list(reordered(plain)) != list(plain)
    assert fingerprint(reordered(plain), reordered(INPUTS)) == fingerprint(plain, INPUTS)
    for one, same in [("weights.style=30", "weights.style=3e1"), ("steps=1000", "steps=1e3")]:
        a, b = compose_config(one).plain, compose_config(same).plain
        assert fingerprint(a, INPUTS) == fingerprint(b, INPUTS)
    assert fingerprint(compose_config("weights.style=30.5").plain, INPUTS) != fingerprint(
        compose_config("weights.style=30").plain, INPUTS
    )


def test_equal_files_are_one_input_wherever_they_are(compose_config: Compose, pair: dict[str, str]) -> None:
    def of(*overrides: str) -> str:
        config = compose_config(*overrides)
        return fingerprint(config.plain, {**load_inputs(config).hashes(), "weights": ""})

    Path("elsewhere").mkdir()
    copies = {name: shutil.copy(file, f"elsewhere/copy-of-{name}.png") for name, file in pair.items()}
    moved = [f"pictures.content={copies['photo']}", f"pictures.style=[{copies['painting']}]"]
    assert of() == of(*moved)
    assert of() != of(f"pictures.content={copies['painting']}")
    assert of(f"canvas.start={pair['painting']}") == of(*moved, f"canvas.start={copies['painting']}")
    starts = [f"canvas.start={pair['painting']}", f"canvas.start={pair['photo']}"]
    assert len({of(), of(starts[0]), of(starts[1]), of("canvas.start=style"), of("canvas.start=noise")}) == 5


@pytest.mark.parametrize(
    ("encoder", "names"), [("vgg19", ["vgg19", "vgg19_caffe"]), ("torchvision", ["none"])]
)
def test_the_path_of_weights_does_not_matter_but_their_name_does(
    compose_config: Compose, encoder: str, names: list[str]
) -> None:
    def of(weights: str) -> str:
        return fingerprint(
            compose_config(f"encoder={encoder}", f"encoder.weights={weights}", tiny=False).plain, INPUTS
        )

    assert of("here/own.pth") == of("/there/renamed.safetensors") == of("folder/no_suffix")
    # A name also says how pictures are prepared for the network.
    assert len({of(name) for name in [*names, "own.pth"]}) == len(names) + 1


def test_it_is_the_hash_of_sorted_json() -> None:
    """Fingerprints name folders: should this one change, every finished run will be run again."""
    plain = {"b": [True, None, 0.5, "x"], "a": 1.0, "study": "s", "canvas": {"start": "noise"}, "encoder": {}}
    text = (
        '{"config": {"a": 1, "b": [true, null, 0.5, "x"], "canvas": {"start": "noise"}, "encoder": {}, '
        '"pictures": {"size_is": "area"}}, "inputs": {"content": null}}'
    )
    wanted = hashlib.sha256(text.encode()).hexdigest()
    assert fingerprint({**plain, "pictures": {"size_is": "area"}}, {"content": None}) == wanted


def test_what_is_written_into_the_picture_has_no_path_in_it(
    compose_config: Compose, pair: dict[str, str]
) -> None:
    config = compose_config(f"canvas.start={pair['painting']}", "logger=[csv]")
    said = str(fingerprinted_settings(config.plain))
    assert str(Path(pair["photo"]).parent) not in said
    assert "'seed': 0" in said


def test_cosmetic_settings_find_the_finished_run(compose_config: Compose) -> None:
    first = run(compose_config())
    again = run(
        compose_config("logger=[csv]", "record.snapshot_every=1", "trainer.threads=2", "record.progress=true")
    )
    assert (again.skipped, again.folder) == (True, first.folder)
    elsewhere = run(compose_config("study=second"))
    assert (elsewhere.skipped, elsewhere.record.fingerprint) == (False, first.record.fingerprint)
