"""`nstbench images`: list, draw, fetch, add and verify the built-in pictures and those of papers."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from nstbench.errors import FULL, UserError, did_you_mean
from nstbench.pictures.papers import files
from nstbench.pictures.papers.picture import PaperPicture
from nstbench.pictures.papers.registry import COLLECTIONS, PAPERS
from nstbench.pictures.samples import SAMPLES
from nstbench.pictures.source import names

_DESCRIPTION = """\
List the pictures that have a name: type it wherever a picture is asked for, as in
pictures.content=sample:chelsea pictures.style=procedural:strokes@7 (the number is a seed).

  nstbench images                           all of them; paper:… are the pictures of papers
  nstbench images NAME …                    only these, such as sample:chelsea or gatys2016
  nstbench images --sheet FILE.png          draw them; then names may be paths of your own files
  nstbench images fetch KEY|COLLECTION …    download pictures of papers whose terms allow it
  nstbench images add KEY FILE              use a file that you have as a paper's picture
  nstbench images verify [KEY …]            read them again: hash, decodable, size; exit status 1 if one
                                            is damaged, or a KEY is missing

Nothing is downloaded unless you ask for it, and pictures=samples runs every study with substitutes."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add ``images`` to the command line."""
    parser = subparsers.add_parser(
        "images",
        help="list or draw the pictures that have a name, and get those of papers",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="pictures or collections, after the action")
    parser.add_argument("--sheet", metavar="FILE.png", help="write a contact sheet to this file")
    parser.add_argument(
        "--accept-licence",
        action="append",
        default=[],
        metavar="LICENCE",
        help="fetch pictures under a licence with conditions too, such as cc-by-sa-2.0",
    )
    parser.add_argument("--url", help="fetch the one picture from this address instead")
    parser.set_defaults(func=main)


def main(args: argparse.Namespace) -> int:
    """Run one action and return the exit status: 1 when a picture cannot be fetched, is damaged or missing.

    Raises:
        UserError: A name is unknown, a file is not a picture, the sheet cannot be written, or an option
            does not belong to the action.
    """
    action, words = (args.names[0], args.names[1:]) if args.names[:1] else ("", [])
    for option, given in (("--accept-licence", args.accept_licence), ("--url", args.url)):
        if given and action != "fetch":
            raise UserError(option, given, "only fetch has this option", "Type nstbench images fetch KEY …")
    if args.sheet and action in ("fetch", "add", "verify"):
        raise UserError("--sheet", args.sheet, f"{action} draws no sheet", "Type nstbench images --sheet …")
    if action == "fetch":
        return _fetch(words, args.accept_licence, args.url)
    if action == "add":
        return _add(words)
    if action == "verify":
        return _verify(words)
    console = Console()
    if not console.is_terminal:  # a pipe has no width: one line per entry, for grep
        console = Console(width=300)
    shown = [
        s
        for name in args.names
        for s in ([p.name for p in _pictures_in(name)] if name in COLLECTIONS else [name])
    ]
    if args.sheet:
        _write_sheet(shown or names(), Path(args.sheet).expanduser(), console)
    else:
        _print_tables(shown, console)
    return 0


def _pictures_in(collection: str) -> list[PaperPicture]:
    return files.chosen([collection])


def _print_tables(shown: list[str], console: Console) -> None:
    papers = [PAPERS[n.removeprefix("paper:")] for n in shown if n.removeprefix("paper:") in PAPERS]
    builtin = [name for name in shown if name.removeprefix("paper:") not in PAPERS]
    if builtin or not shown:
        _print_builtin(builtin or names(), console)
    if papers or not shown:
        _print_papers(papers or list(PAPERS.values()), console)
    if len(papers) == 1:
        _print_details(papers[0], console)


def _print_builtin(chosen: list[str], console: Console) -> None:
    from nstbench.pictures.procedural import STYLES

    known = names()
    rows = []
    for name in chosen:
        kind, _, bare = name.partition("@")[0].partition(":")
        if kind == "sample" and name in known:
            sample = SAMPLES[bare]
            rows.append(
                (name, _size_of(sample.path), sample.suits, sample.title, sample.author, sample.licence)
            )
        elif kind == "procedural" and bare in STYLES:
            about = STYLES[bare].description
            rows.append((name, "512×512", "style", about[:1].upper() + about[1:], "nstbench", "MIT"))
        else:
            every = [*known, *(picture.name for picture in PAPERS.values()), *COLLECTIONS]
            raise UserError("images", name, "there is no picture of that name", did_you_mean(name, every))
    _print_table(("size", "suits"), rows, console)
    console.print("A number after @ is a procedural picture's seed: procedural:<name>@7.", highlight=False)


def _print_papers(pictures: list[PaperPicture], console: Console) -> None:
    rows = []
    for picture in pictures:
        where = "; ".join(f"{name}, {figure}" for name, figure in picture.figures.items())
        about = f"{picture.title}{f', {picture.year}' if picture.year else ''}"
        author = picture.author or "unknown"
        rows.append((picture.name, files.state(picture), where, about, author, picture.terms))
    _print_table(("state", "in"), rows, console)
    folder = f"{files.pictures_folder()} (set {PaperPicture.variable} to use another)"
    for line in (
        "to fetch: type nstbench images fetch KEY; to supply: nstbench images add KEY FILE. "
        "Why: nstbench images KEY",
        f"Collections: {', '.join(COLLECTIONS)}. Folder: {folder}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_table(titles: tuple[str, str], rows: Sequence[tuple[str, ...]], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("name to type", style="cyan", no_wrap=True)
    table.add_column(titles[0], justify="right", no_wrap=True)
    wide = console.width >= 120
    if wide or titles[1] != "in":
        table.add_column(titles[1], no_wrap=wide)
    table.add_column("what it is")
    if wide:
        table.add_column("author")
        table.add_column("licence")
    for name, first, second, about, author, licence in rows:
        # Six columns are not readable on a narrow terminal.
        words = (about, author, licence) if wide else (f"{about}\n[dim]{author}, {licence}[/dim]",)
        table.add_row(name, first, *((second,) if wide or titles[1] != "in" else ()), *words)
    console.print(table)


def _print_details(picture: PaperPicture, console: Console) -> None:
    here = files.copy_of(picture)
    size = f"{picture.pixels[0]}×{picture.pixels[1]} pixels" if picture.pixels else ""
    facts = {
        "here": str(here) if here else "no",
        "page": picture.page or "unknown",
        "address": " ".join(picture.urls) or "none that nstbench fetches",
        "sha256": picture.sha256 or "unknown; pinned when the picture is first here",
        "md5": picture.md5 or "unknown",
        "size": size or "unknown",
        "note": picture.note,
        "credit": picture.credit(),
        "to do": "" if here else files.how_to_get(picture),
    }
    for title, fact in facts.items():
        if fact:
            console.print(f"{title}: {fact}", highlight=False, markup=False, soft_wrap=True)


def _size_of(path: Path) -> str:
    from PIL import Image

    if not path.is_file():
        return "missing"
    with Image.open(path) as image:
        return f"{image.width}×{image.height}"


def _fetch(words: list[str], licences: list[str], url: str | None) -> int:
    """Fetch the named pictures, and of collections the pictures whose terms allow it."""
    if not words:
        hint = f"Collections: {', '.join(COLLECTIONS)}; `nstbench images` lists the pictures."
        raise UserError("nstbench images fetch", "", "a picture or a collection is needed", hint)
    pictures, accepted = files.chosen(words), files.accepted_licences(licences)
    if url is not None and not url.startswith(("http://", "https://")):
        raise UserError("--url", url, "it is not a URL", "A URL begins with https:// or http://.")
    if url is not None and len(pictures) > 1:
        raise UserError("--url", url, f"it is one URL for {len(pictures)} pictures", "Name one picture.")
    by_name = {word.removeprefix("paper:") for word in words}
    failed = 0
    for picture in pictures:
        if picture.key not in by_name and not files.may_be_fetched(picture, accepted):
            _print_line(f"{picture.name}: not fetched. {files.how_to_get(picture)}")
            continue
        try:
            path = files.fetch_picture(picture, accepted=accepted, url=url)
        except UserError as error:
            if len(pictures) == 1:
                raise
            failed += 1
            print(f"{picture.name}: {error.reason}.", file=sys.stderr, flush=True)
        else:
            _print_line(f"{picture.name}: {path}")
            if credit := picture.credit():
                _print_line(f"  Show this with whatever is made from it: {credit}")
    if failed:
        text = f"{failed} of {len(pictures)} pictures could not be fetched"
        hint = "`nstbench images KEY` says how else to get one; `pictures=samples` needs none of them."
        print(f"nstbench: {text}. {hint}", file=sys.stderr)
    return 1 if failed else 0


def _add(words: list[str]) -> int:
    if len(words) != 2:
        raise UserError(
            "nstbench images add", "", "a KEY and a FILE are needed", "`nstbench images` lists keys."
        )
    picture, source = files.entry(words[0]), Path(words[1]).expanduser()
    path = files.add_picture(picture, source)
    _print_line(f"{picture.name}: {path}")
    if picture.withheld() and picture.md5 and not picture.is_published_copy(path):
        _print_line(
            f"  Another copy than others have used (md5 {picture.md5}): results will differ from theirs."
        )
    return 0


def _verify(words: list[str]) -> int:
    from nstbench.pictures.io import read_picture

    failed = 0
    for picture in files.chosen(words) if words else PAPERS.values():
        path = files.copy_of(picture)
        if path is None:
            # One that was named is asked for; in a collection, some may not be fetched at all.
            failed += picture.key in {word.removeprefix("paper:") for word in words}
            _print_line(f"{picture.name}: missing")
            continue
        try:
            sha256 = files.check(picture, path)
            height, width = read_picture(path, setting="images").shape[-2:]
        except UserError as error:
            failed += 1
            _print_line(f"{picture.name}: damaged, {error}")
        else:
            _print_line(f"{picture.name}: ok, {path} ({width}×{height}, sha256 {sha256})")
    return 1 if failed else 0


def _print_line(line: str) -> None:
    print(line, flush=True)


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
        rows = max(1, round(math.sqrt(len(pictures) / 1.6)))  # about the proportions of a screen
        sheet = contact_sheet(pictures, columns=math.ceil(len(pictures) / rows), title="nstbench images")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, sheet, {"Title": "nstbench images", "pictures": "\n".join(chosen)})
    except OSError as error:
        if error.errno in FULL:
            raise
        raise UserError("--sheet", path, f"it cannot be written ({error.strerror or error})") from error
    height, width = sheet.shape[-2:]
    done = f"Wrote {path}: {len(pictures)} pictures, {width}×{height}."
    console.print(done, markup=False, highlight=False, soft_wrap=True)
