"""Snapshots of a run, and the animation made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from nstbench.callbacks.snapshots import write_animation
from nstbench.config.schema import Config
from nstbench.runs.run import run

Compose = Callable[..., Config]


def flat(path: Path, level: int, size: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)
    return path


def frames_of(path: Path) -> list[tuple[int, int, tuple[int, int]]]:
    """Level, milliseconds and size of every frame."""
    with Image.open(path) as gif:
        return [
            (int(np.asarray(f.convert("L")).mean().round()), f.info["duration"], f.size)
            for f in ImageSequence.Iterator(gif)
        ]


def test_snapshots_are_the_canvas_after_so_many_steps(compose_config: Compose) -> None:
    whole = run(compose_config("steps=4", "record.snapshot_every=2", "optimizer=sgd"))
    assert sorted(p.name for p in (whole.folder / "snapshots").iterdir()) == ["000000.png", "000002.png"]
    shorter = run(compose_config("steps=2", "optimizer=sgd"))
    after_two = np.asarray(Image.open(whole.folder / "snapshots" / "000002.png"))
    np.testing.assert_array_equal(after_two, np.asarray(Image.open(shorter.folder / "canvas.png")))


def test_an_animation_ends_with_the_finished_canvas_and_grows_to_its_size(tmp_path: Path) -> None:
    for step, level in ((0, 10), (50, 60), (100, 120)):
        flat(tmp_path / "snapshots" / f"{step:06d}.png", level, (4, 3))
    canvas = flat(tmp_path / "canvas.png", 200)
    write_animation(tmp_path / "snapshots", canvas, tmp_path / "canvas.gif")
    size = (8, 6)
    assert frames_of(tmp_path / "canvas.gif") == [
        (10, 120, size),
        (60, 120, size),
        (120, 120, size),
        (200, 1000, size),
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["canvas.gif", "canvas.png", "snapshots"]


def test_of_many_snapshots_some_are_taken_evenly(tmp_path: Path) -> None:
    for step in range(10):
        flat(tmp_path / "snapshots" / f"{step:06d}.png", 20 * step)
    canvas = flat(tmp_path / "canvas.png", 255)
    write_animation(tmp_path / "snapshots", canvas, tmp_path / "canvas.gif", most=5)
    assert [level for level, _, _ in frames_of(tmp_path / "canvas.gif")] == [0, 40, 80, 120, 160, 255]
