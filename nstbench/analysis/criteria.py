"""By which metrics runs are compared, and in which direction."""

from __future__ import annotations

from collections.abc import Sequence

from nstbench.analysis.records import Study
from nstbench.errors import UserError, did_you_mean


def choose(study: Study, asked: Sequence[str] | None) -> list[str]:
    """Return the metrics to compare by: those asked for, or one of style and one of content.

    Raises:
        UserError: no completed run has a value of the metric, or of any.
    """
    known = study.metrics
    if not known:
        hint = "Run the study with another choice of metrics=…, such as metrics=default."
        raise UserError("STUDY", study.folder, "no completed run in it has a metric", hint)
    for name in asked or ():
        if name not in known:
            reason = "no completed run has this metric"
            if name in study.unavailable:
                reason += f" ({study.unavailable[name]})"
            raise UserError("--criterion", name, reason, did_you_mean(name, known, what="metrics"))
    if asked:
        return list(dict.fromkeys(asked))
    told = [name for name in known if name in study.directions]
    style = [name for name in ("cross/others", "gram_distance") if name in told][:1]
    content = [name for name in ("ssim",) if name in told]
    return [*style, *content] or told[:1] or known[:1]


def higher_is_better(study: Study, metric: str) -> bool:
    """Return the direction of a metric of the study, as its runs recorded it.

    Raises:
        UserError: No completed run says it, or two contradict each other.
    """
    if metric in study.directions:
        return study.directions[metric] == "max"
    reason = "its direction is unknown: the run.json of the completed runs do not agree on one, or name none"
    raise UserError("--criterion", metric, reason, "Leave it out, or run the study anew under another name.")
