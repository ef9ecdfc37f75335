"""`nstbench verify`: does a published recipe give the loss curve that its authors published?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nstbench.analysis.published_curves import (
    PUBLISHED,
    TOLERANCE,
    Point,
    compare,
    read_curve,
    reproduced,
    verdict,
)
from nstbench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from nstbench.config.schema import Config

# The authors' own file first; pystiche's holds the same convolutions, and has a published hash.
_NETWORKS = ("vgg19_gatys", "vgg19_caffe")

_DESCRIPTION = """\
Run a recipe as its authors did, on their pictures with their network, and compare its loss curve with
the one that they published. A run that was interrupted continues; one that is finished is compared only.
Exit status: 0 reproduced, 1 not reproduced, 2 something that it needs is missing."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `verify` to the command line."""
    parser = subparsers.add_parser(
        "verify",
        help="compare a run of the authors' recipe with the loss curve that they published",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("curve", metavar="CURVE", help=" or ".join(PUBLISHED))
    parser.add_argument(
        "settings",
        metavar="SETTING=VALUE",
        nargs="*",
        help="settings of the run, such as trainer.threads=2 output=DIR",
    )
    parser.add_argument(
        "--tolerance",
        metavar="PERCENT",
        type=float,
        default=100 * TOLERANCE,
        help="largest deviation at any point (default: %(default)g)",
    )
    parser.set_defaults(func=main)


def main(args: argparse.Namespace) -> int:
    """Run, or find an earlier run, compare and print; return the exit status.

    Raises:
        UserError: There is no such curve, a setting cannot be used, or weights or pictures are missing.
    """
    if args.curve not in PUBLISHED:
        hint = did_you_mean(args.curve, PUBLISHED, what="curves")
        raise UserError("CURVE", args.curve, "there is no published curve of that name", hint)
    from nstbench.cli.composition.overrides import overrides_from
    from nstbench.cli.composition.repeated import refuse_repeated

    if not 0 < args.tolerance < 100:
        reason = "it must be a percentage between 0 and 100"
        raise UserError("--tolerance", args.tolerance, reason, "Type --tolerance 5, for example.")
    refuse_repeated(overrides_from(args.settings), sweeps=False)
    published = PUBLISHED[args.curve]
    typed = [f"experiment={published.experiment}", *_choose_network(args.settings), *args.settings]
    config = _compose(typed)
    if commands := missing(config):
        reason = "it needs the authors' network and pictures, and not all of them are on this machine"
        hint = f"To get what is missing, type {' and '.join(f'`{command}`' for command in commands)}."
        raise UserError(f"nstbench verify {args.curve}", "", reason, hint)
    folder, failed = _run(config, typed)
    if failed:
        return failed
    points = compare(published, read_curve(folder / "curves.csv"))
    _show(points, published.source, args.tolerance / 100)
    return 0 if reproduced(points, args.tolerance / 100) else 1


def missing(config: Config) -> list[str]:
    """Return the commands that fetch the weights and papers' pictures that a run needs and are missing."""
    from nstbench.encoders.registry import REGISTRY
    from nstbench.encoders.weights import find
    from nstbench.pictures.papers.files import copy_of, entry

    commands = []
    weights = config.encoder.get("weights")
    if weights in REGISTRY and find(weights) is None and not config.encoder.get("download"):
        commands.append(f"nstbench weights fetch {weights}")
    sources = [s for s in (config.pictures.content, *config.pictures.styles) if s and s.startswith("paper:")]
    pictures = [entry(source) for source in sources]
    if keys := [picture.key for picture in pictures if copy_of(picture) is None]:
        commands.append(f"nstbench images fetch {' '.join(keys)}")
    return commands


def _choose_network(settings: list[str]) -> list[str]:
    """Return the override that chooses the file of the network that is on this machine; [] if none is."""
    from nstbench.encoders.weights import find

    if any(setting.startswith("encoder") for setting in settings):
        return []
    return next(([f"encoder.weights={name}"] for name in _NETWORKS if find(name)), [])


def _compose(typed: list[str]) -> Config:
    """Return the checked configuration of typed overrides."""
    from omegaconf import DictConfig

    from nstbench.cli.composition.compose import with_hydra
    from nstbench.cli.composition.errors import where_typed
    from nstbench.cli.composition.overrides import overrides_from
    from nstbench.config.resolvers import register_resolvers
    from nstbench.config.validation import validate

    found: list[Config] = []
    mistakes: list[UserError] = []

    def task(composed: DictConfig) -> None:  # it must not raise: Hydra would print lines of its own
        try:
            found.append(validate(composed))
        except UserError as error:
            mistakes.append(where_typed(error, composed, typed))

    register_resolvers()
    with_hydra(task, [], overrides_from(typed))
    if mistakes:
        raise mistakes[0]
    return found[0]


def _run(config: Config, typed: list[str]) -> tuple[Path, int]:
    """Run, or find an earlier run; return the run's folder, and 0 or the exit status of a failure."""
    from nstbench.cli.output import report, show_result
    from nstbench.runs.preparation import prepare
    from nstbench.runs.run import run
    from nstbench.runtime.interruption import stop_on_first_interrupt

    prepared = prepare(config)
    try:
        with stop_on_first_interrupt():
            result = run(config, typed, prepared=prepared)
    except UserError:
        raise
    except Exception as error:
        diverged = "So it is not a reproduction; canvas.png is the last good canvas"
        return Path(), report(error, "run", diverged=diverged, smaller="a machine with more")
    show_result(result)
    return result.folder, 0


def _show(points: list[Point], source: str, tolerance: float) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("pass")
    for title in ("iteration", "published", "here", "deviation"):
        table.add_column(title, justify="right")
    for p in points:
        found = "–" if p.found is None else f"{p.found:.1f}"
        deviation = "–" if p.deviation is None else f"{p.deviation:+.2%}"
        table.add_row(p.of, str(p.iteration), f"{p.published:.1f}", found, deviation)
    console.print(f"\ntotal loss, against {source}", soft_wrap=True)
    console.print(table)
    console.print(verdict(points, tolerance), soft_wrap=True)
