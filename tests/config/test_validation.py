"""Whatever stands in a configuration, checking it gives a typed one or one clear error."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nstbench.config.files import conf_dir
from nstbench.config.resolvers import register_resolvers
from nstbench.config.schema import Config, list_settings
from nstbench.config.validation import follow_references, validate
from nstbench.errors import UserError, as_typed, did_you_mean


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    """The configuration that ``nstbench run`` has, unresolved; composed once, to be copied."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=["metrics=fast", "logger=csv"])


Refuse = Callable[..., UserError]


@pytest.fixture
def refuse(composed: DictConfig) -> Refuse:
    """Return a function that changes one setting and returns the error."""

    def change(path: str, value: object) -> UserError:
        changed = copy.deepcopy(composed)
        OmegaConf.update(changed, path, value, force_add=True)
        with pytest.raises(UserError) as caught:
            validate(changed)
        assert "\n" not in str(caught.value)
        return caught.value

    return change


@pytest.mark.parametrize(
    ("setting", "value", "reason", "hint"),
    [
        ("steps", "1 2", "it must be a whole number", "Type steps=200, for example."),
        ("steps", None, "it must be a whole number", "Type steps=200, for example."),
        ("steps", -1, "it must be greater than 0", "Type steps=200, for example."),
        ("steps", 1.5, "it must be a whole number", "Type steps=200, for example."),
        ("size", True, "it must be a whole number", "Type size=256, for example."),
        ("size", 100_001, "it must be at most 100000", "Type size=100000, for example."),
        ("seed", 2**32, "it must be less than 4294967296", "Type seed=4294967295, for example."),
        ("weights.style", -1, "it must be at least 0", "Type weights.style=0.0, for example."),
        ("weights.style", math.nan, "it must be a finite number", "Type weights.style=20.0, for example."),
        ("weights.style", "1", "it must be a number", "Type weights.style=20.0, for example."),
        (
            "trainer.accelerator",
            "cud",
            "it must be auto, cpu, cuda or mps",
            "Type trainer.accelerator=cuda, for example.",
        ),
        ("trainer.threads", 0, "it must be at least 1", "Type trainer.threads=1, for example."),
        ("trainer.threads", "x", "it must be a whole number", "Type trainer.threads=200, for example."),
        ("record.progress", "maybe", "it must be true or false", "Type record.progress=true, for example."),
        ("record.animation", "mp4", "it must be none or gif", "Type record.animation=none, for example."),
        (
            "pictures.background",
            "white",
            "it must be a list",
            "Type pictures.background=[1.0,1.0,1.0], for example.",
        ),
        (
            "pictures.background",
            [1.0, 1.0],
            "it must be a list of at least 3 items",
            "Type pictures.background=[1.0,1.0,1.0], for example.",
        ),
        (
            "pictures.background",
            [0.0, 2.0, 0.0],
            "it must be at most 1.0",
            "Type pictures.background=[1.0,1.0,1.0], for example.",
        ),
        (
            "pictures.style",
            5,
            "it must be a string or a list",
            "Type pictures.style=procedural:strokes, for example.",
        ),
        ("pictures.style_weights", [0.0], "their sum is 0", "Use positive ones."),
        (
            "pictures.style_weights",
            [-1.0],
            "it must be at least 0",
            "Type pictures.style_weights=[0.5], for example.",
        ),
        (
            "pictures.style",
            [],
            "loss/style needs it",
            "Give a path or sample:chelsea, or deselect the term: loss/style=none.",
        ),
        (
            "schedule.stages",
            [],
            "it must be a list of at least 1 items",
            "Type schedule.stages=[{size: 256, steps: 100, precision: fp32}], for example.",
        ),
        (
            "schedule.stages",
            [{"size": "half"}],
            "it must be a whole number, or a share above 0 such as 50%",
            "Type schedule.stages.0.size=50%, for example.",
        ),
        ("schedule.stages", [{"steps": "0%"}], "a share above 0", "Type schedule.stages.0.steps=50%"),
        ("schedule.stages", [{"size": -5}], "it must be greater than 0", "Type schedule.stages.0.size=200"),
        ("canvas.noise", "unifrm", "there is no such noise", "Did you mean uniform?"),
        (
            "canvas.noise",
            {"distribution": "cauchy", "mean": [0.0] * 3, "std": 1.0},
            "it must be normal or uniform",
            "",
        ),
        ("study", "..", "it must be a plain folder name", "Type a name such as study=first."),
        ("study", 2024, "it must be a string", 'Type study="2024", for example.'),
        ("loss.style.gram.layer_weights", "men", "it must be a list, mean or sum", "layer_weights=mean"),
        ("loss.style.gram.layers", 3, "it must be a list, default or patches", "layers=[relu4_1]"),
        (
            "loss.regularizer.tv.layers",
            ["relu1_1"],
            "a regulariser is computed on the canvas itself",
            "Remove it.",
        ),
        ("loss.regularizer.tv.reduction", "men", "it must be", "reduction=mean"),
        ("optimizer._target_", "torch.optm.SGD", "there is no module torch.optm", "Did you mean optim?"),
        (
            "optimizer._target_",
            "SGD",
            "it is not the full name of a class",
            "Type one such as torch.optim.Adam.",
        ),
        ("optimizer._target_", "torch.optim.Adagad", "torch.optim has no such class or function", "Adagrad"),
        ("optimizer._target_", "nowhere.Adam", "there is no module nowhere", "Is its package installed?"),
        ("optimizer._target_", "..", "it is not the full name of a class", "torch.optim.Adam"),
        ("optimizer.history_size", "many", "it must be a whole number", "history_size=200"),
        ("optimizer.lr", -1.0, "Invalid learning rate: -1.0", "Its default is 1."),
        (
            "metrics.ssim",
            3,
            "it must be a mapping of settings",
            "Give the settings inside it: metrics.ssim.…=…",
        ),
        ("logger", "csv", "it must be a mapping of settings", "Did you mean logger=csv?"),
        (
            "weights.content",
            "${weights.content}",
            "Recursive interpolation detected",
            "A reference is written ${size}",
        ),
        (
            "weights.content",
            "${wieghts.style}",
            "there is no setting wieghts.style to refer to",
            "weights.style",
        ),
    ],
)
def test_a_value_that_cannot_be(refuse: Refuse, setting: str, value: object, reason: str, hint: str) -> None:
    error = refuse(setting, value)
    assert error.setting.startswith(setting)
    assert reason in error.reason
    assert hint in error.hint
    assert error.hint


@pytest.mark.parametrize(
    ("setting", "value", "near"),
    [
        ("stpes", 3, "steps"),
        ("pictures.size_iss", "area", "size_is"),
        ("schedule.stages", [{"size": 64, "stepps": 3, "precision": "fp32"}], "steps"),
        ("canvas.noise", {"distribution": "normal", "mean": [0.0] * 3, "sdt": 1.0}, "std"),
        ("encoder.poolling", "max", "pooling"),
        ("optimizer.lrr", 1, "lr"),
        ("loss.style.gram.normalisation", "paper", "normalization"),
        ("loss.style.gram.wieght", 1, "weight"),
        ("metrics.ssim.sigmma", 1, "ssim"),
    ],
)
def test_a_key_that_does_not_exist(refuse: Refuse, setting: str, value: object, near: str) -> None:
    error = refuse(setting, value)
    assert error.reason == "there is no such setting"
    if near != "ssim":
        assert f"Did you mean {near}" in error.hint


def test_the_setting_people_type_is_blamed_first(refuse: Refuse) -> None:
    """``size`` is also schedule.stages.0.size, and a misspelt key also leaves another without a value."""
    assert refuse("size", -5).setting == "size"
    both = refuse("schedule.stages", [{"szie": 64, "steps": 3, "precision": "fp32"}])
    assert both.setting == "schedule.stages.0.szie"


def test_whole_floats_are_whole_numbers(composed: DictConfig) -> None:
    changed = copy.deepcopy(composed)
    changed.steps, changed.optimizer.history_size = 1e3, 5.0
    config = validate(changed)
    assert (config.steps, type(config.steps)) == (1000, int)
    assert config.schedule.stages[0].steps == 1000


def test_missing_values_come_before_anything_else(composed: DictConfig) -> None:
    changed = copy.deepcopy(composed)
    changed.size, changed.steps = "???", "abc"
    with pytest.raises(UserError, match=r"size=\?\?\?: it has no value. Give it one: size=…"):
        validate(changed)


def test_references_are_followed_to_what_people_type(composed: DictConfig) -> None:
    assert follow_references(composed, "loss.style.gram.layers") == "layers.style"
    assert follow_references(composed, "size") == "size"
    assert follow_references(composed, "no.such.thing") == "no.such.thing"
    assert follow_references(OmegaConf.create({"a": "${b}", "b": "${a}"}), "a") in {"a", "b"}
    assert follow_references(OmegaConf.create({"a": "${b}"}), "a") == "a"


# --------------------------------------------------------------------------- any garbage

scalars = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    st.sampled_from(
        [
            "???",
            "${size}",
            "${",
            "mean",
            "gram",
            "torch.optim.Adam",
            "os.getcwd",
            "builtins.int",
            "typing.Any",
        ]
    ),
)
keys = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=6)
garbage = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=4,
)
NODES = [
    "encoder",
    "optimizer",
    "loss.style.gram",
    "loss.content.features",
    "canvas.parametrization",
    "metrics.ssim",
]
PLACES = [
    *list_settings(),
    *(
        f"{node}{key}"
        for node in NODES
        for key in ("", "._target_", ".lr", ".weight", ".layers", ".normalization")
    ),
    *(
        "schedule.stages.0.size",
        "schedule.stages.0.precision",
        "canvas.noise.std",
        "optimizer.line_search_fn",
    ),
    *(
        "optimizer.max_iter",
        "encoder.width",
        "encoder.pooling",
        "loss.regularizer.tv.exponent",
        "loss.style.x",
    ),
]


def put(plain: Any, path: str, value: object) -> None:
    """Set a value, making mappings on the way where there are none."""
    *above, last = path.split(".")
    for part in above:
        if isinstance(plain, list):
            plain[:] = [p for p in plain[:1] if isinstance(p, dict | list)] or [{}]
            plain = plain[0]
            continue
        if not isinstance(plain.get(part), dict | list):
            plain[part] = {}
        plain = plain[part]
    if isinstance(plain, list):
        plain[:] = [value]
    else:
        plain[last] = value


def error_of(config: object) -> UserError | None:
    """Return what is wrong with a configuration, None if nothing is."""
    try:
        assert isinstance(validate(config), Config)  # type: ignore[arg-type]
    except UserError as error:
        return error
    return None


@given(st.dictionaries(st.sampled_from(PLACES), garbage, min_size=1, max_size=2))
@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[*HealthCheck])
def test_any_garbage_gives_a_config_or_one_complaint(composed: DictConfig, changes: dict[str, Any]) -> None:
    plain = OmegaConf.to_container(composed, resolve=True)
    for path, value in changes.items():
        put(plain, path, value)
    error = error_of(plain)
    assert error is None or (error.setting and error.reason and "\n" not in str(error))


@given(st.sampled_from(PLACES), scalars)
@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=[*HealthCheck])
def test_the_same_of_what_is_still_to_be_resolved(composed: DictConfig, place: str, value: object) -> None:
    changed = copy.deepcopy(composed)
    try:
        OmegaConf.update(changed, place, value, force_add=True)
    except (OmegaConfBaseException, ValueError, AttributeError):
        return  # OmegaConf itself refuses it: see tests/cli/test_mistakes.py
    error = error_of(changed)
    assert error is None or (error.setting and error.reason and "\n" not in str(error))


# --------------------------------------------------------------------------- the message


def test_a_complaint_reads_as_it_was_typed() -> None:
    assert str(UserError("a.b", "x", "it is wrong", "Type a.b=y.")) == "a.b=x: it is wrong. Type a.b=y."
    assert str(UserError("a.b", "x", "it is wrong.")) == "a.b=x: it is wrong."
    assert str(UserError("--flag", "", "there is no such flag")) == "--flag: there is no such flag."
    assert str(UserError("a", "two\nlines", "no")) == "a=two lines: no."


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ([1, "a", None], "[1,a,null]"),
        ({"a": {"b": False}}, "{a: {b: false}}"),
        ("x" * 1000, "x" * 300 + "…"),
    ],
)
def test_values_are_shown_as_one_would_type_them(value: object, shown: str) -> None:
    assert as_typed(value) == shown


def test_a_complaint_travels_between_processes() -> None:
    error = UserError("a.b", ["x"], "it is wrong", "Type a.b=y.")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.setting, again.value, again.hint) == (str(error), "a.b", ["x"], "Type a.b=y.")


def test_suggestions() -> None:
    assert did_you_mean("rleu4_1", ["relu4_1", "pool1"]) == "Did you mean relu4_1?"
    assert (
        did_you_mean("xyz", ["relu4_1", "pool1"], what="layers") == "Layers to choose from: relu4_1, pool1."
    )
    assert did_you_mean("xyz", []) == ""
