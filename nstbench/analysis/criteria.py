"""By which metrics runs are compared, and in which direction."""

from __future__ import annotations

from collections.abc import Sequence

from nstbench.analysis.records import Study
from nstbench.errors import UserError, did_you_mean

# `nstbench.metrics.evaluate.direction` asks the classes themselves, which costs the import of torch:
# here the classes of nstbench are known by heart (a test compares).
HIGHER_IS_BETTER = {
    "nstbench.metrics.colour.ColourDistance": False,
    "nstbench.metrics.cross.CrossEvaluation": False,
    "nstbench.metrics.perceptual.LPIPS": False,
    "nstbench.metrics.smoothness.TotalVariationPerPixel": False,
    "nstbench.metrics.structure.MultiScaleSSIM": True,
    "nstbench.metrics.structure.PSNR": True,
    "nstbench.metrics.structure.SSIM": True,
    "nstbench.metrics.style.GramDistance": False,
}


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
    style = [name for name in ("cross/others", "gram_distance") if name in known][:1]
    content = [name for name in ("ssim",) if name in known]
    return [*style, *content] or known[:1]


def higher_is_better(study: Study, metric: str) -> bool:
    """Return the direction of a metric of the study.

    Raises:
        UserError: the metric is of a class that this installation lacks.
    """
    target = str(study.nodes.get(metric, {}).get("_target_", ""))
    if target in HIGHER_IS_BETTER:
        return HIGHER_IS_BETTER[target]
    from nstbench.metrics.evaluate import direction

    try:
        return direction({"_target_": target})[0]
    except Exception as error:
        reason = f"its class {target or '(none)'} cannot be asked which direction is better"
        raise UserError("--criterion", metric, reason, "Install what defines it, or leave it out.") from error
