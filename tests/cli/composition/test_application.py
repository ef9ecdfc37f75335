"""A configuration is composed once; what was read of a file is read again only when it changes."""

from __future__ import annotations

import os
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import with_tiny
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.types import RunMode
from omegaconf import OmegaConf

from nstbench.cli import main
from nstbench.cli.composition.compose import compose
from nstbench.cli.composition.jobs import jobs_of
from nstbench.config.files import conf_dir
from nstbench.config.resolvers import register_resolvers
from nstbench.config.yaml_files import CheckedFiles, FileSources, ParsedFiles
from nstbench.errors import UserError
from nstbench.sweeps.plugins import register_launchers
from nstbench.sweeps.sweep import Sweep


@pytest.fixture(autouse=True)
def _registered() -> None:
    register_resolvers()
    register_launchers()


@pytest.fixture
def compositions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[tuple[str, ...]]]:
    """How often Hydra composed each list of overrides."""
    counted: Counter[tuple[str, ...]] = Counter()
    load = ConfigLoaderImpl._load_configuration_impl

    def counting(self: Any, config_name: Any, overrides: list[str], *rest: Any, **more: Any) -> Any:
        counted[tuple(overrides)] += 1
        return load(self, config_name, overrides, *rest, **more)

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", counting)
    return counted


def test_a_run_is_composed_once(compositions: Counter[tuple[str, ...]]) -> None:
    assert main(["run", *with_tiny("steps=1")]) == 0
    assert [*compositions.values()] == [1]


def test_hydra_settings_are_checked_on_what_was_composed(compositions: Counter[tuple[str, ...]]) -> None:
    assert main(["run", *with_tiny("weights.style=-1", "hydra.verbose=false")]) == 2
    assert [*compositions.values()] == [1]


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=batched"]])
def test_runs_of_a_sweep_are_composed_once(
    launcher: list[str], compositions: Counter[tuple[str, ...]]
) -> None:
    assert main(["run", "-m", *with_tiny("steps=1", "seed=1,2,3", *launcher)]) == 0
    # All of them, the sweep, and the one run that is checked before.
    assert len(compositions) == 5
    assert set(compositions.values()) == {1}


def test_an_experiment_can_make_it_a_sweep(compositions: Counter[tuple[str, ...]]) -> None:
    composed, _ = compose([], ["experiment=demo"])
    assert composed.hydra.mode == RunMode.MULTIRUN
    assert [*compositions.values()] == [1]


def test_what_a_single_run_leaves_open_is_told(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "open.yaml").write_text("defaults:\n  - config\n  - override encoder: ???\n  - _self_\n")
    flags = [f"--config-dir={own}", "--config-name=open"]
    with pytest.raises(UserError, match="encoder"):
        compose(flags, [])
    composed, _ = compose([*flags, "-m"], ["encoder=random,procedural"])
    assert composed.hydra.mode == RunMode.MULTIRUN


def test_values_to_sweep_over_need_the_flag() -> None:
    with pytest.raises(UserError, match="-m"):
        compose([], ["seed=1,2"])


def test_the_runs_of_a_sweep_are_known_without_running_it(tmp_path: Path) -> None:
    jobs = jobs_of(["-m"], ["seed=1,2", "loss/style=gram,mrf"])
    assert jobs is not None
    assert [overrides for overrides, _ in jobs] == jobs.overrides
    assert [(config.seed, [*config.loss.style]) for _, config in jobs] == [
        *((1, ["gram"]), (1, ["mrf"])),
        *((2, ["gram"]), (2, ["mrf"])),
    ]
    assert not [*tmp_path.rglob("multirun.yaml")]
    assert jobs_of(["-m"], ["hydra/sweeper=optuna", "seed=1,2"]) is None


def test_a_loader_travels_without_what_it_keeps() -> None:
    composed, loader = compose(["-m"], ["seed=1,2"])
    first = loader.load_sweep_config(composed, ["seed=1"])
    assert pickle.loads(pickle.dumps(loader))._kept == {}
    second = loader.load_sweep_config(composed, ["seed=1"])
    assert second == first
    assert second is not first


def test_a_launcher_is_found_within_the_sweeper_of_a_plugin() -> None:
    class Inner:
        launcher: Any = "the launcher"

    class Plugin:
        sweeper = Inner()

    sweep = Sweep(["nstbench"])
    sweep.follow(Plugin(), None)  # type: ignore[arg-type]
    assert Plugin.sweeper.launcher.launcher == "the launcher"
    with pytest.raises(UserError, match="cannot be followed"):
        sweep.follow(object(), None)  # type: ignore[arg-type]


def test_a_file_is_read_again_only_when_it_changes(tmp_path: Path) -> None:
    sources = FileSources()
    source = sources("main", str(tmp_path))
    file = tmp_path / "a.yaml"
    file.write_text("# @package _global_\nb: {c: 1}\n")
    first = source.load_config("a")
    assert first.header["package"] == "_global_"
    first.config.b.c = 2  # as Hydra does when it takes the defaults list out
    again = sources("command-line", str(tmp_path)).load_config("a")
    assert (again.config.b.c, again.provider, again.header) == (1, "command-line", first.header)
    before = file.stat()
    file.write_text("b: {c: 3}\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # of another size
    assert source.load_config("a").config.b.c == 3
    file.write_text("b: !!binary aGk=\n")
    with pytest.raises(UserError, match="binary"):
        source.load_config("a")
    assert not pickle.loads(pickle.dumps(sources)).parsed._kept


def test_what_was_read_is_that_of_another_folder_of_the_same_name(tmp_path: Path) -> None:
    shutil.copytree(conf_dir() / "trainer", tmp_path / "trainer")
    parsed = ParsedFiles()
    ours = CheckedFiles("main", str(conf_dir()), parsed).load_config("trainer/cpu")
    theirs = CheckedFiles("main", str(tmp_path), parsed).load_config("trainer/cpu")
    assert OmegaConf.to_container(ours.config) == OmegaConf.to_container(theirs.config)
    assert theirs.path == f"file://{tmp_path}"
