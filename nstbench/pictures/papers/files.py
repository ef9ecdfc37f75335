"""The papers' pictures on this machine: found, fetched where their terms allow it, added by hand, checked.

What they are stands in the registry. Nothing is ever fetched unasked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from nstbench.downloads.fetch import fetch, store
from nstbench.downloads.folders import own_folder
from nstbench.downloads.verification import verify
from nstbench.errors import UserError, did_you_mean
from nstbench.pictures.papers.picture import CONDITIONS, PaperPicture
from nstbench.pictures.papers.registry import COLLECTIONS, PAPERS

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")


def pictures_folder() -> Path:
    """Return nstbench's folder of paper pictures: `$NSTBENCH_PICTURES`, or one in the user's cache."""
    return own_folder(PaperPicture.variable, "pictures")


def entry(name: str, *, setting: str = "images") -> PaperPicture:
    """Return the registry's entry for `<key>` or `paper:<key>`.

    Raises:
        UserError: there is none, with the nearest names.
    """
    key = name.removeprefix("paper:")
    if key not in PAPERS:
        hint = did_you_mean(key, PAPERS, what="paper pictures")
        raise UserError(setting, name, "there is no paper picture of that name", hint)
    return PAPERS[key]


def chosen(names: Iterable[str]) -> list[PaperPicture]:
    """Return the entries of keys and of collections, each once.

    Raises:
        UserError: a name is neither.
    """
    found: dict[str, PaperPicture] = {}
    for name in names:
        if name in COLLECTIONS:
            found |= {key: picture for key, picture in PAPERS.items() if name in picture.figures}
        elif name.removeprefix("paper:") in PAPERS:
            found[entry(name).key] = entry(name)
        else:
            hint = did_you_mean(name, [*COLLECTIONS, *PAPERS], what="collections and pictures")
            raise UserError("images", name, "there is no paper picture and no collection of that name", hint)
    return list(found.values())


def copy_of(picture: PaperPicture) -> Path | None:
    """Return where the file lies, unchecked, or None."""
    folder = pictures_folder()
    # A file that the user added keeps its own suffix.
    files = (folder / f"{picture.key}{suffix}" for suffix in (picture.suffix, *_SUFFIXES))
    return next((file for file in files if file.is_file()), None)


def state(picture: PaperPicture) -> str:
    """Return "here", "to fetch" or "to supply"."""
    if copy_of(picture):
        return "here"
    return "to supply" if picture.withheld() else "to fetch"


def locate(name: str, *, setting: str) -> Path:
    """Return a file that can be trusted to be the picture of that name.

    Raises:
        UserError: unknown name, no such file here, or another file than was published or first seen.
    """
    picture = entry(name, setting=setting)
    path = copy_of(picture)
    if path is None:
        raise UserError(setting, picture.name, "this picture is not on this machine", how_to_get(picture))
    check(picture, path, setting=setting)
    return path


def check(picture: PaperPicture, path: Path, *, setting: str = "images") -> str:
    """Return the sha256 of a file that is this picture: by its hash, or decodable and then pinned.

    Raises:
        UserError: it is not.
    """
    again = f"Delete it, and get it again. {how_to_get(picture)}"
    expected = _as_supplied(picture, path)
    try:
        return verify(expected, path, pictures_folder(), rehash=True, setting=setting, hint=again)
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror or error})"
        raise UserError(setting, picture.name, reason) from error


def how_to_get(picture: PaperPicture) -> str:
    """Return sentences: what to type, or where to look and what to type then."""
    add = f"`nstbench images add {picture.key} FILE`"
    samples = "`pictures=samples` runs the study with stand-ins."
    if reason := picture.withheld():
        where = f" ({picture.page})" if picture.page else ""
        return f"It is not fetched by nstbench: {reason}. Get it yourself{where} and type {add}; {samples}"
    accept = f" --accept-licence {_typed(picture.licence)}" if picture.licence in CONDITIONS else ""
    return (
        f"Type `nstbench images fetch {picture.key}{accept}` on a machine with a network, or {add} with a "
        f"copy that you have; {samples}"
    )


def accepted_licences(typed: Iterable[str]) -> set[str]:
    """Return the licences that a user accepts, from their names in any spelling: ``cc-by-sa-2.0``.

    Raises:
        UserError: no picture here has that licence.
    """
    known = {_typed(name): name for name in CONDITIONS}
    found = set()
    for name in typed:
        if _typed(name) not in known:
            hint = did_you_mean(_typed(name), known, what="licences")
            raise UserError("--accept-licence", name, "no licence of that name asks to be accepted", hint)
        found.add(known[_typed(name)])
    return found


def may_be_fetched(picture: PaperPicture, accepted: Collection[str]) -> bool:
    """Tell whether its terms allow nstbench to fetch a picture, given the licences that the user accepts."""
    return not picture.withheld() and (picture.licence not in CONDITIONS or picture.licence in accepted)


def fetch_picture(
    picture: PaperPicture, *, accepted: Collection[str] = (), url: str | None = None, progress: bool = True
) -> Path:
    """Download a picture whose terms allow it, check it and put it in place; or find it there already.

    Args:
        picture: what to get.
        accepted: the licences with conditions that the user accepts (`CONDITIONS`).
        url: fetch from here instead.
        progress: draw a progress bar on standard error.

    Raises:
        UserError: it must be supplied, its licence was not accepted, or no address delivered it.
    """
    path = copy_of(picture)
    if path is not None and _is_fine(picture, path):
        return path
    if picture.withheld():
        raise UserError("images", picture.name, "the user must supply this picture", how_to_get(picture))
    if not may_be_fetched(picture, accepted):
        reason = f"its terms, {picture.licence}, have conditions: {CONDITIONS[picture.licence]}"
        hint = f"If you accept them, type `--accept-licence {_typed(picture.licence)}`."
        raise UserError("images", picture.name, reason, hint)
    wanted = replace(picture, urls=(url,)) if url else picture
    return fetch(wanted, pictures_folder(), progress=progress, timeout=(10.0, 30.0), setting="images")


def add_picture(picture: PaperPicture, source: Path) -> Path:
    """Copy a user's file into nstbench's folder if it is this picture, or may be.

    Where nstbench fetches the picture, the file must have its published hash. Where the user supplies it, any
    picture will do, replaces the one before, and is pinned.

    Raises:
        UserError: no such file, no picture, another hash, or the folder does not take it.
    """
    if not source.is_file():
        raise UserError("FILE", source, "there is no such file")
    if not picture.withheld():
        return store(picture, source, pictures_folder(), setting="images")
    wanted = _as_supplied(picture, source)
    if problem := wanted.what_else(source):
        raise UserError("images", picture.name, f"{source} cannot be used: {problem}", "Give a picture file.")
    folder, before = pictures_folder(), copy_of(picture)
    (folder / f"{wanted.file}.sha256").unlink(missing_ok=True)
    path = store(wanted, source, folder, setting="images")
    if before not in (None, path):
        for name in (before.name, f"{before.name}.sha256", f"{before.name}.verified"):
            (folder / name).unlink(missing_ok=True)
    return path


def _as_supplied(picture: PaperPicture, path: Path) -> PaperPicture:
    """The entry that a file is held to: a supplied picture has no one copy, so no published hash."""
    if not picture.withheld():
        return picture
    suffix = path.suffix.lower() if path.suffix.lower() in _SUFFIXES else picture.suffix
    return replace(picture, suffix=suffix, sha256="", md5="")


def _is_fine(picture: PaperPicture, path: Path) -> bool:
    try:
        check(picture, path)
    except UserError:
        return False
    return True


def _typed(licence: str) -> str:
    return licence.strip().lower().replace(" ", "-")
