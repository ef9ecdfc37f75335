"""The tasks of the training: textures, colour histograms, and patches of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nstbench.training.schema import TaskSettings
from nstbench.training.textures.collage import Collage

TEXTURE_LAYERS = ("relu3_3", "relu4_3", "relu5_1")
_TEXTURE_WEIGHTS = (0.5, 1.0, 1.0)
_POSITIONS = 16  # per picture and layer at which the texture is classified
_SMOOTHING = 0.05
_LEVELS = 4  # of each colour channel: 64 bins


class Heads(nn.Module):
    """One linear layer per task and depth; they are discarded after training.

    Args:
        widths: Numbers of channels of the five blocks.
        programs: Number of textures.
        weights: Weights of the tasks; 0 leaves one out.

    Tasks: the texture program at every position of three depths (cross-entropy); the histogram of 64
    colours around every position of all but the first (cross-entropy); the 8×8 patch of pixels under every
    position of relu4_3 (L1).
    """

    def __init__(self, widths: Sequence[int], programs: int, weights: TaskSettings) -> None:
        super().__init__()
        self.weights = weights
        self.texture = nn.ModuleList(nn.Linear(widths[i], programs) for i in (2, 3, 4))
        self.histogram = nn.ModuleList(nn.Conv2d(w, _LEVELS**3, 1) for w in widths[1:])
        self.patch = nn.Conv2d(widths[3], 3 * 8 * 8, 1)
        for layer in (*self.texture, *self.histogram, self.patch):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")

    def forward(
        self, maps: Sequence[Tensor], collage: Collage, normalised: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the losses of the tasks, ``loss`` (their weighted sum) and the ``accuracy/<layer>``.

        Args:
            maps: Last feature map of each block.
            collage: Pictures and their labels.
            normalised: Input of the network.
            generator: Random generator of the positions at which textures are classified.
        """
        values = self._texture(maps, collage, generator)
        if self.weights.histogram:
            values["histogram"] = self._histogram(maps, collage.pictures)
        if self.weights.reconstruction:
            patches = F.pixel_shuffle(self.patch(maps[3]).float(), 8)
            values["reconstruction"] = F.l1_loss(patches, normalised)
        values["loss"] = torch.stack(
            [getattr(self.weights, k) * v for k, v in values.items() if not k.startswith("accuracy")]
        ).sum()
        return values

    def logits(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the scores of every texture at every position of the three depths ``(B, P, programs)``."""
        return [
            head(f.flatten(2).transpose(1, 2))
            for head, f in zip(self.texture, (maps[2], maps[3], maps[4]), strict=True)
        ]

    def _texture(
        self, maps: Sequence[Tensor], collage: Collage, generator: torch.Generator
    ) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        total = collage.pictures.new_zeros(())
        for i, (name, weight) in enumerate(zip(TEXTURE_LAYERS, _TEXTURE_WEIGHTS, strict=True)):
            f, labels = maps[i + 2], labels_at(collage.labels, stride=4 * 2**i)
            places = torch.randperm(labels.shape[1], generator=generator)[:_POSITIONS].to(f.device)
            logits = self.texture[i](f.flatten(2)[:, :, places].transpose(1, 2)).float().flatten(0, 1)
            expected = labels[:, places].flatten()
            total = total + weight * F.cross_entropy(logits, expected, label_smoothing=_SMOOTHING)
            values[f"accuracy/{name}"] = (logits.detach().argmax(1) == expected).float().mean()
        return {"texture": total, **values}

    def _histogram(self, maps: Sequence[Tensor], pictures: Tensor) -> Tensor:
        """Return the mean over depths of the cross-entropy with local histograms of 64 colours."""
        with torch.no_grad():
            level = (pictures[:, :, ::2, ::2].clamp(0, 0.999) * _LEVELS).long()
            bins = (level[:, 0] * _LEVELS + level[:, 1]) * _LEVELS + level[:, 2]
            local = F.one_hot(bins, _LEVELS**3).permute(0, 3, 1, 2).to(torch.float32)
        total = pictures.new_zeros(())
        for i, (head, f) in enumerate(zip(self.histogram, maps[1:], strict=True)):
            expected = local
            if i == 0:  # a quarter of the positions of relu2_2 is enough
                f, expected = f[:, :, ::2, ::2], local[:, :, ::2, ::2]
            total = total - (expected * F.log_softmax(head(f).float(), 1)).sum(1).mean()
            local = F.avg_pool2d(local, 2)
        return total / len(self.histogram)


def labels_at(labels: Tensor, stride: int) -> Tensor:
    """Return the labels ``(B, P)`` at the centres of a feature map's positions, row by row."""
    return labels[:, stride // 2 :: stride, stride // 2 :: stride].flatten(1)
