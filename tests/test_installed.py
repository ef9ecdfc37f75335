"""The package as others get it: from a wheel, and from a checkout that is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHOW = "from nstbench.config.files import conf_dir, groups; print(conf_dir()); print(len(groups()))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    # A copy: building in place leaves build/ and egg-info behind, which later builds would read.
    for name in ("pyproject.toml", "README.md", "LICENSE", "nstbench", "conf", "hydra_plugins"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True)
    (file,) = folder.glob("*.whl")
    return file


def python(code: list[str], path: Path, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, *code], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_wheel_holds_every_config_and_module(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    configs = {f"nstbench/conf/{p.relative_to(ROOT / 'conf')}" for p in (ROOT / "conf").rglob("*.yaml")}
    modules = {
        str(p.relative_to(ROOT)) for top in ("nstbench", "hydra_plugins") for p in (ROOT / top).rglob("*.py")
    }
    weights = {f"nstbench/encoders/procedural/encoder.{kind}" for kind in ("safetensors", "sha256")}
    assert configs | modules | weights | {"nstbench/py.typed"} <= inside
    assert not any(name.startswith("conf/") for name in inside)


def test_an_installed_wheel_finds_its_configs_and_runs(
    wheel: Path, tmp_path: Path, pair: dict[str, str]
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (tmp_path / "conf").mkdir()  # somebody else's folder of that name
    folder, count = python(["-c", SHOW], site, tmp_path).split()
    assert Path(folder) == (site / "nstbench" / "conf").resolve()
    assert int(count) >= 12
    small = [
        "size=48",
        "steps=2",
        "logger=none",
        "metrics=none",
    ]
    inputs = [f"content={pair['photo']}", f"style={pair['painting']}"]
    printed = python(["-m", "nstbench", "run", *inputs, *small], site, tmp_path)
    assert "canvas.png" in printed
    assert len([*tmp_path.glob("outputs/first/*/canvas.png")]) == 1


def test_a_checkout_that_is_not_installed_finds_its_configs(tmp_path: Path) -> None:
    assert Path(python(["-c", SHOW], ROOT, tmp_path).split()[0]) == ROOT / "conf"


def test_importing_the_package_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = "[m for m in ('torch', 'hydra', 'wandb') if m in sys.modules]"
    code = f"import sys, nstbench, nstbench.cli; print({heavy})"
    assert python(["-c", code], ROOT, tmp_path).strip() == "[]"
