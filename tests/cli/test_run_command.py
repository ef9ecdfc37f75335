"""``nstbench run`` as people type it: names, flags, help, and what it prints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import with_tiny

from nstbench.cli import main
from nstbench.config.files import conf_dir, describe, groups

ROOT = Path(__file__).resolve().parents[2]


def in_shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def composed(*arguments: str, capfd: pytest.CaptureFixture[str]) -> dict[str, object]:
    capfd.readouterr()
    assert main(["run", *arguments, "--cfg", "job"]) == 0
    plain: dict[str, object] = yaml.safe_load(capfd.readouterr().out)
    return plain


# ---------------------------------------------------------------------------------- help


def test_help_lists_every_option_with_a_line_about_it(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--help"]) == 0
    printed = [line.strip() for line in capfd.readouterr().out.splitlines()]
    for group, options in groups().items():
        assert group in printed
        for option in options:
            about = describe(group, option)
            assert about, f"{group}={option} says nothing about itself"
            assert any(line.startswith(f"{option} ") and line.endswith(about) for line in printed)


def test_help_is_quick_and_loads_no_torch() -> None:
    began = time.monotonic()
    done = in_shell("-m", "nstbench", "run", "--help")
    seconds = time.monotonic() - began
    assert (done.returncode, done.stderr) == (0, "")
    assert "weights.unit=unit" in done.stdout
    assert seconds < 5  # 0.4 s on an idle machine; a loaded one takes longer, torch much longer
    code = "import sys; from nstbench.cli import main; main(['run', '-h']); print('torch' in sys.modules)"
    assert in_shell("-c", code).stdout.splitlines()[-1] == "False"


def test_a_wrong_value_is_told_without_loading_torch() -> None:
    code = (
        "import sys; from nstbench.cli import main; print(main(['run', 'steps=abc']), 'torch' in sys.modules)"
    )
    done = in_shell("-c", code)
    assert done.stdout == "2 False\n"
    assert done.stderr.startswith("nstbench: steps=abc: it must be a whole number. ")


def test_what_the_help_says_can_be_typed(capfd: pytest.CaptureFixture[str]) -> None:
    """Every ``setting=value`` at the start of a line of the help composes with the others."""
    main(["run", "--help"])
    text = capfd.readouterr().out.partition("often set:")[2].partition("flags:")[0]
    typed = [
        word for line in text.splitlines() for word in line.strip().split("  ")[0].split() if "=" in word
    ]
    assert len(typed) > 8
    shown = composed(*typed, capfd=capfd)
    assert shown["study"] == "first"


# ------------------------------------------------------------------- the printed config


def test_the_composed_config_can_be_printed(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shown = composed("steps=7", "loss/style=gram", capfd=capfd)
    assert shown["steps"] == 7
    assert isinstance(shown["loss"], dict)
    assert shown["loss"]["style"]["gram"]["layers"] == "${layers.style}"
    resolved = composed("steps=7", "--resolve", capfd=capfd)
    assert isinstance(resolved["loss"], dict)
    assert resolved["loss"]["style"]["gram"]["layers"] == "default"
    assert [*tmp_path.iterdir()] == []


def test_what_is_printed_is_a_config_again(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shown = composed("steps=7", "seed=3", capfd=capfd)
    own = tmp_path / "own" / "experiment" / "again.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\n" + yaml.safe_dump(shown))
    assert composed("--config-dir", "own", "experiment=again", capfd=capfd) == shown


def test_flags_may_stand_anywhere(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 5\n")
    orders = [
        ["--config-dir", "own", "--cfg", "job", "experiment=mine", "steps=7"],
        ["steps=7", "--config-dir", "own", "experiment=mine", "--cfg", "job"],
        ["experiment=mine", "-c", "job", "steps=7", "--config-dir=own"],
    ]
    printed = set()
    for order in orders:
        assert main(["run", *order]) == 0
        printed.add(capfd.readouterr().out)
    assert len(printed) == 1
    assert "seed: 5" in printed.pop()


# ------------------------------------------------------------------------------ pictures

NAMES = [
    "my photo (1).jpg",
    "a,b.jpg",
    'it\'s "mine".jpg',
    "été à la mer.jpg",
    "a=b.jpg",
    "[1] & {2}.jpg",
    "100%.jpg",
    "back\\slash\\.jpg",
    "~tilde.jpg",
    "2024",
    "1e3",
    "true",
    "  spaced  .jpg",
    "#hash!.jpg",
    "a;b|c<d>.jpg",
    "choice(a,b)",
    "猫.jpg",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("setting", ["content", "style"])
def test_any_file_name_can_be_typed_plainly(
    setting: str, name: str, pair: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(pair["photo"], name)
    shown = composed(f"{setting}={name}", capfd=capfd)
    assert isinstance(shown["pictures"], dict)
    assert shown["pictures"][setting] == name


def test_a_run_with_strange_names_from_start_to_end(
    tmp_path: Path, pair: dict[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    shutil.copy(pair["photo"], "my photo, (1) = 'é'.png")
    shutil.copy(pair["painting"], tmp_path / "home" / "a painting.png")
    typed = ["content=my photo, (1) = 'é'.png", "style=~/a painting.png", "output=~/my results", "study=2024"]
    assert main(["run", *with_tiny(*typed)]) == 0
    (folder,) = (tmp_path / "home" / "my results" / "2024").iterdir()
    assert {"canvas.png", "run.json"} <= {p.name for p in folder.iterdir()}
    assert f"picture  {folder}/canvas.png" in capfd.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".png") == ["home"]
    # The same command given again finds what it did.
    assert main(["run", *with_tiny(*typed)]) == 0
    assert "This run was finished before" in capfd.readouterr().out


def test_several_styles(pair: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copy(pair["photo"], "my photo (1).png")
    shown = composed("style=[painting.png,my photo (1).png]", "pictures.style_weights=[2,1]", capfd=capfd)
    assert isinstance(shown["pictures"], dict)
    assert shown["pictures"]["style"] == ["painting.png", "my photo (1).png"]
    assert shown["pictures"]["style_weights"] == [2, 1]


def test_references_are_recorded_as_they_were_typed(tmp_path: Path, pair: dict[str, str]) -> None:
    pictures = [f"content={pair['photo']}", f"style={pair['painting']}"]
    assert main(["run", *with_tiny(*pictures, "weights.content=${weights.style}")]) == 0
    (record,) = tmp_path.glob("outputs/first/*/run.json")
    saved = json.loads(record.read_text())
    assert "weights.content=${weights.style}" in saved["overrides"]
    assert saved["config"]["weights"]["content"] == saved["config"]["weights"]["style"]


# -------------------------------------------------------------------------------- sweeps


def test_a_sweep_over_strange_names_and_options(
    tmp_path: Path, pair: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(pair["photo"], "my photo (1).png")
    swept = ["content=my photo (1).png,photo.png", "optimizer=adam,sgd"]
    assert main(["run", *swept, "--multirun", *with_tiny(f"style={pair['painting']}")]) == 0
    assert "4 runs: 4 completed, 0 failed" in capfd.readouterr().out
    overrides = [json.loads(p.read_text())["config"] for p in tmp_path.glob("outputs/first/*/run.json")]
    assert {(c["pictures"]["content"], c["optimizer"]["_target_"]) for c in overrides} == {
        (content, f"torch.optim.{optimizer}")
        for content in ("my photo (1).png", "photo.png")
        for optimizer in ("Adam", "SGD")
    }
    assert main(["run", *swept, "-m", *with_tiny(f"style={pair['painting']}")]) == 0
    assert "4 runs: 0 completed, 4 done before, 0 failed" in capfd.readouterr().out


def test_a_sweep_over_a_range(
    tmp_path: Path, pair: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    pictures = [f"content={pair['photo']}", f"style={pair['painting']}"]
    assert main(["run", *with_tiny(*pictures, "-m", "seed=range(2,5)")]) == 0
    assert "3 runs: 3 completed" in capfd.readouterr().out
    seeds = {json.loads(p.read_text())["config"]["seed"] for p in tmp_path.glob("outputs/first/*/run.json")}
    assert seeds == {2, 3, 4}


# --------------------------------------------------------------------------- the program


def test_the_program_without_a_command_says_what_there_is(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capfd.readouterr()
    assert err == ""
    for command in ("run", "train", "images", "weights", "doctor"):
        assert f"    {command} " in out


def test_the_configuration_is_found_and_can_be_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(conf_dir(), tmp_path / "conf")
    text = (tmp_path / "conf" / "config.yaml").read_text()
    (tmp_path / "conf" / "config.yaml").write_text(text.replace("study: first", "study: mine"))
    assert composed(capfd=capfd)["study"] == "first"
    monkeypatch.setenv("NSTBENCH_CONF", str(tmp_path / "conf"))
    assert composed(capfd=capfd)["study"] == "mine"
