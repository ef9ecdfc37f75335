"""The trade-off of content and style (E/C), as data for its plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nstbench.analysis.records import Study
from nstbench.analysis.report.content import settings_of
from nstbench.errors import UserError

if TYPE_CHECKING:
    from nstbench.analysis.tradeoff import Tradeoff

_STYLE = ("cross/others", "gram_distance")
_CONTENT = ("ssim", "ms_ssim", "lpips_vgg", "lpips_alex", "psnr")


def tradeoff_of(study: Study) -> dict[str, Any]:
    """Return the points and fronts of each formulation, or the reason why there are none, ``message``."""
    try:
        style, content = (_first(study, names) for names in (_STYLE, _CONTENT))
        if not style or not content:
            known = " and ".join(", ".join(names[:2]) for names in (_STYLE, _CONTENT))
            missing = "style" if not style else "content"
            return {"message": f"No completed run has a metric of {missing}. One of each is needed: {known}."}
        from nstbench.analysis.grouping import group
        from nstbench.analysis.tradeoff import tradeoff

        swept = settings_of(study)
        by = "loss.style" if "loss.style" in swept or not swept else next(
            (name for name in study.settings), swept[0]
        )  # fmt: skip
        return as_data(tradeoff(study, group(study, by), style, content))
    except UserError as error:
        return {"message": f"There is no trade-off to draw: {error}"}


def as_data(found: Tradeoff) -> dict[str, Any]:
    """Return a trade-off as data for JSON."""
    return {
        "by": found.by,
        "style": {"name": found.style, "better": "higher" if found.style_higher else "lower"},
        "content": {"name": found.content, "better": "higher" if found.content_higher else "lower"},
        "points": _rows(found.points),
        "fronts": _rows(found.fronts),
        "notes": list(found.notes),
    }


def _rows(table: Any) -> list[dict[str, Any]]:
    return [{str(k): _plain(v) for k, v in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # numpy's numbers
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < float("inf") else None  # NaN too
    return value


def _first(study: Study, names: tuple[str, ...]) -> str:
    known = [name for name in study.metrics if name in study.directions]
    return next((name for name in names if name in known), "")
