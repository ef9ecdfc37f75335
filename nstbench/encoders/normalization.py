"""The scale that gives a channel a mean activation of 1, estimated from few pictures."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

PRIOR = 12.0
"""Pictures that the prior counts for: as many as there are calibration pictures. With none, a channel that
hardly fires in these and fires in the style picture holds all of a Gram term (docs/encoders.md)."""

_RARE = 0.01
"""A channel is rare whose mean activation is below this share of its layer's mean over channels."""


class ChannelCounts(NamedTuple):
    """How many channels of a layer hardly fire in the calibration pictures."""

    channels: int
    dead: int
    rare: int


def activation_scale(means: Tensor, pictures: int, prior: float = PRIOR) -> Tensor:
    r"""Return the scale of each channel, from its mean activation over calibration pictures.

    Gatys et al. (2016, §2) scale channel c by $1/m_c$, $m_c$ being its mean activation over the images of
    ImageNet and all positions. Over n pictures with few of what a channel fires at, $m_c$ is an estimate far
    too low, and its inverse far too large. So the mean is estimated as if k more pictures had been seen
    in which every channel has the layer's mean $\bar m$ over channels:

    $$ s_c = \frac{n + k}{n\, m_c + k\, \bar m} \le \frac{n + k}{k\, \bar m} $$

    A channel with the layer's mean has $1/m_c$, and for many pictures every channel has. This departs from
    the paper, whose $k$ is 0.

    Args:
        means: Mean activation of each channel, ``(C,)``, not negative.
        pictures: Number n of calibration pictures.
        prior: Number k of pictures that the prior counts for; 0 is the paper's formula, where channels that
            never fire keep their scale.

    Returns:
        Scales ``(C,)``; 1 where the estimate is 0.
    """
    estimate = (pictures * means + prior * means.mean()) / (pictures + prior)
    return torch.where(estimate > 0, 1 / estimate.clamp_min(1e-12), torch.ones_like(estimate))


def count_channels(means: Tensor) -> ChannelCounts:
    """Return how many channels never fired in the calibration pictures, and how many rarely did."""
    dead = int((means == 0).sum())
    rare = int((means < _RARE * means.mean()).sum()) - dead
    return ChannelCounts(len(means), dead, max(rare, 0))
