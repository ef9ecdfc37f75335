"""Sources of pictures, as users type them, and loading pictures from them.

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

if TYPE_CHECKING:  # listing pictures must not load torch
    from torch import Tensor

_SEEDS = 2**32
Needed = Callable[[Shape], Shape]


@dataclass(frozen=True)
class _ReadSettings:
    """The arguments of `load` other than the source."""

    setting: str
    background: tuple[float, float, float]
    max_pixels: int
    needed: Needed | None


@dataclass(frozen=True, eq=False)
class Picture:
    """A content or style picture, ready to use.

    Attributes:
        name: Name, short and safe in a file name: ``chelsea``, ``strokes``, ``strokes-7``.
        pixels: Pixels (1, 3, H, W), float32, sRGB in [0, 1].
        sha256: Hash of the file's bytes, or of the 8-bit pixels (H, W, 3) if there is no file.
        source: Source as typed.
        shape: Height and width in the file. Those of the pixels are smaller if the picture was reduced
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
    """Load the picture of a source.

    Procedural pictures are 512 × 512 and rounded to 8 bits, as they would be after saving them, so
    that pictures of equal hash are equal.

    Args:
        source: Path, ``sample:<name>``, ``procedural:<name>`` or ``procedural:<name>@<seed>``
            (without one, seed 0), or ``paper:<name>``; with ``/<region>``, a mask of a built-in picture.
        setting: Name of the setting, for messages: ``pictures.content``.
        background: sRGB colour in [0, 1] behind transparent parts of a file or sample.
        max_pixels: Limit on the number of pixels, checked before a file is decoded.
        needed: Function from the height and width of a file to those at which it is used; None: its own.
            Far larger pictures are reduced while they are read: `nstbench.pictures.io.read_reduced`.

    Raises:
        UserError: If there is no such name, a seed is no number, a paper's picture is not on this machine
            or has changed, or a file cannot be used.
    """
    read_settings = _ReadSettings(setting, background, max_pixels, needed)
    kind, _, name = source.partition(":")
    if kind in {"sample", "procedural"} and "/" in name:
        return _region(source, setting)
    if kind == "sample":
        return _sample(name, source, setting, background)
    if kind == "procedural":
        return _procedural(name, source, setting)
    if kind == "paper":
        return _paper(name, source, read_settings)
    return _file(source, read_settings)


def check(source: str, setting: str) -> None:
    """Check that a source that is a file exists, without loading picture decoders.

    Raises:
        UserError: As for `load`, which checks other sources.
    """
    if source.partition(":")[0] not in {"sample", "procedural", "paper"}:
        _existing_file(source, setting)


def names() -> list[str]:
    """Return all built-in sources, without reading or generating pictures."""
    from nstbench.pictures.procedural import STYLES

    return [f"sample:{name}" for name in SAMPLES] + [f"procedural:{name}" for name in STYLES]


def _sample(name: str, source: str, setting: str, background: tuple[float, float, float]) -> Picture:
    from nstbench.pictures.io import read_picture

    if name not in SAMPLES:
        raise UserError(setting, source, "there is no such sample", _suggest(name, "sample:", SAMPLES))
    path = SAMPLES[name].path
    pixels = read_picture(path, setting=setting, background=background)
    return Picture(name, pixels, _sha256(path), source, _shape(pixels))


@lru_cache(maxsize=16)  # generating one takes a second, and the runs of a sweep use the same ones
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
        known = [f"{picture_}/{region}" for picture_, regions in REGIONS.items() for region in regions]
        reason = "this picture has no region of that name"
        raise UserError(setting, source, reason, did_you_mean(source, known, what="regions"))
    levels = np.asarray(REGIONS[picture][name].mask())
    grey = torch.from_numpy(levels.astype(np.float32) / 255)[None, None]
    label = f"{picture.partition(':')[2]}-{name}"
    digest = hashlib.sha256(levels.tobytes()).hexdigest()
    return Picture(label, grey.repeat(1, 3, 1, 1), digest, source, _shape(grey))


def _paper(name: str, source: str, read_settings: _ReadSettings) -> Picture:
    from nstbench.pictures.papers.files import locate

    path = locate(name, setting=read_settings.setting)
    return replace(_file(str(path), read_settings), name=name, source=source)


def _file(source: str, read_settings: _ReadSettings) -> Picture:
    path = _existing_file(source, read_settings.setting)
    from nstbench.pictures.io import read_reduced

    pixels, shape = read_reduced(
        source,
        read_settings.needed,
        setting=read_settings.setting,
        background=read_settings.background,
        max_pixels=read_settings.max_pixels,
    )
    # Only letters and digits (of any script) are safe in file names on every system.
    name = re.sub(r"[^\w.-]+", "-", path.stem).strip("-._")[:40] or "picture"
    return Picture(name, pixels, _sha256(path), source, shape)


def _shape(pixels: Tensor) -> Shape:
    return pixels.shape[-2], pixels.shape[-1]


def _existing_file(source: str, setting: str) -> Path:
    """Return the path of a file that can be opened; else raise UserError with a suggestion."""
    try:
        return existing_file(source, setting)
    except UserError as error:
        if error.reason != NO_SUCH_FILE or error.hint:
            raise
        near = " or ".join(_builtin_like(source))
        hint = f"Did you mean {near}?" if near else "`nstbench images` lists pictures that need no file."
        raise UserError(setting, source, NO_SUCH_FILE, hint) from error


def _builtin_like(source: str) -> list[str]:
    """Return the built-in sources of a similar name, for a source with a missing or misspelt prefix."""
    full = {name.partition(":")[2]: name for name in [*(f"paper:{key}" for key in PAPERS), *names()]}
    bare = Path(source.rpartition(":")[2].partition("@")[0]).stem
    return [full[bare]] if bare in full else [full[name] for name in nearest(bare, full)]


def _suggest(name: str, prefix: str, known: Iterable[str]) -> str:
    known = list(known)
    close = nearest(name, known)
    if close:
        return f"Did you mean {' or '.join(prefix + near for near in close)}?"
    return f"Names to choose from: {', '.join(prefix + each for each in known)}."


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
