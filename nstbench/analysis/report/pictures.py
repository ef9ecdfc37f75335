"""Small and large copies of pictures for the report."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from nstbench.analysis.output import remove_leftovers
from nstbench.errors import UserError
from nstbench.pictures.recorded import open_recorded_picture
from nstbench.runtime.files import write_bytes
from nstbench.runtime.regular_files import open_regular
from nstbench.tracking.record import RunRecord
from nstbench.tracking.record_files import inside, printable, reason_of

NO_PICTURE = "there is no picture"
NOT_THERE = "the file that the runs used is not available"
FOLDERS = ("thumb", "large")
_MOST_BYTES = 2**30  # of an input picture
_EDGE = {"thumb": 240, "large": 768}
# A report of a thousand runs is below 100 MB: 1,000 × (12 + 74) kB, and data and curves.
_BYTES = {"thumb": 12_000, "large": 74_000}
_QUALITIES = (90, 80, 68, 52, 36, 20)
_MANY = 100  # number of pictures from which a message is printed, as copying takes long
_NAME = re.compile(r"([0-9a-f]{16})-(\d+)x(\d+)\.webp")


@dataclass(frozen=True)
class Copy:
    """Copies of a picture in the report: ``pictures/thumb/<name>`` and ``pictures/large/<name>``."""

    name: str
    width: int
    height: int


@dataclass(frozen=True)
class Source:
    """A content or style picture as it was typed, with the hash of its file."""

    source: str
    sha256: str
    setting: str
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)


class Pictures:
    """The folder ``pictures`` of a report. Copies that exist are not made again.

    Args:
        report: Folder of the report.
        tell: Function that prints a message.
        study: Folder of the study; by default the parent of the report.
    """

    def __init__(
        self, report: Path, tell: Callable[[str], None] = lambda _: None, study: Path | None = None
    ) -> None:
        self.folder = report / "pictures"
        self._tell, self._study = tell, study or report.parent
        self._unavailable: dict[str, str] = {}

    def of_canvases(self, files: Iterable[Path]) -> dict[Path, Copy | str]:
        """Return a copy of each picture file, or the reason why there is none."""
        existing, todo, found = self._existing(), dict[Path, str](), dict[Path, Copy | str]()
        for file in files:
            try:
                stat = file.stat()
            except OSError:
                found[file] = NO_PICTURE
                continue
            key = _key(f"{file.parent.name}/{file.name}", stat.st_mtime_ns, stat.st_size)
            if key in existing:
                found[file] = existing[key]
            elif key in self._unavailable:
                found[file] = self._unavailable[key]
            else:
                todo[file] = key
        if len(todo) >= _MANY:
            self._tell(f"Making small copies of {len(todo)} pictures, once.")
        # Pillow releases Python's global lock: threads are enough.
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            made = threads.map(lambda item: self._from_file(*item), todo.items())
            return found | dict(zip(todo, made, strict=True))

    def of_inputs(self, sources: Iterable[Source]) -> dict[str, Copy | str]:
        """Return, by hash, a copy of each content and style picture, or the reason why there is none."""
        existing, found = self._existing(), dict[str, Copy | str]()
        for each in sources:
            key = _key(each.sha256)
            if each.sha256 not in found:
                found[each.sha256] = (
                    existing.get(key) or self._unavailable.get(key) or self._from_source(each, key)
                )
        return found

    def remove_all_but(self, used: Iterable[Copy]) -> None:
        """Remove copies that no run uses; files with other names are kept."""
        names = {copy.name for copy in used}
        for kind in FOLDERS:
            for file in (self.folder / kind).glob("*.webp"):
                if _NAME.fullmatch(file.name) and file.name not in names:
                    file.unlink(missing_ok=True)

    def _existing(self) -> dict[str, Copy]:
        kinds = [self.folder / kind for kind in FOLDERS]
        names = [set(os.listdir(kind)) if kind.is_dir() else set() for kind in kinds]
        matches = [m for m in map(_NAME.fullmatch, names[0] & names[1]) if m]
        return {m[1]: Copy(m[0], int(m[2]), int(m[3])) for m in matches}

    def _from_file(self, file: Path, key: str) -> Copy | str:
        try:
            image = open_recorded_picture(inside(self._study, file))
        except (OSError, ValueError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else str(error)
            self._unavailable[key] = printable(f"{file.name} cannot be read: {reason}")
            return self._unavailable[key]
        return self._copies(image, key)

    def _from_source(self, each: Source, key: str) -> Copy | str:
        self._unavailable[key] = _reason_not_shown(each)
        if self._unavailable[key]:
            return self._unavailable[key]
        try:
            # Imported here, as they load torch.
            from nstbench.pictures.io import to_image
            from nstbench.pictures.source import load

            picture = load(each.source, setting=each.setting, background=each.background)
            if picture.sha256 == each.sha256:
                del self._unavailable[key]
                return self._copies(to_image(picture.pixels), key)
            self._unavailable[key] = NOT_THERE
        except UserError as error:
            self._unavailable[key] = printable(error.reason)
        except FileNotFoundError as error:
            self._unavailable[key] = printable(str(error))
        return self._unavailable[key]

    def _copies(self, image: Image.Image, key: str) -> Copy:
        sizes = {kind: _within(image.size, _EDGE[kind]) for kind in FOLDERS}
        width, height = sizes["large"]
        copy = Copy(f"{key}-{width}x{height}.webp", width, height)
        for kind in FOLDERS:
            small = image.resize(sizes[kind], Image.Resampling.LANCZOS)
            write_bytes(self.folder / kind / copy.name, _webp(small, _BYTES[kind]), durable=False)
        return copy

    def make_folders(self) -> None:
        """Create the folders of the copies."""
        for kind in FOLDERS:
            (self.folder / kind).mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.folder / kind)
        remove_leftovers(self.folder.parent)


def sources_of(record: RunRecord) -> dict[str, list[Source]]:
    """Return a run's content and style pictures, without those whose hash was not recorded."""
    pictures = record.config["pictures"]
    background = tuple(pictures.get("background") or ())
    if len(background) != 3 or not all(0 <= value <= 1 for value in background):
        background = (1.0, 1.0, 1.0)
    found = {}
    for role in ("content", "style"):
        hashes, names = _as_list(record.inputs.get(role)), _as_list(pictures[role])
        pairs = zip(names, hashes, strict=False)
        found[role] = [
            Source(name, sha, f"pictures.{role}", background)
            for name, sha in pairs
            if isinstance(name, str) and isinstance(sha, str) and name and sha
        ]
    return found


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _reason_not_shown(each: Source) -> str:
    """Return why an input picture must not be shown; "" if it may be. Torch is not imported.

    An untrusted record can name any file of this machine. Only a file with the recorded hash is shown, as
    the record's author must have had it. The reason does not depend on whether another file exists.
    """
    if each.source.startswith(("sample:", "procedural:", "paper:")):
        return ""
    if each.source.startswith(("//", "\\\\")):
        return NOT_THERE  # a network share: a connection would identify the user to its server
    try:
        with open_regular(Path(each.source).expanduser()) as file:
            if os.fstat(file.fileno()).st_size > _MOST_BYTES:
                return NOT_THERE
            digest = hashlib.sha256()
            while block := file.read(2**20):
                digest.update(block)
    except (OSError, ValueError, RuntimeError):
        return NOT_THERE
    return "" if digest.hexdigest() == each.sha256 else NOT_THERE


def _webp(image: Image.Image, most: int) -> bytes:
    """Encode at the best quality with at most ``most`` bytes."""
    for quality in _QUALITIES:
        memory = io.BytesIO()
        image.save(memory, "WEBP", quality=quality, method=2)  # twice as fast as 4, and 3 % larger
        if memory.tell() <= most:
            break
    return memory.getvalue()


def _within(size: tuple[int, int], edge: int) -> tuple[int, int]:
    scale = min(1.0, edge / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _key(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()[:16]
