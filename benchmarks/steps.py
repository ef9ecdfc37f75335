"""The cost of a step in every precision and layout: seconds, FLOPs, and the share of the device's peak.

One evaluation of the objective and its gradient on the canvas, which is nearly all of a step: content, Gram
and total variation on the encoder's default layers. The first row is a plain PyTorch loop in float32, as
scripts have it, its convolutions free to use TF32 on a GPU, which is PyTorch's default; the others are
nstbench's own parts in each precision. All alternate in one process. Ratios are medians over rounds of
the time divided by the plain loop's in the same round.

    python -m benchmarks.steps                                  # 256 px, VGG-19-shaped and procedural
    python -m benchmarks.steps --sizes 256 512 --write          # and put the table into the README
    python -m benchmarks.steps --compile                        # torch.compile, and CUDA graphs on a GPU

FLOPs are counted (torch.utils.flop_counter) over one float32 evaluation with its gradient, a
multiplication and an addition being two; the peak is that of a product of large matrices in the same
precision, in the same round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring import alternating, machine, product, product_flops, put, ratio
from nstbench.encoders.base import Encoder
from nstbench.encoders.build import build_encoder
from nstbench.losses.base import CANVAS
from nstbench.losses.content import FeatureReconstruction
from nstbench.losses.gram import Gram
from nstbench.losses.total_variation import TotalVariation
from nstbench.modules.precision import Encoding, Precision
from nstbench.objective.objective import Objective
from nstbench.objective.term import Term
from nstbench.pictures.resize import resize
from nstbench.pictures.source import load

ENCODERS: dict[str, dict[str, Any]] = {
    "vgg19": {
        "_target_": "nstbench.encoders.random.RandomVGG",
        "width": 1.0,
        "pooling": "max",
        "padding": "zeros",
    },
    "procedural": {"_target_": "nstbench.encoders.procedural.encoder.ProceduralVGG"},
}
CONTENT, STYLE = "sample:astronaut", "sample:coffee"
PLAIN = "plain PyTorch"


@dataclass(frozen=True)
class Variant:
    """One way to compute a step.

    Attributes:
        precision: Precision of the encoder.
        channels_last: Whether feature maps are channels-last; see `Encoding`.
        compiled: Whether the encoder is compiled; see `Encoding`.
        graphs: Whether it is compiled with CUDA graphs.
    """

    precision: Precision
    channels_last: bool = False
    compiled: bool = False
    graphs: bool = False

    def __str__(self) -> str:
        """Return its name in the table."""
        extras = {"channels_last": self.channels_last, "compiled": self.compiled, "CUDA graphs": self.graphs}
        return ", ".join([self.precision, *(name for name, has in extras.items() if has)])


def variants(device: torch.device, compiled: bool) -> list[Variant]:
    """Return the variants that are measured on a device."""
    precisions: list[Precision] = ["fp32", "bf16"]
    if device.type == "cuda":
        precisions.insert(1, "tf32")
    found = [Variant(p, layout) for p in precisions for layout in (False, True)]
    if compiled:
        found += [Variant(p, layout, compiled=True) for p in precisions for layout in (False, True)]
        if device.type == "cuda":
            found += [Variant(p, layout, graphs=True) for p in precisions for layout in (False, True)]
    return found


def plain_step(encoder: Encoder, canvas: Tensor, content: Tensor, style: Tensor) -> Callable[[], Tensor]:
    """Return one evaluation with its gradient as a script would write it."""
    (deep,), shallow = encoder.default_layers["content"], encoder.default_layers["style"]

    def gram(f: Tensor) -> Tensor:
        f = f.flatten(2)
        return f @ f.transpose(1, 2) / f.shape[2]

    with torch.no_grad():
        P, A = encoder(content, [deep])[deep], {n: gram(f) for n, f in encoder(style, shallow).items()}

    def step() -> Tensor:
        canvas.grad = None
        f: dict[str, Tensor] = encoder(canvas, [deep, *shallow])
        loss: Tensor = ((f[deep] - P) ** 2).mean()
        for n in shallow:
            loss = loss + ((gram(f[n]) - A[n]) ** 2).sum()
        rough = ((canvas[..., 1:] - canvas[..., :-1]) ** 2).sum()
        rough = rough + ((canvas[..., 1:, :] - canvas[..., :-1, :]) ** 2).sum()
        torch.autograd.backward(loss + rough)
        return loss

    def as_scripts_do() -> Tensor:
        before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, True
        try:
            return step()
        finally:
            torch.backends.cudnn.allow_tf32 = before

    return as_scripts_do


def our_step(
    encoder: Encoder, variant: Variant, canvas: Tensor, content: Tensor, style: Tensor
) -> Callable[[], Tensor]:
    """Return one evaluation with its gradient by nstbench's objective and encoding."""
    deep, shallow = encoder.default_layers["content"], encoder.default_layers["style"]
    terms = [
        Term("content/features", FeatureReconstruction(), dict.fromkeys(deep, 1.0), 1.0),
        Term("style/gram", Gram(), dict.fromkeys(shallow, 1.0), 1.0),
        Term("regularizer/tv", TotalVariation(), {CANVAS: 1.0}, 1.0),
    ]
    objective = Objective([terms], canvas.device)
    encoding = Encoding(
        encoder, variant.precision, compile=variant.compiled, channels_last=variant.channels_last
    )
    encode: Callable[[Tensor, Sequence[str]], dict[str, Tensor]] = encoding
    if variant.graphs:
        encode = torch.compile(encoding, dynamic=False, mode="reduce-overhead")
    for term, picture in zip(terms, (content, style, content), strict=True):
        with torch.no_grad():
            term.compute_targets([[{**encoding.full_precision(picture, objective.layers), CANVAS: picture}]])

    def step() -> Tensor:
        canvas.grad = None
        if variant.graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with encoding.tf32_allowed(canvas.device):
            total = objective(encode(canvas, objective.layers), canvas)[0].sum()
            torch.autograd.backward(total)
        return total

    return step


def measure(name: str, size: int, device: torch.device, rounds: int, compiled: bool) -> list[str]:
    """Return the rows of one encoder at one size."""
    torch.backends.cudnn.allow_tf32 = False
    encoder = build_encoder(ENCODERS[name]).to(device)
    content, style = (
        resize(load(source, setting="pictures").pixels, (size, size)).to(device)
        for source in (CONTENT, STYLE)
    )
    canvas = content.clone().requires_grad_()
    calls = {PLAIN: plain_step(encoder, canvas, content, style)}
    chosen = {str(v): v for v in variants(device, compiled)}
    calls.update({text: our_step(encoder, v, canvas, content, style) for text, v in chosen.items()})
    step = our_step(encoder, Variant("fp32"), canvas, content, style)
    with FlopCounterMode(display=False) as counter:
        step()
    flops = counter.get_total_flops()
    products = {f"product {p}": product(p, device) for p in ("fp32", "tf32", "bf16")}
    seconds = alternating({**calls, **products}, rounds, device)
    rows = []
    for text in calls:
        precision = chosen[text].precision if text in chosen else "tf32"
        times, median = seconds[text], statistics.median(seconds[text])
        share = flops / product_flops(device) * ratio(seconds[f"product {precision}"], times)
        rows.append(
            f"| {name} | {size} | {text} | {1000 * median:.1f} | {ratio(times, seconds[PLAIN]):.2f} "
            f"| {flops / 1e9:.0f} | {flops / median / 1e12:.2f} | {share:.0%} |"
        )
        print(rows[-1], flush=True)
    return rows


def main(typed: Sequence[str]) -> None:
    """Measure, print, and write where that is asked for."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256])
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    parser.add_argument("--write", action="store_true", help="update benchmarks/README.md")
    asked = parser.parse_args(typed)
    device = torch.device(asked.device)
    table = [
        f"{machine(device)}; milliseconds are medians of {asked.rounds} rounds, alternating.",
        "",
        "| encoder | px | step | ms | × plain | GFLOP | TFLOP/s | of the peak |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(table))
    for name in asked.encoders:
        for size in asked.sizes:
            table += measure(name, size, device, asked.rounds, asked.compile)
    if asked.write:
        put(f"steps {device.type}", "\n".join(table))


if __name__ == "__main__":
    main(sys.argv[1:])
