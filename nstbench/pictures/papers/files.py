"""Finding, fetching, adding and verifying the pictures of papers on this machine.

They are described in the registry. Pictures are fetched only at the user's command, and only where their
terms allow it.
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
from nstbench.runtime.similar_paths import did_you_mean_path

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")


def pictures_folder() -> Path:
    """Return nstbench's folder of paper pictures: `$NSTBENCH_PICTURES`, or one in the user's cache."""
    return own_folder(PaperPicture.variable, "pictures")


def entry(name: str, *, setting: str = "images") -> PaperPicture:
    """Return the registry's entry for `<key>` or `paper:<key>`.

    Raises:
        UserError: If there is none; it names the most similar names.
    """
    key = name.removeprefix("paper:")
    if key not in PAPERS:
        hint = did_you_mean(key, PAPERS, what="paper pictures")
        raise UserError(setting, name, "there is no paper picture of that name", hint)
    return PAPERS[key]


def chosen(names: Iterable[str]) -> list[PaperPicture]:
    """Return the entries of keys and of collections, each once.

    Raises:
        UserError: If a name is neither.
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
    """Return the path of the file, unverified, or None."""
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
    """Return the path of the picture of that name, verified.

    Raises:
        UserError: If the name is unknown, the file is not on this machine, or its hash is not the
            published or pinned one.
    """
    picture = entry(name, setting=setting)
    path = copy_of(picture)
    if path is None:
        raise UserError(setting, picture.name, "this picture is not on this machine", how_to_get(picture))
    check(picture, path, setting=setting)
    return path


def check(picture: PaperPicture, path: Path, *, setting: str = "images") -> str:
    """Return the sha256 of a file that has the picture's hash; without one, pin that of a decodable file.

    Raises:
        UserError: If it has another hash, or cannot be read or decoded.
    """
    again = f"Delete it, and get it again. {how_to_get(picture)}"
    expected = _as_supplied(picture, path)
    try:
        return verify(expected, path, pictures_folder(), rehash=True, setting=setting, hint=again)
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror or error})"
        raise UserError(setting, picture.name, reason) from error


def how_to_get(picture: PaperPicture) -> str:
    """Return what to type to get a picture, or where to look for it, as sentences."""
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
        UserError: If no picture has that licence.
    """
    known = {_typed(name): name for name in CONDITIONS}
    found = set()
    for name in typed:
        if _typed(name) not in known:
            hint = did_you_mean(_typed(name), known, what="licences")
            raise UserError("--accept-licence", name, "there is no licence of that name to accept", hint)
        found.add(known[_typed(name)])
    return found


def may_be_fetched(picture: PaperPicture, accepted: Collection[str]) -> bool:
    """Return whether a picture's terms allow nstbench to fetch it, given the accepted licences."""
    return not picture.withheld() and (picture.licence not in CONDITIONS or picture.licence in accepted)


def fetch_picture(
    picture: PaperPicture, *, accepted: Collection[str] = (), url: str | None = None, progress: bool = True
) -> Path:
    """Return the path of a picture, downloaded and verified unless a verified copy exists.

    Args:
        picture: Picture to fetch.
        accepted: Licences with conditions that the user accepts (`CONDITIONS`).
        url: Address to use instead of the registry's.
        progress: Whether to draw a progress bar on standard error.

    Raises:
        UserError: If the user must supply it, its licence was not accepted, or no address delivered it.
    """
    path = copy_of(picture)
    if path is not None and _is_verified(picture, path):
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
    """Copy a user's file into nstbench's folder as this picture.

    If nstbench fetches the picture, the file must have its published hash. If the user supplies it, any
    picture is accepted, replaces the previous one, and is pinned.

    Raises:
        UserError: If there is no such file, it is no picture, it has another hash, or it cannot be written.
    """
    if not source.is_file():
        raise UserError("FILE", source, "there is no such file", did_you_mean_path(source))
    if not picture.withheld():
        return store(picture, source, pictures_folder(), setting="images")
    wanted = _as_supplied(picture, source)
    if problem := wanted.find_mismatch(source):
        raise UserError("images", picture.name, f"{source} cannot be used: {problem}", "Give a picture file.")
    folder, before = pictures_folder(), copy_of(picture)
    (folder / f"{wanted.file}.sha256").unlink(missing_ok=True)
    path = store(wanted, source, folder, setting="images")
    if before not in (None, path):
        for name in (before.name, f"{before.name}.sha256", f"{before.name}.verified"):
            (folder / name).unlink(missing_ok=True)
    return path


def _as_supplied(picture: PaperPicture, path: Path) -> PaperPicture:
    """Return the entry to verify a file against: without hashes if users supply copies of their own."""
    if not picture.withheld():
        return picture
    suffix = path.suffix.lower() if path.suffix.lower() in _SUFFIXES else picture.suffix
    return replace(picture, suffix=suffix, sha256="", md5="")


def _is_verified(picture: PaperPicture, path: Path) -> bool:
    try:
        check(picture, path)
    except UserError:
        return False
    return True


def _typed(licence: str) -> str:
    return licence.strip().lower().replace(" ", "-")
