"""Recipes: the published values, and who may say otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir

from nstbench.analysis.published_curves import read_curve
from nstbench.config.files import conf_dir, groups
from nstbench.config.resolvers import register_resolvers
from nstbench.config.schema import Config
from nstbench.config.validation import validate
from nstbench.runs.run import run
from nstbench.tracking.fingerprint import fingerprint

FIVE = [f"relu{block}_1" for block in range(1, 6)]

# As published: Gatys et al. 2015, 2015 and 2016, and their code (the references in the files).
PUBLISHED: dict[str, dict[str, Any]] = {
    "gatys2016/authors": {
        "layers": (["relu4_2"], FIVE),
        "gram": ("authors", "sum"),
        "weights": ("paper", 1.0, 1e3, 0.0),
        "network": ("max", "zeros", False),
        "pictures": ("short_edge", "own"),
        "canvas": ("nstbench.canvas.pixels.Pixels", "content"),
        "optimizer": ("nstbench.optimizers.lbfgs.LBFGS", 1.0, 100),
        "stages": [(512, 500)],
    },
}
NORMALIZED = {
    **PUBLISHED["gatys2016/authors"],
    "gram": ("pystiche", "mean"),
    "weights": ("paper", 1e6, 1e9, 0.0),
    "network": ("max", "zeros", True),
    "pictures": ("area", "own"),
}
PAPER = {
    **NORMALIZED,
    "weights": ("paper", 1e-3, 1.0, 0.0),
    "network": ("average", "zeros", True),
    "pictures": ("area", "content"),
    "canvas": ("nstbench.canvas.pixels.Pixels", "noise"),
}
PUBLISHED |= {
    "gatys2016/authors_normalized": NORMALIZED,
    "gatys2016/paper": PAPER,
    "gatys2015_arxiv/paper": {**PAPER, "pictures": ("area", "own")},
    "gatys2015_textures/paper": {
        **PAPER,
        "layers": (None, ["relu1_1", "pool1", "pool2", "pool3", "pool4"]),
        "gram": ("paper", "sum"),
        "weights": ("paper", 0.0, 1e9, 0.0),
        "pictures": ("area", "own"),
        "optimizer": ("nstbench.optimizers.lbfgs.LBFGS", 1.0, 20),
        "stages": [(256, 2000)],
    },
}


# Of later papers: what their authors' code has, by setting.
LATER: dict[str, dict[str, Any]] = {
    "li_wand2016/authors": {
        "weights": {"unit": "paper", "content": 20.0, "style": 1e-4, "regularizer": 1e-3},
        "loss.style.mrf.layers": ["relu3_1", "relu4_1"],
        "loss.style.mrf.normalization": "authors",
        "loss.style.mrf.overlap": "average",
        "loss.style.mrf.canvas_stride": 2,
        "loss.style.mrf.rotations": 1,
        "optimizer.history_size": 25,
        "stages": [(96, 100), (192, 100), (384, 100)],
    },
    "risser2017/authors": {
        "weights": {"unit": "paper", "content": 0.0, "style": 1.0, "regularizer": 0.0},
        "loss.style.gram.normalization": "unnormalized",
        "loss.style.gram.layers": FIVE,
        "loss.style.histogram_binned.layers": FIVE,
        "loss.style.histogram_binned.layer_weights": [2e9, 5e8, 1e8, 3.5e7, 3.5e7],
        "loss.style.histogram_binned.bins": 256,
        "optimizer._target_": "torch.optim.Adam",
        "stages": [(128, 1000), (256, 1000), (512, 1000)],
    },
    "heitz2021/authors": {
        "weights": {"unit": "paper", "content": 0.0, "style": 1.0, "regularizer": 0.0},
        "loss.style.sliced_wasserstein.directions": None,
        "encoder.padding": "reflect",
        "encoder.pooling": "average",
        "optimizer.max_iter": 64,
        "stages": [(256, 64)],
    },
    "kolkin2019/authors": {
        "weights": {"unit": "paper", "content": 2.0, "style": 1.0, "regularizer": 0.0},
        "loss.style.relaxed_emd.redraw_every": 1,
        "loss.content.self_similarity.redraw_every": 1,
        "optimizer.lr": 2e-3,
        "stages": [(64, 250), (128, 250), (256, 250), (512, 250)],
    },
}


def said(config: Config) -> dict[str, Any]:
    """Return what a recipe is about, as the tables above have it."""
    gram, content = config.loss.style["gram"], config.loss.content.get("features")
    w, o, encoder = config.weights, config.optimizer, config.encoder
    if content:
        assert (content["normalization"], content["layer_weights"], content["weight"]) == ("mean", "sum", 1.0)
    assert not config.loss.regularizer
    return {
        "layers": (content and content["layers"], gram["layers"]),
        "gram": (gram["normalization"], gram["layer_weights"]),
        "weights": (w.unit, w.content, w.style, w.regularizer),
        "network": tuple(encoder[key] for key in ("pooling", "padding", "normalize_activations")),
        "pictures": (config.pictures.size_is, config.pictures.style_fit),
        "canvas": (config.canvas.parametrization["_target_"], config.canvas.start),
        "optimizer": tuple(o[key] for key in ("_target_", "lr", "history_size")),
        "stages": [(stage.size, stage.steps) for stage in config.schedule.stages],
    }


def test_every_recipe_is_held_to_what_was_published() -> None:
    ours = {name for name in groups()["recipe"] if name.endswith("/procedural")}
    assert set(groups()["recipe"]) == {"none", "procedural", *ours, *PUBLISHED, *LATER}


def test_recipes_for_the_encoder_that_ships_start_from_what_they_share(
    compose_config: Callable[..., Config],
) -> None:
    """Only kolkin2019 has another unit, and two of them another start."""
    shared = yaml.safe_load((conf_dir() / "recipe" / "procedural.yaml").read_text())
    for name in groups()["recipe"]:
        if name.endswith("/procedural"):
            assert "/recipe/procedural" in str(
                yaml.safe_load((conf_dir() / "recipe" / f"{name}.yaml").read_text())
            )
            config = compose_config(f"recipe={name}", tiny=False)
            assert shared["encoder"].items() <= config.encoder.items()
            assert config.canvas.parametrization["_target_"] == "nstbench.canvas.spectral.Spectral"
            assert config.schedule.precision == shared["schedule"]["precision"]


@pytest.mark.parametrize("recipe", LATER)
def test_a_recipe_of_a_later_paper_has_the_constants_of_its_code(
    recipe: str, compose_config: Callable[..., Config]
) -> None:
    plain = compose_config(f"recipe={recipe}", tiny=False).plain
    for name, expected in LATER[recipe].items():
        node: Any = plain
        if name == "stages":
            node = [(stage["size"], stage["steps"]) for stage in plain["schedule"]["stages"]]
        for part in name.split(".") if name != "stages" else []:
            node = node[part]
        assert node == expected, name


@pytest.mark.parametrize(
    ("ours", "paper"),
    [
        ("gatys2016/procedural", "gatys2016/paper"),
        ("gatys2015_textures/procedural", "gatys2015_textures/paper"),
    ],
)
def test_a_recipe_for_the_encoder_that_ships_keeps_what_the_paper_fixes(
    ours: str, paper: str, compose_config: Callable[..., Config]
) -> None:
    config = compose_config(f"recipe={ours}", tiny=False)
    told, published = said(config), PUBLISHED[paper]
    for kept in ("layers", "gram", "pictures", "optimizer"):
        assert told[kept] == published[kept]
    assert told["network"][0] == "average"
    assert told["canvas"] == ("nstbench.canvas.spectral.Spectral", "noise")
    assert (config.weights.unit, config.canvas.noise) == ("unit", "gatys")


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_recipe_says_what_was_published(recipe: str, compose_config: Callable[..., Config]) -> None:
    config = compose_config(f"recipe={recipe}", tiny=False)
    assert said(config) == PUBLISHED[recipe]
    if config.canvas.start == "noise":
        assert config.canvas.noise == "gatys"


def test_it_leaves_the_pictures_and_the_network_alone(compose_config: Callable[..., Config]) -> None:
    plain = compose_config(tiny=False)
    for recipe in PUBLISHED:
        config = compose_config(f"recipe={recipe}", tiny=False)
        assert config.encoder["_target_"] == plain.encoder["_target_"]
        assert (config.pictures.content, config.pictures.style) == (
            plain.pictures.content,
            plain.pictures.style,
        )


def test_without_a_recipe_nothing_changes(compose_config: Callable[..., Config]) -> None:
    assert compose_config("recipe=none", tiny=False).plain == compose_config(tiny=False).plain


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize(
    ("typed", "path", "value"),
    [
        ("weights.style=7", "weights.style", 7),
        ("steps=11", "schedule.stages.0.steps", 11),
        ("formulas.gram=johnson", "loss.style.gram.normalization", "johnson"),
        ("loss.style.gram.normalization=johnson", "loss.style.gram.normalization", "johnson"),
        ("canvas=noise", "canvas.start", "noise"),
        ("canvas=spectral", "canvas.parametrization._target_", "nstbench.canvas.spectral.Spectral"),
        ("optimizer=adam", "optimizer._target_", "torch.optim.Adam"),
        ("layers=li_wand2016", "loss.style.gram.layers", ["relu3_1", "relu4_1"]),
        ("loss/regularizer=tv", "loss.regularizer.tv.weight", 1.0),
        ("encoder.pooling=average", "encoder.pooling", "average"),
    ],
)
def test_what_is_typed_goes_before_the_recipe(
    where: str, typed: str, path: str, value: object, compose_config: Callable[..., Config]
) -> None:
    words = ["recipe=gatys2016/authors", typed]
    node: Any = compose_config(*(words if where == "after" else words[::-1]), tiny=False).plain
    for part in path.split("."):
        node = node[int(part)] if part.isdigit() else node[part]
    assert node == value


@pytest.mark.parametrize("recipe", PUBLISHED)
@pytest.mark.parametrize(
    "typed", ["loss/style=mrf", "loss/style=none loss/content=features", "loss/style=[gram,mrf]"]
)
def test_other_losses_may_be_chosen_under_a_recipe(
    recipe: str, typed: str, compose_config: Callable[..., Config]
) -> None:
    config = compose_config(f"recipe={recipe}", *typed.split(), tiny=False)
    chosen = {"loss/style=mrf": {"mrf"}, "loss/style=[gram,mrf]": {"gram", "mrf"}}.get(typed, set())
    assert set(config.loss.style) == chosen


def test_an_experiment_goes_before_the_recipe_it_chooses(tmp_path: Path) -> None:
    experiment = {
        "defaults": [
            {"override /recipe": "gatys2016/paper"},
            {"override /canvas": "spectral"},
            {"override /loss/style": ["mrf"]},
        ],
        "weights": {"content": 5e-3},
        "steps": 9,
    }
    own = tmp_path / "own" / "experiment" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\n# mine\n" + yaml.safe_dump(experiment))
    register_resolvers()

    def composed(*typed: str) -> Config:
        search = f"hydra.searchpath=[file://{tmp_path / 'own'}]"
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return validate(compose("config", overrides=[search, "experiment=mine", *typed]))

    config = composed()
    assert (config.weights.content, config.weights.style, config.steps) == (5e-3, 1.0, 9)
    assert config.canvas.parametrization["_target_"] == "nstbench.canvas.spectral.Spectral"
    assert set(config.loss.style) == {"mrf"}
    assert config.encoder["pooling"] == "average"
    typed = composed("recipe=gatys2016/authors", "steps=3")
    assert (typed.weights.content, typed.weights.style, typed.steps) == (5e-3, 1e3, 3)
    assert typed.encoder["pooling"] == "max"


def test_a_formula_that_does_not_exist_is_told(compose_config: Callable[..., Config]) -> None:
    with pytest.raises(Exception, match=r"normalization=jonson: it must be .*'johnson'|jonson.*johnson"):
        compose_config("formulas.gram=jonson", tiny=False)


def test_a_run_is_the_same_however_its_formula_was_typed(compose_config: Callable[..., Config]) -> None:
    one = compose_config("formulas.gram=authors")
    other = compose_config("loss.style.gram.normalization=authors")
    assert fingerprint(one.plain, {}) == fingerprint(other.plain, {})
    assert fingerprint(one.plain, {}) != fingerprint(compose_config().plain, {})


@pytest.mark.parametrize(("factor", "stalls"), [(1.0, False), (1e-3, False), (1e-6, True)])
def test_l_bfgs_stalls_on_a_tiny_objective(
    factor: float, stalls: bool, compose_config: Callable[..., Config]
) -> None:
    """What docs/units.md says of a factor of the whole objective."""
    weights = [f"weights.content={factor}", f"weights.style={1e3 * factor}"]
    typed = [
        "encoder=procedural",
        "recipe=gatys2016/authors",
        "canvas=pixels",
        *weights,
        "size=48",
        "steps=30",
    ]
    config = compose_config(
        "logger=none", "metrics=none", "record.progress=false", "record.curves_every=1", *typed, tiny=False
    )
    (curve,) = read_curve(run(config).folder / "curves.csv")
    fallen = 1 - curve[30] / curve[0]
    assert fallen < 0.01 if stalls else fallen > 0.1


def test_recipes_are_in_float32_and_all_else_as_pytorch_is(compose_config: Callable[..., Config]) -> None:
    """TF32 is PyTorch's own default on an NVIDIA GPU; what papers published was computed without."""
    for recipe in groups()["recipe"]:
        stages = compose_config(f"recipe={recipe}", tiny=False).schedule.stages
        assert {stage.precision for stage in stages} == {"tf32" if recipe == "none" else "fp32"}, recipe
