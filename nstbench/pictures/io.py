"""Read picture files of any common kind, and write PNGs that remember where they came from."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from nstbench.errors import UserError
from nstbench.pictures.decode import decode
from nstbench.pictures.formats import UnreadableError, open_image, pillow_limits
from nstbench.pictures.paths import existing_file

_MAX_PIXELS = 100_000_000


def read_picture(
    path: str | Path,
    *,
    setting: str = "picture",
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    max_pixels: int = _MAX_PIXELS,
) -> Tensor:
    """Read a picture file: (1, 3, H, W), float32, sRGB in [0, 1].

    Anything Pillow reads, and the TIFFs that only tifffile reads: grey, palette, 1-bit, 16-bit, float
    and CMYK pictures become RGB; the EXIF orientation and an embedded ICC profile are applied;
    transparency is laid over ``background``; of several frames, the first. How depths are scaled:
    `nstbench.pictures.decode.decode`.

    Args:
        path: the file; ``~`` is understood.
        setting: what the user calls this picture, for messages.
        background: sRGB colour in [0, 1] behind transparent pictures.
        max_pixels: larger pictures are refused by their header, before any memory is taken for them.

    Raises:
        UserError: the file is missing, unreadable, broken, no picture, or of an unusable size.
    """
    path = existing_file(path, setting)
    try:
        with pillow_limits(max_pixels):
            decoded = decode(path, max_pixels)
    except UnreadableError as error:
        raise UserError(setting, path, error.reason, error.hint) from error
    except Image.DecompressionBombError as error:
        raise _too_large(setting, path, error, max_pixels) from error
    except MemoryError as error:
        raise UserError(
            setting, path, "there is not enough memory for it", "Make the picture smaller."
        ) from error
    except Exception as error:  # broken bytes make decoders raise OSError, SyntaxError, struct.error, …
        raise _broken(setting, path, error) from error

    height, width = decoded.rgb.shape[:2]
    if min(height, width) < 2:
        raise UserError(
            setting, path, f"{width}×{height} pixels is too small to stylise", "Use a larger picture."
        )
    rgb = decoded.rgb
    if decoded.alpha is not None:
        alpha = decoded.alpha[..., None]
        rgb = rgb * alpha + np.asarray(background, dtype=np.float32) * (1 - alpha)
    # A copy: the array may be read-only, turned, or one channel seen three times.
    planes = np.array(rgb.transpose(2, 0, 1), dtype=np.float32, order="C")
    return torch.from_numpy(planes)[None].clamp_(0, 1)


def write_png(path: str | Path, picture: Tensor, provenance: Mapping[str, str] | None = None) -> None:
    """Write a picture as an 8-bit sRGB PNG, whole or not at all.

    Values are clamped to [0, 1] and rounded to the nearest of 256 levels. Equal input gives equal
    bytes. Missing folders are made.

    Args:
        path: the file, replaced if it exists.
        picture: (3, H, W) or (1, 3, H, W), any float type, any device.
        provenance: short Latin names → any text, kept in the file as iTXt entries.

    Raises:
        ValueError: the shape is not that of one picture, or a value is NaN.
        OSError: the file cannot be written.
    """
    image = to_image(picture)
    info = PngImagePlugin.PngInfo()
    info.add(b"sRGB", b"\x00")  # says how to read the numbers; without it viewers guess
    for key, text in sorted((provenance or {}).items()):
        info.add_itxt(key, text)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".writing-{secrets.token_hex(6)}.png"
    try:
        image.save(temporary, format="PNG", pnginfo=info, compress_level=6)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def to_image(picture: Tensor) -> Image.Image:
    """One picture, (3, H, W) or (1, 3, H, W), as an 8-bit RGB Pillow image; see `write_png`."""
    shape = tuple(picture.shape)
    if len(shape) == 4 and shape[0] == 1:
        picture = picture[0]
    if picture.ndim != 3 or picture.shape[0] != 3 or picture.numel() == 0:
        raise ValueError(f"one picture is (3, H, W) or (1, 3, H, W), not {shape}")
    values = picture.detach().to("cpu", torch.float32)
    if values.isnan().any():
        raise ValueError("the picture has NaN values")
    # Not round(): that takes halves to the even level, so 0.5/255 would become black.
    levels = (values.clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(levels.permute(1, 2, 0).numpy()))


def read_provenance(path: str | Path, *, setting: str = "picture") -> dict[str, str]:
    """Return the text entries of a PNG; empty for a PNG without any and for other kinds of picture.

    Raises:
        UserError: the file is missing, unreadable, broken or no picture.
    """
    path = existing_file(path, setting)
    try:
        with pillow_limits(_MAX_PIXELS), open_image(path) as image:
            entries = image.text if isinstance(image, PngImagePlugin.PngImageFile) else {}
            return {str(key): str(text) for key, text in entries.items()}
    except Image.DecompressionBombError as error:
        raise _too_large(setting, path, error, _MAX_PIXELS) from error
    except Exception as error:  # see read_picture
        raise _broken(setting, path, error) from error


def _too_large(setting: str, path: Path, error: Exception, limit: int) -> UserError:
    # Pillow's message, "Image size (N pixels) exceeds …", is all that is known of the size.
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
    """Say what is wrong with a file that could not be decoded, from its first bytes and from the error."""

    def begins(signatures: dict[tuple[int, bytes], str]) -> str | None:
        return next((kind for (at, mark), kind in signatures.items() if head[at:].startswith(mark)), None)

    with path.open("rb") as file:
        head = file.read(256)
    unknown, again = isinstance(error, UnidentifiedImageError), "Fetch or save it again."
    if "truncated" in str(error).lower():
        return UserError(setting, path, "the file is truncated: its end is missing", again)
    if kind := begins(_SIGNATURES):
        detail = "" if unknown else f" ({error})"
        return UserError(setting, path, f"it starts as {kind} but is broken or truncated{detail}", again)
    if kind := begins(_FOREIGN) or ("SVG drawings" if b"<svg" in head else None):
        return UserError(setting, path, f"{kind} are not read here", "Convert it to PNG or JPEG.")
    if not unknown:
        return UserError(setting, path, f"the picture is broken ({error})", again)
    what = "a web page" if b"<html" in head.lower() or b"<!doctype" in head.lower() else "not a picture"
    return UserError(setting, path, f"the file is {what}", "Give a JPEG, PNG, WebP or TIFF.")
