"""Pictures that are cut, damaged, far too large or made to take memory: one message, or values in [0, 1]."""

from __future__ import annotations

import io
import random
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor

from nstbench.cli.composition.overrides import overrides_from
from nstbench.errors import UserError
from nstbench.pictures import io as reading
from nstbench.pictures.io import read_picture, read_reduced

NOISE = np.cumsum(np.random.default_rng(0).integers(-6, 7, (60, 80, 3)), 1).astype(np.uint8)


def as_tensor(rgb: np.ndarray, top: float = 255) -> Tensor:
    return torch.from_numpy((rgb.astype(np.float32) / top).transpose(2, 0, 1).copy())[None]


def farthest(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


def png_bytes(height: int, width: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand, with data of any length."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def refusal(path: str | Path) -> UserError:
    with pytest.raises(UserError) as caught:
        read_picture(path, setting="pictures.content")
    assert str(caught.value).startswith("pictures.content=")
    assert Path(path).name in str(caught.value)
    return caught.value


# ----------------------------------------------------------------------------- values


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
def test_portable_float_maps_are_read_as_they_are(tmp_path: Path, order: str, channels: int) -> None:
    floats = np.random.default_rng(1).random((5, 7, channels)).astype(np.float32)
    head = b"%s\n7 5\n%s\n" % (b"PF" if channels == 3 else b"Pf", b"-2.5" if order == "<" else b"1.0")
    (tmp_path / "a.pfm").write_bytes(head + floats[::-1].astype(f"{order}f4").tobytes())
    assert torch.equal(read_picture(tmp_path / "a.pfm"), as_tensor(floats, 1).expand(-1, 3, -1, -1))


def test_other_floats_of_a_portable_float_map(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.pfm"
    floats = np.linspace(-2, 6, 35, dtype="<f4").reshape(5, 7)
    path.write_bytes(b"Pf\n7 5\n-1\n" + floats.tobytes())
    grey = read_picture(path)[0, 0]
    assert (float(grey.min()), float(grey.max())) == (0, 1)
    assert "stretched" in caplog.text
    floats[2, 2] = np.inf
    path.write_bytes(b"Pf\n7 5\n-1\n" + floats.tobytes())
    assert "NaN or infinite" in refusal(path).reason
    path.write_bytes(b"Pf\n7 5\n-1\n" + floats.tobytes()[:-1])
    assert "truncated" in refusal(path).reason


def test_the_largest_floats_become_values_in_range(tmp_path: Path) -> None:
    largest = np.finfo(np.float64).max
    values = np.linspace(-1, 1, 48).reshape(6, 8) * largest
    tifffile.imwrite(tmp_path / "a.tif", values)
    expected = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    assert farthest(read_picture(tmp_path / "a.tif")[:, :1], as_tensor(expected[..., None], 1)) < 1e-6


# ----------------------------------------------------------------------------- too little or too much


def test_a_png_whose_data_ends_early_is_refused(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in NOISE)
    (tmp_path / "a.png").write_bytes(png_bytes(60, 80, 8, 2, rows))
    assert farthest(read_picture(tmp_path / "a.png"), as_tensor(NOISE)) == 0
    (tmp_path / "a.png").write_bytes(png_bytes(60, 80, 8, 2, rows[: len(rows) // 2]))
    assert refusal(tmp_path / "a.png").reason == "the file is truncated: a part of its picture is missing"


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}, {"subsampling": 0}])
@pytest.mark.parametrize("kept", [0.4, 0.9])
def test_a_jpeg_that_ends_early_is_refused(tmp_path: Path, options: dict[str, int], kept: float) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(NOISE).save(path, quality=95, **options)  # type: ignore[arg-type]
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)] + b"\xff\xd9")
    assert "a part of its picture is missing" in refusal(path).reason


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("colour", ["white", (128, 128, 128)])
def test_a_whole_jpeg_with_a_flat_corner_is_read(
    tmp_path: Path, progressive: bool, colour: str | tuple[int, int, int]
) -> None:
    flat = Image.new("RGB", (100, 90), colour)
    flat.paste(Image.fromarray(NOISE), (0, 0))
    flat.save(tmp_path / "a.jpg", progressive=progressive)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes() + b"trailing")
    assert read_picture(tmp_path / "a.jpg").shape == (1, 3, 90, 100)


def tiff(*entries: tuple[int, int, int, int], data: bytes = b"") -> bytes:
    """A TIFF by hand: tags as number, type, count, value; data from the eighth byte."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    return head + data + struct.pack("<H", len(entries)) + body + b"\0" * 4


def deep_grey_tiff(data: bytes, compression: int, stored: int | None = None) -> bytes:
    sizes = [
        (256, 4, 1, 30),
        (257, 4, 1, 20),
        (258, 3, 1, 16),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
        (278, 4, 1, 20),
    ]
    stored = len(data) if stored is None else stored
    return tiff(*sizes, (259, 3, 1, compression), (273, 4, 1, 8), (279, 4, 1, stored), data=data)


def test_strips_hold_what_the_size_of_the_picture_says(tmp_path: Path) -> None:
    path, raw = tmp_path / "a.tif", bytes(range(240)) * 5
    path.write_bytes(deep_grey_tiff(zlib.compress(raw), 8))
    assert read_picture(path).shape == (1, 3, 20, 30)
    path.write_bytes(deep_grey_tiff(zlib.compress(raw + b"\0" * 50_000_000, 9), 8))
    assert "expands to more than the 1,200 bytes of its rows" in refusal(path).reason
    path.write_bytes(deep_grey_tiff(zlib.compress(raw[:600]), 8))
    assert "a part of its picture is missing" in refusal(path).reason
    path.write_bytes(deep_grey_tiff(raw, 1, stored=600))
    assert "a part of its picture is missing" in refusal(path).reason


def test_a_tag_without_measure_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.tif").open("wb") as file:
        file.write(tiff((256, 4, 1, 30), (257, 4, 1, 20), (273, 4, 400_000_000, 8)))
        file.truncate(1_600_000_100)  # sparse: takes no space
    assert "tag 273 has 400,000,000 values" in refusal(tmp_path / "a.tif").reason


def test_the_longer_edge_is_limited(tmp_path: Path) -> None:
    Image.new("1", (65_536, 2)).save(tmp_path / "a.png")
    assert (
        "longer edge of 65,536 pixels is longer than the limit of 65,535"
        in refusal(tmp_path / "a.png").reason
    )


@pytest.mark.parametrize("name", ["a.eps", "a.png"])
def test_postscript_is_not_run(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(NOISE).save(path, format="EPS")
    assert "PostScript" in refusal(path).reason


# ----------------------------------------------------------------------------- far larger than needed


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "deep.tif", "turned.png"])
def test_what_is_far_larger_than_needed_is_reduced(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    y, x = np.mgrid[0:640, 0:961]
    rgb = np.stack([x // 4, y // 3, (x + y) // 7], -1).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    if name == "deep.tif":
        tifffile.imwrite(tmp_path / name, rgb.astype(np.uint16) * 257, photometric="rgb")
    else:
        options = {"a.jpg": {"quality": 98}, "turned.png": {"exif": exif}}.get(name, {})
        Image.fromarray(rgb).save(tmp_path / name, **options)  # type: ignore[arg-type]
    whole = read_picture(tmp_path / name)

    def needed(shape: tuple[int, int]) -> tuple[int, int]:
        return shape[0] // 8, shape[1] // 8

    untouched, shape = read_reduced(tmp_path / name, needed)
    assert torch.equal(untouched, whole)  # of fewer than 33 million pixels
    monkeypatch.setattr(reading, "REDUCED_ABOVE", 100_000)
    reduced, shape = read_reduced(tmp_path / name, needed)
    assert shape == tuple(whole.shape[-2:])
    assert max(reduced.shape) in (480, 481)
    small = [torch.nn.functional.interpolate(each, (50, 50), mode="area") for each in (whole, reduced)]
    assert farthest(*small) < 1.5 / 255
    almost, _ = read_reduced(tmp_path / name, lambda shape: (shape[0] // 7, shape[1] // 7))
    assert torch.equal(almost, whole)  # seven times as large is not eight


# ----------------------------------------------------------------------------- names


def test_a_name_that_begins_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(NOISE).save("~tilde.png")
    assert read_picture("~tilde.png").shape == (1, 3, 60, 80)
    error = refusal("~nobody2/x.png")
    assert error.reason == "there is no user nobody2, nor a file of this name"
    assert "~/" in error.hint


def test_a_name_that_looks_like_an_interpolation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert overrides_from(["content=${size}.png"]) == ["pictures.content=${size}.png"]
    Image.fromarray(NOISE).save("${size}.png")
    with pytest.raises(UserError, match=r"read as the value of a setting.*Rename the file"):
        overrides_from(["content=${size}.png"])


# ----------------------------------------------------------------------------- any bytes


def test_mutated_files_are_pictures_or_messages(tmp_path: Path) -> None:
    chance, path, whole = random.Random(0), tmp_path / "a", []
    for kind in (
        "AVIF",
        "BMP",
        "GIF",
        "JPEG",
        "JPEG2000",
        "PCX",
        "PNG",
        "PPM",
        "QOI",
        "SGI",
        "TGA",
        "TIFF",
        "WEBP",
    ):
        buffer = io.BytesIO()
        Image.fromarray(NOISE).resize((24, 20)).save(buffer, format=kind)
        whole.append(buffer.getvalue())
    whole.append(deep_grey_tiff(zlib.compress(bytes(range(240)) * 5), 8))
    whole.append(b"PF\n7 5\n-1\n" + np.random.default_rng(0).random(105).astype("<f4").tobytes())
    outcomes = {"read": 0, "refused": 0}
    for _ in range(400):
        data = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 4)):
            where = chance.randrange(chance.choice([min(len(data), 200), len(data)]))
            data[where : where + chance.choice([1, 4])] = chance.choice(
                [b"\xff" * 4, b"\0", chance.randbytes(1), b""]
            )
        path.write_bytes(data)
        with suppress(UserError):
            outcomes["refused"] += 1
            picture = read_picture(path, max_pixels=200_000)
            assert torch.isfinite(picture).all()
            assert 0 <= float(picture.min()) <= float(picture.max()) <= 1
            outcomes["refused"], outcomes["read"] = outcomes["refused"] - 1, outcomes["read"] + 1
    assert min(outcomes.values()) > 40
