"""``nstbench run --help`` and ``train --help``: common settings, then all groups and options of conf/."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nstbench.config.files import conf_dir, describe, groups
from nstbench.errors import as_typed

_SETTINGS = """\
usage: nstbench run [SETTING=VALUE ...] [GROUP=OPTION ...] [-m] [--dry-run]

Stylise one picture. Results are kept in <output>/<study>/<run_id>/: canvas.png, run.json,
config.yaml, curves.csv. A command that was run before is not run again; one that was interrupted
continues.

your pictures:
  content=photo.jpg             a path, or sample:, procedural:, paper:<name> (see: nstbench images)
  style=painting.jpg            the same, or several: 'style=[a.jpg,b.jpg]' with pictures.style_weights=[2,1]

often set:
  size=256                      longer edge of the canvas (or pictures.size_is=short_edge, area)
  steps=200                     optimiser steps of the last stage
  weights.content=1 weights.style=20 weights.regularizer=0.02
  weights.unit=unit             what a weight of 1 means: paper, unit or gradient
  canvas.start=content          content, style, noise, or a picture
  seed=0 study=first output=outputs
  record.snapshot_every=20      PNGs along the way; record.animation=gif joins them
  record.diagnostics_every=20   loss per layer and gradient norm per term, in diagnostics.csv
  metrics=cross                 every loss/style as a metric of the picture; judge=random: its encoder
  trainer.threads=2             CPU threads

flags:
  -m, --multirun                sweep: every setting may have several values, a=1,2 b=x,y; pictures
                                of a folder: 'style=glob(paintings/*.jpg)', also with exclude=…
  --dry-run                     print the time and memory it would take, and whether the memory is free
  --cfg job [--resolve]         print the composed configuration and stop
  --info defaults               print where each part of it comes from
  --config-dir DIR              a folder with options of your own

groups and their options, chosen with GROUP=OPTION; those in loss and logger may be several: [a,b]
"""


_TRAINING = """\
usage: nstbench train [SETTING=VALUE ...] [GROUP=OPTION ...]

Train the procedural encoder: draw textures, learn to classify them, evaluate, export. Results are
kept in <output>/<study>/<run_id>/: encoder.safetensors and its sha256, training.json, config.yaml,
curves.csv. A training that is finished is not done again; one that was interrupted continues.
Its weights are used with: nstbench run encoder=procedural encoder.weights=<the file>

settings, as they are in conf/train.yaml:"""

_TRAINING_FLAGS = """
flags:
  --cfg job [--resolve]         print the composed configuration and stop
  --info defaults               print where each part of it comes from
  --config-dir DIR              a folder with options of your own

groups and their options, chosen with GROUP=OPTION; those in logger may be several: [a,b]
"""


def print_help() -> None:
    """Print the settings, then all groups with a line on each option."""
    print(_SETTINGS)
    _print_groups(groups())


def print_training_help(chosen: Mapping[str, Sequence[str]]) -> None:
    """Print the settings of a training with the comments in its file, then the groups."""
    print(_TRAINING)
    for name, value, about in _read_commented(conf_dir() / "train.yaml"):
        typed = name if isinstance(value, dict) else shlex.quote(f"{name}={as_typed(value)}")
        if about and len(typed) > 29:
            print(f"  {typed}\n{'':<32}{about}")
        else:
            print(f"  {typed:<30}{about}".rstrip())
    print(_TRAINING_FLAGS)
    _print_groups(chosen)


def _print_groups(chosen: Mapping[str, Sequence[str]]) -> None:
    for group, options in chosen.items():
        print(f"  {group}")
        width = max(22, *(len(option) + 1 for option in options))
        for option in options:
            print(f"    {option:<{width}}{describe(group, option)}")


def _read_commented(file: Path) -> Iterator[tuple[str, Any, str]]:
    """Yield the name, value and comment of every setting of a YAML file, except Hydra's own."""
    text = file.read_text(encoding="utf-8")
    plain = yaml.safe_load(text)
    above: list[str] = []
    for line in text.splitlines():
        match = re.match(r"(?P<indent> *)(?P<key>\w+):[^#]*(?:#\s*(?P<about>.*))?$", line)
        if match is None:
            continue
        above = [*above[: len(match["indent"]) // 2], match["key"]]
        if above[0] in {"defaults", "hydra"}:
            continue
        value = plain
        for part in above:
            value = value[part]
        yield ".".join(above), value, match["about"] or ""
