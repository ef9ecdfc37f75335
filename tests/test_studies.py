"""Every study of conf/experiment, as anyone can run it: with samples and the encoder that ships."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir
from PIL import Image

from nstbench.analysis.panels import read_panels
from nstbench.cli import main
from nstbench.config.files import conf_dir, groups
from nstbench.config.resolvers import register_resolvers
from nstbench.config.schema import Config
from nstbench.config.validation import validate
from nstbench.errors import UserError
from nstbench.runs.preparation import prepare
from nstbench.runs.run import run
from nstbench.tracking.record import RunRecord

ROOT = Path(__file__).parents[1]
SMALL = [
    "size=96",
    "steps=2",
    "metrics=none",
    "logger=none",
    "record.progress=false",
    "record.checkpoint_every=0",
    "trainer=cpu",
    "trainer.threads=1",
]


def file_of(experiment: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((conf_dir() / "experiment" / f"{experiment}.yaml").read_text())
    return content


STUDIES = {name: file for name in groups()["experiment"] if (file := file_of(name)).get("panels")}
PANELS = [(study, panel) for study, file in STUDIES.items() for panel in file["panels"]]
PAPERS = sorted({study.split("/")[0] for study in STUDIES})


def composed(*overrides: str) -> Config:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return validate(compose("config", overrides=["hydra.mode=RUN", *SMALL, *overrides]))


def test_the_papers_that_the_project_set_out_to_reproduce_have_studies() -> None:
    later = {"gatys2017", "li_wand2016", "risser2017", "heitz2021", "kolkin2019", "random_weights"}
    assert set(PAPERS) == {"gatys2015_arxiv", "gatys2015_textures", "gatys2016", *later}
    assert {f"gatys2016/fig{n}" for n in (1, 3, 4, 5, 6, 7)} <= set(STUDIES)


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_sweeps_over_all_of_its_panels(study: str) -> None:
    file = STUDIES[study]
    swept = str(file["hydra"]["sweeper"]["params"]["panel"]).split(",")
    assert swept == [*map(str, file["panels"])]
    assert str(file["panel"]) in swept
    assert file["study"] == study.replace("/", "_")


@pytest.mark.parametrize("study", STUDIES)
def test_panels_of_a_study_are_runs_of_their_own_and_can_be_run(study: str) -> None:
    seen = []
    for panel in STUDIES[study]["panels"]:
        config = composed(f"experiment={study}", f"panel={panel}")
        prepare(config)
        seen.append({k: v for k, v in config.plain.items() if k not in {"panel", "panels", "study"}})
    assert all(seen.count(each) == 1 for each in seen)


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_knows_the_pictures_of_its_paper(study: str) -> None:
    """Each part of a study has a picture of the paper's: a file to fetch, or to supply."""
    if "override /pictures" not in str(STUDIES[study]["defaults"]):
        pytest.skip("its pictures are not a paper's")
    config = composed(f"experiment={study}", "pictures=papers")
    assert set(composed("pictures=samples").pictures.cast) == set(config.pictures.cast)


def test_all_studies_run_as_one_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = [name for name in groups()["experiment"] if name not in STUDIES]
    glob = f"experiment=glob(*,exclude=[{','.join(others)}])"
    status = main(["run", "-m", glob, *SMALL, "study=all", f"output={tmp_path}"])
    printed = capsys.readouterr()
    assert status == 0, printed
    records = [r for folder in (tmp_path / "all").iterdir() if (r := RunRecord.read(folder))]
    assert {r.config["panel"] for r in records} == {str(file["panel"]) for file in STUDIES.values()}
    assert f"{len(STUDIES)} runs:" in printed.out
    assert "0 failed" in printed.out
    for record in records:
        picture = np.asarray(Image.open(tmp_path / "all" / record.run_id / "canvas.png"))
        assert picture.std() > 0, record.run_id


@pytest.mark.slow
@pytest.mark.parametrize("paper", PAPERS)
def test_the_figures_of_a_paper_are_drawn(
    paper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All panels of all figures, two steps each, and then the figure's own script."""
    figures = [study for study in STUDIES if study.split("/")[0] == paper]
    for study in figures:
        for panel in STUDIES[study]["panels"]:
            run(composed(f"experiment={study}", f"panel={panel}", f"output={tmp_path}"))
    script = ROOT / "experiments" / paper / "figures.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path), str(tmp_path)])
    runpy.run_path(str(script), run_name="__main__")
    for study in figures:
        drawn = Image.open(tmp_path / f"{study.split('/')[-1]}.jpg")
        assert drawn.width > 500
        runs = [RunRecord.read(f) for f in (tmp_path / study.replace("/", "_")).iterdir()]
        assert all(r is None or r.fingerprint in drawn.info["comment"].decode() for r in runs)


def test_a_figure_with_a_panel_missing_says_which(tmp_path: Path) -> None:
    run(composed("experiment=gatys2016/fig5", "panel=conv4_2", f"output={tmp_path}"))
    with pytest.raises(UserError, match="panels are missing: conv2_2"):
        read_panels(tmp_path / "gatys2016_fig5")


def test_a_script_without_its_study_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = ROOT / "experiments" / "gatys2016" / "figures.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 2
    assert "nstbench run experiment=gatys2016/" in capsys.readouterr().err


def test_a_figure_by_another_network_has_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for panel in ("conv2_2", "conv4_2"):
        run(
            composed(
                "experiment=gatys2016/fig5",
                f"panel={panel}",
                "study=gatys2016_fig5_mine",
                f"output={tmp_path}",
            )
        )
    script = ROOT / "experiments" / "gatys2016" / "figures.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path), str(tmp_path), "--network", "mine"])
    runpy.run_path(str(script), run_name="__main__")
    assert [path.name for path in tmp_path.glob("*.jpg")] == ["fig5_mine.jpg"]


def test_a_folder_without_panels_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished panel"):
        read_panels(tmp_path / "nothing")


def test_a_panel_made_in_two_ways_is_not_chosen_from(tmp_path: Path) -> None:
    for panel in ("conv2_2", "conv4_2"):
        run(composed("experiment=gatys2016/fig5", f"panel={panel}", f"output={tmp_path}"))
    run(composed("experiment=gatys2016/fig5", "panel=conv4_2", "seed=1", f"output={tmp_path}"))
    with pytest.raises(UserError, match="panel conv4_2 has several runs"):
        read_panels(tmp_path / "gatys2016_fig5")


def test_published_weights_of_figure_3_reach_every_recipe() -> None:
    """α/β is the published one whatever β is: 1, 1e9 or 1e3, of the recipe."""
    for recipe in ("gatys2016/paper", "gatys2016/authors_normalized", "gatys2016/procedural"):
        for panel, ratio in {"B": 1e-3, "C": 8e-4, "D": 5e-3, "E": 5e-4, "F": 5e-4}.items():
            config = composed("experiment=gatys2016/fig3", f"panel={panel}", f"recipe={recipe}")
            assert config.weights.content / config.weights.style == pytest.approx(ratio)
            assert config.weights.regularizer == 0


@pytest.mark.parametrize("recipe", ["gatys2016/paper", "gatys2016/authors", "gatys2016/authors_normalized"])
@pytest.mark.parametrize("study", [s for s in STUDIES if s.startswith("gatys2016/")])
def test_a_figure_of_2016_takes_the_published_recipes(study: str, recipe: str) -> None:
    network = ["encoder=random", "encoder.shape=vgg19", "encoder.width=0.0625"]
    config = composed(f"experiment={study}", f"recipe={recipe}", *network)
    prepare(config)
    assert config.weights.unit == "paper"
    assert config.canvas.parametrization["_target_"] == "nstbench.canvas.pixels.Pixels"


def test_a_study_without_its_picture_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["run", "experiment=gatys2016/fig3", "pictures=papers", *SMALL, f"output={tmp_path}/o"]
    typed += ["panel=B", "hydra.mode=RUN"]
    assert main(typed) == 2
    said = capsys.readouterr().err
    assert "pictures.cast.neckarfront=paper:neckarfront: this picture is not on this machine" in said
    assert main([*typed, "content=sample:coffee"]) == 2
    said = capsys.readouterr().err
    assert "pictures.style=paper:shipwreck: this picture is not on this machine" in said
    assert "nstbench images fetch shipwreck" in said
    assert "pictures=samples" in said
    assert not (tmp_path / "o").exists()


def test_a_figure_none_of_whose_pictures_is_here_is_no_sweep_of_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["run", "experiment=gatys2016/fig3", "pictures=papers", *SMALL, f"output={tmp_path}/o"]
    assert main(typed) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "this picture is not on this machine" in said
    assert not (tmp_path / "o").exists()


def test_dry_run_of_a_figure_tells_of_its_panels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["run", "--dry-run", "experiment=gatys2016/fig3", *SMALL, f"output={tmp_path}/o"]
    assert main(typed) == 0
    assert "5 runs, one after the other" in capsys.readouterr().out
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["experiment=gatys2016/fig3", "panel=Z", "hydra.mode=RUN"],
            "panel=Z: the study has no such panel. Panels to choose from: B, C, D, E, F.",
        ),
        (["experiment=gatys2016/fig9"], "experiment=gatys2016/fig9: there is no such option. Did you mean"),
    ],
)
def test_a_study_or_panel_that_there_is_not(
    typed: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *typed, f"output={tmp_path}/o"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_the_study_of_judges_pairs_each_photograph_with_one_painting() -> None:
    file = file_of("judges")
    photographs = file["hydra"]["sweeper"]["params"]["pictures.cast.photograph"].split(",")
    pairs = set()
    for name in photographs:
        pictures = composed("experiment=judges", f"pictures.cast.photograph={name}").pictures
        pairs.add((pictures.content, pictures.style))
        assert pictures.content == f"sample:{name}"
    assert len(pairs) == len({style for _, style in pairs}) == 3


def test_ranks_of_judges_are_correlated_within_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without trained weights: random networks, and the encoder that the runs optimised, which is marked."""
    for name in ("astronaut", "coffee"):
        for loss in ("gram", "moments", "mrf"):
            chosen = [f"pictures.cast.photograph={name}", f"loss/style={loss}", f"output={tmp_path}"]
            run(composed("experiment=judges", *chosen, "size=64"))
    folder = tmp_path / "ranks"
    folder.mkdir()
    page = ROOT / "experiments" / "judges" / "README.md"
    (folder / "README.md").write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    script = ROOT / "experiments" / "judges" / "ranks.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path), str(folder)])
    runpy.run_path(str(script), run_name="__main__")
    measures = pd.read_csv(folder / "measures.csv")
    judges = {"random", "random, seed 2000", "procedural*"}
    assert set(measures.loc[measures["role"] == "style", "measure"]) == judges | {"colour_distance"}
    assert set(measures.loc[measures["role"] == "content", "measure"]) == judges | {"1 - SSIM"}
    assert len(measures) == 6 * 8
    ranks = pd.read_csv(folder / "ranks.csv")
    assert len(ranks) == 2 * 6 * 2  # style and content, couples of four measures, pairs of pictures
    assert ranks["rho"].between(-1, 1).all()
    one = measures[(measures["role"] == "style") & measures["content"].eq("sample:coffee")]
    table = one.pivot(index="formulation", columns="measure", values="value").rank()
    wanted = np.corrcoef(table["random"], table["procedural*"])[0, 1]
    found = ranks[ranks["content"].eq("sample:coffee") & ranks["role"].eq("style")].set_index(
        ["first", "second"]
    )
    assert found.loc[("random", "procedural*"), "rho"] == pytest.approx(wanted)
    said = (folder / "README.md").read_text(encoding="utf-8")
    assert "averaged over the pairs" in said
    assert "`procedural*`" in said.split("<!-- content -->")[1].split("<!-- /content -->")[0]
    assert "Not run yet" not in said


def test_ranks_of_judges_need_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = ROOT / "experiments" / "judges" / "ranks.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 2
    assert "nstbench run experiment=judges" in capsys.readouterr().err
