"""Damaged, foreign and malicious checkpoints: never another picture, a traceback, a hang, or their code."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.robustness.commands import run_command, run_isolated
from benchmarks.robustness.damage import damage_bytes, new_folder, put_in_place
from benchmarks.robustness.moments import kill_group, read_moments, record_moments, watch
from benchmarks.robustness.studies import (
    Fault,
    Setup,
    Setups,
    Undisturbed,
    faults_of_outcome,
    faults_of_results,
)
from benchmarks.robustness.tally import Tally

_PATTERN = "*checkpoint*"
_MOST_MEGABYTES = 1600
_MANY = 50  # trials
_BOMB = 2**30  # bytes, of zeros
_SETUPS = (
    Setup("single", 1, "lbfgs", every=1),
    Setup("single", 2, "adam", every=1),
    Setup("batched", 1, "adam", every=2),
)
# Runs of other settings, whose checkpoints are put in the place of those of the runs above.
_FOREIGN = ((_SETUPS[0], "weights.style=7"), (_SETUPS[0], "optimizer.lr=0.5"), (_SETUPS[1], "size=72"))


@dataclass(frozen=True)
class Interrupted:
    """Runs that were killed, with checkpoints to continue from.

    Attributes:
        reference: The same runs, undisturbed.
        output: Their output folder.
        rows: How many rows of each curves.csv are written when they are continued undamaged.
    """

    reference: Undisturbed
    output: Path
    rows: Counter[str]

    def checkpoints(self, output: Path | None = None) -> list[Path]:
        """Return the files of checkpoints, here or in a copy."""
        return sorted((output or self.output).glob(f"study/*/{_PATTERN}"))


def run_checkpoints(tally: Tally, count: int, seed: int, folder: Path) -> None:
    """Damage the checkpoints of interrupted runs in many ways, and give their commands again."""
    setups = Setups(folder / "undisturbed")
    interrupted = [_interrupt(setups.of(s), folder / f"interrupted-{i}") for i, s in enumerate(_SETUPS)]
    foreign = [
        _interrupt(setups.of(setup), folder / f"foreign-{i}", setting)
        for i, (setup, setting) in enumerate(_FOREIGN if count >= _MANY else _FOREIGN[:1])
    ]
    others = [path for each in (*foreign, *interrupted) for path in each.checkpoints()]
    for number in range(count):
        rng = Random(f"{seed}/checkpoints/{number}")
        # Of a few, one in five is a batch, which takes longer.
        victims = interrupted[number % 3] if count >= _MANY else interrupted[(0, 1, 0, 1, 2)[number % 5]]
        trial = new_folder(folder / "trial")
        ways = _ways(others, trial)
        name = [*ways][number % len(ways)] if count >= len(ways) else rng.choice([*ways])
        faults = _try(victims, trial, ways[name], rng)
        tally.add(f"{victims.reference.setup}; {name}", faults)


def _interrupt(reference: Undisturbed, folder: Path, *extra: str) -> Interrupted:
    """Run until the last step is under way, and kill."""
    output = new_folder(folder) / "out"
    arguments = [*reference.setup.arguments(output, reference.pictures), *extra]
    label = f"append study/{next(iter(reference.runs))}/curves.csv"
    rows = sum(moment.label == label for moment in reference.moments)
    run_command(arguments, folder, prepare=_kill_at_row(output, rows - 1))
    if not [*output.glob(f"study/*/{_PATTERN}")]:
        raise RuntimeError(f"no checkpoint was left by {reference.setup}")
    if extra:  # only its checkpoint is of use
        return Interrupted(reference, output, Counter())
    copied = new_folder(folder / "continued")
    shutil.copytree(output, copied / "out", symlinks=True)
    watched = record_moments(copied / "out", copied / "moments")
    run_command(reference.setup.arguments(copied / "out", reference.pictures), copied, prepare=watched)
    return Interrupted(reference, output, _rows_written(copied / "moments"))


def _rows_written(log: Path) -> Counter[str]:
    """Return how many rows of each curves.csv a command has written, by its moments."""
    labels = [moment.label for moment in read_moments(log)] if log.exists() else []
    return Counter(each for each in labels if each.startswith("append") and each.endswith("curves.csv"))


def _kill_at_row(output: Path, row: int) -> Callable[[], None]:
    """Return what kills a command before any of its runs writes this row of curves.csv."""
    rows: Counter[str] = Counter()

    def look(label: str, path: str) -> None:
        if label.startswith("append") and label.endswith("curves.csv"):
            rows[label] += 1
            if rows[label] == row:
                kill_group(label, path)

    return lambda: watch(output, look)


Way = Callable[[Path, Random], None]


def _try(victims: Interrupted, trial: Path, way: Way, rng: Random) -> list[Fault]:
    """Damage one checkpoint, or all of a run, in a copy of interrupted runs, and continue them."""
    output = trial / "out"
    shutil.copytree(victims.output, output, symlinks=True)
    files = victims.checkpoints(output)
    before = {path: path.read_bytes() for path in files}
    chosen = rng.choice(files)
    several = [p for p in files if p.parent == chosen.parent] if rng.random() < 0.5 else [chosen]

    def damage() -> None:
        for path in several:
            way(path, rng)

    done = run_isolated(damage, trial)
    if done.status != 0:
        raise RuntimeError(f"the damage could not be done:\n{done.output}")
    changed = [p for p in several if not p.is_file() or p.is_symlink() or p.read_bytes() != before[p]]
    reference = victims.reference
    arguments = [*reference.setup.arguments(output, reference.pictures), "retry_failed=true"]
    outcome = run_command(arguments, trial, prepare=record_moments(output, trial / "moments"))
    faults = faults_of_outcome(outcome)
    faults += faults_of_results(reference, output)
    logs = "".join(p.read_text(errors="replace") for p in output.glob("study/*/run.log") if p.is_file())
    said = "checkpoint" in (outcome.output + logs).replace(str(trial), "")
    label = f"append study/{chosen.parent.name}/curves.csv"
    refused = _rows_written(trial / "moments")[label] > victims.rows[label]
    if changed and refused and not said:
        faults.append(Fault("not said", f"{chosen.name} was refused and no reason was logged"))
    if (trial / "code-was-run").exists():
        faults.append(Fault("code", "code from the checkpoint was run"))
    if outcome.megabytes > _MOST_MEGABYTES:
        faults.append(Fault("memory", f"{outcome.megabytes} MB"))
    return faults


def _ways(others: Sequence[Path], trial: Path) -> dict[str, Way]:
    """Return ways to damage a checkpoint, by name."""
    ways: dict[str, Way] = {
        f"{name} (bytes)": lambda path, rng, name=name: damage_bytes(path, name, rng)  # type: ignore[misc]
        for name in ("bits flipped", "cut", "emptied", "zeros", "noise", "appended", "doubled")
    }
    ways |= {
        f"a {kind} in its place": lambda path, rng, kind=kind: put_in_place(path, kind)  # type: ignore[misc]
        for kind in ("folder", "FIFO", "dangling link", "link to itself", "link to /dev/null")
    }
    ways |= {
        name: lambda path, rng, edit=edit: _rewrite(path, rng, edit)  # type: ignore[misc]
        for name, edit in _EDITS.items()
    }
    ways["of another run"] = lambda path, rng: _copy_other(path, others, rng)
    ways["malicious pickle"] = lambda path, rng: _malicious(path, trial / "code-was-run", torch_file=False)
    ways["malicious torch file"] = lambda path, rng: _malicious(path, trial / "code-was-run", torch_file=True)
    ways["zip bomb"] = lambda path, rng: _bomb(path)
    return ways


def _copy_other(path: Path, others: Sequence[Path], rng: Random) -> None:
    own = path.parent.name
    shutil.copyfile(rng.choice([other for other in others if other.parent.name != own]), path)


class _Exploit:
    """What runs a command where it is unpickled without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


def _malicious(path: Path, marker: Path, *, torch_file: bool) -> None:
    content = {"state_dict": _Exploit(marker), "nstbench": {"stage": 0}, "callbacks": {}}
    if torch_file:
        import torch

        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))


def _bomb(path: Path) -> None:
    block = bytes(2**20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
        with archive.open("archive/data.pkl", "w", force_zip64=True) as file:
            for _ in range(_BOMB // len(block)):
                file.write(block)


def _rewrite(path: Path, rng: Random, edit: Callable[[Any, Random], None]) -> None:
    """Read a checkpoint, change it, and write it; where it cannot be read so, flip bits."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        edit(content, rng)
    except (RuntimeError, KeyError, ValueError, pickle.UnpicklingError):
        damage_bytes(path, "bits flipped", rng)
        return
    torch.save(content, path)


def _places(node: Any, found: list[tuple[Any, Any]], tensors: bool) -> list[tuple[Any, Any]]:
    """Return containers and keys of all tensors, or of all other leaves."""
    import torch

    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if isinstance(value, dict | list):
            _places(value, found, tensors)
        elif isinstance(value, torch.Tensor) == tensors and not isinstance(value, tuple):
            found.append((node, key))
    return found


def _change(change: Callable[[Any, Random], Any], *, tensors: bool) -> Callable[[Any, Random], None]:
    """Return an edit that changes one tensor, or one other value."""

    def edit(content: Any, rng: Random) -> None:
        container, key = rng.choice(_places(content, [], tensors))
        container[key] = change(container[key], rng)

    return edit


def _flip(tensor: Any, rng: Random) -> Any:
    """Flip one bit of a tensor."""
    import torch

    flat = tensor.detach().clone().contiguous().reshape(-1)
    octets = flat.view(torch.uint8) if flat.numel() else flat
    if octets.numel():
        octets[rng.randrange(octets.numel())] ^= 1 << rng.randrange(8)
    return flat.reshape(tensor.shape)


def _canvas_value(value: float) -> Callable[[Any, Random], None]:
    def edit(content: Any, rng: Random) -> None:
        for tensor in content["state_dict"].values():
            tensor.fill_(value)

    return edit


def _drop(content: Any, rng: Random) -> None:
    container = content if rng.random() < 0.5 else content["nstbench"]
    del container[rng.choice(sorted(container))]


def _set(name: str, values: Sequence[Any]) -> Callable[[Any, Random], None]:
    def edit(content: Any, rng: Random) -> None:
        container = content["nstbench"] if name in content["nstbench"] else content
        container[name] = rng.choice(values)

    return edit


_EDITS: dict[str, Callable[[Any, Random], None]] = {
    "a bit of a tensor flipped": _change(_flip, tensors=True),
    "another bit of a tensor flipped": _change(_flip, tensors=True),
    "a string in place of a tensor": _change(lambda t, rng: "tensor", tensors=True),
    "None in place of a tensor": _change(lambda t, rng: None, tensors=True),
    "an int in place of a tensor": _change(lambda t, rng: 3, tensors=True),
    "a tensor in double precision": _change(lambda t, rng: t.double(), tensors=True),
    "a tensor of another shape": _change(lambda t, rng: t.reshape(-1)[:-1], tensors=True),
    "a canvas of NaN": _canvas_value(float("nan")),
    "a black canvas": _canvas_value(0.0),
    "a number in place of another value": _change(lambda v, rng: rng.choice((-1, 10**9, 0.5)), tensors=False),
    "a string in place of another value": _change(lambda v, rng: "nonsense", tensors=False),
    "a missing key": _drop,
    "an extra key": lambda content, rng: content.update(telemetry={"joules": [1, 2]}),
    "another stage": _set("stage", (0, 1, 99, -1, "1", None)),
    "another number of steps": _set("global_step", (0, 3, 10**9, -5, "2")),
    "another number of evaluations": _set("evaluations", (0, 3, 10**9, -5, "2", None)),
}
