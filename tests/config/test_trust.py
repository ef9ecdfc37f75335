"""A configuration cannot call what is not of the kind that its place asks for, nor hang what reads it."""

from __future__ import annotations

import copy
import datetime
import math
import os
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from conftest import with_tiny
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nstbench.cli import main
from nstbench.config.files import conf_dir
from nstbench.config.instantiate import build
from nstbench.config.kinds import KINDS, locate
from nstbench.config.resolvers import register_resolvers
from nstbench.config.schema import Config, list_settings
from nstbench.config.validation import validate
from nstbench.config.yaml_files import check_yaml
from nstbench.errors import UserError

Compose = Callable[..., Config]
Refused = Callable[..., str]

# Everything in this module notes that it was called. Only importing it is allowed.
RECORDS = """
import os
from nstbench.encoders.base import Encoder
from nstbench.encoders.random import RandomVGG

def note(*args, **kwargs):
    open(os.path.join(os.path.dirname(__file__), "CALLED"), "a").write(f"{args} {kwargs}\\n")

class Noted:
    def __new__(cls, *args, **kwargs):
        note(*args, **kwargs)
        return super().__new__(cls)
    def __init__(self, *args, **kwargs):
        note(*args, **kwargs)
    def __call__(self, *args, **kwargs):
        note(*args, **kwargs)

def lying(*args, **kwargs) -> int:
    note()

def small(width: float) -> Encoder:
    return RandomVGG(shape="vgg11", width=width)

def wrong(width: float) -> Encoder:
    return "an encoder"

instance = Noted.__new__.__get__(object)
"""
PLACES = {
    "encoder": "encoder",
    "judge": "judge",
    "optimizer": "optimizer",
    "canvas.parametrization": "canvas.parametrization",
    "loss.content.*": "loss.content.features",
    "loss.style.*": "loss.style.gram",
    "loss.regularizer.*": "loss.regularizer.tv",
    "metrics.*": "++metrics.ssim",
    "logger.*": "++logger.csv",
    "hydra.launcher": "hydra.launcher",
    "hydra.sweeper": "hydra.sweeper",
    "hydra.callbacks.*": "++hydra.callbacks.mine",
}


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module ``records`` of the user's own; the file that shows that something of it was called."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "records.py").write_text(RECORDS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "records", raising=False)
    return folder / "CALLED"


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    """A configuration, composed once, to be copied and changed."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        found = compose("config", overrides=["metrics=fast", "logger=csv"])
    return cast("dict[str, Any]", OmegaConf.to_container(found, resolve=True))


def changed(composed: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return a copy with another value at a dotted path."""
    copied = copy.deepcopy(composed)
    *above, last = path.split(".")
    node = copied
    for part in above:
        node = node.setdefault(part, {})
    node[last] = value
    return copied


@pytest.fixture
def refused(tmp_path: Path, pair: dict[str, str], capfd: pytest.CaptureFixture[str]) -> Refused:
    """Return a function from what is typed to the one line of its refusal; nothing may be written."""

    def run(*typed: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        capfd.readouterr()
        status = main(["run", *with_tiny(f"content={pair['photo']}", f"style={pair['painting']}", *typed)])
        out, err = capfd.readouterr()
        assert (status, out, err.count("\n")) == (2, "", 1), err
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return run


def test_every_kind_is_tried_below() -> None:
    assert {*PLACES} | {"hydra.sweeper.sampler"} == {*KINDS}


@pytest.mark.parametrize("place", PLACES)
def test_nothing_of_another_kind_is_called(
    refused: Refused, composed: dict[str, Any], records: Path, place: str
) -> None:
    typed, setting = PLACES[place], PLACES[place].lstrip("+")
    names = ["records.Noted", "records.note", "records.lying", "builtins.open", "time.sleep", "torch.load"]
    for name in names[: 1 if place.startswith("hydra") else None]:
        if place.startswith("hydra"):
            line = refused(f"{typed}._target_={name}").removeprefix("nstbench: ")
        else:
            with pytest.raises(UserError) as caught:
                validate(changed(composed, f"{setting}._target_", name))
            line = str(caught.value)
        assert line.startswith(f"{setting}._target_={name}: it is not a"), line
        assert KINDS[place].base in line
    assert not records.exists()


NOTE = {"_target_": "records.note"}


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("encoder.seed", NOTE, "nothing is built from a _target_ here"),
        ("loss.style.gram.normalization", NOTE, "nothing is built from a _target_ here"),
        ("loss.style.gram.normalization", [{"a": NOTE}], "nothing is built from a _target_ here"),
        ("metrics.ssim.encoder", NOTE, "it is not an encoder"),
        ("optimizer._partial_", False, "the params of an optimiser are known only later"),
        ("optimizer._args_", [1], "arguments are given by their names here"),
        ("encoder._recursive_", True, "it can only be false here"),
        ("encoder._partial_", True, "it can only be false here"),
        ("encoder._convert_", "none", "it can only be all here"),
        ("logger.csv._target_", "pytorch_lightning.loggers.CSVLogger", "it takes no argument run"),
        ("optimizer._target_", "torch.optim.Optimizer", "defines no step"),
        ("loss.style.gram._target_", "nstbench.losses.base.PositionwiseLoss", "it is only a base"),
        ("encoder._target_", "nstbench.encoders.base.Encoder", "defines no _features"),
        ("metrics.ssim._target_", "nstbench.metrics.base.Metric", "defines no __call__"),
    ],
)
def test_other_ways_to_have_something_called(
    composed: dict[str, Any], records: Path, path: str, value: object, reason: str
) -> None:
    with pytest.raises(UserError) as caught:
        validate(changed(composed, path, value))
    assert caught.value.setting.startswith(path)
    assert reason in caught.value.reason
    assert not records.exists()


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("++hydra.launcher.size={_target_: records.note}", "nothing is built from a _target_ here"),
        ("++hydra.sweeper.sampler={_target_: records.note}", "it is not a sampler of Optuna's"),
        ("++hydra.job_logging.handlers.x={class: records.Noted}", "it is not a subclass of logging.Hand"),
        ("++hydra.job_logging.filters.x={f: 'ext://records.note'}", "it is not a text stream"),
    ],
)
def test_other_ways_to_have_hydra_call_something(
    refused: Refused, records: Path, typed: str, reason: str
) -> None:
    assert reason in refused(typed)
    assert not records.exists()


def test_callbacks_and_factories_of_a_file_are_not_called(
    refused: Refused, records: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "own" / "experiment"
    folder.mkdir(parents=True)
    own = ("--config-dir", str(tmp_path / "own"), "experiment=mine")
    for body in (
        "callbacks: {x: {_target_: records.Noted}}",
        'job_logging: {handlers: {x: {"()": records.note}}, root: {handlers: [x]}}',
        'job_logging: {handlers: {x: {class: logging.NullHandler, y: {"()": records.note}}}}',
        "launcher: {_target_: records.Noted}",
    ):
        (folder / "mine.yaml").write_text(f"# @package _global_\ndefaults: [_self_]\nhydra: {{{body}}}\n")
        assert "hydra" in refused(*own)
    assert not records.exists()


def test_a_pickle_is_not_read_for_a_rerun(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "config.pickle").write_bytes(b"cos\nsystem\n(S'touch CALLED'\ntR.")
    assert "it reads a pickle" in refused("--experimental-rerun", "config.pickle")


def test_functions_that_promise_the_kind_are_accepted(compose_config: Compose, records: Path) -> None:
    own = ("~encoder", "+encoder={_target_: records.small, width: 0.0625}")
    config = compose_config(*own, tiny=False)
    assert type(build(config.encoder)).__name__ == "RandomVGG"
    with pytest.raises(TypeError, match=r"records\.wrong returned a str, not a Encoder"):
        build({"_target_": "records.wrong", "width": 1.0})


def test_what_was_checked_is_what_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose attribute hides its module of the same name: finders differ in which they take."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("class inner:\n    Thing = dict\n")
    (tmp_path / "pack" / "inner.py").write_text("class Thing(list):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    node = {"_target_": "pack.inner.Thing"}
    assert type(build(node)) is locate(node["_target_"], "x")


def test_a_module_that_exits_is_one_line(refused: Refused, records: Path) -> None:
    (records.parent / "leaves.py").write_text("raise SystemExit(0)\n")
    assert "importing it failed (SystemExit" in refused("encoder._target_=leaves.Encoder")


# ------------------------------------------------------------------------------------ YAML


def laughs(kind: str) -> str:
    """Return YAML whose aliases stand for 2^30 values."""
    levels = {"list": "[*{0}, *{0}]", "map": "{{x: *{0}, y: *{0}}}", "merge": "{{x: *{0}, <<: *{0}}}"}
    lines = ["a: &a [1, 2]" if kind == "list" else "a: &a {x: 1}"]
    for i in range(30):
        lines.append(f"b{i}: &b{i} {levels[kind].format(f'b{i - 1}' if i else 'a')}")
    return "panels:\n" + "".join(f"  {line}\n" for line in lines)


BOMBS = {
    "aliases of lists": (laughs("list"), "stands for more than 10,000 values"),
    "aliases of mappings": (laughs("map"), "stands for more than 10,000 values"),
    "merged": (laughs("merge"), "stands for more than 10,000 values"),
    "itself": ("panels: &a {x: *a}", "refers to nothing before it"),
    "deep lists": ("panels: " + "[" * 10_000 + "]" * 10_000, "more than 40"),
    "deep mappings": ("panels: " + "{a: " * 10_000, "more than 40"),
    "deep blocks": ("panels:\n" + "".join(f"{' ' * i} a:\n" for i in range(500)), "more than 40"),
    "unclosed": ("panels: " + "[" * 200_000, "more than 40"),
    "long": ("#" * 1_000_000, "more than 262,144 bytes"),
    "many": ("panels: [" + "0," * 20_000 + "]", "stands for more than 10,000 values"),
    "digits": ("steps: " + "9" * 5_000, "a string of 5,000 characters is too long"),
    "binary": ("study: !!binary aGVsbG8=", "no setting has values of the type !!binary"),
    "set": ("study: !!set {a, b}", "!!set"),
    "date": ("study: !!timestamp 2020-01-01", "!!timestamp"),
    "omap": ("study: !!omap [a: 1]", "!!omap"),
    "python": ("study: !!python/object/apply:os.getcwd []", "!!python/object/apply:os.getcwd"),
    "path": ("study: !!python/object/apply:pathlib.Path [a]", "!!python/object"),
    "NUL": ("study: a\0b", "this is not YAML: unacceptable character"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    text, reason = BOMBS[name]
    file = tmp_path / "mine.yaml"
    file.write_text(f"# @package _global_\n{text}\n")
    began = time.monotonic()
    with pytest.raises(UserError, match=re.escape(reason)) as caught:
        check_yaml(file)
    assert caught.value.setting.startswith(str(file))
    assert time.monotonic() - began < 10  # without a limit: hours, or all memory


@pytest.mark.parametrize("name", ["aliases of mappings", "binary"])
def test_hydra_reads_no_file_unchecked(refused: Refused, tmp_path: Path, name: str) -> None:
    text, reason = BOMBS[name]
    file = tmp_path / "own" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"# @package _global_\n{text}\n")
    line = refused("--config-dir", "own", "experiment=mine")
    assert line.startswith(f"nstbench: {file}, line ")
    assert reason in line


ODD: list[object] = [
    *(b"hi", datetime.date(2020, 1, 1), {1, 2}, 1j, object(), math.nan, -math.inf, 10**400, -(2**64)),
    *("a\0b", "a\nb", "\x1b[31m", "\ud800", "x" * 5000, "../../x", {None: 1}, {b"k": 1}, {(1, 2): 3}),
    *([b"x"], [math.nan], {"_target_": "time.sleep"}, [{"_target_": "time.sleep"}], [0] * 20_000),
]


def test_odd_values_in_any_setting_are_one_line(composed: dict[str, Any], tmp_path: Path) -> None:
    places = [
        *list_settings(),
        "encoder.width",
        "optimizer.lr",
        "loss.style.gram.layers",
        "metrics.ssim",
        "panels.a",
    ]
    cases = [(path, value) for path in places for value in ODD]
    before = sorted(tmp_path.rglob("*"))
    for path, value in random.Random(0).sample(cases, 120):
        try:
            validate(changed(composed, path, value))
        except UserError as error:
            assert error.reason  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            assert len(str(error)) < 1500  # noqa: PT017
        else:
            assert (isinstance(value, str) and value.isprintable()) or path == "panels.a", (path, value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("study", b"hi", "no setting has values of the type bytes"),
        ("study", "a\0b", "it contains the control character \\x00"),
        ("study", "a\nb", "it contains a line break"),
        ("study", "\ud800", "it contains the control character \\ud800"),
        ("study", " ", "it must be a plain folder name"),
        ("study", "../x", "it must be a plain folder name"),
        ("optimizer.lr", math.inf, "it must be a finite number"),
        ("optimizer.max_iter", 2**64, "an integer of 65 bits is too large"),
        ("panels", {None: {}}, "the name of a setting is a string"),
        ("criterion", [0] * 100_000, "it has more than 10,000 values"),
        ("encoder.weights", "x" * 300, "no file can have a name that long"),
        ("encoder.weights", "x" * 5000, "a string of 5,000 characters is too long"),
        ("pictures.content", "x" * 5000, "a string of 5,000 characters is too long"),
        ("canvas.start", "x" * 5000, "a string of 5,000 characters is too long"),
        ("output", "x" * 5000, "a string of 5,000 characters is too long"),
    ],
)
def test_values_that_no_record_can_hold(
    composed: dict[str, Any], path: str, value: object, reason: str
) -> None:
    with pytest.raises(UserError) as caught:
        validate(changed(composed, path, value))
    assert caught.value.setting == path
    assert caught.value.reason == reason


def test_files_that_are_no_files(refused: Refused, tmp_path: Path) -> None:
    folder = tmp_path / "own" / "experiment"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "pipe.yaml")
    (folder / "zero.yaml").symlink_to("/dev/zero")
    assert "there is no such option" in refused("--config-dir", "own", "experiment=pipe")
    for name in ("pipe", "zero"):
        with pytest.raises(UserError, match="it is not a regular file"):
            check_yaml(folder / f"{name}.yaml")


def test_anchors_that_people_use_are_good(tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text("a: &a {x: 1, y: [1, 2]}\nb: {<<: *a, z: *a}\nc: !!str 5\nd: ! x\n")
    check_yaml(file)
