"""The objective and its gradient on pictures of any size, exactly, block by block.

A loss of sums over positions needs to know of the rest of the picture no more than how its value
changes with the sums. So there are two passes over the blocks (`nstbench.blockwise.blocks`):

1. without gradients, the sums S of every layer are added up; then the values, and their
   derivatives for the sums, ``∂L/∂S``, which are small matrices;
2. with gradients, each block's share ``⟨∂L/∂S, S_block⟩`` is taken back to its pixels. As S = Σ S_block,
   these gradients add up to that of the whole, where halos overlap.

Errors of single positions (content) are sums that need no first pass; the content's features are computed
anew in every block instead of being kept. Terms on the pixels themselves are computed on the whole picture.
Sums are added up in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from nstbench.blockwise.blocks import Block, at, cut
from nstbench.blockwise.contributions import Share, contribution_of, contributions_of, kind
from nstbench.encoders.base import Encoder, Features
from nstbench.losses.base import CANVAS, Target
from nstbench.losses.functional.maps import at_least_float32
from nstbench.losses.functional.moments import in_double
from nstbench.losses.functional.sums import Sums
from nstbench.objective.term import Guides, Part, Term

Encode = Callable[[Tensor, Sequence[str]], Features]


class BlockwiseObjective:
    """Evaluates the terms of an objective block by block, and computes their targets likewise.

    Args:
        encoder: checked by `nstbench.blockwise.blocks.check_blocks`.
        encode: from pictures and layers to feature maps, in the precision of the stage.
        terms: Terms that can be computed in blocks (`nstbench.blockwise.contributions.kind`).
        tile: about how many pixels a block has on a side, without its halo.

    Raises:
        ValueError: A term cannot be computed in blocks; likewise from `compute_targets`, `measured` and
            calls, as an objective's terms may be changed later.
    """

    def __init__(self, encoder: Encoder, encode: Encode, terms: Sequence[Term], tile: int) -> None:
        _check(terms)
        self.encoder, self.encode, self.terms, self.tile = encoder, encode, terms, tile
        self._remembered: dict[str, Tensor] = {}  # the picture of every term that compares positions
        self._cut: dict[tuple[object, ...], list[Block]] = {}

    @torch.no_grad()
    def compute_targets(
        self,
        term: Term,
        pictures: Sequence[Tensor],
        blend: Sequence[float] = (1.0,),
        guides: Mapping[str, Guides] | None = None,
    ) -> None:
        """Compute a term's targets from pictures ``(1, 3, H, W)``, without keeping their feature maps.

        See `Term.compute_targets`.
        """
        _check([term])
        summaries = {}
        for i, picture in enumerate(pictures):
            shares = [
                contribution_of(term, part, _guide_of_style(part, guides), self.encoder)
                for part in term.parts
                if kind(term, part.view) == "additive" and (part.region is None or part.region.picture == i)
            ]
            for share, sums in zip(shares, self._sums(picture, shares), strict=True):
                summaries[share.part.key, i] = share.loss.summary(sums)

        def target(part: Part, i: int, of_style: Sequence[Mapping[str, Tensor]] | None) -> Target:
            of_kind, picture = kind(term, part.view), pictures[i]
            if of_kind == "additive":
                return summaries[part.key, i]
            if of_kind == "pixels":
                copies = [{CANVAS: copy} for copy in term.loss.copies(picture)]
                return term.target(copies, part.view, of_style)
            self._remembered[term.name] = picture
            term.units[part.key] = self._size(picture, contribution_of(term, part, None, self.encoder))
            return None

        term.compute_targets_with(target, range(len(pictures)), blend, guides)

    def __call__(self, picture: Tensor, *, gradient: bool = True) -> tuple[dict[str, Tensor], Tensor]:
        """Return each term's value on pictures ``(B, 3, H, W)``, before its weight, ``(B,)``.

        Args:
            picture: Pictures ``(B, 3, H, W)``.
            gradient: Whether to compute the gradient of the weighted sum.

        Returns:
            The values by the terms' names, and the gradient; zeros where it is not computed.
        """
        weights = {term.name: term.weight for term in self.terms}
        return self._evaluate(self.terms, weights, picture.detach(), gradient=gradient)

    def measured(self, terms: Sequence[Term], picture: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Return each term's value, and the norm of its gradient: a `nstbench.objective.units.Measure`."""
        found = {}
        for term in terms:
            values, slope = self._evaluate([term], {term.name: 1.0}, picture.detach(), gradient=True)
            found[term.name] = (values[term.name], slope.flatten(1).norm(dim=1))
        return found

    def _evaluate(
        self, terms: Sequence[Term], weights: Mapping[str, float], picture: Tensor, *, gradient: bool
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the terms' values, and the gradient of their sum under these weights, or 0."""
        _check(terms)
        values, slope = _of_pixels(terms, weights, picture, gradient=gradient)
        additive, positionwise = (
            contributions_of(terms, k, self.encoder) for k in ("additive", "positionwise")
        )
        sums = self._sums(picture, additive)
        slopes = []
        for share, of_all in zip(additive, sums, strict=True):
            value, of_value = _compare(share, of_all)
            values[share.term.name] += value
            slopes.append([weights[share.term.name] * d for d in of_value])
        for block in self._blocks(picture, [*(additive if gradient else []), *positionwise]):
            crop = at(picture, block.crop).clone().requires_grad_(gradient)
            with torch.set_grad_enabled(gradient):
                features = self.encode(crop, block.layers)
                pulls = _pulls(additive, sums, slopes, features, block) if gradient else []
                for share, error in self._errors(positionwise, features, block, picture):
                    values[share.term.name] += error.detach()
                    pulls.append(weights[share.term.name] * error.sum())
                if gradient and pulls:
                    at(slope, block.crop).add_(*torch.autograd.grad(torch.stack(pulls).sum(), crop))
        return {name: value.to(at_least_float32(picture)) for name, value in values.items()}, slope

    @torch.no_grad()
    def _sums(self, picture: Tensor, shares: Sequence[Share]) -> list[Sums]:
        """Return the sums that each share needs, over all positions: the first pass."""
        totals: dict[int, Sums] = {}
        for block in self._blocks(picture, shares):
            features = self.encode(at(picture, block.crop), block.layers)
            for i, share in enumerate(shares):
                seen = share.seen(features, block)
                if seen is not None:
                    found = share.loss.statistic(*seen).double()
                    totals[i] = totals[i] + found if i in totals else found
        for i, share in enumerate(shares):
            if i not in totals:
                reason = f"no position of the picture counts for {share.part.key}"
                raise ValueError(
                    f"{share.term.name}: {reason} (its map is empty, or its guide is 0 everywhere)"
                )
        return [totals[i].about_mean() for i in range(len(shares))]

    def _errors(
        self, shares: Sequence[Share], features: Features, block: Block, picture: Tensor
    ) -> Iterator[tuple[Share, Tensor]]:
        """Yield what the block's positions add to the value, ``(B,)``, of terms that compare single ones."""
        theirs: dict[int, Features] = {}  # of each remembered picture, computed once
        for share in shares:
            seen, remembered = share.seen(features, block), self._remembered[share.term.name]
            if seen is None:
                continue
            if remembered.shape[2:] != picture.shape[2:]:
                sizes = f"canvas {tuple(picture.shape)}, picture {tuple(remembered.shape)}"
                raise ValueError(f"{share.term.name} needs one size: {sizes}")
            if id(remembered) not in theirs:
                layers = [x for x in block.layers if any(x in s.layers for s in shares)]
                with torch.no_grad():
                    theirs[id(remembered)] = self.encode(at(remembered, block.crop), layers)
            target = share.unguided.seen(theirs[id(remembered)], block)
            assert target is not None
            errors = share.loss.errors(seen[0], at_least_float32(target[0]), seen[1])
            yield share, share.term.scaled(share.part, self._factor(share, picture) * in_double(errors))

    def _size(self, picture: Tensor, share: Share) -> Tensor:
        """Return the unit of a share that compares positions with those of a picture: the value at F = 0."""
        total = in_double(picture.new_zeros(len(picture)))
        for block in self._blocks(picture, [share]):
            seen = share.unguided.seen(self.encode(at(picture, block.crop), block.layers), block)
            if seen is not None:
                P = at_least_float32(seen[0])
                total += share.loss.errors(torch.zeros_like(P), P)
        return self._factor(share, picture) * total

    def _factor(self, share: Share, picture: Tensor) -> float:
        (layer,) = share.layers
        windows = [block.whole[layer] for block in self._blocks(picture, [share]) if layer in block.whole]
        positions = sum((r.stop - r.start) * (c.stop - c.start) for r, c in windows)
        if not positions:
            raise ValueError(f"{share.term.name}: no position of the picture counts for {share.part.key}")
        factor: float = share.loss.factor(self.encoder.layers[layer].channels, positions)
        return factor

    def _blocks(self, picture: Tensor, shares: Sequence[Share]) -> list[Block]:
        """Return the blocks of a picture for the layers of some shares; cut once for each size."""
        layers = tuple(dict.fromkeys(layer for share in shares for layer in share.layers))
        if not layers:
            return []
        height, width = picture.shape[2:]
        key = (layers, height, width)
        if key not in self._cut:
            self._cut[key] = cut(self.encoder, layers, (height, width), self.tile)
        return self._cut[key]


def _check(terms: Sequence[Term]) -> None:
    """Raise ValueError for a term that no blocks can give the value of: its value would be 0."""
    for term in terms:
        for part in term.parts:
            if kind(term, part.view) == "neither":
                what = f"{term.name} ({type(term.loss).__name__} of {part.view})"
                raise ValueError(
                    f"{what} cannot be computed in blocks: it is no sum over positions of the encoder's maps"
                )


def _guide_of_style(part: Part, guides: Mapping[str, Guides] | None) -> Tensor | None:
    """Return how much the positions of a style picture count in a part's region."""
    if part.region is None or guides is None:
        return None
    style = guides[part.region.name].style
    return style[0][part.view] if style else None


def _of_pixels(
    terms: Sequence[Term], weights: Mapping[str, float], picture: Tensor, *, gradient: bool
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the values of terms on the pixels themselves, in float64, and the gradient of their sum."""
    values = {term.name: in_double(picture.new_zeros(len(picture))) for term in terms}
    leaf = picture.detach().requires_grad_(gradient)
    totals = []
    with torch.set_grad_enabled(gradient):
        for term in terms:
            for part in (part for part in term.parts if kind(term, part.view) == "pixels"):
                value = term.value_of(part, {CANVAS: leaf})
                values[term.name] += in_double(value.detach())
                totals.append(weights[term.name] * value.sum())
        if not any(total.requires_grad for total in totals):
            return values, torch.zeros_like(picture)
        (slope,) = torch.autograd.grad(torch.stack(totals).sum(), leaf, materialize_grads=True)
    return values, slope


def _compare(share: Share, sums: Sums) -> tuple[Tensor, Sequence[Tensor]]:
    """Return a share's value, ``(B,)``, and its derivatives for the sums."""
    leaves = sums.requiring_grad()
    with torch.enable_grad():
        value = share.term.scaled(share.part, share.loss.compare(leaves, share.term.targets[share.part.key]))
        slopes = torch.autograd.grad(value.sum(), leaves.sums, materialize_grads=True)
    return value.detach(), slopes


def _pulls(
    shares: Sequence[Share],
    sums: Sequence[Sums],
    slopes: Sequence[Sequence[Tensor]],
    features: Features,
    block: Block,
) -> list[Tensor]:
    """Return ``⟨∂L/∂S, S_block⟩`` of each share, the sums taken about the centres of the whole's."""
    found = []
    for share, of_all, of_share in zip(shares, sums, slopes, strict=True):
        seen = share.seen(features, block)
        if seen is None:
            continue
        maps, guide = seen
        centre = of_all.centre
        if centre is not None:
            centre = centre.to(at_least_float32(maps))
        for slope, S in zip(of_share, share.loss.statistic(maps, guide, centre).sums, strict=True):
            found.append((slope.to(S) * S).sum().to(slope))
    return found
