"""Reading pictures from folders of runs, which other programs may have changed. Torch is not loaded."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from nstbench.pictures.formats import pillow_limits
from nstbench.pictures.png_data import DamagedError, check_png, read_png_header
from nstbench.runtime.regular_files import NotRegularError, open_regular


def open_recorded_picture(path: Path, *, max_pixels: int = 2**26) -> Image.Image:
    """Read a picture such as ``canvas.png`` from the folder of a run, which is not trusted.

    Only a regular file that is not a symbolic link is opened, only as PNG, and only if its data is complete.
    Memory: at most 8 bytes per pixel of the picture, and the size of a block of the file.

    Args:
        path: Path of the file.
        max_pixels: Limit on the number of pixels.

    Returns:
        Decoded picture, mode ``RGB``; the file is closed.

    Raises:
        ValueError: If it cannot be used; the message is the reason, as a clause: "there is no such file".
    """
    try:
        with open_regular(path, follow_links=False) as file:
            header = read_png_header(file)
            pixels = header.width * header.height
            if pixels > max_pixels:
                raise DamagedError(f"its {pixels:,} pixels are more than the limit of {max_pixels:,}")
            if header.bits > 8:
                raise DamagedError(f"it has {header.bits} bits per value, not 8")
            check_png(file, max_pixels)
            file.seek(0)
            with pillow_limits(max_pixels), Image.open(file, formats=["PNG"]) as image:
                return image.convert("RGB")
    except (DamagedError, NotRegularError) as error:
        raise ValueError(str(error)) from error
    except FileNotFoundError as error:
        raise ValueError("there is no such file") from error
    except (MemoryError, Image.DecompressionBombError) as error:
        raise ValueError("it is too large") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, … for broken files
        raise ValueError(" ".join(f"the picture cannot be read ({error})".split())) from error
