"""Write the tables of docs/pictures.md anew, from the registry of the papers' pictures and conf/pictures.

python docs/pictures/make_papers.py
"""

from __future__ import annotations

import re
from pathlib import Path

from omegaconf import OmegaConf

from nstbench.config.files import conf_dir
from nstbench.pictures.papers.files import how_to_get
from nstbench.pictures.papers.picture import CONDITIONS, PaperPicture
from nstbench.pictures.papers.registry import COLLECTIONS, PAPERS

PAGE = Path(__file__).resolve().parent.parent / "pictures.md"


def tables() -> dict[str, str]:
    """Return the page's tables by the name between their marks."""
    found = {name: _collection(name) for name in COLLECTIONS}
    samples = OmegaConf.load(conf_dir() / "pictures" / "samples.yaml").cast
    rows = [f"| {part} | `{source}` |" for part, source in samples.items()]
    return found | {"stand-ins": "\n".join(["| part | plays it |", "|---|---|", *rows])}


def _collection(name: str) -> str:
    rows = ["| key | work | in the paper | terms | file | to get it |", "|---|---|---|---|---|---|"]
    rows += [_row(p, p.figures[name]) for p in PAPERS.values() if name in p.figures]
    notes = [f"- `{p.key}`: {p.note}" for p in PAPERS.values() if name in p.figures and p.note]
    return "\n".join([f"*{COLLECTIONS[name]}*", "", *rows, *([""] if notes else []), *notes])


def _row(picture: PaperPicture, figure: str) -> str:
    title = f"[{picture.title}]({_safe(picture.page)})" if picture.page else picture.title
    work = ", ".join(word for word in (title, picture.author or "author unknown", picture.year) if word)
    terms = f"{picture.terms} (†{picture.died})" if picture.died else picture.terms
    known = [f"sha256 `{picture.sha256[:8]}…`"] if picture.sha256 else []
    known += [f"md5 `{picture.md5[:8]}…`"] if picture.md5 else []
    known += [f"{picture.pixels[0]}×{picture.pixels[1]}"] if picture.pixels else []
    # The registry, not the day: a page must not change at New Year.
    get = f"`fetch {picture.key}`" if picture.urls else f"`add {picture.key} FILE`"
    if picture.urls and picture.licence in CONDITIONS:
        get = re.search("`nstbench images (fetch[^`]*)`", how_to_get(picture)).expand(r"`\1`")  # type: ignore[union-attr]
    return f"| `{picture.key}` | {work} | {figure} | {terms} | {', '.join(known) or 'unknown'} | {get} |"


def _safe(url: str) -> str:
    return url.replace("(", "%28").replace(")", "%29")


def main() -> None:
    """Replace what stands between the marks."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables().items():
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda marks, table=table: f"{marks[1]}{table}\n{marks[2]}",  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
