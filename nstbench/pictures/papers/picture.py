"""One picture of a paper, and the terms of its use."""

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
"""Licences that require attribution, and their addresses."""

CONDITIONS = {
    "CC BY-SA 2.0": "what is made from it must be shared under the same licence, with attribution",
    "academic use": "its authors publish it for academic and non-commercial use only",
}
"""Licences that must be accepted before a picture is fetched, and what they require."""


@dataclass(frozen=True, eq=False)
class PaperPicture:
    """One picture of a paper, as one file.

    Attributes:
        key: Name: `paper:<key>` is the picture's source.
        title: Title of the work.
        author: Author of the work; None if unknown.
        year: Year of the work, as text; None if unknown.
        figures: Figures of the papers that show it, by collection.
        died: Author's year of death, if copyright depends on it; else None.
        licence: Name of the licence, or "unclear"; "" if copyright depends on the year of death.
        urls: Addresses of a file with this hash; if there are none, the user supplies the file.
        page: Address of a page that shows it.
        sha256: Published sha256, else "".
        md5: Published md5, else "".
        pixels: Width and height, if known.
        note: Differences from what users may expect.
        suffix: Suffix of the file.
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

    # The protocol of files that `nstbench.downloads` handles: `verification.RegisteredFile`.
    variable: ClassVar[str] = "NSTBENCH_PICTURES"
    largest: ClassVar[int | None] = 100_000_000
    resumable: ClassVar[bool] = False
    wheel: ClassVar[None] = None

    @property
    def name(self) -> str:
        """Name to type."""
        return f"paper:{self.key}"

    @property
    def file(self) -> str:
        """Name of the file in nstbench's folder."""
        return self.key + self.suffix

    @property
    def terms(self) -> str:
        """Licence, or the year in which the copyright ends, in a few words; independent of the date."""
        return f"public domain from {self.died + 71}" if self.died else self.licence

    def withheld(self, today: date | None = None) -> str:
        """Return why nstbench does not fetch this picture, as a clause; "" if it does."""
        if self.died and (last := self.died + 70) >= (today or date.today()).year:
            return (
                f"{self.author} died in {self.died}: protected until {last} where copyright lasts 70 years "
                f"after death"
            )
        if self.licence == "unclear":
            return "its licence is unclear"
        return "" if self.urls else "no address of it is known"

    def credit(self) -> str:
        """Return the attribution to print beside pictures made from it; "" if none is required."""
        if self.licence not in LICENCES:
            return ""
        return f"“{self.title}” by {self.author}, {self.licence} ({LICENCES[self.licence]}), {self.page}"

    def find_mismatch(self, path: Path) -> str:
        """Return why a file of unknown sha256 cannot be this picture, as a clause; "" if it can."""
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
        """Return whether a file has the published md5."""
        return _md5(path) == self.md5

    def manual_steps(self, folder: Path) -> str:
        """Return what to do if no address works, as the continuation of "Get"."""
        return (
            f"the picture by hand and type `nstbench images add {self.key} FILE`; `--url URL` names another "
            f"address; `pictures=samples` runs every study with stand-ins."
        )

    def own_file_hint(self, source: Path) -> str:
        """Return how to use a file that differs from the registry's."""
        return (
            f"To use a picture of your own, type its path: pictures.content={source}, or in a study "
            f"pictures.cast.{self.key}={source}."
        )


def _md5(path: Path) -> str:
    # Not secure against forgery, but the hash that others have published.
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
