"""A comparison of encoders: the same pictures are made with each, and judged by the others.

    python -m benchmarks.encoders                                     # four pairs at 256 px
    python -m benchmarks.encoders --encoders random procedural,pooling=max vgg19 --texture
    python -m benchmarks.encoders --styles painting.jpg --settings weights.style=100 optimizer=adam

Every picture is a run like any other, in <output>/runs: a second call judges and draws anew, but runs
nothing again. <output> gets encoders.csv, one row per picture and judge, and sheet.png.

Judges measure in units of the pair of pictures, so that they can be averaged:

- style: the Gram distance to the style picture (`nstbench.metrics.style`), over that of the content
  picture. 0: the style's own statistics; 1: an untouched photograph or, in texture synthesis, noise.
- content: the squared distance of feature maps to the content picture's, over that of the style picture
  in the same shape. 0: the content picture; 1: as far from it as the style picture.

"By others" leaves out the encoder that was optimised and its kin, the same option of conf/encoder with
other settings. Who is left differs from encoder to encoder: the columns by judge compare alike with alike.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Quote, QuotedString
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor

from nstbench.cli.composition.errors import as_user_error
from nstbench.cli.composition.overrides import overrides_from
from nstbench.config.files import conf_dir
from nstbench.config.resolvers import register_resolvers
from nstbench.config.schema import Config
from nstbench.config.validation import validate
from nstbench.encoders.base import Encoder, Features
from nstbench.encoders.build import build_encoder
from nstbench.errors import NonFiniteObjectiveError, UserError
from nstbench.losses.functional.gram import gram_matrix
from nstbench.pictures.io import read_picture, write_png
from nstbench.pictures.resize import resize
from nstbench.pictures.sheet import contact_sheet
from nstbench.runs.inputs import load_inputs, start_at, styles_at
from nstbench.runs.plan import plan_stages
from nstbench.runs.run import run
from nstbench.runtime.files import write_text
from nstbench.tracking.record import RunRecord

ENCODERS = ("random", "random-plain", "procedural", "vgg19")
VARIANTS = {"random-plain": "random,normalize=false"}
TEXTURE = ("pictures.content=null", "loss/content=none", "canvas.start=noise")

Pairs = Mapping[tuple[str, str], tuple[Tensor, Tensor]]
"""The content picture (in texture synthesis, the noise) and the style picture, by their sources."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A picture to make; a texture where there is no content picture."""

    content: str
    style: str
    loss: str
    encoder: str
    canvas: str


Done = Mapping[Case, tuple[Tensor, RunRecord]]


class Judge:
    """An encoder's measures of the pictures made from one pair, in the pair's units."""

    def __init__(self, encoder: Encoder, content: Tensor, style: Tensor) -> None:
        self.encoder = encoder.cpu()  # a run may have moved it to another device
        content_grams, self.maps = self._see(content)
        self.grams, _ = self._see(style)
        self.style_unit = distance(content_grams, self.grams)
        height, width = content.shape[-2:]
        self.content_unit = distance(self._see(resize(style, (height, width)))[1], self.maps)

    def __call__(self, picture: Tensor) -> tuple[float, float]:
        """Return the distances to the style and to the content picture."""
        grams, maps = self._see(picture)
        style, content = distance(grams, self.grams), distance(maps, self.maps)
        return _ratio(style, self.style_unit), _ratio(content, self.content_unit)

    @torch.no_grad()
    def _see(self, picture: Tensor) -> tuple[Features, Features]:
        style, content = self.encoder.default_layers["style"], self.encoder.default_layers["content"]
        seen = self.encoder(picture, list(dict.fromkeys([*style, *content])))
        return {layer: gram_matrix(seen[layer]) for layer in style}, {layer: seen[layer] for layer in content}


def distance(x: Features, target: Features) -> float:
    """Return the mean over layers of ``Σ(x - target)² / Σtarget²``."""
    return fmean(_ratio(float(((x[k] - t) ** 2).sum()), float((t**2).sum())) for k, t in target.items())


def _ratio(value: float, unit: float) -> float:
    return value / unit if unit else math.nan


def composed(overrides: Sequence[str]) -> Config:
    """Return the checked configuration; Hydra has been initialised."""
    try:
        plain = compose("config", overrides=list(overrides))
    except Exception as error:  # Hydra raises errors of many classes
        raise as_user_error(error, overrides) from error
    return validate(plain)


def encoder_overrides(name: str) -> list[str]:
    """Return the overrides that select an encoder: of `VARIANTS` or conf/encoder, settings after commas."""
    option, *settings = VARIANTS.get(name, name).split(",")
    return overrides_from([f"encoder={option}", *(f"encoder.{setting}" for setting in settings)])


def kin(one: str, other: str) -> bool:
    """Return whether two encoders are the same option of conf/encoder."""
    return encoder_overrides(one)[0] == encoder_overrides(other)[0]


def available(names: Sequence[str]) -> dict[str, Encoder]:
    """Return the encoders whose weights are on this machine; print a line about each other one.

    Raises:
        UserError: There is no such option or setting, or no encoder is left.
    """
    found = {}
    for name in names:
        config = composed(encoder_overrides(name))
        try:
            found[name] = build_encoder(config.encoder)
        except UserError as error:
            if error.setting != "encoder.weights":
                raise
            print(f"skipped {name}: {error}")
    if not found:
        hint = "Add random, which needs no weights."
        raise UserError("--encoders", " ".join(names), "none of them can be used here", hint)
    return found


def overrides_of(case: Case) -> list[str]:
    """Return the overrides of a picture."""
    content = [f"pictures.content={_quoted(case.content)}"] if case.content else TEXTURE
    style = [f"pictures.style={_quoted(case.style)}", f"loss/style=[{case.loss}]"]
    own = [*encoder_overrides(case.encoder), f"canvas={case.canvas}"]
    return [*own, *style, *content, "metrics=fast", "logger=none", "study=runs"]


def _quoted(text: str) -> str:
    return QuotedString(text, Quote.double).with_quotes()


def pair_of(config: Config) -> tuple[Tensor, Tensor]:
    """Return the content picture, or the noise, and the style picture at the size of the last stage."""
    inputs = load_inputs(config)
    stage, control = plan_stages(config, inputs)[-1], config.colour.control
    if inputs.content:
        content = resize(inputs.content.pixels, stage.shape)
    else:
        content = start_at(config.canvas, config.seed, inputs, stage.shape, control)
    return content, styles_at(inputs, stage.style_shapes)[0]


def paint(configs: Mapping[Case, Config]) -> Done:
    """Make the runs that are not finished; print a line about each. A run that diverges is left out."""
    done = {}
    for number, (case, config) in enumerate(configs.items(), start=1):
        name = f"{case.content or 'texture'}, {case.style}, {case.loss}, {case.encoder}, {case.canvas}"
        try:
            result = run(config)
        except NonFiniteObjectiveError as error:
            print(f"{number}/{len(configs)} {name}: failed: {error}")
            continue
        how = "done before" if result.skipped else f"{result.record.timings['optimize_s']:.1f} s"
        print(f"{number}/{len(configs)} {name}: {how}")
        done[case] = (read_picture(result.folder / "canvas.png"), result.record)
    return done


def rows_of(done: Done, pairs: Pairs, encoders: Mapping[str, Encoder]) -> list[Row]:
    """Return a row for every picture and every encoder that judges it."""
    rows = []
    for name, encoder in encoders.items():
        judges = {key: Judge(encoder, *pair) for key, pair in pairs.items()}
        for case, (picture, record) in done.items():
            style, content = judges[case.content, case.style](picture)
            row = {**vars(case), "judge": name, "kin": kin(case.encoder, name)}
            row |= {"style_distance": style, "content_distance": content if case.content else None}
            row |= {"ssim": record.metrics.get("ssim"), "evaluations": record.evaluations}
            row["seconds_per_evaluation"] = record.timings["optimize_s"] / max(1, record.evaluations)
            row["parameters"] = sum(p.numel() for p in encoders[case.encoder].parameters())
            rows.append({**row, "run": record.run_id})
    return rows


def mean(rows: Iterable[Row], measure: str, **where: object) -> float | None:
    """Return the mean of a measure over the rows that have these values; None where there is none."""
    chosen = [row[measure] for row in rows if all(row[key] == value for key, value in where.items())]
    numbers = [value for value in chosen if value is not None]
    return fmean(numbers) if numbers else None


def table(rows: Sequence[Row], title: str) -> Table:
    """Return the means over pictures, a line per encoder and canvas; kin judges stand in brackets."""
    judges = list(dict.fromkeys(row["judge"] for row in rows))
    numbers = ("style by others", "content by others", "SSIM", "s/evaluation", "parameters")
    shown = Table("encoder", "canvas", title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in (*numbers, *(f"style by {judge}" for judge in judges)):
        shown.add_column(heading, justify="right")
    for encoder, canvas in dict.fromkeys((row["encoder"], row["canvas"]) for row in rows):
        own = [row for row in rows if (row["encoder"], row["canvas"]) == (encoder, canvas)]
        cells = [_number(mean(own, f"{what}_distance", kin=False)) for what in ("style", "content")]
        cells += [_number(mean(own, what)) for what in ("ssim", "seconds_per_evaluation")]
        cells.append(f"{own[0]['parameters'] / 1e6:.2f} M")
        for judge in judges:
            number = _number(mean(own, "style_distance", judge=judge))
            cells.append(f"({number})" if kin(encoder, judge) else number)
        shown.add_row(encoder, canvas, *cells)
    return shown


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def sheet(rows: Sequence[Row], cases: Sequence[Case], done: Done, pairs: Pairs) -> Tensor:
    """Draw a grid per loss, one below the other: a row per pair, a column per encoder and canvas."""
    grids = []
    for loss in dict.fromkeys(case.loss for case in cases):
        cells = []
        for (content, style), pair in pairs.items():
            cells += [(content or "noise", pair[0]), (style, pair[1])]
            for case in cases:
                if (case.content, case.style, case.loss) == (content, style, loss):
                    by_others = _number(mean(rows, "style_distance", kin=False, **vars(case)))
                    how = f"style {by_others} by others" if case in done else "failed"
                    picture = done[case][0] if case in done else torch.ones_like(pair[0])
                    cells.append((f"{case.encoder}, {case.canvas}\n{how}", picture))
        grids.append(contact_sheet(cells, columns=len(cells) // len(pairs), title=loss))
    return torch.cat(grids, dim=2)


def arguments_of(typed: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--contents", nargs="*", default=["sample:astronaut", "sample:coffee"])
    parser.add_argument("--styles", nargs="+", default=["procedural:strokes", "sample:ihc"])
    parser.add_argument("--losses", nargs="+", default=["gram"], help="options of conf/loss/style")
    parser.add_argument("--encoders", nargs="+", default=ENCODERS, help="options of conf/encoder")
    parser.add_argument("--canvases", nargs="+", default=["pixels", "spectral"], help="of conf/canvas")
    parser.add_argument("--texture", action="store_true", help="also the texture of each style, from noise")
    parser.add_argument("--settings", nargs="+", default=[], help="of every run, such as optimizer=adam")
    parser.add_argument("--output", type=Path, default=Path("outputs/encoders"))
    return parser.parse_args(typed)


def main(typed: Sequence[str]) -> None:
    """Run, judge, print and draw.

    Raises:
        UserError: An argument cannot be used.
    """
    asked = arguments_of(typed)
    own = [f"size={asked.size}", f"steps={asked.steps}", f"output={_quoted(str(asked.output))}"]
    own += overrides_from(asked.settings)
    contents = [*asked.contents, *([""] if asked.texture else [])]
    if not contents:
        raise UserError("--contents", "", "there is nothing to paint", "Name a picture, or add --texture.")
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        encoders = available(asked.encoders)
        choices = product(encoders, asked.canvases, asked.losses, contents, asked.styles)
        cases = [Case(content, style, loss, name, canvas) for name, canvas, loss, content, style in choices]
        configs = {case: composed([*overrides_of(case), *own]) for case in cases}
    # Of any encoder: the pictures are the same.
    shared = {(case.content, case.style): config for case, config in configs.items()}
    pairs = {key: pair_of(config) for key, config in shared.items()}
    done = paint(configs)
    if not done:
        sys.exit("encoders: every run failed")
    rows = rows_of(done, pairs, encoders)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(asked.output / "encoders.csv", text.getvalue())
    write_png(asked.output / "sheet.png", sheet(rows, list(configs), done, pairs))
    console = Console() if sys.stdout.isatty() else Console(width=200)
    for title in ("style transfer", "texture synthesis"):
        if chosen := [row for row in rows if bool(row["content"]) == (title == "style transfer")]:
            console.print(table(chosen, f"{title}: means over pictures"))
    print(f"Wrote {asked.output / 'encoders.csv'} and {asked.output / 'sheet.png'}.")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as mistake:
        print(f"encoders: {mistake}", file=sys.stderr)
        sys.exit(2)
