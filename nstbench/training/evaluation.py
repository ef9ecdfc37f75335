"""How well the network tells textures apart, on pictures it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nstbench.training.module import TextureTraining
from nstbench.training.tasks import TEXTURE_LAYERS, labels_at
from nstbench.training.textures.collage import collage


@dataclass(frozen=True)
class Accuracy:
    """Dense accuracy on held-out pictures.

    Attributes:
        classes: textures told apart; chance is one in that many.
        crop: side of the collages in pixels.
        textures: in a collage.
        pictures: collages looked at.
        at: share of positions whose texture is found, by layer.
    """

    classes: int
    crop: int
    textures: int
    pictures: int
    at: dict[str, float]


@torch.no_grad()
def held_out_accuracy(
    module: TextureTraining,
    *,
    classes: int,
    crop: int = 64,
    textures: int = 3,
    pictures: int = 1536,
    batch: int = 64,
    seed: int = 1,
) -> Accuracy:
    """Ask for the texture at every position of collages of held-out pictures.

    Args:
        module: a trained network with its heads; left in evaluation mode.
        classes: the first so many programs make the collages, and the answer is one of them.
        crop: side of the collages in pixels.
        textures: in a collage.
        pictures: collages to look at.
        batch: at a time.
        seed: of the collages.
    """
    module.eval()
    bank = module.bank[:classes]
    held_out = slice(bank.shape[1] - module.config.bank.held_out, bank.shape[1])
    generator = torch.Generator().manual_seed(seed)
    right = dict.fromkeys(TEXTURE_LAYERS, 0.0)
    batches = -(-pictures // batch)
    for _ in range(batches):
        drawn = collage(bank, held_out, batch, crop, generator, textures=textures)
        maps = module.net(module.preprocessing(drawn.pictures.to(module.device)))
        for i, (layer, scores) in enumerate(zip(TEXTURE_LAYERS, module.heads.logits(maps), strict=True)):
            wanted = labels_at(drawn.labels, stride=4 * 2**i).to(module.device)
            right[layer] += float((scores[..., :classes].argmax(-1) == wanted).float().mean())
    return Accuracy(
        classes, crop, textures, batches * batch, {layer: n / batches for layer, n in right.items()}
    )
