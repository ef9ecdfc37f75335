"""Do encoders rank the pictures of a study alike? Spearman correlations between judges, from its run records.

python experiments/judges/ranks.py outputs experiments/judges

Every finished picture of <outputs>/judges is measured by every judge whose weights are on this machine. Into
the folder go measures.csv (a row for each picture and measure), ranks.csv (a row for each couple of measures
and pair of pictures) and ranks.md (the tables), which are also put between their marks in its README.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from nstbench.config.schema import Config
from nstbench.config.validation import validate
from nstbench.encoders.base import Encoder
from nstbench.encoders.build import build_encoder
from nstbench.errors import UserError
from nstbench.metrics.base import Subject
from nstbench.metrics.content import content_distance
from nstbench.metrics.evaluate import judge
from nstbench.metrics.style import gram_distance
from nstbench.pictures.io import read_picture
from nstbench.runs.inputs import content_at, load_inputs, styles_at
from nstbench.runs.plan import plan_stages
from nstbench.runtime.files import write_text
from nstbench.tracking.record import RunRecord

_RANDOM = {"_target_": "nstbench.encoders.random.RandomVGG", "shape": "vgg16", "width": 0.5}
JUDGES = {
    "random": {**_RANDOM, "seed": 1000},
    "random, seed 2000": {**_RANDOM, "seed": 2000},  # how much of a disagreement is the draw of the weights
    "efficientnet_lite0": {
        "_target_": "nstbench.encoders.efficientnet.EfficientNetLite0",
        "weights": "efficientnet_lite0",
    },
    "vgg16_hed": {"_target_": "nstbench.encoders.vgg.VGG", "shape": "vgg16", "weights": "vgg16_hed"},
    "procedural": {"_target_": "nstbench.encoders.procedural.encoder.ProceduralVGG", "weights": "shipped"},
}
"""Nodes of the encoders that judge, each by its default layers."""

OTHERS = {
    "style": {"colour_distance": {"_target_": "nstbench.metrics.colour.ColourDistance"}},
    "content": {
        "1 - SSIM": {"_target_": "nstbench.metrics.structure.SSIM"},
        **{
            f"LPIPS ({net})": {"_target_": "nstbench.metrics.perceptual.LPIPS", "net": net}
            for net in ("alex", "vgg", "squeeze")
        },
    },
}
"""Measures without a judge, by what they compare with."""

_PAIR = ["content", "style"]


@dataclass(frozen=True)
class Made:
    """A finished picture: its formulation, its encoder, and it with the pictures that it was made from."""

    pair: tuple[str, str]
    formulation: str
    subject: Subject


def read(study: Path) -> Iterator[Made]:
    """Yield the finished pictures of the study.

    Raises:
        UserError: There are none.
    """
    folders = sorted(study.iterdir()) if study.is_dir() else []
    finished = 0
    for folder in folders:
        record = RunRecord.read(folder)
        if record is None or record.state != "completed":
            continue
        finished += 1
        config = validate(record.config)
        content, styles = _inputs_of(config)
        picture = read_picture(folder / "canvas.png")
        optimized = build_encoder(config.encoder)
        pictures = config.pictures
        yield Made(
            (str(pictures.content), "+".join(pictures.styles)),
            "+".join(config.loss.style),
            Subject(picture, content, styles, [1 / len(styles)] * len(styles), optimized),
        )
    if not finished:
        reason = "there is no finished run in this folder"
        raise UserError("study", str(study), reason, "Run it first: nstbench run experiment=judges")


def _inputs_of(config: Config) -> tuple[Tensor | None, list[Tensor]]:
    inputs = load_inputs(config)
    stage = plan_stages(config, inputs)[-1]
    return content_at(inputs, stage.shape), styles_at(inputs, stage.style_shapes)


def available() -> dict[str, Encoder]:
    """Return the judges whose weights are on this machine, and print a line about each other one."""
    found = {}
    for name, node in JUDGES.items():
        try:
            found[name] = build_encoder(node)
        except UserError as error:
            print(f"without {name}: {error}")
    return found


@torch.no_grad()
def measure(subject: Subject, judges: Mapping[str, Encoder]) -> Iterator[tuple[str, str, float]]:
    """Yield (what it compares with, name, value) of every measure of a picture; lower is nearer for all.

    The judge that the run optimised is marked by an asterisk.
    """
    assert subject.content is not None
    for name, encoder in judges.items():
        mark = "*" if encoder.weights_sha256 == subject.optimized.weights_sha256 else ""
        of_style, of_content = (list(encoder.default_layers[role]) for role in ("style", "content"))
        pictures = [subject.picture, *subject.styles]
        yield "style", name + mark, gram_distance(encoder, *pictures, blend=subject.blend, layers=of_style)
        value = content_distance(encoder, subject.picture, subject.content, of_content)
        yield "content", name + mark, value
    for role, nodes in OTHERS.items():
        for name, value in judge(nodes, subject).values.items():
            yield role, name, 1 - value if name == "1 - SSIM" else value


def measures(made: Iterator[Made], judges: Mapping[str, Encoder]) -> pd.DataFrame:
    """Return a table with a row for each picture and measure."""
    rows = []
    for each in made:
        print(*each.pair, each.formulation, flush=True)
        for role, name, value in measure(each.subject, judges):
            rows.append((*each.pair, each.formulation, role, name, value))
    return pd.DataFrame(rows, columns=[*_PAIR, "formulation", "role", "measure", "value"])


def ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman's ρ of each couple of measures over the formulations of each pair of pictures.

    Pictures of different pairs are not ranked together: all measures know a hard pair from an easy one. Of a
    formulation that made several pictures of a pair, the mean is ranked.
    """
    rows = []
    for (role, *pair), group in table.groupby(["role", *_PAIR], sort=False):
        values = group.pivot_table(index="formulation", columns="measure", values="value", sort=False)
        correlations = values.corr(method="spearman")
        for one, other in combinations(values.columns, 2):
            rows.append((role, one, other, *pair, len(values), correlations.loc[one, other]))
    return pd.DataFrame(rows, columns=["role", "first", "second", *_PAIR, "formulations", "rho"])


def markdown(found: pd.DataFrame, role: str) -> str:
    """Return a square of correlations: means over the pairs of pictures, with the lowest and the highest."""
    own = found[found["role"] == role]
    names = list(dict.fromkeys([*own["first"], *own["second"]]))
    lines = ["| | " + " | ".join(f"`{name}`" for name in names) + " |", "|---|" + "---:|" * len(names)]
    for one in names:
        cells = [_cell(own, one, other) for other in names]
        lines.append(f"| `{one}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(own: pd.DataFrame, one: str, other: str) -> str:
    rho = own.loc[own["first"].isin([one, other]) & own["second"].isin([one, other]), "rho"]
    return f"{rho.mean():.2f} ({rho.min():.2f} to {rho.max():.2f})" if len(rho) else ""


def caption(table: pd.DataFrame) -> str:
    """Return what the numbers in the tables are."""
    pairs = table[_PAIR].drop_duplicates()
    number = table["formulation"].nunique()
    return (
        f"Spearman's ρ between measures over the pictures of {number} formulations, computed within each of "
        f"{len(pairs)} pairs of pictures and averaged over the pairs; in brackets the lowest and the highest "
        "of a pair. For all measures lower is nearer. The encoder with an asterisk is the one that the runs "
        "optimised."
    )


def main(study: Path, folder: Path) -> None:
    """Measure, correlate and write the files."""
    judges = available()
    table = measures(read(study), judges)
    found = ranks(table)
    parts = {role: markdown(found, role) for role in ("style", "content")}
    said = caption(table)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "measures.csv", table.to_csv(index=False))
    write_text(folder / "ranks.csv", found.to_csv(index=False))
    sections = [f"## Distances to the {role} picture\n\n{text}" for role, text in parts.items()]
    write_text(folder / "ranks.md", "\n\n".join([said, *sections]) + "\n")
    if (folder / "README.md").is_file():
        _put_into(folder / "README.md", {"caption": said, **parts})


def _put_into(readme: Path, parts: Mapping[str, str]) -> None:
    """Put texts between their marks, such as ``<!-- style -->`` and ``<!-- /style -->``."""
    text = readme.read_text(encoding="utf-8")
    for mark, body in parts.items():
        before, _, rest = text.partition(f"<!-- {mark} -->")
        _, _, after = rest.partition(f"<!-- /{mark} -->")
        text = f"{before}<!-- {mark} -->\n{body}\n<!-- /{mark} -->{after}"
    write_text(readme, text)


def _arguments(typed: Sequence[str]) -> tuple[Path, Path]:
    outputs = Path(typed[0]) if typed else Path("outputs")
    return outputs / "judges", Path(typed[1]) if len(typed) > 1 else outputs / "judges_ranks"


if __name__ == "__main__":
    try:
        main(*_arguments(sys.argv[1:]))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
