"""One picture of a paper: what it is, and on what terms it may be had."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import ClassVar

from nstbench.downloads.verification import describe
from nstbench.errors import UserError

LICENCES = {
    "CC BY 3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC BY-SA 2.0": "https://creativecommons.org/licenses/by-sa/2.0/",
}
"""Licences that ask for attribution, and where they stand."""

CONDITIONS = {
    "CC BY-SA 2.0": "what is made from it must be shared under the same licence, with attribution",
    "academic use": "its authors publish it for academic and non-commercial use only",
}
"""Licences that must be accepted before a picture is fetched, and what they ask for."""


@dataclass(frozen=True, eq=False)
class PaperPicture:
    """One picture of a paper, as one file.

    Attributes:
        key: its name: `paper:<key>` is its source.
        title: of the work.
        author: None when unknown.
        year: of the work, as text; None when unknown.
        figures: where the papers show it, by collection.
        died: the author's year of death, where the term of copyright decides; else None.
        licence: of living authors: a name, "unclear", or "" where the term of copyright decides.
        urls: addresses of these very bytes; none are known or none may be used: the user supplies the file.
        page: where a person finds it.
        sha256: published; else "".
        md5: published; else "".
        pixels: width and height, where known.
        note: what surprises people.
    """

    key: str
    title: str
    author: str | None = None
    year: str | None = None
    figures: Mapping[str, str] = field(default_factory=dict)
    died: int | None = None
    licence: str = ""
    urls: tuple[str, ...] = ()
    page: str | None = None
    sha256: str = ""
    md5: str = ""
    pixels: tuple[int, int] | None = None
    note: str = ""
    suffix: str = ".jpg"

    # What `nstbench.downloads` asks of a sort of file.
    variable: ClassVar[str] = "NSTBENCH_PICTURES"
    largest: ClassVar[int | None] = 100_000_000
    resumable: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What a user types."""
        return f"paper:{self.key}"

    @property
    def file(self) -> str:
        """The file's name in nstbench's folder."""
        return self.key + self.suffix

    @property
    def terms(self) -> str:
        """The licence, or when the copyright ends, in a few words; the same on every day."""
        return f"public domain from {self.died + 71}" if self.died else self.licence

    def withheld(self, today: date | None = None) -> str:
        """Return why nstbench never fetches this picture, as a clause; "" if it may."""
        if self.died and (last := self.died + 70) >= (today or date.today()).year:
            return (
                f"{self.author} died in {self.died}: protected until {last} where copyright lasts 70 years "
                f"after death"
            )
        if self.licence == "unclear":
            return "its licence is unclear"
        return "" if self.urls else "no address of it is known"

    def credit(self) -> str:
        """Return the attribution to print beside what is made from it; "" where none is asked for."""
        if self.licence not in LICENCES:
            return ""
        return f"“{self.title}” by {self.author}, {self.licence} ({LICENCES[self.licence]}), {self.page}"

    def what_else(self, path: Path) -> str:
        """Return why a file of unknown sha256 cannot be this picture; "" if nothing speaks against it."""
        from nstbench.pictures.io import read_picture  # it loads torch

        if what := describe(path):
            return f"it is {what}, not a picture"
        try:
            read_picture(path, setting="images")
        except UserError as error:
            return error.reason
        if self.md5 and not self.is_published_copy(path):
            return f"its md5 is {_md5(path)}, expected {self.md5}"
        return ""

    def is_published_copy(self, path: Path) -> bool:
        """Tell whether a file has the published md5."""
        return _md5(path) == self.md5

    def by_hand(self, folder: Path) -> str:
        """Return what to do when no address delivers, after "Get"."""
        return (
            f"the picture by hand and type `nstbench images add {self.key} FILE`; `--url URL` names another "
            f"address; `pictures=samples` runs every study with stand-ins."
        )

    def as_it_is(self, source: Path) -> str:
        """Return how to use another file than the registry means."""
        return (
            f"To use a picture of your own as it is, give its path: pictures.content={source}, or in a study "
            f"pictures.cast.{self.key}={source}."
        )


def _md5(path: Path) -> str:
    # No proof against forgers, but what others have published.
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
