"""Reading picture files of common formats, and writing PNGs with their provenance."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from nstbench.errors import UserError
from nstbench.pictures.decode import decode
from nstbench.pictures.formats import UnreadableError, open_image, pillow_limits
from nstbench.pictures.paths import existing_file
from nstbench.pictures.png_data import TRUNCATED, DamagedError
from nstbench.pictures.shape import Shape
from nstbench.pictures.stored import assemble
from nstbench.runtime.files import write_atomically
from nstbench.runtime.regular_files import NotRegularError, open_regular

MAX_PIXELS = 100_000_000
MAX_EDGE = 65_535
"""Limit on the longer edge, in pixels: the limit of the JPEG format."""
REDUCED_ABOVE = 1 << 25
"""Number of pixels up to which pictures are not reduced while they are read."""
OVERSAMPLING = 4
"""Least number of pixels kept along an edge for each one that is needed."""


def read_picture(
    path: str | Path,
    *,
    setting: str = "picture",
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    max_pixels: int = MAX_PIXELS,
) -> Tensor:
    """Read a picture file: (1, 3, H, W), float32, sRGB, finite and in [0, 1].

    The formats of `nstbench.pictures.formats.FORMATS`, portable float maps, and the TIFFs that only tifffile
    reads: grey, palette, 1-bit, 16-bit, float and CMYK pictures become RGB; the EXIF orientation and an
    embedded ICC profile are applied; transparent pictures are composed over ``background``; of several
    frames, the first is read. For the scaling of depths see `nstbench.pictures.decode.decode`.

    Memory: see `read_reduced`.

    Args:
        path: Path of the file; ``~`` is expanded (`nstbench.pictures.paths.picture_path`).
        setting: Name of the setting, for messages.
        background: sRGB colour in [0, 1] behind transparent pictures.
        max_pixels: Limit on the number of pixels, checked in the header before memory is allocated for them.

    Raises:
        UserError: If the file is missing, unreadable, broken, truncated, no picture, or of an unusable size.
    """
    return read_reduced(path, None, setting=setting, background=background, max_pixels=max_pixels)[0]


def read_reduced(
    path: str | Path,
    needed: Callable[[Shape], Shape] | None,
    *,
    setting: str = "picture",
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    max_pixels: int = MAX_PIXELS,
) -> tuple[Tensor, Shape]:
    """Read a picture file, reduced if far fewer pixels are needed; also return its shape in the file.

    A picture is reduced if it has more than `REDUCED_ABOVE` (33.5 million) pixels and both of its edges
    are at least 2 · `OVERSAMPLING` = 8 times as long as needed: then each pixel of the result is the
    mean of a square of ⌊ratio / 4⌋ pixels a side, and at least 4 pixels along each edge are left for one
    that is needed. A JPEG is first reduced by its decoder, by 2, 4 or 8. All other pictures are read
    in full: their values do not depend on ``needed``.

    Memory for the decoded picture, in bytes per pixel of the file, besides about 50 MB: JPEG, PNG,
    TIFF and others of 8 bits 4; PNG of 16 bits 8; WebP and AVIF 16; TIFF of 16 bits and float, and
    portable float maps, the size of their numbers. For a reduced JPEG, per pixel after its reduction. The
    result takes 12 bytes for each of its own pixels.

    Args:
        path: Path of the file. This and the other arguments are as for `read_picture`.
        needed: Function from the picture's height and width to those at which it is used; None: its own.

    Returns:
        Picture, (1, 3, h, w), and its upright height and width in the file.
    """
    path = existing_file(path, setting)

    def factor_for(shape: Shape) -> int:
        _check_shape(shape, setting, path)
        return _factor(shape, needed)

    try:
        with open_regular(path) as file, pillow_limits(max_pixels):
            stored = decode(file, max_pixels, factor_for)
            shape = stored.upright_shape
            planes = assemble(stored, background, stored.remaining(factor_for(shape)))
    except UnreadableError as error:
        raise UserError(setting, path, error.reason, error.hint) from error
    except NotRegularError as error:
        raise UserError(setting, path, str(error), "Name a picture file.") from error
    except Image.DecompressionBombError as error:
        raise _too_large(setting, path, error, max_pixels) from error
    except MemoryError as error:
        raise UserError(
            setting, path, "there is not enough memory for it", "Make the picture smaller."
        ) from error
    except UserError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, … for broken files
        raise _broken(setting, path, error) from error
    return torch.from_numpy(planes)[None], shape


def _factor(shape: Shape, needed: Callable[[Shape], Shape] | None) -> int:
    height, width = shape
    if needed is None or height * width <= REDUCED_ABOVE:
        return 1
    rows, columns = needed(shape)
    return max(1, min(height // rows, width // columns) // OVERSAMPLING)


def _check_shape(shape: Shape, setting: str, path: Path) -> None:
    height, width = shape
    if min(height, width) < 2:
        raise UserError(
            setting, path, f"{width}×{height} pixels is too small to stylise", "Use a larger picture."
        )
    if max(height, width) > MAX_EDGE:
        reason = f"its longer edge of {max(height, width):,} pixels is longer than the limit of {MAX_EDGE:,}"
        raise UserError(setting, path, reason, "Make the picture smaller first, or crop it.")


def write_png(path: str | Path, picture: Tensor, provenance: Mapping[str, str] | None = None) -> None:
    """Write a picture atomically as an 8-bit sRGB PNG.

    Values are clamped to [0, 1] and rounded to the nearest of 256 levels. Equal input gives equal
    bytes. A missing folder is not created, as it was removed during the run.

    Args:
        path: Path of the file, replaced if it exists.
        picture: Picture (3, H, W) or (1, 3, H, W), any float type, any device.
        provenance: Text by short Latin name, written to the file as iTXt entries.

    Raises:
        ValueError: If the shape is not that of one picture, or a value is NaN.
        StorageError: If the file cannot be written.
    """
    image = to_image(picture)
    info = PngImagePlugin.PngInfo()
    info.add(b"sRGB", b"\x00")  # the colour space; without it viewers guess
    for key, text in sorted((provenance or {}).items()):
        info.add_itxt(key, text)
    write_atomically(Path(path), lambda file: image.save(file, format="PNG", pnginfo=info, compress_level=6))


def to_image(picture: Tensor) -> Image.Image:
    """Return one picture, (3, H, W) or (1, 3, H, W), as an 8-bit RGB Pillow image; see `write_png`."""
    shape = tuple(picture.shape)
    if len(shape) == 4 and shape[0] == 1:
        picture = picture[0]
    if picture.ndim != 3 or picture.shape[0] != 3 or picture.numel() == 0:
        raise ValueError(f"the shape of one picture is (3, H, W) or (1, 3, H, W), not {shape}")
    values = picture.detach().to("cpu", torch.float32)
    if values.isnan().any():
        raise ValueError("the picture has NaN values")
    # Not round(): that takes halves to the even level, so 0.5/255 would become black.
    levels = (values.clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(levels.permute(1, 2, 0).numpy()))


def read_provenance(path: str | Path, *, setting: str = "picture") -> dict[str, str]:
    """Return the text entries of a PNG; empty for a PNG without any and for other kinds of picture.

    Raises:
        UserError: If the file is missing, unreadable, broken or no picture.
    """
    path = existing_file(path, setting)
    try:
        with pillow_limits(MAX_PIXELS), open_image(path) as image:
            entries = image.text if isinstance(image, PngImagePlugin.PngImageFile) else {}
            return {str(key): str(text) for key, text in entries.items()}
    except Image.DecompressionBombError as error:
        raise _too_large(setting, path, error, MAX_PIXELS) from error
    except Exception as error:  # see read_picture
        raise _broken(setting, path, error) from error


def _too_large(setting: str, path: Path, error: Exception, limit: int) -> UserError:
    # The size is known only from Pillow's message, "Image size (N pixels) exceeds …".
    count = re.search(r"\d+", str(error))
    size = f"its {int(count.group()):,} pixels" if count else "its pixels"
    return UserError(
        setting, path, f"{size} are more than the limit of {limit:,}", "Make the picture smaller first."
    )


_SIGNATURES = {
    (0, b"\xff\xd8\xff"): "JPEG",
    (0, b"\x89PNG"): "PNG",
    (0, b"GIF8"): "GIF",
    (0, b"BM"): "BMP",
    (0, b"II*\0"): "TIFF",
    (0, b"MM\0*"): "TIFF",
    (8, b"WEBP"): "WebP",
    (4, b"ftypavif"): "AVIF",
}
_FOREIGN = {
    (4, b"ftyphei"): "HEIC pictures",
    (4, b"ftypmif1"): "HEIF pictures",
    (4, b"ftypcrx"): "raw camera files",
    (4, b"ftyp"): "videos",
    (4, b"JXL "): "JPEG XL pictures",
    (0, b"\xff\x0a"): "JPEG XL pictures",
    (0, b"%PDF"): "PDF files",
    (0, b"%!PS"): "PostScript files",
}


def _broken(setting: str, path: Path, error: Exception) -> UserError:
    """Return the error for a file that could not be decoded, from its first bytes and the decoder's error."""

    def begins(signatures: dict[tuple[int, bytes], str]) -> str | None:
        return next((kind for (at, mark), kind in signatures.items() if head[at:].startswith(mark)), None)

    with path.open("rb") as file:
        head = file.read(256)
    unknown, again = isinstance(error, UnidentifiedImageError), "Fetch or save it again."
    if isinstance(error, DamagedError) and str(error).startswith(TRUNCATED):
        return UserError(setting, path, str(error), again)
    if "truncated" in str(error).lower():
        return UserError(setting, path, "the file is truncated: its end is missing", again)
    if kind := begins(_SIGNATURES):
        detail = "" if unknown else f" ({error})"
        return UserError(setting, path, f"it starts as {kind} but is broken or truncated{detail}", again)
    if kind := begins(_FOREIGN) or ("SVG drawings" if b"<svg" in head else None):
        return UserError(setting, path, f"{kind} cannot be read", "Convert it to PNG or JPEG.")
    if not unknown:
        return UserError(setting, path, f"the picture is broken ({error})", again)
    what = "a web page" if b"<html" in head.lower() or b"<!doctype" in head.lower() else "not a picture"
    return UserError(setting, path, f"the file is {what}", "Give a JPEG, PNG, WebP or TIFF.")
