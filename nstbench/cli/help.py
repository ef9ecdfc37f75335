"""``nstbench run --help``: every setting people type and every choice there is, from conf/ itself."""

from __future__ import annotations

from nstbench.config_files import conf_dir, describe, groups

_SETTINGS = """\
usage: nstbench run [SETTING=VALUE ...] [GROUP=OPTION ...] [-m]

Stylise one picture. Results are kept in <output>/<study>/<run_id>/: canvas.png, run.json,
config.yaml, curves.csv. A command that was run before is not run again; one that was interrupted
continues.

your pictures:
  content=photo.jpg             a path, sample:<name> or procedural:<name> (see: nstbench images)
  style=painting.jpg            the same, or several: 'style=[a.jpg,b.jpg]' with pictures.style_weights=[2,1]

often set:
  size=256                      of the canvas: its longer edge (pictures.size_is=short_edge, area)
  steps=200                     optimiser steps of the last stage
  weights.content=1 weights.style=30 weights.regularizer=0.2
  weights.unit=unit             what a weight of 1 means: paper, unit or gradient
  canvas.start=content          content, style, noise, or a picture
  seed=0 study=first output=outputs
  record.snapshot_every=20      PNGs along the way; record.animation=gif joins them
  trainer.threads=2             CPU threads

flags:
  -m, --multirun                sweep: every setting may have several values, a=1,2 b=x,y
  --cfg job [--resolve]         print the composed configuration and stop
  --info defaults               print where each part of it comes from
  --config-dir DIR              a folder with options of your own

groups and their options, chosen with GROUP=OPTION; those in loss/style and logger may be several: [a,b]
"""


def print_help() -> None:
    """Print the settings, then all groups with a line on each option."""
    print(_SETTINGS)
    folder = conf_dir()
    for group, options in groups(folder).items():
        print(f"  {group}")
        for option in options:
            print(f"    {option:<22}{describe(group, option, folder)}")
