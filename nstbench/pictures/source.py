"""What a user types for a picture, and the picture it stands for.

A source is the path of a file, ``sample:<name>``, ``procedural:<name>`` with an optional ``@<seed>``, or
``paper:<name>``, a picture of a paper that was fetched or added before. A region of a built-in picture, as a
mask, is ``sample:<name>/<region>``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from nstbench.errors import UserError, did_you_mean, nearest
from nstbench.pictures.papers.registry import PAPERS
from nstbench.pictures.paths import NO_SUCH_FILE, existing_file
from nstbench.pictures.regions import REGIONS
from nstbench.pictures.samples import SAMPLES
from nstbench.pictures.shape import Shape

if TYPE_CHECKING:  # listing what there is must not load torch
    from torch import Tensor

_SEEDS = 2**32
Needed = Callable[[Shape], Shape]


@dataclass(frozen=True)
class _Reading:
    """How a file is read: the arguments of `load`."""

    setting: str
    background: tuple[float, float, float]
    max_pixels: int
    needed: Needed | None


@dataclass(frozen=True, eq=False)
class Picture:
    """A content or style picture, ready to use.

    Attributes:
        name: short and safe in a file name: ``chelsea``, ``strokes``, ``strokes-7``.
        pixels: (1, 3, H, W) float32, sRGB in [0, 1].
        sha256: of the file's bytes; of the 8-bit pixels (H, W, 3) where there is no file.
        source: what the user typed.
        shape: Height and width in the file. The pixels are fewer where far fewer are needed
            (`nstbench.pictures.io.read_reduced`).
    """

    name: str
    pixels: Tensor
    sha256: str
    source: str
    shape: Shape


def load(
    source: str,
    *,
    setting: str,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    max_pixels: int = 100_000_000,
    needed: Needed | None = None,
) -> Picture:
    """Load the picture that ``source`` stands for.

    Procedural pictures are 512 × 512 and rounded to 8 bits, as they would be after saving them, so
    that pictures of one hash are one picture.

    Args:
        source: a path, ``sample:<name>``, ``procedural:<name>`` or ``procedural:<name>@<seed>``
            (seed 0 where none is given), or ``paper:<name>``; with ``/<region>``, a mask of a built-in one.
        setting: the name of the setting, for messages: ``pictures.content``.
        background: sRGB colour in [0, 1] that shows through the transparent parts of a file or sample.
        max_pixels: files of more are refused before they are decoded.
        needed: Function from the height and width of a file to those that it is used at; None: at its own.
            What is far larger is reduced while it is read: `nstbench.pictures.io.read_reduced`.

    Raises:
        UserError: no such name, a seed that is no number, a paper's picture that is not on this machine or
            is another than it was, or a file that cannot be used.
    """
    reading = _Reading(setting, background, max_pixels, needed)
    kind, _, name = source.partition(":")
    if kind in {"sample", "procedural"} and "/" in name:
        return _region(source, setting)
    if kind == "sample":
        return _sample(name, source, setting, background)
    if kind == "procedural":
        return _procedural(name, source, setting)
    if kind == "paper":
        return _paper(name, source, reading)
    return _file(source, reading)


def check(source: str, setting: str) -> None:
    """Raise what `load` would for a file that is not there, without loading what decodes pictures.

    Raises:
        UserError: as `load`; sources other than files are left to it.
    """
    if source.partition(":")[0] not in {"sample", "procedural", "paper"}:
        _there(source, setting)


def names() -> list[str]:
    """Return every built-in source; nothing is read or generated."""
    from nstbench.pictures.procedural import STYLES

    return [f"sample:{name}" for name in SAMPLES] + [f"procedural:{name}" for name in STYLES]


def _sample(name: str, source: str, setting: str, background: tuple[float, float, float]) -> Picture:
    from nstbench.pictures.io import read_picture

    if name not in SAMPLES:
        raise UserError(setting, source, "there is no such sample", _suggest(name, "sample:", SAMPLES))
    path = SAMPLES[name].path
    pixels = read_picture(path, setting=setting, background=background)
    return Picture(name, pixels, _sha256(path), source, _shape(pixels))


@lru_cache(maxsize=16)  # they take a second to paint, and every run of a sweep asks again
def _procedural(name: str, source: str, setting: str) -> Picture:
    import numpy as np
    import torch

    from nstbench.pictures.io import to_image
    from nstbench.pictures.procedural import STYLES, generate

    name, at, digits = name.partition("@")
    if name not in STYLES:
        hint = _suggest(name, "procedural:", STYLES)
        raise UserError(setting, source, "there is no such procedural picture", hint)
    if at and not (digits.isascii() and digits.isdigit() and int(digits[:11]) < _SEEDS):
        hint = f"Write procedural:{name}@7, for example."
        raise UserError(setting, source, f"a seed is a whole number from 0 to {_SEEDS - 1}", hint)
    seed = int(digits) if at else 0
    levels = np.asarray(to_image(generate(name, seed=seed)))
    pixels = torch.from_numpy(levels.transpose(2, 0, 1).astype(np.float32) / 255)[None]
    label = f"{name}-{seed}" if seed else name
    digest = hashlib.sha256(levels.tobytes()).hexdigest()
    return Picture(label, pixels.contiguous(), digest, source, _shape(pixels))


def _region(source: str, setting: str) -> Picture:
    import numpy as np
    import torch

    picture, _, name = source.partition("/")
    if name not in REGIONS.get(picture, {}):
        known = [f"{of}/{region}" for of, regions in REGIONS.items() for region in regions]
        reason = "this picture has no region of that name"
        raise UserError(setting, source, reason, did_you_mean(source, known, what="regions"))
    levels = np.asarray(REGIONS[picture][name].mask())
    grey = torch.from_numpy(levels.astype(np.float32) / 255)[None, None]
    label = f"{picture.partition(':')[2]}-{name}"
    digest = hashlib.sha256(levels.tobytes()).hexdigest()
    return Picture(label, grey.repeat(1, 3, 1, 1), digest, source, _shape(grey))


def _paper(name: str, source: str, reading: _Reading) -> Picture:
    from nstbench.pictures.papers.files import locate

    path = locate(name, setting=reading.setting)
    return replace(_file(str(path), reading), name=name, source=source)


def _file(source: str, reading: _Reading) -> Picture:
    path = _there(source, reading.setting)
    from nstbench.pictures.io import read_reduced

    pixels, shape = read_reduced(
        source,
        reading.needed,
        setting=reading.setting,
        background=reading.background,
        max_pixels=reading.max_pixels,
    )
    # Letters and digits of any script are safe in a file name; nothing else is everywhere.
    name = re.sub(r"[^\w.-]+", "-", path.stem).strip("-._")[:40] or "picture"
    return Picture(name, pixels, _sha256(path), source, shape)


def _shape(pixels: Tensor) -> Shape:
    return pixels.shape[-2], pixels.shape[-1]


def _there(source: str, setting: str) -> Path:
    """Return the path of a file that can be opened; else say what may have been meant."""
    try:
        return existing_file(source, setting)
    except UserError as error:
        if error.reason != NO_SUCH_FILE or error.hint:
            raise
        near = " or ".join(_builtin_like(source))
        hint = f"Did you mean {near}?" if near else "`nstbench images` lists pictures that need no file."
        raise UserError(setting, source, NO_SUCH_FILE, hint) from error


def _builtin_like(source: str) -> list[str]:
    """The built-in sources that someone who forgot or misspelt the prefix may have meant."""
    full = {name.partition(":")[2]: name for name in [*(f"paper:{key}" for key in PAPERS), *names()]}
    bare = Path(source.rpartition(":")[2].partition("@")[0]).stem
    return [full[bare]] if bare in full else [full[name] for name in nearest(bare, full)]


def _suggest(name: str, prefix: str, known: Iterable[str]) -> str:
    known = list(known)
    close = nearest(name, known)
    if close:
        return f"Did you mean {' or '.join(prefix + near for near in close)}?"
    return f"There are {', '.join(prefix + each for each in known)}."


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
