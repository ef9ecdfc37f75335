"""Figures of papers: the panels of a study as a captioned grid, from its run records.

A study of a figure is a sweep over ``panel``; the settings of its panels are in ``panels``, by label.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nstbench.errors import UserError
from nstbench.pictures.recorded import open_recorded_picture
from nstbench.pictures.sheet import contact_sheet
from nstbench.pictures.source import load
from nstbench.runtime.files import write_bytes
from nstbench.tracking.record import RunRecord
from nstbench.tracking.record_files import inside

Cell = tuple[str, Tensor]
"""A caption, whose second line is lighter, and a picture ``(1, 3, H, W)``."""


@dataclass(frozen=True)
class Panel:
    """A finished run of a figure.

    Attributes:
        label: Label of the panel.
        record: Record of the run.
        folder: Folder of the run.
    """

    label: str
    record: RunRecord
    folder: Path

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Settings of the panel, from ``panels`` of its study."""
        found: dict[str, Any] = self.record.config["panels"][self.label]
        return found

    @property
    def picture(self) -> Tensor:
        """Picture of the run, ``(1, 3, H, W)``."""
        image = open_recorded_picture(inside(self.folder.parent, self.folder / "canvas.png"))
        return torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255)[None]

    def input(self, what: str) -> Tensor:
        """Return the ``content`` or ``style`` picture, or the first of several.

        Raises:
            UserError: If it is not the picture that the run was made from.
        """
        setting, sha256 = f"pictures.{what}", self.record.inputs.get(what)
        source = self.record.config["pictures"][what]
        source = source if isinstance(source, str) else source[0]
        picture = load(source, setting=setting)
        if picture.sha256 != (sha256 if isinstance(sha256, str) or not sha256 else sha256[0]):
            reason = "it is another picture than the run was made from"
            raise UserError(setting, source, reason, "Run the study again.")
        return picture.pixels

    def named(self, what: str) -> str:
        """Return the name of the picture: ``sample:coffee``, or a file's name."""
        source = self.record.config["pictures"][what]
        source = source if isinstance(source, str) else source[0]
        return source if ":" in source else Path(source).name


Panels = dict[str, Panel]


def read_panels(study: Path) -> Panels:
    """Return the finished panels of a study in the order of its ``panels``.

    Raises:
        UserError: If there are none, some are missing, or two runs have one label.
    """
    found: dict[str, list[Panel]] = {}
    folders = sorted(study.iterdir()) if study.is_dir() else []
    for folder in folders:
        record = RunRecord.read(folder)
        if record is not None and record.state == "completed" and record.config.get("panel"):
            label = record.config["panel"]
            found.setdefault(label, []).append(Panel(label, record, folder))
    if not found:
        reason = "there is no finished panel of a figure in this folder"
        raise UserError("study", str(study), reason, "Run it first: nstbench run experiment=…")
    some = next(iter(found.values()))[0].record
    missing = [label for label in some.config["panels"] if label not in found]
    if missing:
        reason = f"panels are missing: {', '.join(missing)}"
        raise UserError(
            "study", str(study), reason, "Type the study's command again: it runs the missing panels."
        )
    for label, panels in found.items():
        if len(panels) > 1:
            names = ", ".join(p.folder.name for p in panels)
            reason = f"panel {label} has several runs: {names}"
            raise UserError("study", str(study), reason, "Run the study under a name of its own: study=…")
    return {label: found[label][0] for label in some.config["panels"]}


def made_with(panels: Panels) -> str:
    """Return the encoders, sizes and numbers of evaluations of the panels as text."""
    records = [p.record for p in panels.values()]
    size = _range([record.config["schedule"]["stages"][-1]["size"] for record in records])
    evaluations = _range([record.evaluations for record in records])
    encoders = " and ".join(dict.fromkeys(_encoder(record) for record in records))
    return f"{encoders}, {size} px, {evaluations} evaluations"


def _range(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return f"{least}" if least == most else f"{least} to {most}"


def _encoder(record: RunRecord) -> str:
    node = record.config["encoder"]
    name, weights = str(node["_target_"]).rpartition(".")[2], node.get("weights")
    if name == "ProceduralVGG" and weights == "shipped":
        return "the encoder that ships"
    if name == "ProceduralVGG" and weights == "distilled":
        return "distilled, which ships"
    return f"{name} ({Path(str(weights)).name})" if weights else name


def draw(title: str, panels: Panels, cells: Sequence[Cell], *, columns: int, cell: int = 256) -> Image.Image:
    """Draw captioned pictures in a grid under a title with encoder, size and evaluations."""
    sheet = contact_sheet(cells, columns=columns, cell=cell, title=f"{title}: {made_with(panels)}")
    return Image.fromarray((sheet[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))


def provenance(panels: Panels) -> str:
    """Return the provenance of the panels as JSON: fingerprints, settings, inputs and versions."""
    first = next(iter(panels.values())).record
    contents = {
        "study": first.study,
        "versions": first.versions,
        "device": first.device,
        "panels": {
            label: {
                "run": p.record.run_id,
                "fingerprint": p.record.fingerprint,
                "overrides": p.record.overrides,
                "inputs": p.record.inputs,
            }
            for label, p in panels.items()
        },
    }
    return json.dumps(contents, sort_keys=True)


def inputs(panels: Panels, *what: str) -> list[Cell]:
    """Return the cells of the ``content`` and ``style`` pictures of the first panel."""
    first = next(iter(panels.values()))
    return [(f"{each}\n{first.named(each)}", first.input(each)) for each in what]


def styles_above_results(panels: Panels) -> list[Cell]:
    """Return two rows: the content and every panel's style; below, its picture with its α/β."""
    content = inputs(panels, "content")
    styles = [(f"style of {label}\n{p.named('style')}", p.input("style")) for label, p in panels.items()]
    results = [(f"{label}\nα/β = {p.settings['ratio']:g}", p.picture) for label, p in panels.items()]
    return [*content, *styles, *content, *results]


Figure = Callable[[Panels], Image.Image]


def main(figures: Mapping[str, Figure], paper: str, folder: Path, arguments: Sequence[str]) -> None:
    """Draw the figures of a paper whose studies exist, each as ``<figure>.jpg``.

    A figure's study is ``<outputs>/<paper>_<figure>``, or ``<outputs>/<paper>`` if the figure is named so.
    With ``--network NAME``, the study's name and the file's end in ``_NAME``.

    Args:
        figures: Functions that draw the figures, by name.
        paper: Prefix of the studies' names.
        folder: Default output folder.
        arguments: Command-line arguments: the folder of studies, and optionally the output folder.
    """
    parser = argparse.ArgumentParser(
        description=f"Draw the figures of {paper} from the records of their studies."
    )
    parser.add_argument("outputs", type=Path, help="the folder of studies, such as outputs")
    parser.add_argument(
        "folder", type=Path, nargs="?", default=folder, help="output folder; the script's folder by default"
    )
    parser.add_argument(
        "--network", default="", help="draw the studies that end in _NETWORK: <figure>_NETWORK.jpg"
    )
    typed = parser.parse_args(arguments)
    ending = f"_{typed.network}" if typed.network else ""
    drawn = 0
    for name, figure in figures.items():
        study = typed.outputs / ((f"{paper}_{name}" if name != paper else paper) + ending)
        if not study.is_dir():
            continue
        try:
            panels = read_panels(study)
        except UserError as error:
            parser.error(str(error))
        file = typed.folder / f"{name}{ending}.jpg"
        encoded = io.BytesIO()
        comment = provenance(panels).encode()
        figure(panels).save(encoded, format="JPEG", quality=88, optimize=True, comment=comment)
        write_bytes(file, encoded.getvalue())
        print(file)
        drawn += 1
    if not drawn:
        named = f" that ends in {ending}" if ending else ""
        parser.error(f"no study of {paper}{named} is in {typed.outputs}: nstbench run experiment={paper}/…")
