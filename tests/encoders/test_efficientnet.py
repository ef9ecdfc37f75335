"""EfficientNet-Lite0 with its ImageNet weights, where they can be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d

from nstbench.encoders.calibration import PHOTOGRAPHS, calibration_photographs
from nstbench.encoders.efficientnet import EfficientNetLite0
from nstbench.encoders.state_dict import load_state_dict
from nstbench.encoders.weights import locate
from nstbench.errors import UserError


@torch.no_grad()
def classify(encoder: EfficientNetLite0, state: dict[str, Tensor], pictures: Tensor) -> Tensor:
    """Return the probabilities of ImageNet's classes, by the head that the encoder leaves out."""
    f = conv2d(encoder(pictures, ["block15"])["block15"], state["_conv_head.weight"])
    norm = (state[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    pooled = batch_norm(f, *norm, eps=1e-3).clamp(0, 6).mean(dim=(2, 3))
    return (pooled @ state["_fc.weight"].T + state["_fc.bias"]).softmax(dim=1)


def test_it_knows_a_cat_and_an_espresso(real_weights: Callable[[str], Path]) -> None:
    """Preprocessing, padding, order of blocks and ε are right, or it would not."""
    path = real_weights("efficientnet_lite0")
    found = classify(EfficientNetLite0(), load_state_dict(path), calibration_photographs(224))
    cats = found[PHOTOGRAPHS.index("chelsea"), [281, 282, 285]]  # tabby, tiger cat, Egyptian cat
    assert float(cats.sum()) > 0.8
    assert float(found[PHOTOGRAPHS.index("coffee"), 967]) > 0.9


def test_no_block_may_shrink_the_map() -> None:
    with pytest.raises(UserError, match=r"encoder\.padding=none.*Use zeros, reflect or replicate"):
        EfficientNetLite0(padding="none")


def test_a_missing_file_is_told_with_how_to_get_it() -> None:
    with pytest.raises(UserError) as caught:
        EfficientNetLite0(str(locate("efficientnet_lite0")))
    assert "nstbench weights fetch efficientnet_lite0" in caught.value.hint
