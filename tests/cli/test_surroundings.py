"""The folder and the locale that a command is typed in, and its version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import with_tiny

from nstbench import __version__
from nstbench.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("typed", [["run", "--version"], ["train", "-V"], ["run", "steps=2", "-V"], ["-V"]])
def test_the_version_is_ours(typed: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(typed)
    assert (caught.value.code, capfd.readouterr().out) == (0, f"nstbench {__version__}\n")


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0,1"]])
def test_a_change_of_folder_leaves_paths_where_they_were_typed(
    sweep: list[str], pair: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(pair["photo"], "cat.png")
    before = Path.cwd()
    typed = ["content=cat.png", f"style={pair['painting']}", "hydra.job.chdir=true"]
    assert main(["run", *with_tiny(*typed, *sweep)]) == 0, capfd.readouterr()
    assert len([*Path().glob("outputs/first/*/canvas.png")]) == max(1, len(sweep))
    assert Path.cwd() == before


def in_the_c_locale(*typed: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "PYTHONUTF8", "PYTHONIO"))}
    return subprocess.run(
        [sys.executable, "-m", "nstbench", "run", *typed],
        env={**clean, "PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONUTF8": "0", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=240,
    )


def test_a_utf8_file_name_in_the_c_locale(pair: dict[str, str]) -> None:
    shutil.copy(pair["photo"], "café.png")
    done = in_the_c_locale(*with_tiny("content=café.png", f"style={pair['painting']}", "study=été"))
    assert (done.returncode, done.stderr) == (0, "")
    assert len([*Path().glob("outputs/été/*/canvas.png")]) == 1


def test_what_a_terminal_cannot_show_is_escaped() -> None:
    done = in_the_c_locale("content=café.png", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.startswith("nstbench: pictures.content=caf\\xe9.png: there is no such file")
