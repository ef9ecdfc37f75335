"""The commands of the README and of the guides in docs/, as a reader would type them, on small pictures.

CI itself runs `make demo` and `make test`. What needs a network, a viewer or minutes is not run
here: `weights fetch` and `add` are parsed, the viewers are named, the benchmark is among the slow tests.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from commands import CommandServer

from nstbench.cli import main
from nstbench.config.files import groups

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = ["composing", "encoders", "weights", "sweeps", "comparing", "recipes"]
PAGES = [
    page
    for folder in (".", "docs", "docs/losses", "benchmarks", "experiments", "experiments/*")
    for page in sorted(ROOT.glob(f"{folder}/*.md"))
]

# Added to every `nstbench run`: the commands of pages mean minutes, their settings are what is tested.
TINY_ENCODER = ["encoder=random", "encoder.shape=vgg19", "encoder.width=0.0625"]
SMALL = ["size=48", "steps=2", *TINY_ENCODER, "record.progress=false", "trainer.threads=1"]
# The first command has the dashboard of the defaults; to start it takes seconds.
FIRST = "nstbench run content=photo.jpg style=painting.jpg"


def commands_shown(text: str) -> list[str]:
    """Return the lines of all console blocks, continuation lines joined, comments cut."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.split("  #")[0].strip()
            if line:
                found.append(re.sub(r" +", " ", line))
    return found


TYPED = [*commands_shown(README)]
for guide in GUIDES:
    TYPED += commands_shown((ROOT / "docs" / f"{guide}.md").read_text(encoding="utf-8"))
NSTBENCH = [*dict.fromkeys(c for c in TYPED if c.startswith("nstbench "))]  # some stand on two pages
OTHERS = [c for c in TYPED if not c.startswith("nstbench ")]


@pytest.fixture
def users_files(pair: dict[str, str], tmp_path: Path) -> None:
    """The reader's own pictures and weights, under the names that pages use."""
    Path(pair["photo"]).rename(tmp_path / "photo.jpg")
    for name in ("painting.jpg", "drawing.jpg"):
        (tmp_path / name).write_bytes(Path(pair["painting"]).read_bytes())


@pytest.mark.usefixtures("users_files")
@pytest.mark.parametrize("command", NSTBENCH)
def test_a_command_of_a_page_works(
    command: str,
    capsys: pytest.CaptureFixture[str],
    commands: CommandServer,
    real_weights: Callable[[str], Path],
) -> None:
    typed = shlex.split(command)[1:]
    for name in ("vgg16_hed", "efficientnet_lite0"):
        if f"encoder={name}" in typed:
            real_weights(name)
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
    if "encoder=vgg16_hed" in typed:
        small = ["size=64", "steps=2", "metrics=none"]
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
    assert [c for c in commands_shown(README) if c.startswith("make ")][:2] == ["make demo", "make test"]


def test_other_commands_of_pages_are_known() -> None:
    known = (
        "make ",
        "pip install ",
        "python -m benchmarks.",
        "wandb leet ",
        "tensorboard --logdir ",
        ". .venv/",
    )
    assert [c for c in OTHERS if not c.startswith(known)] == []


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_what_a_page_names_exists(page: Path) -> None:
    """Files and headings that it links to, benchmarks, and options of groups."""
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link
    for module in re.findall(r"python -m (benchmarks\.\w+)", text):
        assert find_spec(module), module
    for group, chosen in re.findall(r"(?<![\w/.@])([a-z_]+(?:/[a-z_]+)?)=\[?([\w/]+(?:,[\w/]+)*)", text):
        for option in chosen.split(",") if group in groups() else ():
            assert option in {*groups()[group], *OF_OTHERS}, f"{group}={option}"


# Hydra's own, what a reader would call an option of theirs, and what stands for several.
OF_OTHERS = {"basic", "joblib", "cluster", "channel_means", "glob"}


def headings(page: Path) -> set[str]:
    """Return what links call the headings of a page."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_the_index_of_the_guides_is_complete() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert page.name == "README.md" or f"[{page.name}]({page.name})" in index


def test_the_loss_that_a_page_adds_runs(
    tmp_path: Path, users_files: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Do what docs/adding_a_loss.md says, in a folder of one's own, and run it, with a guide too."""
    page = (ROOT / "docs" / "adding_a_loss.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, flags=re.DOTALL)
    config = re.search(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
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
        loss = import_module("channel_means").ChannelMeans()
    finally:
        sys.path.remove(str(tmp_path))
    assert "canvas.png" in capsys.readouterr().out
    (record,) = tmp_path.glob("outputs/first/*/run.json")
    assert '"loss/style/channel_means"' in record.read_text()
    features, guide = torch.rand(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    guide[..., :2] = 1
    torch.testing.assert_close(loss.target(features, guide), features[..., :2].mean((2, 3)))
    assert loss(features, loss.target(features, guide), guide).shape == (1,)


@pytest.mark.slow
def test_the_overhead_benchmark_prints_a_ratio() -> None:
    settings = ["size=64", "steps=20", "encoder=random", "encoder.width=0.125"]
    command = [sys.executable, "-m", "benchmarks.overhead", *settings]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    ratio = float(re.search(r"ratio +([\d.]+)", done.stdout)[1])
    assert 0.7 < ratio < 1.5  # a step of 64 px takes 3 ms: Lightning's 0.2 ms and a busy machine show
    objectives = [float(v) for v in re.findall(r"objective ([\d.e+-]+)", done.stdout)]
    assert objectives[0] == pytest.approx(objectives[1], rel=0.02)  # until chaos sets in
