"""Diagnostics of terms: values of layers, norms of gradients, and the angle between gradients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from nstbench.modules.member import Evaluation, EvaluationCallback, Member
from nstbench.objective.units import gradients
from nstbench.tracking.dashboards import Dashboards
from nstbench.tracking.files import append_row, drop_rows


class Diagnostics(EvaluationCallback):
    """Write, every k evaluations, a row of diagnostics.csv and a point in the dashboards.

    Columns, all of the weighted terms and means over the batch:

    - ``layer/<term>/<layer>``: a layer's share; they sum to curves.csv's ``loss/<term>``;
    - ``gradient/<term>``: the norm of the term's gradient on the canvas's pixels;
    - ``cosine/content_style``: the cosine of the angle between the gradients of all content terms and of all
      style terms. -1: they are opposed. The cell is empty while one of them is 0.

    A row costs one more forward pass of the encoder, and a backward pass of each term.

    Args:
        path: Path of diagnostics.csv.
        dashboards: Dashboards of the run.
        every: Evaluations between rows.
        evaluations: Evaluations made by an interrupted attempt; later rows are dropped, as they will be
            written again.
    """

    def __init__(self, path: Path, dashboards: Dashboards, every: int, *, evaluations: int = 0) -> None:
        self.path, self.dashboards, self.every = path, dashboards, every
        drop_rows(path, evaluations)

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        """Write a row if one is due."""
        if evaluation.index % self.every:
            return
        terms = member.terms
        values, slopes = gradients(terms, member.encode, evaluation.picture)
        weighted = {t.name: t.weight * slopes[t.name] for t in terms}
        layers = {
            f"layer/{t.name}/{layer}": t.weight * float(value.mean())
            for t in terms
            for layer, value in values[t.name].items()
        }
        norms = {f"gradient/{name}": float(s.flatten(1).norm(dim=1).mean()) for name, s in weighted.items()}
        numbers: dict[str, float | None] = {**layers, **norms}
        numbers["cosine/content_style"] = cosine_of_roles(weighted, "content", "style")
        row = {"evaluation": evaluation.index, "step": evaluation.step, "stage": evaluation.stage}
        append_row(self.path, {**row, **{k: "" if v is None else repr(v) for k, v in numbers.items()}})
        self.dashboards.log(evaluation.index, {k: v for k, v in numbers.items() if v is not None})


def cosine_of_roles(slopes: Mapping[str, Tensor], one: str, other: str) -> float | None:
    """Return the cosine between two roles' gradients, a mean over the batch; None if one is
    missing or 0.

    Args:
        slopes: Gradients ``(B, 3, H, W)`` by the names of terms, which begin with their role.
        one: First role.
        other: Second role.
    """
    sums = []
    for role in (one, other):
        of_role = [slope for name, slope in slopes.items() if name.startswith(f"{role}/")]
        if not of_role:
            return None
        sums.append(torch.stack(of_role).sum(0).flatten(1))
    a, b = sums
    shorter, longer = torch.stack([a.norm(dim=1), b.norm(dim=1)]).sort(dim=0).values
    # At the content picture, rounding leaves its gradient some 1e-7 of the other's, in any direction.
    if not bool((shorter > 1e-6 * longer).all()):
        return None
    return float(torch.nn.functional.cosine_similarity(a, b, dim=1).mean())
