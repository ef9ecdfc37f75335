"""Evaluation of the texture classifier on held-out pictures."""

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
        classes: Number of textures; chance is 1/classes.
        crop: Side of the collages in pixels.
        textures: Number of textures in a collage.
        pictures: Number of collages.
        at: Fraction of positions classified correctly, by layer.
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
    """Classify the texture at every position of collages of held-out pictures.

    Args:
        module: Trained network with its heads; it is left in evaluation mode.
        classes: Number of programs, the first ones, in the collages and among the classes.
        crop: Side of the collages in pixels.
        textures: Number of textures in a collage.
        pictures: Number of collages.
        batch: Batch size.
        seed: Seed of the collages.
    """
    module.eval()
    bank = module.bank[:classes]
    held_out = slice(bank.shape[1] - module.config.bank.held_out, bank.shape[1])
    generator = torch.Generator().manual_seed(seed)
    correct = dict.fromkeys(TEXTURE_LAYERS, 0.0)
    batches = -(-pictures // batch)
    for _ in range(batches):
        drawn = collage(bank, held_out, batch, crop, generator, textures=textures)
        maps = module.net(module.preprocessing(drawn.pictures.to(module.device)))
        for i, (layer, scores) in enumerate(zip(TEXTURE_LAYERS, module.heads.logits(maps), strict=True)):
            expected = labels_at(drawn.labels, stride=4 * 2**i).to(module.device)
            correct[layer] += float((scores[..., :classes].argmax(-1) == expected).float().mean())
    return Accuracy(
        classes, crop, textures, batches * batch, {layer: n / batches for layer, n in correct.items()}
    )
