"""The objective and its gradient on pictures of any size, exactly, block by block.

The value of an additive loss depends on the picture only through sums over positions, and its gradient only
through them and the derivatives for them. So there are two passes over the blocks
(`nstbench.blockwise.blocks`):

1. without gradients, the sums S of every layer are added up; then the values, and their
   derivatives for the sums, ``∂L/∂S``, which are small matrices;
2. with gradients, each block's contribution ``⟨∂L/∂S, S_block⟩`` is propagated back to its pixels. As
   S = Σ S_block, these gradients, added where halos overlap, are that of the whole picture.

Errors of single positions (content) are sums that need no first pass; the feature maps of the content picture
are computed anew in every block instead of being kept. Terms on the pixels themselves are computed on the
whole picture. Sums are added up in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from nstbench.blockwise.blocks import Block, at, cut
from nstbench.blockwise.contributions import Contribution, block_mode, contribution_of, contributions_of
from nstbench.encoders.base import Encoder, Features
from nstbench.losses.base import CANVAS, Target
from nstbench.losses.functional.maps import at_least_float32
from nstbench.losses.functional.moments import in_double
from nstbench.losses.functional.sums import Sums
from nstbench.objective.term import Guides, Part, Term

Encode = Callable[[Tensor, Sequence[str]], Features]


class BlockwiseObjective:
    """Evaluates the terms of an objective, and computes their targets, block by block.

    Args:
        encoder: Encoder, checked by `nstbench.blockwise.blocks.check_blocks`.
        encode: Function from pictures and layers to feature maps, in the precision of the stage.
        terms: Terms that can be computed in blocks (`nstbench.blockwise.contributions.block_mode`).
        tile: Approximate number of pixels on a side of a block, without its halo.

    Raises:
        ValueError: A term cannot be computed in blocks. `compute_targets`, `measured` and calls raise it
            too, as an objective's terms may be changed later.
    """

    def __init__(self, encoder: Encoder, encode: Encode, terms: Sequence[Term], tile: int) -> None:
        _check_terms(terms)
        self.encoder, self.encode, self.terms, self.tile = encoder, encode, terms, tile
        self._pictures: dict[str, Tensor] = {}  # the target picture of every term that compares positions
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
        _check_terms([term])
        summaries = {}
        for i, picture in enumerate(pictures):
            contributions = [
                contribution_of(term, part, _guide_of_style(part, guides), self.encoder)
                for part in term.parts
                if block_mode(term, part.view) == "additive"
                and (part.region is None or part.region.picture == i)
            ]
            for each, sums in zip(contributions, self._sums(picture, contributions), strict=True):
                summaries[each.part.key, i] = each.loss.summary(sums)

        def target(part: Part, i: int, of_style: Sequence[Mapping[str, Tensor]] | None) -> Target:
            mode, picture = block_mode(term, part.view), pictures[i]
            if mode == "additive":
                return summaries[part.key, i]
            if mode == "pixels":
                copies = [{CANVAS: copy} for copy in term.loss.copies(picture)]
                return term.target(copies, part.view, of_style)
            self._pictures[term.name] = picture
            term.units[part.key] = self._unit(picture, contribution_of(term, part, None, self.encoder))
            return None

        term.compute_targets_with(target, range(len(pictures)), blend, guides)

    def __call__(self, picture: Tensor, *, gradient: bool = True) -> tuple[dict[str, Tensor], Tensor]:
        """Return each term's value on pictures ``(B, 3, H, W)``, before its weight, ``(B,)``.

        Args:
            picture: Pictures ``(B, 3, H, W)``.
            gradient: Whether to compute the gradient of the weighted sum.

        Returns:
            The values by the terms' names, and the gradient; zeros if it is not computed.
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
        """Return the terms' values, and the gradient of their weighted sum; zeros if it is not computed."""
        _check_terms(terms)
        values, slope = _of_pixels(terms, weights, picture, gradient=gradient)
        additive, positionwise = (
            contributions_of(terms, k, self.encoder) for k in ("additive", "positionwise")
        )
        sums = self._sums(picture, additive)
        slopes = []
        for each, of_all in zip(additive, sums, strict=True):
            value, of_value = _compare(each, of_all)
            values[each.term.name] += value
            slopes.append([weights[each.term.name] * d for d in of_value])
        for block in self._blocks(picture, [*(additive if gradient else []), *positionwise]):
            crop = at(picture, block.crop).clone().requires_grad_(gradient)
            with torch.set_grad_enabled(gradient):
                features = self.encode(crop, block.layers)
                parts = _linear_terms(additive, sums, slopes, features, block) if gradient else []
                for each, error in self._errors(positionwise, features, block, picture):
                    values[each.term.name] += error.detach()
                    parts.append(weights[each.term.name] * error.sum())
                if gradient and parts:
                    at(slope, block.crop).add_(*torch.autograd.grad(torch.stack(parts).sum(), crop))
        return {name: value.to(at_least_float32(picture)) for name, value in values.items()}, slope

    @torch.no_grad()
    def _sums(self, picture: Tensor, contributions: Sequence[Contribution]) -> list[Sums]:
        """Return the sums that each contribution needs, over all positions: the first pass."""
        totals: dict[int, Sums] = {}
        for block in self._blocks(picture, contributions):
            features = self.encode(at(picture, block.crop), block.layers)
            for i, each in enumerate(contributions):
                local = each.maps(features, block)
                if local is not None:
                    sums = each.loss.statistic(*local).double()
                    totals[i] = totals[i] + sums if i in totals else sums
        for i, each in enumerate(contributions):
            if i not in totals:
                reason = f"no position of the picture has a weight above 0 for {each.part.key}"
                raise ValueError(
                    f"{each.term.name}: {reason} (its map is empty, or its guide is 0 everywhere)"
                )
        return [totals[i].about_mean() for i in range(len(contributions))]

    def _errors(
        self, contributions: Sequence[Contribution], features: Features, block: Block, picture: Tensor
    ) -> Iterator[tuple[Contribution, Tensor]]:
        """Yield a block's contribution to the value, ``(B,)``, of terms that compare single positions."""
        encoded: dict[int, Features] = {}  # maps of each target picture, computed once
        for each in contributions:
            local, matched = each.maps(features, block), self._pictures[each.term.name]
            if local is None:
                continue
            if matched.shape[2:] != picture.shape[2:]:
                sizes = f"canvas {tuple(picture.shape)}, picture {tuple(matched.shape)}"
                raise ValueError(f"{each.term.name} needs one size: {sizes}")
            if id(matched) not in encoded:
                layers = [x for x in block.layers if any(x in s.layers for s in contributions)]
                with torch.no_grad():
                    encoded[id(matched)] = self.encode(at(matched, block.crop), layers)
            target = each.unguided.maps(encoded[id(matched)], block)
            assert target is not None
            errors = each.loss.errors(local[0], at_least_float32(target[0]), local[1])
            yield each, each.term.scaled(each.part, self._factor(each, picture) * in_double(errors))

    def _unit(self, picture: Tensor, each: Contribution) -> Tensor:
        """Return the unit of a part that compares single positions: its value at F = 0."""
        total = in_double(picture.new_zeros(len(picture)))
        for block in self._blocks(picture, [each]):
            local = each.unguided.maps(self.encode(at(picture, block.crop), block.layers), block)
            if local is not None:
                P = at_least_float32(local[0])
                total += each.loss.errors(torch.zeros_like(P), P)
        return self._factor(each, picture) * total

    def _factor(self, each: Contribution, picture: Tensor) -> float:
        (layer,) = each.layers
        windows = [block.whole[layer] for block in self._blocks(picture, [each]) if layer in block.whole]
        positions = sum((r.stop - r.start) * (c.stop - c.start) for r, c in windows)
        if not positions:
            raise ValueError(f"{each.term.name}: the feature map of {each.part.key} has no position")
        factor: float = each.loss.factor(self.encoder.layers[layer].channels, positions)
        return factor

    def _blocks(self, picture: Tensor, contributions: Sequence[Contribution]) -> list[Block]:
        """Return the blocks of a picture for the layers of some contributions; cut once for each size."""
        layers = tuple(dict.fromkeys(layer for each in contributions for layer in each.layers))
        if not layers:
            return []
        height, width = picture.shape[2:]
        key = (layers, height, width)
        if key not in self._cut:
            self._cut[key] = cut(self.encoder, layers, (height, width), self.tile)
        return self._cut[key]


def _check_terms(terms: Sequence[Term]) -> None:
    """Check that terms can be computed in blocks; the value of one that cannot would be 0.

    Raises:
        ValueError: A term cannot.
    """
    for term in terms:
        for part in term.parts:
            if block_mode(term, part.view) == "impossible":
                what = f"{term.name} ({type(term.loss).__name__} of {part.view})"
                raise ValueError(
                    f"{what} cannot be computed in blocks: it is not a sum over positions of feature maps"
                )


def _guide_of_style(part: Part, guides: Mapping[str, Guides] | None) -> Tensor | None:
    """Return the weights of the positions of a style picture in a part's region."""
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
            for part in (part for part in term.parts if block_mode(term, part.view) == "pixels"):
                value = term.value_of(part, {CANVAS: leaf})
                values[term.name] += in_double(value.detach())
                totals.append(weights[term.name] * value.sum())
        if not any(total.requires_grad for total in totals):
            return values, torch.zeros_like(picture)
        (slope,) = torch.autograd.grad(torch.stack(totals).sum(), leaf, materialize_grads=True)
    return values, slope


def _compare(each: Contribution, sums: Sums) -> tuple[Tensor, Sequence[Tensor]]:
    """Return a contribution's value, ``(B,)``, and its derivatives for the sums."""
    leaves = sums.requiring_grad()
    with torch.enable_grad():
        value = each.term.scaled(each.part, each.loss.compare(leaves, each.term.targets[each.part.key]))
        slopes = torch.autograd.grad(value.sum(), leaves.sums, materialize_grads=True)
    return value.detach(), slopes


def _linear_terms(
    contributions: Sequence[Contribution],
    sums: Sequence[Sums],
    slopes: Sequence[Sequence[Tensor]],
    features: Features,
    block: Block,
) -> list[Tensor]:
    """Return ``⟨∂L/∂S, S_block⟩`` of each contribution, with sums about the whole picture's centres."""
    found = []
    for each, of_all, of_sums in zip(contributions, sums, slopes, strict=True):
        local = each.maps(features, block)
        if local is None:
            continue
        maps, guide = local
        centre = of_all.centre
        if centre is not None:
            centre = centre.to(at_least_float32(maps))
        for slope, S in zip(of_sums, each.loss.statistic(maps, guide, centre).sums, strict=True):
            found.append((slope.to(S) * S).sum().to(slope))
    return found
