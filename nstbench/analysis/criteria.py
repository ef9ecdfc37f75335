"""The metrics by which runs are compared, and their directions."""

from __future__ import annotations

from collections.abc import Sequence

from nstbench.analysis.records import Study
from nstbench.errors import UserError, did_you_mean


def choose(study: Study, chosen: Sequence[str] | None) -> list[str]:
    """Return the metrics to compare by: the chosen ones, or one of style and one of content.

    Args:
        study: Study to compare.
        chosen: Chosen metrics; None: the default ones.

    Raises:
        UserError: If no completed run has a value of a chosen metric, or of any.
    """
    known = study.metrics
    if not known:
        hint = "Run the study with another choice of metrics=…, such as metrics=default."
        raise UserError("STUDY", study.folder, "no completed run in it has a metric", hint)
    for name in chosen or ():
        if name not in known:
            reason = "no completed run has this metric"
            if name in study.unavailable:
                reason += f" ({study.unavailable[name]})"
            raise UserError("--criterion", name, reason, did_you_mean(name, known, what="metrics"))
    if chosen:
        return list(dict.fromkeys(chosen))
    directed = [name for name in known if name in study.directions]
    style = [name for name in ("cross/others", "gram_distance") if name in directed][:1]
    content = [name for name in ("ssim",) if name in directed]
    return [*style, *content] or directed[:1] or known[:1]


def higher_is_better(study: Study, metric: str) -> bool:
    """Return the direction of a metric of the study, as its runs recorded it.

    Raises:
        UserError: If no completed run recorded it, or two differ.
    """
    if metric in study.directions:
        return study.directions[metric] == "max"
    reason = "its direction is unknown: the run.json of the completed runs have different ones, or none"
    raise UserError("--criterion", metric, reason, "Leave it out, or run the study again under another name.")
