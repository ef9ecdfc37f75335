"""Reading and writing picture files: real files of every kind, made here."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, ImageFile
from torch import Tensor

import nstbench
from nstbench.errors import StorageError, UserError
from nstbench.pictures.io import read_picture, read_provenance, write_png

LEVEL = 1 / 255


def gradient(height: int = 24, width: int = 32) -> np.ndarray:
    """A smooth 8-bit RGB picture without symmetry, kind to JPEG."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([60 + 4 * x, 40 + 6 * y, 200 - 3 * x - 2 * y], -1).clip(0, 255).astype(np.uint8)


def as_tensor(rgb: np.ndarray, top: float = 255) -> Tensor:
    return torch.from_numpy((rgb.astype(np.float32) / top).transpose(2, 0, 1).copy())[None]


def farthest(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


def png_bytes(height: int, width: int, bits: int, colour: int, rows: bytes, chunks: bytes = b"") -> bytes:
    """A PNG by hand: Pillow writes neither 16-bit colour nor false headers."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = (
        png_chunk(b"IHDR", header)
        + chunks
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + parts


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png(samples: np.ndarray, colour: int, chunks: bytes = b"") -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return png_bytes(*samples.shape[:2], 16, colour, rows, chunks)


# ----------------------------------------------------------------------------- what is read


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.png", {}, 0),
        ("a.bmp", {}, 0),
        ("a.tif", {}, 0),
        ("lzw.tif", {"compression": "tiff_lzw"}, 0),
        ("a.webp", {"lossless": True}, 0),
        ("a.jpg", {"quality": 98, "subsampling": 0}, 5 * LEVEL),
        ("lossy.webp", {"quality": 95}, 12 * LEVEL),
    ],
)
def test_reads_the_common_formats(
    tmp_path: Path, name: str, options: dict[str, object], tolerance: float
) -> None:
    Image.fromarray(gradient()).save(tmp_path / name, **options)
    picture = read_picture(tmp_path / name)
    assert picture.shape == (1, 3, 24, 32)
    assert picture.dtype == torch.float32
    assert picture.is_contiguous()
    assert farthest(picture, as_tensor(gradient())) <= tolerance + 1e-7


def test_grey_and_one_bit_become_three_equal_channels(tmp_path: Path) -> None:
    grey = gradient()[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    picture = read_picture(tmp_path / "grey.png")
    assert farthest(picture, as_tensor(np.dstack([grey] * 3))) < 1e-7
    Image.fromarray(grey > 100).save(tmp_path / "bit.png")
    bit = read_picture(tmp_path / "bit.png")
    assert torch.equal(bit[0, 1], torch.from_numpy(grey > 100).float())
    picture[0, 0, 0, 0] = 0.25  # three channels of their own, not one seen three times
    assert picture[0, 1, 0, 0] != 0.25


def test_transparency_lies_over_the_background(tmp_path: Path) -> None:
    rgba = np.zeros((4, 6, 4), np.uint8)
    rgba[..., 0], rgba[:, :2, 3], rgba[:, 2:4, 3] = 255, 255, 51  # red: opaque, a fifth, not at all
    Image.fromarray(rgba).save(tmp_path / "a.png")
    white = read_picture(tmp_path / "a.png")
    assert white[0, :, 0, 0].tolist() == [1, 0, 0]
    assert white[0, :, 0, 2].tolist() == pytest.approx([1, 0.8, 0.8])
    assert white[0, :, 0, 5].tolist() == [1, 1, 1]
    blue = read_picture(tmp_path / "a.png", background=(0, 0, 1))
    assert blue[0, :, 0, 2].tolist() == pytest.approx([0.2, 0, 0.8])

    Image.fromarray(rgba).convert("LA").save(tmp_path / "la.png")
    grey = read_picture(tmp_path / "la.png", background=(0, 0, 0))
    assert grey[0, :, 0, 0].tolist() == pytest.approx([76 / 255] * 3)
    assert grey[0, :, 0, 5].tolist() == [0, 0, 0]


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (4, 2))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 0, 1, 1] * 2)
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "see-through.png", transparency=1)
    opaque, through = read_picture(tmp_path / "opaque.png"), read_picture(tmp_path / "see-through.png")
    assert opaque[0, :, 0, 0].tolist() == through[0, :, 0, 0].tolist() == [1, 0, 0]
    assert opaque[0, :, 0, 3].tolist() == [0, 1, 0]
    assert through[0, :, 0, 3].tolist() == [1, 1, 1]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    cmyk = Image.merge("CMYK", [Image.new("L", (16, 16), ink) for ink in (0, 200, 230, 20)])
    cmyk.save(tmp_path / "a.jpg", quality=98)
    red, green, blue = read_picture(tmp_path / "a.jpg")[0, :, 8, 8].tolist()
    assert red > 0.85
    assert (green, blue) == (pytest.approx(0.2, abs=0.05), pytest.approx(0.09, abs=0.05))


def test_lab_tiff(tmp_path: Path) -> None:
    srgb = Image.fromarray(gradient())
    lab = ImageCms.profileToProfile(
        srgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    lab.save(tmp_path / "lab.tif")
    picture = read_picture(tmp_path / "lab.tif")
    assert farthest(picture, as_tensor(gradient())) < 16 * LEVEL  # 8-bit Lab is coarse in saturated colours
    assert float((picture - as_tensor(gradient())).abs().mean()) < 2 * LEVEL


def test_the_first_of_several_frames(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 8), (0, 0, 255)), Image.new("RGB", (8, 8), (0, 255, 0))
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        options = {"lossless": True} if name == "a.webp" else {}
        first.save(tmp_path / name, save_all=True, append_images=[second], **options)
        assert read_picture(tmp_path / name)[0, :, 4, 4].tolist() == [0, 0, 1], name


# ----------------------------------------------------------------------------- depth

DEEP = np.random.default_rng(0).integers(0, 65536, (10, 12, 4)).astype(np.uint16)


@pytest.mark.parametrize("chunks", [b"", png_chunk(b"gAMA", struct.pack(">I", 45455))], ids=["plain", "gAMA"])
def test_sixteen_bit_png_keeps_its_depth(tmp_path: Path, chunks: bytes) -> None:
    alpha = as_tensor(DEEP[..., 3:], 65535)
    expected = as_tensor(DEEP[..., :3], 65535)
    grey = expected[:, :1].expand(-1, 3, -1, -1)
    for colour, samples, want in [
        (0, DEEP[..., :1], grey),
        (2, DEEP[..., :3], expected),
        (4, DEEP[..., [0, 3]], grey * alpha + 1 - alpha),
        (6, DEEP, expected * alpha + 1 - alpha),
    ]:
        (tmp_path / "deep.png").write_bytes(deep_png(samples, colour, chunks))
        assert farthest(read_picture(tmp_path / "deep.png"), want) < 1e-6, colour


def test_an_interlaced_and_filtered_sixteen_bit_png(tmp_path: Path) -> None:
    rgb = DEEP[:, :8, :3]
    passes = [
        (0, 8, 0, 8),
        (0, 8, 4, 8),
        (4, 8, 0, 4),
        (0, 4, 2, 4),
        (2, 4, 0, 2),
        (0, 2, 1, 2),
        (1, 2, 0, 1),
    ]
    rows = b""
    for y, dy, x, dx in passes:  # Adam7; each row filtered by "Sub", over 6 bytes
        for row in rgb[y::dy, x::dx]:
            raw = row.astype(">u2").view(np.uint8).reshape(-1, 6)
            rows += (
                b"\1" + np.diff(raw, axis=0, prepend=np.zeros((1, 6), np.uint8)).astype(np.uint8).tobytes()
            )
    whole = bytearray(png_bytes(10, 8, 16, 2, rows))
    whole[28] = 1  # the last byte of IHDR: interlaced
    whole[29:33] = struct.pack(">I", zlib.crc32(whole[12:29]))
    (tmp_path / "a.png").write_bytes(whole)
    assert farthest(read_picture(tmp_path / "a.png"), as_tensor(rgb, 65535)) < 1e-6


@pytest.mark.parametrize(("colour", "level"), [(0, (500,)), (2, (500, 600, 70))])
def test_sixteen_bit_png_with_a_transparent_colour(
    tmp_path: Path, colour: int, level: tuple[int, ...]
) -> None:
    samples = np.full((3, 3, len(level)), 20000, np.uint16)
    samples[0, 0] = level
    samples[0, 1] = [value + 1 for value in level]  # the same high bytes
    chunk = png_chunk(b"tRNS", struct.pack(f">{len(level)}H", *level))
    (tmp_path / "a.png").write_bytes(deep_png(samples, colour, chunk))
    picture = read_picture(tmp_path / "a.png", background=(1, 0, 0))
    assert picture[0, :, 0, 0].tolist() == [1, 0, 0]
    assert float(picture[0, 0, 0, 1]) == pytest.approx(501 / 65535)
    assert picture[0, :, 1, 1].tolist() == pytest.approx([20000 / 65535] * 3)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bit_rgb_tiff_keeps_its_depth(tmp_path: Path, planar: str, compression: str | None) -> None:
    rgb = DEEP[..., :3]
    data = rgb if planar == "contig" else np.moveaxis(rgb, -1, 0)
    tifffile.imwrite(
        tmp_path / "a.tif", data, photometric="rgb", planarconfig=planar, compression=compression
    )
    assert farthest(read_picture(tmp_path / "a.tif"), as_tensor(rgb, 65535)) < 1e-6


def test_deep_grey_tiffs(tmp_path: Path) -> None:
    grey = DEEP[..., 0]
    expected = as_tensor(np.dstack([grey] * 3), 65535)
    tifffile.imwrite(tmp_path / "a.tif", grey)
    assert farthest(read_picture(tmp_path / "a.tif"), expected) < 1e-6
    tifffile.imwrite(tmp_path / "white0.tif", grey, photometric="miniswhite")
    assert farthest(read_picture(tmp_path / "white0.tif"), 1 - expected) < 1e-6
    Image.fromarray(grey).save(tmp_path / "lzw.tif", compression="tiff_lzw")  # tifffile lacks this codec
    assert farthest(read_picture(tmp_path / "lzw.tif"), expected) < 1e-6


def test_alpha_of_a_deep_tiff(tmp_path: Path) -> None:
    alpha, colour = as_tensor(DEEP[..., 3:], 65535), as_tensor(DEEP[..., :3], 65535)
    tifffile.imwrite(tmp_path / "straight.tif", DEEP, photometric="rgb", extrasamples=["unassalpha"])
    assert farthest(read_picture(tmp_path / "straight.tif"), colour * alpha + 1 - alpha) < 1e-6
    multiplied = DEEP.copy()
    multiplied[..., :3] = np.round(DEEP[..., :3] * (DEEP[..., 3:] / 65535))
    tifffile.imwrite(tmp_path / "multiplied.tif", multiplied, photometric="rgb", extrasamples=["assocalpha"])
    assert farthest(read_picture(tmp_path / "multiplied.tif"), colour * alpha + 1 - alpha) < 1e-4


def test_float_tiffs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = np.random.default_rng(1).random((8, 9, 3))
    for dtype in (np.float32, np.float64):
        tifffile.imwrite(tmp_path / "rgb.tif", values.astype(dtype), photometric="rgb")
        assert farthest(read_picture(tmp_path / "rgb.tif"), as_tensor(values, 1)) < 1e-6
    tifffile.imwrite(tmp_path / "grey.tif", values[..., 0].astype(np.float32))
    assert farthest(read_picture(tmp_path / "grey.tif")[:, :1], as_tensor(values[..., :1], 1)) < 1e-6
    assert not caplog.records
    wide = values[..., 0].astype(np.float32) * 3000 - 1000
    tifffile.imwrite(tmp_path / "wide.tif", wide)
    stretched = read_picture(tmp_path / "wide.tif")[0, 0]
    assert (float(stretched.min()), float(stretched.max())) == (0, 1)
    assert np.corrcoef(stretched.numpy().ravel(), wide.ravel())[0, 1] > 0.999999
    assert "stretched" in caplog.text


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32])
def test_wide_integer_tiffs_are_stretched(tmp_path: Path, dtype: type) -> None:
    grey = DEEP[..., 0].astype(np.int64) // 3
    tifffile.imwrite(tmp_path / "a.tif", grey.astype(dtype))
    expected = (grey - grey.min()) / (grey.max() - grey.min())
    assert farthest(read_picture(tmp_path / "a.tif")[:, :1], as_tensor(expected[..., None], 1)) < 1e-5


def test_nan_in_a_float_tiff_is_refused(tmp_path: Path) -> None:
    values = np.full((8, 9), 0.5, np.float32)
    values[3, 3] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", values)
    with pytest.raises(UserError, match="NaN"):
        read_picture(tmp_path / "a.tif")


# ----------------------------------------------------------------------------- orientation

TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: np.rot90,
    7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
    8: lambda a: np.rot90(a, -1),
}
"""What a camera held at each orientation stores of an upright scene."""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tif", "lzw.tif", "webp", "16.png", "16.tif"])
def test_every_orientation_comes_out_upright(tmp_path: Path, orientation: int, kind: str) -> None:
    scene = gradient(6, 9)
    stored = np.ascontiguousarray(TURNS[orientation](scene))
    path = tmp_path / f"a.{kind}"
    exif = Image.Exif()
    exif[274] = orientation
    if kind == "16.png":
        chunk = png_chunk(b"eXIf", exif.tobytes()[6:])
        path.write_bytes(deep_png(stored.astype(np.uint16) * 257, 2, chunk))
    elif kind == "16.tif":
        tag = (274, 3, 1, orientation, True)
        tifffile.imwrite(path, stored.astype(np.uint16) * 257, photometric="rgb", extratags=[tag])
    else:
        options = {"png": {}, "webp": {"lossless": True}, "lzw.tif": {"compression": "tiff_lzw"}, "tif": {}}
        Image.fromarray(stored).save(path, exif=exif, **options[kind])
    assert farthest(read_picture(path), as_tensor(scene)) < 1e-6


def test_orientation_of_a_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # stored lying on its left side: top of the scene at the right
    stored = Image.new("RGB", (32, 16), (255, 255, 255))
    stored.paste((255, 0, 0), (0, 0, 16, 16))
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.shape == (1, 3, 32, 16)
    top, bottom = picture[0, :, 3, 8].tolist(), picture[0, :, 28, 8].tolist()
    assert top == pytest.approx([1, 0, 0], abs=0.03)
    assert bottom == pytest.approx([1, 1, 1], abs=0.03)


def test_broken_exif_does_not_stop_a_picture(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff nonsense")
    assert farthest(read_picture(tmp_path / "a.png"), as_tensor(gradient())) < 1e-7


# ----------------------------------------------------------------------------- ICC profiles

SRGB_D50 = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
ADOBE_D50 = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])


def icc_profile(space: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ") -> bytes:
    """A minimal ICC v2 profile with the given tags (data padded to four bytes)."""
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    body, table = b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    total = 128 + 4 + len(table) + len(body)
    header = struct.pack(">I4sI4s4s4s", total, b"none", 0x02400000, kind, space, pcs)
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 24 + b"\0" * 4
    header += struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def adobe_rgb() -> bytes:
    columns = {name: xyz(*ADOBE_D50[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    curves = {name: gamma(563 / 256) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return icc_profile(b"RGB ", {b"wtpt": xyz(0.9642, 1, 0.8249), **columns, **curves})


def srgb_curve(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def adobe_in_srgb(rgb: np.ndarray) -> np.ndarray:
    """The formula: through linear light and D50 XYZ."""
    linear = (rgb / 255.0) ** (563 / 256)
    return srgb_curve(linear @ ADOBE_D50.T @ np.linalg.inv(SRGB_D50).T)


@pytest.mark.parametrize("kind", ["png", "tif", "jpg", "webp", "16.png", "16.tif", "alpha.png"])
def test_adobe_rgb_is_converted(tmp_path: Path, kind: str) -> None:
    rgb, path = gradient(), tmp_path / f"a.{kind}"
    if kind == "16.png":
        chunk = png_chunk(b"iCCP", b"Adobe\0\0" + zlib.compress(adobe_rgb()))
        path.write_bytes(deep_png(rgb.astype(np.uint16) * 257, 2, chunk))
    elif kind == "16.tif":
        tifffile.imwrite(path, rgb.astype(np.uint16) * 257, photometric="rgb", iccprofile=adobe_rgb())
    else:
        image = Image.fromarray(rgb).convert("RGBA" if kind == "alpha.png" else "RGB")
        options = {"jpg": {"quality": 99, "subsampling": 0}, "webp": {"lossless": True}}.get(kind, {})
        image.save(path, icc_profile=adobe_rgb(), **options)
    picture = read_picture(path)
    if kind == "jpg":  # compression moves colours a little before the profile does
        rgb = np.asarray(Image.open(path))
    expected = as_tensor(adobe_in_srgb(rgb), 1)
    assert farthest(expected, as_tensor(rgb)) > 20 * LEVEL  # the profile matters here
    assert farthest(picture, expected) < 2 * LEVEL


def test_a_grey_profile(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (4, 1))
    profile = icc_profile(b"GRAY", {b"wtpt": xyz(0.9642, 1, 0.8249), b"kTRC": gamma(1.8)})
    Image.fromarray(ramp).save(tmp_path / "a.png", icc_profile=profile)
    expected = srgb_curve((ramp / 255.0) ** (461 / 256))
    assert farthest(read_picture(tmp_path / "a.png")[:, :1], as_tensor(expected[..., None], 1)) < 2 * LEVEL


def test_a_cmyk_profile_decides_what_the_inks_are(tmp_path: Path) -> None:
    inks = np.array([[(n >> i) & 1 for i in (3, 2, 1, 0)] for n in range(16)])
    # In this printer, "cyan" is a strong red, and every other ink is black.
    lab = np.where(inks[:, 1:].any(1, keepdims=True), [0, 128, 128], [255, 128, 128])
    lab = np.where((inks[:, :1] == 1) & ~inks[:, 1:].any(1, keepdims=True), [128, 198, 178], lab)
    identity = struct.pack(">9i", *(65536 * int(i in (0, 4, 8)) for i in range(9)))
    curves = bytes(range(256))
    table = (
        b"mft1\0\0\0\0"
        + bytes([4, 3, 2, 0])
        + identity
        + curves * 4
        + lab.astype(np.uint8).tobytes()
        + curves * 3
    )
    profile = icc_profile(b"CMYK", {b"wtpt": xyz(0.9642, 1, 0.8249), b"A2B0": table, b"A2B1": table}, b"Lab ")
    cmyk = Image.merge("CMYK", [Image.new("L", (16, 16), ink) for ink in (255, 0, 0, 0)])
    cmyk.save(tmp_path / "plain.tif")
    cmyk.save(tmp_path / "profiled.tif", icc_profile=profile)
    assert read_picture(tmp_path / "plain.tif")[0, :, 8, 8].tolist() == pytest.approx([0, 1, 1], abs=0.01)
    red, green, blue = read_picture(tmp_path / "profiled.tif")[0, :, 8, 8].tolist()
    assert red > 0.75
    assert max(green, blue) < 0.35


def test_an_srgb_profile_changes_no_value(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png", icc_profile=profile)
    assert torch.equal(read_picture(tmp_path / "a.png"), as_tensor(noise))
    chunk = png_chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(profile))
    (tmp_path / "deep.png").write_bytes(deep_png(DEEP[..., :3], 2, chunk))
    assert farthest(read_picture(tmp_path / "deep.png"), as_tensor(DEEP[..., :3], 65535)) < 1e-6


@pytest.mark.parametrize(
    "profile", [b"not a profile", adobe_rgb()[:200], b"\0" * 400], ids=["text", "cut", "zeros"]
)
def test_a_broken_profile_is_ignored_with_a_warning(
    tmp_path: Path, profile: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.png", icc_profile=profile)
    assert farthest(read_picture(tmp_path / "a.png"), as_tensor(gradient())) < 1e-7
    assert "ignored an ICC profile" in caplog.text


def test_a_profile_for_another_kind_of_picture_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grey = icc_profile(b"GRAY", {b"wtpt": xyz(0.9642, 1, 0.8249), b"kTRC": gamma(1.0)})
    Image.fromarray(gradient()).save(tmp_path / "a.png", icc_profile=grey)
    assert farthest(read_picture(tmp_path / "a.png"), as_tensor(gradient())) < 1e-7
    assert "GRAY" in caplog.text


# ----------------------------------------------------------------------------- mistakes


def refusal(path: str | Path, **options: int) -> UserError:
    with pytest.raises(UserError) as caught:
        read_picture(path, setting="pictures.content", **options)
    assert str(caught.value).startswith("pictures.content=")
    assert Path(path).name.replace("\0", r"\x00") in str(caught.value)
    return caught.value


def test_a_missing_file_suggests_its_neighbours(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "holiday.png")
    error = refusal(tmp_path / "hoilday.jpg")
    assert error.reason == "there is no such file"
    assert error.hint == f"Did you mean {tmp_path / 'holiday.png'}?"
    assert "nowhere does not exist" in refusal(tmp_path / "nowhere" / "a.png").hint


def test_a_folder_names_a_picture_in_it(tmp_path: Path) -> None:
    assert refusal(tmp_path).reason == "this is a folder"
    Image.fromarray(gradient()).save(tmp_path / "holiday.png")
    assert "holiday.png" in refusal(tmp_path).hint


def test_what_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    assert refusal(tmp_path / "empty.png").reason == "the file is empty"
    os.mkfifo(tmp_path / "pipe.png")
    assert "regular file" in refusal(tmp_path / "pipe.png").reason
    assert "network" in refusal("https://example.org/cat.jpg").reason
    assert "cannot be opened" in refusal(tmp_path / ("x" * 300 + ".png")).reason
    assert refusal(f"{tmp_path}/nu\0ll.png")


def test_the_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    assert read_picture("~/a.png").shape == (1, 3, 24, 32)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"Dear reader,\nthis is a text.\n", "not a picture"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "HEIC"),
        (b"%PDF-1.7\n", "PDF files cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "PostScript"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + b"nonsense" * 9, "starts as PNG"),
        (b"\xff\xd8\xff\xe0", "starts as JPEG"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "starts as TIFF"),
        (b"\0" * 100, "not a picture"),
    ],
)
def test_what_is_not_a_picture(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert reason in refusal(tmp_path / "a.png").reason


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "lzw.tif", "a.gif", "a.bmp"])
@pytest.mark.parametrize("kept", [0.4, 0.9])
def test_truncated_files_are_refused(
    tmp_path: Path, name: str, kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    options = {"lzw.tif": {"compression": "tiff_lzw"}}.get(name, {})
    Image.fromarray(noise).save(tmp_path / name, **options)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * kept)])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as some other library may have done
    assert "truncated" in refusal(tmp_path / name).reason
    assert ImageFile.LOAD_TRUNCATED_IMAGES  # theirs again


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_bytes(100_000, 100_000, 8, 2, b"\0" * 100))
    error = refusal(tmp_path / "bomb.png")
    assert "10,000,000,000 pixels are more than the limit of 100,000,000" in error.reason


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "16.tif", "float.tif", "a.gif", "a.jpg"])
def test_the_limit_is_the_one_given(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "16.tif":
        tifffile.imwrite(tmp_path / name, gradient().astype(np.uint16), photometric="rgb")
    elif name == "float.tif":
        tifffile.imwrite(tmp_path / name, gradient() / 255, photometric="rgb")
    else:
        Image.fromarray(gradient()).save(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own limit must not get in the way
    assert read_picture(tmp_path / name, max_pixels=24 * 32).shape == (1, 3, 24, 32)
    assert "768 pixels are more than the limit of 767" in refusal(tmp_path / name, max_pixels=767).reason
    assert Image.MAX_IMAGE_PIXELS == 10


def test_large_pictures_below_the_limit_raise_no_warning(tmp_path: Path) -> None:
    Image.new("1", (12_000, 8_000)).save(tmp_path / "large.png")  # 96 megapixels; Pillow warns above 89
    code = (
        "import warnings, sys; warnings.simplefilter('error')\n"
        "from nstbench.pictures.io import read_provenance\n"
        "print(read_provenance(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "large.png"],
        capture_output=True,
        text=True,
        cwd=Path(nstbench.__file__).parents[1],
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "{}"), done.stderr


@pytest.mark.parametrize(("size", "shown"), [((1, 1), "1×1"), ((1, 30), "1×30"), ((30, 1), "30×1")])
def test_too_small(tmp_path: Path, size: tuple[int, int], shown: str) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert refusal(tmp_path / "a.png").reason == f"{shown} pixels is too small to stylise"
    Image.new("RGB", (2, 2)).save(tmp_path / "b.png")
    assert read_picture(tmp_path / "b.png").shape == (1, 3, 2, 2)


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "private.png"
    Image.fromarray(gradient()).save(path)
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything

        def denied(self: Path, *args: object) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "open", denied)
    assert refusal(path).reason == "you may not read this file"


@pytest.fixture(scope="module")
def valid_files() -> dict[str, bytes]:
    files = {}
    for name, options in {
        "png": {"icc_profile": adobe_rgb()},
        "jpeg": {},
        "webp": {},
        "tiff": {"compression": "tiff_adobe_deflate"},
        "gif": {},
        "bmp": {},
    }.items():
        buffer = io.BytesIO()
        Image.fromarray(gradient()).save(buffer, format=name, **options)
        files[name] = buffer.getvalue()
    files["deep.png"] = deep_png(DEEP[..., :3], 2)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, DEEP[..., :3], photometric="rgb")
    files["deep.tif"] = buffer.getvalue()
    return files


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_broken_bytes_are_a_picture_or_a_message(
    data: st.DataObject, valid_files: dict[str, bytes], tmp_path: Path
) -> None:
    content = bytearray(valid_files[data.draw(st.sampled_from(sorted(valid_files)))])
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, min(len(content), 400) - 1))
        content[where] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzzed"
    path.write_bytes(content)
    with suppress(UserError):
        picture = read_picture(path, max_pixels=1_000_000)
        assert picture.shape[:2] == (1, 3)
        assert 0 <= float(picture.min()) <= float(picture.max()) <= 1


# ----------------------------------------------------------------------------- writing

pictures = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9).map(lambda shape: (3, *shape)),
    elements=st.floats(0, 1, width=32),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=pictures)
def test_what_is_written_is_read_back_to_half_a_level(tmp_path: Path, values: np.ndarray) -> None:
    picture = torch.from_numpy(values)
    write_png(tmp_path / "a.png", picture)
    assert farthest(read_picture(tmp_path / "a.png"), picture[None]) <= 1 / 510 + 1e-6


def test_rounding_and_clamping(tmp_path: Path) -> None:
    values = torch.tensor([-3.0, 0.0, 0.49 / 255, 0.5 / 255, 1.5 / 255, 2.5 / 255, 1.0, 7.0])
    write_png(tmp_path / "a.png", values.expand(1, 3, 2, 8).to(torch.float64))
    levels = np.asarray(Image.open(tmp_path / "a.png"))
    assert levels[0, :, 0].tolist() == [0, 0, 0, 1, 2, 3, 255, 255]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_type_and_a_gradient(tmp_path: Path, dtype: torch.dtype) -> None:
    write_png(tmp_path / "a.png", torch.full((3, 4, 4), 0.5, dtype=dtype, requires_grad=True))
    assert farthest(read_picture(tmp_path / "a.png"), torch.full((1, 3, 4, 4), 128 / 255)) < 1e-6


def test_provenance_travels_in_the_file(tmp_path: Path) -> None:
    told = {"config": "size: 512\nname: Ångström × 10⁻³ ☃\n" * 500, "Software": "nstbench", "empty": ""}
    write_png(tmp_path / "a.png", torch.rand(3, 5, 5), told)
    assert read_provenance(tmp_path / "a.png") == told
    write_png(tmp_path / "b.png", torch.rand(3, 5, 5))
    assert read_provenance(tmp_path / "b.png") == {}
    Image.fromarray(gradient()).save(tmp_path / "c.jpg")
    assert read_provenance(tmp_path / "c.jpg") == {}
    with pytest.raises(UserError, match="no such file"):
        read_provenance(tmp_path / "d.png")


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    picture = torch.rand(3, 20, 20)
    write_png(tmp_path / "a.png", picture, {"b": "2", "a": "1"})
    write_png(tmp_path / "b.png", picture[None], {"a": "1", "b": "2"})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a" / "a.png"
    with pytest.raises(StorageError, match="the folder was removed"):  # a run's folder is not made again
        write_png(path, torch.zeros(3, 4, 4))
    path.parent.mkdir()
    write_png(path, torch.zeros(3, 4, 4))
    before = path.read_bytes()

    def full_disk(image: Image.Image, fp: IO[bytes], **options: object) -> None:
        fp.write(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(StorageError, match="the disk is full"):
        write_png(path, torch.ones(3, 4, 4))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["a.png"]


def test_written_files_have_the_usual_permissions(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", torch.zeros(3, 4, 4))
    (tmp_path / "b").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (2, 3, 4, 4), (3, 0, 4), (4, 4, 3)])
def test_what_is_not_one_picture_is_not_written(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one picture"):
        write_png(tmp_path / "a.png", torch.zeros(shape))
    with pytest.raises(ValueError, match="NaN"):
        write_png(tmp_path / "a.png", torch.full((3, 4, 4), float("nan")))
    assert not list(tmp_path.iterdir())
