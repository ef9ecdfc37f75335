"""Snapshots: the canvas as a PNG, and in the dashboards, every k steps."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from nstbench.modules.member import Evaluation, EvaluationCallback, Member
from nstbench.pictures.io import write_png
from nstbench.runtime.files import make_folder, write_atomically
from nstbench.tracking.dashboards import Dashboards


class Snapshots(EvaluationCallback):
    """Write ``snapshots/<step>.png`` every k steps: the canvas after that many steps.

    Args:
        folder: Folder of the snapshots.
        dashboards: Dashboards of the run.
        every: Steps between snapshots.
    """

    def __init__(self, folder: Path, dashboards: Dashboards, every: int) -> None:
        self.folder, self.dashboards, self.every = folder, dashboards, every
        self.last = -1

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        """Write a snapshot if one is due; the first evaluation of a step is of the canvas before it."""
        if evaluation.step % self.every == 0 and evaluation.step != self.last:
            self.last = evaluation.step
            picture = evaluation.picture.clamp(0, 1)
            make_folder(self.folder)
            write_png(self.folder / f"{evaluation.step:06d}.png", picture)
            self.dashboards.log(evaluation.index, {}, {"image/canvas": picture[0]})


def write_animation(
    snapshots: Path, last: Path, path: Path, *, milliseconds: int = 120, most: int = 120
) -> None:
    """Join the snapshots in a folder, and the finished canvas, to a GIF that loops.

    Frames of earlier, smaller stages are enlarged to the size of the finished canvas, which is held
    for a second. Of many snapshots, ``most`` evenly spaced ones are taken.

    Args:
        snapshots: Folder of PNGs, named so that they sort by step; it may be missing.
        last: Path of the finished canvas.
        path: Path of the GIF.
        milliseconds: Time between frames.
        most: Largest number of snapshots.
    """
    from PIL import Image

    files = sorted(snapshots.glob("*.png"))
    files = [*files[:: max(1, -(-len(files) // most))], last]
    with Image.open(last) as canvas:
        size = canvas.size
    frames = []
    for file in files:
        with Image.open(file) as frame:
            frames.append(frame.convert("RGB").resize(size, Image.Resampling.BICUBIC))
    durations = [milliseconds] * (len(frames) - 1) + [1000]

    def save(file: IO[bytes]) -> None:
        frames[0].save(
            file, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0
        )

    write_atomically(path, save)
