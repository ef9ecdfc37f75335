"""The cost of every formulation: milliseconds of a forward and backward pass, and peak memory.

On the feature maps of two sample pictures in a VGG-19 with random weights (what a loss costs depends
on shapes, not on training): one layer at a time, relu1_1 … relu5_1, and as configured in conf/loss,
with its own layers. The encoder's own cost is not in it. Every timing alternates with that of the
Gram loss on the style layers it is compared with, so that a busy machine slows both.

    python -m benchmarks.losses                        # 256 and 512 px; prints the tables
    python -m benchmarks.losses --write                # and puts them into benchmarks/README.md
    python -m benchmarks.losses --sizes 128 --only gram mrf

Memory is the process's high-water mark above what it held before the call (Linux); on a GPU, PyTorch's
own count. An evaluation that takes longer than 25 seconds is stopped and marked.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nstbench.config.files import formulations
from nstbench.config.schema import Role
from nstbench.encoders.random import RandomVGG
from nstbench.errors import UserError
from nstbench.losses.base import CANVAS, JointLoss
from nstbench.objective.build import build_term
from nstbench.objective.term import Term
from nstbench.pictures.resize import resize
from nstbench.pictures.source import load
from nstbench.runtime.files import write_text

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
ROLES: tuple[Role, ...] = ("style", "content", "regularizer")
CONTENT, STYLE = "sample:astronaut", "sample:coffee"
CONFIGURED = "configured"
README, RESULTS = Path(__file__).with_name("README.md"), Path(__file__).with_name("losses.json")
PATIENCE = 25
"""Seconds after which an evaluation is stopped."""


@dataclass(frozen=True)
class Cost:
    """The cost of one evaluation of a term and its gradient.

    Attributes:
        role: Role of the term.
        name: Name of its option in conf/loss/<role>.
        size: Size of the pictures, in pixels.
        layer: Layer, or ``configured``: all layers of the option.
        milliseconds: Median time; None if the evaluation took too long.
        gram: Median time of the Gram loss at the same layer, or as configured, measured in turn.
        megabytes: Peak memory above that before the evaluation.
    """

    role: str
    name: str
    size: int
    layer: str
    milliseconds: float | None = None
    gram: float | None = None
    megabytes: float | None = None


def nodes(role: Role) -> dict[str, Mapping[str, Any]]:
    """Return the node of every option of conf/loss/<role>, with the default layers."""
    return {option: next(iter(terms.values())) for option, terms in formulations(role).items()}


class Bench:
    """The feature maps of a content and a style picture, and terms with targets of them."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.device = device
        self.encoder = RandomVGG("vgg19").to(device)
        shape = (size, size)
        content, style = (load(p, setting="benchmark").pixels for p in (CONTENT, STYLE))
        content, style = (resize(p, shape).to(device) for p in (content, style))
        self.pictures = {"content": content, "style": style, "regularizer": content}
        defaults = (layer for of_role in self.encoder.default_layers.values() for layer in of_role)
        self.layers = list(dict.fromkeys([*LAYERS, *defaults]))
        self.content, self.style = self._see(content), self._see(style)

    @torch.no_grad()
    def _see(self, picture: Tensor) -> dict[str, Tensor]:
        return {**self.encoder(picture, self.layers), CANVAS: picture}

    def term(self, role: Role, name: str, layer: str) -> Term | None:
        """Return a term with its target; None if it does not compare single layers."""
        node = dict(nodes(role)[name])
        if layer != CONFIGURED:
            node |= {"layers": [layer], "layer_weights": "mean"}
        try:
            term = build_term(role, name, node, self.encoder)
        except UserError:  # it needs several layers
            return None
        if layer != CONFIGURED and isinstance(term.loss, JointLoss):
            return None
        picture = self.pictures[term.loss.target_picture if role == "regularizer" else role]
        term.compute_targets([[self._see(copy) for copy in term.loss.copies(picture)]])
        return term

    def evaluation(self, term: Term) -> Callable[[], None]:
        """Return one evaluation with its gradient, on feature maps halfway between the two pictures."""
        mixed = {k: (0.5 * (self.content[k] + self.style[k])).requires_grad_() for k in term.layers_needed}

        def evaluate() -> None:
            for x in mixed.values():
                x.grad = None
            term(mixed).sum().backward()  # type: ignore[no-untyped-call]
            if self.device.type == "cuda":
                torch.cuda.synchronize()

        return evaluate


@contextmanager
def patience(limit: int) -> Iterator[None]:
    """Raise TimeoutError if the block takes longer."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)


def seconds(evaluate: Callable[[], None]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    evaluate()
    return time.perf_counter() - began


def timed(evaluate: Callable[[], None], beside: Callable[[], None]) -> tuple[float, float]:
    """Return the median seconds of both, alternating: of seven pairs, or fewer when they take long."""
    beside()
    with patience(PATIENCE):
        first = seconds(evaluate)
    pairs = [(first, seconds(beside))]
    if first < 8:
        pairs = [(seconds(evaluate), seconds(beside)) for _ in range(7 if first < 1 else 3)]
    ours, theirs = zip(*pairs, strict=True)
    return statistics.median(ours), statistics.median(theirs)


def megabytes(evaluate: Callable[[], None], device: torch.device) -> float | None:
    """Return the peak above what is held before; None where it cannot be told."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        evaluate()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed counts as free
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
        before = _status("VmRSS")
        evaluate()
        return (_status("VmHWM") - before) / 1e3
    except OSError:
        return None


def _status(key: str) -> int:
    """Return a number of kB of this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def measure(sizes: Sequence[int], only: Sequence[str], device: torch.device) -> list[Cost]:
    """Return the cost of every formulation; print a line about each."""
    costs = []
    for size in sizes:
        bench = Bench(size, device)
        for role in ROLES:
            for name in (n for n in nodes(role) if not only or n in only):
                for layer in (CONFIGURED, *(LAYERS if role == "style" else ())):
                    term = bench.term(role, name, layer)
                    if term is not None:
                        costs.append(_cost(bench, term, Cost(role, name, size, layer)))
                        print(line(costs[-1]), flush=True)
    return costs


def _cost(bench: Bench, term: Term, empty: Cost) -> Cost:
    evaluate = bench.evaluation(term)
    gram = bench.term("style", "gram", empty.layer)
    assert gram is not None
    try:
        ours, theirs = timed(evaluate, bench.evaluation(gram))
    except TimeoutError:
        return empty
    peak = megabytes(evaluate, bench.device)
    return replace(empty, milliseconds=1000 * ours, gram=1000 * theirs, megabytes=peak)


def line(cost: Cost) -> str:
    """Return a cost as one line."""
    what = f"{cost.size:>5} px  {cost.role}/{cost.name} {cost.layer}"
    if cost.milliseconds is None or cost.gram is None:
        return f"{what}: given up after {PATIENCE} s"
    memory = "" if cost.megabytes is None else f", {cost.megabytes:.0f} MB"
    return f"{what}: {cost.milliseconds:.1f} ms, {cost.milliseconds / cost.gram:.2f} × Gram{memory}"


def table(costs: Sequence[Cost], size: int) -> str:
    """Return a Markdown table: a row per formulation, a column per layer; milliseconds / megabytes."""
    found = {(c.role, c.name, c.layer): c for c in costs if c.size == size}
    rows = [
        f"| at {size} px | as configured | × Gram | {' | '.join(LAYERS)} |",
        f"|---|{'---:|' * (2 + len(LAYERS))}",
    ]
    for role, name in dict.fromkeys((r, n) for r, n, _ in found):
        whole = found[role, name, CONFIGURED]
        ratio = f"{whole.milliseconds / whole.gram:.1f}" if whole.milliseconds and whole.gram else ""
        cells = [_cell(found.get((role, name, layer))) for layer in LAYERS]
        rows.append(f"| {role}/{name} | {_cell(whole)} | {ratio} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(cost: Cost | None) -> str:
    if cost is None:
        return ""
    if cost.milliseconds is None:
        return f"> {PATIENCE} s"
    digits = 0 if cost.milliseconds >= 10 else 1
    return f"{cost.milliseconds:.{digits}f} / {'–' if cost.megabytes is None else f'{cost.megabytes:.0f}'}"


def write(costs: Sequence[Cost], where: str) -> None:
    """Put the tables between their marks in benchmarks/README.md, and the numbers into losses.json."""
    sizes = dict.fromkeys(c.size for c in costs)
    body = "\n\n".join([where, *(table(costs, size) for size in sizes)])
    begin, end = "<!-- losses -->", "<!-- /losses -->"
    text = README.read_text(encoding="utf-8")
    before, after = text.split(begin)[0], text.split(end)[1]
    write_text(README, f"{before}{begin}\n{body}\n{end}{after}")
    write_text(RESULTS, json.dumps([asdict(c) for c in costs], indent=0) + "\n")


def main(typed: Sequence[str]) -> None:
    """Measure, print, and write where that is asked for."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--only", nargs="+", default=[], help="options of conf/loss")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--write", action="store_true", help="update benchmarks/README.md and losses.json")
    asked = parser.parse_args(typed)
    device = torch.device(asked.device)
    costs = measure(asked.sizes, asked.only, device)
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads"
    )
    where = f"{name}, torch {torch.__version__}, float32; milliseconds / megabytes of one evaluation."
    print("\n\n".join(["", where, *(table(costs, size) for size in asked.sizes)]))
    if asked.write:
        write(costs, where)


if __name__ == "__main__":
    main(sys.argv[1:])
