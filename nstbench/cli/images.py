"""`nstbench images`: the pictures that come with nstbench, as a table or as a contact sheet."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from nstbench.errors import UserError, did_you_mean
from nstbench.pictures.samples import SAMPLES
from nstbench.pictures.source import names

_DESCRIPTION = """List the pictures that come with nstbench: type their names wherever a picture is asked for,
as in pictures.content=sample:chelsea pictures.style=procedural:strokes@7 (the number is a seed).
With --sheet, draw them instead; then names may be paths of your own files too."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add ``images`` to the command line."""
    parser = subparsers.add_parser(
        "images", help="list or draw the built-in pictures", description=_DESCRIPTION
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these, such as sample:chelsea")
    parser.add_argument("--sheet", metavar="FILE.png", help="write a contact sheet to this file")
    parser.set_defaults(func=main)


def main(args: argparse.Namespace) -> int:
    """Print the table, or write the sheet; return the exit status.

    Raises:
        UserError: an unknown name, a file that is no picture, or a sheet that cannot be written.
    """
    console = Console()
    if not console.is_terminal:  # a pipe has no width: do not break lines that someone will grep
        console = Console(width=200)
    if args.sheet:
        _write_sheet(args.names or names(), Path(args.sheet).expanduser(), console)
    else:
        _print_table(args.names or names(), console)
    return 0


def _print_table(chosen: list[str], console: Console) -> None:
    from nstbench.pictures.procedural import STYLES

    known = names()
    rows = []
    for name in chosen:
        kind, _, bare = name.partition("@")[0].partition(":")
        if kind == "sample" and name in known:
            sample = SAMPLES[bare]
            rows.append((name, _size(sample.path), sample.suits, sample.title, sample.author, sample.licence))
        elif kind == "procedural" and bare in STYLES:
            about = STYLES[bare].description
            rows.append((name, "512×512", "style", about[:1].upper() + about[1:], "nstbench", "MIT"))
        else:
            raise UserError("images", name, "there is no such built-in picture", did_you_mean(name, known))

    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("name to type", style="cyan", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("suits", no_wrap=True)
    table.add_column("what it is")
    wide = console.width >= 120
    if wide:
        table.add_column("author")
        table.add_column("licence")
    for name, size, suits, title, author, licence in rows:
        # A narrow terminal has no room for six columns that can be read.
        words = (title, author, licence) if wide else (f"{title}\n[dim]{author}, {licence}[/dim]",)
        table.add_row(name, size, suits, *words)
    console.print(table)
    console.print("A number after @ is a procedural picture's seed: procedural:<name>@7.", highlight=False)


def _size(path: Path) -> str:
    from PIL import Image

    if not path.is_file():
        return "missing"
    with Image.open(path) as image:
        return f"{image.width}×{image.height}"


def _write_sheet(chosen: list[str], path: Path, console: Console) -> None:
    if path.suffix.lower() != ".png":
        raise UserError(
            "--sheet",
            path,
            "the sheet is a PNG",
            f"Write --sheet {path.parent / (path.stem or 'sheet')}.png.",
        )
    from nstbench.pictures.io import write_png
    from nstbench.pictures.sheet import contact_sheet
    from nstbench.pictures.source import load

    with console.status("drawing the pictures"):
        pictures = [(name, load(name, setting="images").pixels) for name in chosen]
        rows = max(1, round(math.sqrt(len(pictures) / 1.6)))  # about as wide as a screen, the last row full
        sheet = contact_sheet(pictures, columns=math.ceil(len(pictures) / rows), title="nstbench images")
    try:
        write_png(path, sheet, {"Title": "nstbench images", "pictures": "\n".join(chosen)})
    except OSError as error:
        raise UserError("--sheet", path, f"it cannot be written ({error.strerror or error})") from error
    height, width = sheet.shape[-2:]
    done = f"Wrote {path}: {len(pictures)} pictures, {width}×{height}."
    console.print(done, markup=False, highlight=False, soft_wrap=True)
