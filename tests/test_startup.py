"""What is loaded before the first step, and what is looked at before anything slow is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TINY = "'encoder=random','encoder.shape=vgg11','encoder.width=0.0625','size=48','trainer=cpu','logger=none'"


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, in which nothing has been imported yet."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "typed",
    [
        ["run", "content=no-such-picture.jpg"],
        ["run", "style=[sample:coffee,no-such-picture.jpg]"],
        ["run", "canvas.start=no-such-picture.jpg"],
        ["run", "+pictures.guides.sky={content: no-such-picture.jpg}"],
    ],
)
def test_a_picture_that_is_not_there_is_told_before_torch_is_loaded(typed: list[str]) -> None:
    done = python(
        f"import sys; from nstbench.cli import main; status = main({typed!r});"
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    assert done.returncode == 2, done.stderr
    assert "no-such-picture.jpg: there is no such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_loads_neither_torch_nor_hydra() -> None:
    done = python(
        "import sys; from nstbench.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(str({'torch', 'hydra', 'numpy'} & sys.modules.keys()) if "
        "{'torch', 'hydra', 'numpy'} & sys.modules.keys() else 0)"
    )
    assert done.returncode == 0, done.stderr


def test_a_prepared_run_has_loaded_nothing_that_only_its_end_needs() -> None:
    """With the default metrics: SSIM and colours need scipy, LPIPS its package, Gram distance an encoder.

    Lightning comes after that, and loads scipy and torchvision whether a run needs them or not.
    """
    done = python(
        "import sys; from hydra import compose, initialize_config_dir\n"
        "from nstbench.config.files import conf_dir; from nstbench.runs.preparation import prepare\n"
        "from nstbench.config.resolvers import register_resolvers\n"
        "from nstbench.config.validation import validate\n"
        "register_resolvers()\n"
        f"with initialize_config_dir(str(conf_dir()), version_base='1.3'):\n"
        f"    config = validate(compose('config', overrides=['pictures.style=sample:coffee',{TINY}]))\n"
        "from nstbench.encoders import build; built = []\n"
        "real = build._build; build._build = lambda node: built.append(node) or real(node)\n"
        "prepare(config)\n"
        "late = {'pytorch_lightning', 'scipy.stats', 'scipy.ndimage', 'lpips', 'skimage.color', 'wandb'}\n"
        "assert not late & sys.modules.keys(), late & sys.modules.keys()\n"
        "assert len(built) == 1, built"
    )
    assert done.returncode == 0, done.stderr
