"""Targets of terms, computed once per stage from the content and style pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nstbench.encoders.base import Features
from nstbench.errors import UserError
from nstbench.losses.base import CANVAS, Formulation
from nstbench.modules.member import Member
from nstbench.objective.term import Guides, Term

Pictures = Mapping[str, Sequence[Tensor]]
"""Content and style pictures by role, each ``(1, 3, H, W)``."""

_MOST_KEPT = 4  # pictures: runs that share one mostly follow each other, and feature maps are large


class EncodedPictures:
    """Feature maps of pictures, computed once for the runs of a batch that share the pictures."""

    def __init__(self) -> None:
        self._kept: dict[Any, Features] = {}

    def encode(self, member: Member, picture: Tensor) -> Features:
        """Return the maps of ``picture`` that the member's terms need, in its present precision."""
        digest = hashlib.sha256(picture.cpu().contiguous().numpy().tobytes()).hexdigest()
        key = (
            digest,
            tuple(picture.shape),
            id(member.encoding.encoder),
            tuple(member.layers),
            member.phase,
        )
        found = self._kept.pop(key, None) or member.encode(picture)
        self._kept[key] = found  # moved to the end: the first is removed
        for oldest in list(self._kept)[:-_MOST_KEPT]:
            del self._kept[oldest]
        return found


@torch.no_grad()
def compute_targets(
    member: Member,
    pictures: Pictures,
    blend: Sequence[float],
    guides: Mapping[str, Mapping[str, Guides]],
    encoded: EncodedPictures | None = None,
) -> None:
    """Compute the targets of every term.

    Args:
        member: Canvas with the terms of its objective.
        pictures: Content and style pictures at their sizes in the stage, on the device.
        blend: Weights of the style pictures, which sum to 1.
        guides: Guides of every region, for terms that have regions, by the term's name.
        encoded: Feature maps that other runs have computed.

    Raises:
        UserError: A term cannot use a picture; its loss is named.
    """

    def encode(picture: Tensor) -> dict[str, Tensor]:
        maps = encoded.encode(member, picture) if encoded else member.encode(picture)
        return {**maps, CANVAS: picture}

    # Most terms need the maps of the pictures themselves, which are computed once for all of them.
    in_blocks = member.blocks is not None
    maps = {} if in_blocks else {role: [encode(p) for p in of_role] for role, of_role in pictures.items()}
    for term in member.terms:
        role = _role_of_target(term, pictures)
        of_role = pictures[role][:1] if term.role == "regularizer" else pictures[role]
        weights = blend if role == "style" and len(of_role) > 1 else (1.0,)
        try:
            if member.blocks is not None:
                member.blocks.compute_targets(term, of_role, weights, guides.get(term.name))
                continue
            copies = [[features] for features in maps[role][: len(of_role)]]
            if type(term.loss).copies is not Formulation.copies:
                copies = [[encode(copy) for copy in term.loss.copies(picture)] for picture in of_role]
            term.compute_targets(copies, weights, guides.get(term.name))
        except ValueError as error:
            setting = f"loss.{term.name.replace('/', '.')}"
            hint = "Give a larger size, or other layers."
            raise UserError(setting, term.layers_needed, str(error), hint) from error


def _role_of_target(term: Term, pictures: Pictures) -> str:
    """Return the role of a term's target pictures: its own, or the one a regulariser names, or style."""
    if term.role != "regularizer":
        return term.role
    return term.loss.target_picture if pictures[term.loss.target_picture] else "style"
