"""The pictures and tables of the cards in this folder, and of the index that compares them all.

python docs/losses/make.py

Every option of conf/loss makes a picture of one pair with the defaults, every one of loss/style also a
texture from noise; each is a run like any other, in outputs/cards, so a second call only draws. Costs
come from benchmarks/losses.json (python -m benchmarks.losses --write). What stands between marks such as
<!-- cost --> in a card is written anew, the rest is left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from torch import Tensor

from nstbench.config.files import conf_dir, describe, groups
from nstbench.config.resolvers import register_resolvers
from nstbench.config.validation import validate
from nstbench.pictures.io import read_picture, to_image
from nstbench.pictures.sheet import contact_sheet
from nstbench.pictures.source import load
from nstbench.runs.run import run
from nstbench.tracking.record import RunRecord, write_text

HERE = Path(__file__).parent
COSTS = HERE.parent.parent / "benchmarks" / "losses.json"
CONTENT, STYLE, SIZE = "sample:chelsea", "procedural:strokes", 256
COMMON = [f"pictures.style={STYLE}", f"size={SIZE}", "logger=none", "output=outputs", "study=cards"]
TEXTURE = ["pictures.content=null", "loss/content=none", "canvas.start=noise", "schedule=coarse_to_fine"]
ROLES = ("style", "content", "regularizer")
# Options that are meant to stand beside others.
WITH = {"content/laplacian": "[features,laplacian]"}
WITH |= {f"regularizer/{name}": f"[tv,{name}]" for name in ("pixel_histogram", "pixel_range", "alpha_norm")}

Made = dict[str, tuple[Tensor, RunRecord]]


def choice(role: str, option: str) -> str:
    """Return what is typed for an option, as its card shows it."""
    return f"loss/{role}={WITH.get(f'{role}/{option}', f'[{option}]')}"


def options() -> list[tuple[str, str]]:
    """Return role and option of everything in conf/loss."""
    return [(role, o) for role in ROLES for o in groups()[f"loss/{role}"] if o != "none"]


def make(overrides: Sequence[str]) -> tuple[Tensor, RunRecord]:
    """Run, or find what was run before."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = validate(compose("config", overrides=[*COMMON, *overrides]))
    result = run(config)
    return read_picture(result.folder / "canvas.png"), result.record


def card_of(role: str, option: str) -> Path | None:
    """Return the card of an option: of its name, or of the module that its loss lives in."""
    text = (conf_dir() / "loss" / role / f"{option}.yaml").read_text(encoding="utf-8")
    found = re.search(r"nstbench\.losses\.(\w+)\.", text)
    names = [option, found[1] if found else option]
    return next((f for n in names if (f := HERE / f"{n}.md").exists()), None)


def fill(text: str, mark: str, body: str) -> str:
    """Return a text with ``body`` between its marks."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{body}\n{end}{rest.split(end)[1]}"


def costs() -> dict[tuple[str, str, int], dict[str, Any]]:
    """Return what was measured of each option as configured."""
    rows = json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.exists() else []
    return {(r["role"], r["name"], r["size"]): r for r in rows if r["layer"] == "configured"}


def cost_table(of_card: Sequence[tuple[str, str]]) -> str:
    """Return the costs of a card's options."""
    lines = ["| | at | milliseconds | × Gram | peak memory |", "|---|---:|---:|---:|---:|"]
    for (role, option, size), row in costs().items():
        if (role, option) in of_card and row["milliseconds"]:
            ratio = row["milliseconds"] / row["gram"]
            cells = f"{row['milliseconds']:.1f} | {ratio:.2f} | {row['megabytes']:.0f} MB"
            lines.append(f"| `{role}/{option}` | {size} px | {cells} |")
    note = "Forward and backward over its own layers, at a VGG-19's shapes"
    note += " ([how](../../benchmarks/README.md#losses))."
    return "\n".join([*lines, "", note])


def save(name: str, sheet: Tensor) -> None:
    """Write a picture of a card: JPEG, because there are many."""
    (HERE / "pictures").mkdir(exist_ok=True)
    to_image(sheet).save(HERE / "pictures" / f"{name}.jpg", quality=88, optimize=True)


def write_cards(transfers: Made, textures: Made) -> None:
    """Put pictures and costs into every card."""
    cards: dict[Path, list[tuple[str, str]]] = {}
    for role, option in options():
        if card := card_of(role, option):
            cards.setdefault(card, []).append((role, option))
    for card, of_card in cards.items():
        lines = []
        for role, option in of_card:
            key = f"{role}/{option}"
            cells = [(f"style transfer\n{key}", transfers[key][0])]
            if key in textures:
                cells.append((f"texture synthesis from noise\n{key}", textures[key][0]))
            save(f"{role}-{option}", contact_sheet(cells, columns=2, cell=SIZE))
            lines.append(f"![{key}](pictures/{role}-{option}.jpg)\n")
        texture = f" {choice(*of_card[0])} {' '.join(TEXTURE)}" if of_card[0][0] == "style" else ""
        lines.append(
            f"`nstbench run content={CONTENT} style={STYLE} {choice(*of_card[0])}`, "
            f"{SIZE} px, all else at the defaults "
            f"(procedural encoder, {transfers[key][1].steps} L-BFGS steps)."
            + (f" The texture: `nstbench run style={STYLE}{texture}`." if texture else "")
        )
        text = fill(card.read_text(encoding="utf-8"), "pictures", "\n".join(lines))
        write_text(card, fill(text, "cost", cost_table(of_card)))


def index_table(transfers: Made) -> str:
    """Return a line per option: its card, what it is, its cost, and what others say of its picture."""
    lines = [
        "| | what it is | ms at 256 px | × Gram | by the others | SSIM |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for role, option in options():
        card, row = card_of(role, option), costs().get((role, option, 256))
        metrics = transfers[f"{role}/{option}"][1].metrics
        name = f"[{role}/{option}]({card.name})" if card else f"{role}/{option}"
        cost = f"{row['milliseconds']:.0f} | {row['milliseconds'] / row['gram']:.1f}" if row else " | "
        others = f"{metrics['cross/others']:.2f}" if role == "style" else ""
        what = describe(f"loss/{role}", option).replace("|", "\\|")
        lines.append(f"| {name} | {what} | {cost} | {others} | {metrics['ssim']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Run, draw, write."""
    register_resolvers()
    transfers: Made = {}
    textures: Made = {}
    content = f"pictures.content={CONTENT}"
    for role, option in options():
        key = f"{role}/{option}"
        transfers[key] = make([content, choice(role, option), "metrics=cross", "judge=random"])
        if role == "style":
            textures[key] = make([choice(role, option), *TEXTURE, "metrics=none"])
        print(key, f"{transfers[key][1].timings['optimize_s']:.0f} s", flush=True)
    write_cards(transfers, textures)
    pair = [(source, load(source, setting="card").pixels) for source in (CONTENT, STYLE)]
    cells = [*pair, *((k.removeprefix("style/"), p) for k, (p, _) in transfers.items())]
    save("transfers", contact_sheet(cells, columns=5, cell=SIZE))
    cells = [pair[1], *((k.removeprefix("style/"), p) for k, (p, _) in textures.items())]
    save("textures", contact_sheet(cells, columns=5, cell=SIZE))
    index = HERE / "README.md"
    write_text(index, fill(index.read_text(encoding="utf-8"), "table", index_table(transfers)))


if __name__ == "__main__":
    main()
