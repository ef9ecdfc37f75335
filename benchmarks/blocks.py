"""Seconds and peak memory of one full gradient, of the whole picture and in exact blocks.

The objective is the usual one (content at relu4_1, Gram matrices at relu1_1 … relu4_1, total variation), on a
VGG-19 of full width with random weights: what it costs depends on shapes, not on training. Content, style
and canvas have one size. Every number is of a process of its own, which computes the targets and then one
gradient; memory is the highest of the whole process (Linux, macOS), or on a GPU PyTorch's own count.

    python -m benchmarks.blocks                          # 512 and 1024 px, whole and in blocks
    python -m benchmarks.blocks --sizes 2048 --tile 1024
    python -m benchmarks.blocks --large                  # and 4096 px in blocks, on a GPU whole too

How far the two gradients are apart is measured at the first size (at most 512 px), in this process, in
float64 and in float32. In float32 a convolution may round otherwise for another shape; where that moves a
ReLU or a maximum from one side to the other, gradients differ by as much as either does from float64's.
On a GPU, convolutions
are computed in full float32, as in runs (`nstbench.runtime.device`), not in PyTorch's default of TF32.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nstbench.blockwise.objective import BlockwiseObjective
from nstbench.encoders.random import RandomVGG
from nstbench.losses.base import CANVAS
from nstbench.losses.content import FeatureReconstruction
from nstbench.losses.gram import Gram
from nstbench.losses.total_variation import TotalVariation
from nstbench.objective.objective import Objective
from nstbench.objective.term import Term

STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
LARGE = 4096


def objective(
    tile: int | None, size: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Callable[[], Tensor]:
    """Return one evaluation of the gradient, whole or in blocks; its targets are computed."""
    encoder = RandomVGG("vgg19", width=1.0, normalize=False, pooling="max", padding="zeros").to(device, dtype)
    terms = [
        Term("content/features", FeatureReconstruction(), {"relu4_1": 1.0}, 1.0),
        Term("style/gram", Gram(), dict.fromkeys(STYLE, 0.25), 1e3),
        Term("regularizer/tv", TotalVariation(), {CANVAS: 1.0}, 0.1),
    ]
    whole = Objective([terms], device)
    content, style, canvas = (_picture(size, seed).to(device, dtype) for seed in range(3))
    pictures = {"content/features": content, "style/gram": style, "regularizer/tv": content}
    if tile is not None:
        blocks = BlockwiseObjective(encoder, encoder, terms, tile)
        for term in terms:
            blocks.compute_targets(term, [pictures[term.name]])
        return lambda: blocks(canvas)[1]
    for term in terms:
        with torch.no_grad():
            seen: Mapping[str, Tensor] = {CANVAS: pictures[term.name]}
            if term.layers_needed != [CANVAS]:
                seen = encoder(pictures[term.name], term.layers_needed)
        term.compute_targets([[seen]])

    def gradient() -> Tensor:
        leaf = canvas.clone().requires_grad_()
        whole(encoder(leaf, whole.layers), leaf)[0].sum().backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        return leaf.grad

    return gradient


def _picture(size: int, seed: int) -> Tensor:
    """Return a picture with structure at several scales."""
    generator = torch.Generator().manual_seed(seed)
    layers = [torch.rand(1, 3, edge, edge, generator=generator) for edge in (8, 64, size)]
    enlarged = [torch.nn.functional.interpolate(x, (size, size), mode="bilinear") for x in layers]
    return (enlarged[0] + 0.5 * enlarged[1] + 0.1 * enlarged[2]) / 1.6


def measure(tile: int | None, size: int, device: torch.device) -> dict[str, float]:
    """Return the seconds of a gradient, on a GPU of the second one, and the peak bytes of this process."""
    gradient = objective(tile, size, device)
    if device.type == "cuda":
        gradient()
        torch.cuda.synchronize()
    began = time.perf_counter()
    gradient()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return {"seconds": time.perf_counter() - began, "bytes": peak(device)}


def peak(device: torch.device) -> int:
    """Return the peak memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the process that started this one held
        line = next(x for x in status.read_text(encoding="utf-8").splitlines() if x.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def apart(tile: int, size: int, device: torch.device, dtype: torch.dtype) -> float:
    """Return the norm of the difference of the two gradients, relative to that of the whole's."""
    whole, blocks = (objective(t, size, device, dtype)() for t in (None, tile))
    return float((whole - blocks).norm() / whole.norm())


def in_a_process(tile: int | None, size: int, device: torch.device) -> dict[str, float] | None:
    """Return the result of `measure` in a process of its own; None if the process failed."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.blocks",
        "--one",
        "--sizes",
        str(size),
        "--device",
        str(device),
    ]
    command += ["--tile", str(tile)] if tile is not None else ["--whole"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(size: int, how: str, found: Mapping[str, float] | None) -> str:
    """Return a line of the table."""
    if found is None:
        return f"| {size} | {how} | out of memory | |"
    return f"| {size} | {how} | {found['seconds']:.2f} | {found['bytes'] / 1e9:.2f} |"


def main(typed: Sequence[str]) -> None:
    """Measure and print a Markdown table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--large", action="store_true", help=f"{LARGE} px too")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # a process of `in_a_process`
    parser.add_argument("--whole", action="store_true", help="the whole picture only, not blocks")
    parser.add_argument("--blocks", action="store_true", help="blocks only, not the whole picture")
    asked = parser.parse_args(typed)
    device = torch.device(asked.device)
    torch.backends.cudnn.allow_tf32 = False  # as in runs
    if asked.one:
        print(json.dumps(measure(None if asked.whole else asked.tile, asked.sizes[0], device)))
        return
    first, tile = min(asked.sizes[0], 512), min(asked.tile, 256)
    for dtype in (torch.float64, torch.float32):
        difference = apart(tile, first, device, dtype)
        print(f"gradients apart at {first} px in blocks of {tile}, {dtype}: {difference:.1e} of their norm")
    print("\n| px | how | seconds | peak GB |\n|---:|---|---:|---:|", flush=True)
    for size in [*asked.sizes, *([LARGE] if asked.large else [])]:
        if not asked.blocks and (size < LARGE or device.type == "cuda"):
            print(row(size, "whole", in_a_process(None, size, device)), flush=True)
        if not asked.whole:
            print(row(size, f"blocks of {asked.tile}", in_a_process(asked.tile, size, device)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
