"""The commands of the README, as a reader would type them, on small pictures.

CI itself runs `make demo` and `make test`. What needs a network, a viewer or minutes is not run
here: `weights fetch` and `add` are parsed, the viewers are named, the benchmark is among the slow tests.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import CommandServer

from nstbench.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Added to every `nstbench run`: the README's commands mean minutes, their settings are what is tested.
TINY_ENCODER = ["encoder=random", "encoder.shape=vgg19", "encoder.width=0.0625"]
SMALL = ["size=48", "steps=2", *TINY_ENCODER, "record.progress=false", "trainer.threads=1"]
# The first command has the dashboard of the defaults; to start it takes seconds.
FIRST = "nstbench run content=photo.jpg style=painting.jpg"


def commands_shown() -> list[str]:
    """Return the lines of all console blocks, continuation lines joined, comments cut."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.split("  #")[0].strip()
            if line:
                found.append(re.sub(r" +", " ", line))
    return found


NSTBENCH = [c for c in commands_shown() if c.startswith("nstbench ")]
OTHERS = [c for c in commands_shown() if not c.startswith("nstbench ")]


@pytest.fixture
def users_files(pair: dict[str, str], tmp_path: Path) -> None:
    """The reader's own pictures and weights, under the names the README uses."""
    Path(pair["photo"]).rename(tmp_path / "photo.jpg")
    for name in ("painting.jpg", "drawing.jpg"):
        (tmp_path / name).write_bytes(Path(pair["painting"]).read_bytes())


@pytest.mark.usefixtures("users_files")
@pytest.mark.parametrize("command", NSTBENCH)
def test_a_command_of_the_readme_works(
    command: str, capsys: pytest.CaptureFixture[str], commands: CommandServer
) -> None:
    typed = shlex.split(command)[1:]
    if typed[0] == "weights" and typed[1] in {"fetch", "add"}:
        with pytest.raises(SystemExit) as shown:  # needs a network, or a file of 500 MB: it must parse
            main([*typed[:2], "--help"])
        assert shown.value.code == 0
        return
    if typed[0] == "verify":  # needs the authors' network and pictures, and says how to get them
        assert main(typed) == 2
        assert "nstbench weights fetch" in capsys.readouterr().err
        return
    if typed[0] == "images" and typed[1:2] in (
        ["fetch"],
        ["add"],
    ):  # needs a network, or a file of the reader's
        with pytest.raises(SystemExit) as asked:
            main([*typed[:2], "--help"])
        assert asked.value.code == 0
        return
    if typed[0] in {"compare", "report"}:  # there must be something to compare
        sweep = ["-m", "weights.style=3,30", f"study={Path(typed[1]).name}", "metrics=fast", "logger=none"]
        assert main(["run", *sweep, *SMALL]) == 0
        capsys.readouterr()
    small = SMALL if typed[0] == "run" and "--help" not in typed else []
    if any("encoder=torchvision" in t for t in typed):
        small = ["size=96", "steps=2"]
    swept = {t.split("=")[0] for t in typed}
    if typed[0] == "run" and command != FIRST:
        small = [*small, "logger=none"] if small else small
    few = ["steps=2" if t.startswith("steps=") else t for t in typed]
    if "hydra/launcher=pool" in typed:  # the workers of a fork are forks, and start at once
        done = commands.run(*few, *(s for s in small if s.split("=")[0] not in swept))
        assert done.returncode == 0, done.printed
        assert "4 runs: 4 completed" in done.printed
        return
    status = main([*few, *(s for s in small if s.split("=")[0] not in swept)])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    assert printed.out.strip()


def test_the_default_dashboard_is_in_a_command_of_the_readme() -> None:
    assert FIRST in NSTBENCH
    assert any("logger=[wandb" in command for command in NSTBENCH)


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    asked = {c.split()[1] for c in OTHERS if c.startswith("make ")}
    assert {"demo", "test"} <= asked <= targets
    assert [c for c in commands_shown() if c.startswith("make ")][:2] == ["make demo", "make test"]


def test_other_commands_of_the_readme_are_known() -> None:
    known = (
        "make ",
        "pip install ",
        "python -m benchmarks.",
        "wandb leet ",
        "tensorboard --logdir ",
        ". .venv/",
    )
    assert [c for c in OTHERS if not c.startswith(known)] == []
    for command in OTHERS:
        if command.startswith("python -m benchmarks."):
            assert (ROOT / (command.split()[2].replace(".", "/") + ".py")).is_file()


def test_pictures_and_files_that_the_readme_shows_exist() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_loss_that_the_readme_adds_runs(
    tmp_path: Path, users_files: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Do what "Adding a loss" says, in a folder of one's own, and run it."""
    code = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL)
    config = re.search(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    assert code
    assert config
    (tmp_path / "channel_means.py").write_text(code[1], encoding="utf-8")
    folder = tmp_path / "mine" / "loss" / "style"
    folder.mkdir(parents=True)
    (folder / "channel_means.yaml").write_text(
        config[1].replace("nstbench.losses.channel_means", "channel_means")
    )
    sys.path.insert(0, str(tmp_path))
    try:
        own = [
            "content=photo.jpg",
            "style=painting.jpg",
            "--config-dir",
            "mine",
            "metrics=none",
            "logger=none",
        ]
        assert main(["run", "loss/style=[gram,channel_means]", *own, *SMALL]) == 0
    finally:
        sys.path.remove(str(tmp_path))
    assert "canvas.png" in capsys.readouterr().out
    (record,) = tmp_path.glob("outputs/first/*/run.json")
    assert '"loss/style/channel_means"' in record.read_text()


@pytest.mark.slow
def test_the_overhead_benchmark_prints_a_ratio() -> None:
    settings = ["size=64", "steps=20", "encoder=random", "encoder.width=0.125"]
    command = [sys.executable, "-m", "benchmarks.overhead", *settings]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    ratio = float(re.search(r"ratio +([\d.]+)", done.stdout)[1])
    assert 0.7 < ratio < 1.5  # a step of 64 px takes 3 ms: Lightning's 0.2 ms and a busy machine show
    objectives = [float(v) for v in re.findall(r"objective ([\d.e+-]+)", done.stdout)]
    assert objectives[0] == pytest.approx(objectives[1], rel=0.02)  # until chaos sets in
