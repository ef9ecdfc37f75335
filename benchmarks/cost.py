"""The accuracy of `nstbench run --dry-run`: seconds and memory, predicted and measured.

Each configuration is predicted in one process and run in another, from the command to its end. Those with
few steps are large: they show what is extrapolated.

    python -m benchmarks.cost            # twenty minutes on two cores
    python -m benchmarks.cost --only 0 3
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from benchmarks.measuring import machine, put
from nstbench.config.files import conf_dir
from nstbench.config.resolvers import register_resolvers
from nstbench.config.validation import validate
from nstbench.runs.preparation import prepare

VGG = ("encoder=random", "encoder.shape=vgg19", "encoder.width=1.0")
CONFIGURATIONS: tuple[tuple[str, ...], ...] = (
    (),
    ("size=512", "schedule=fast"),
    (*VGG, "size=384", "steps=60"),
    ("loss/style=mrf", "steps=60"),
    ("loss/style=sliced_wasserstein", "optimizer=adam", "steps=100"),
    ("size=768", "canvas=pixels", "optimizer.history_size=100", "steps=100"),
    (*VGG, "size=768", "blockwise.tile=256", "steps=10"),
    ("size=2048", "steps=5", "metrics=none"),
    (*VGG, "size=1280", "steps=5", "metrics=none"),
    (*VGG, "size=1280", "steps=5", "metrics=none", "blockwise.tile=384"),
)


def predicted(overrides: Sequence[str]) -> dict[str, float]:
    """Return the seconds and the bytes that a run is predicted to take, and the seconds of predicting."""
    began = time.time()
    from nstbench.cli.dry_run import seconds_of_this_process
    from nstbench.cost.prediction import predict

    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = validate(compose("config", overrides=list(overrides)))
    cost = predict(config, prepare(config), since=seconds_of_this_process())
    extrapolated = not all(stage.was_measured for stage in cost.stages)
    return {
        "seconds": cost.seconds,
        "memory": cost.memory,
        "took": time.time() - began,
        "extrapolated": extrapolated,
    }


def measured(overrides: Sequence[str]) -> dict[str, float]:
    """Make the run; return its seconds and bytes."""
    with tempfile.TemporaryDirectory() as output:
        began = time.perf_counter()
        typed = [*overrides, f"output={output}", "record.progress=false", "trainer.check_memory=false"]
        subprocess.run(
            [sys.executable, "-m", "nstbench", "run", *typed], check=True, stdout=subprocess.DEVNULL
        )
        seconds = time.perf_counter() - began
        record = json.loads(next(Path(output).glob("*/*/run.json")).read_text(encoding="utf-8"))
    return {"seconds": seconds, "memory": record["peak_memory_bytes"]}


def row(overrides: Sequence[str]) -> str:
    """Return a line of the table."""
    typed = [*overrides, "logger=none"]
    command = [sys.executable, "-m", "benchmarks.cost", "--predict", *typed]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    guess, truth = json.loads(told.splitlines()[-1]), measured(typed)
    cells = [
        f"`{shlex.join(overrides) or 'as configured'}`",
        "extrapolated" if guess["extrapolated"] else "",
        f"{guess['took']:.0f}",
        f"{guess['seconds']:.1f}",
        f"{truth['seconds']:.1f}",
        f"{guess['seconds'] / truth['seconds'] - 1:+.0%}",
        f"{guess['memory'] / 1e9:.2f}",
        f"{truth['memory'] / 1e9:.2f}",
        f"{guess['memory'] / truth['memory'] - 1:+.0%}",
    ]
    line = f"| {' | '.join(cells)} |"
    print(line, flush=True)
    return line


def main(typed: Sequence[str]) -> None:
    """Print the table, and write it where that is asked for."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of configurations, from 0")
    parser.add_argument("--write", action="store_true", help="update benchmarks/README.md")
    parser.add_argument("--predict", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args(typed)
    if asked.predict is not None:
        print(json.dumps(predicted(asked.predict)))
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    header = [
        f"{machine(device)}.",
        "",
        "| configuration | | to predict, s | s, predicted | seen | | GB, predicted | seen | |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(header), flush=True)
    chosen = CONFIGURATIONS if asked.only is None else [CONFIGURATIONS[i] for i in asked.only]
    table = [*header, *(row(overrides) for overrides in chosen)]
    if asked.write:
        put(f"cost {device.type}", "\n".join(table))


if __name__ == "__main__":
    main(sys.argv[1:])
