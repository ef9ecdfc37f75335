"""Pictures in the folders of runs, which anyone may have written."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nstbench
from nstbench.pictures.recorded import open_recorded_picture

NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8)


@pytest.fixture
def canvas(tmp_path: Path) -> Path:
    Image.fromarray(NOISE).save(tmp_path / "canvas.png")
    return tmp_path / "canvas.png"


def reason(path: Path, max_pixels: int = 2**26) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        open_recorded_picture(path, max_pixels=max_pixels)
    message = str(caught.value)
    assert "\n" not in message
    assert not message.endswith(".")
    return message


def test_a_canvas_is_read(canvas: Path) -> None:
    image = open_recorded_picture(canvas)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), NOISE)
    canvas.unlink()
    assert np.array_equal(np.asarray(image.resize((30, 40))), NOISE)  # nothing is read later


def test_other_formats_are_not_read(canvas: Path) -> None:
    canvas.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert reason(canvas) == "it is not a PNG"
    for name in ("JPEG", "GIF", "TIFF", "BMP"):
        Image.fromarray(NOISE).save(canvas, format=name)
        assert reason(canvas) == "it is not a PNG"


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path: Path, canvas: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert reason(tmp_path / "fifo") == "this is a FIFO, not a regular file"
    (tmp_path / "link").symlink_to(canvas)
    assert reason(tmp_path / "link") == "this is a symbolic link, not a regular file"
    assert reason(tmp_path) == "this is a folder, not a regular file"
    assert reason(Path("/dev/zero")) == "this is a device, not a regular file"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(tmp_path / "s"))
        assert reason(tmp_path / "s") == "this is a socket, not a regular file"
    assert reason(tmp_path / "gone.png") == "there is no such file"


def test_the_number_of_pixels_is_limited(canvas: Path) -> None:
    assert open_recorded_picture(canvas, max_pixels=1200).size == (30, 40)
    assert reason(canvas, max_pixels=1199) == "its 1,200 pixels are more than the limit of 1,199"


@pytest.mark.parametrize("kept", [0, 4, 20, 40, 100, 2000])
def test_cut_files_are_refused(canvas: Path, kept: int) -> None:
    canvas.write_bytes(canvas.read_bytes()[:kept])
    assert ("truncated" if kept > 8 else "not a PNG") in reason(canvas)


def test_one_flipped_bit_of_the_data_is_noticed(canvas: Path) -> None:
    content = bytearray(canvas.read_bytes())
    content[1000] ^= 4
    canvas.write_bytes(content)
    assert "its data is damaged" in reason(canvas)


def test_a_huge_text_is_refused_before_it_is_read(canvas: Path) -> None:
    whole = canvas.read_bytes()
    with canvas.open("wb") as file:
        file.write(whole[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt")
        file.truncate(2**31 + 100)  # sparse: takes no space
    assert reason(canvas) == "more than 64 MiB of it are not picture data"


def test_a_compressed_text_that_expands_is_refused_or_bounded(canvas: Path) -> None:
    whole = canvas.read_bytes()
    text = b"Comment\0\0" + zlib.compress(b"\0" * 200_000_000, 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    canvas.write_bytes(whole[:33] + chunk + whole[33:])
    assert "too large" in reason(canvas)


def test_reading_one_does_not_load_torch(canvas: Path) -> None:
    code = (
        "import sys, pathlib; from nstbench.pictures.recorded import open_recorded_picture as o\n"
        "print(o(pathlib.Path(sys.argv[1])).size, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, canvas]
    root = Path(nstbench.__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "(30, 40) False"
