"""Pictures that several runs remember are encoded once."""

from __future__ import annotations

import torch

from nstbench.canvas.pixels import Pixels
from nstbench.encoders.random import RandomVGG
from nstbench.losses.content import FeatureReconstruction
from nstbench.modules.image_optimization import ImageOptimization
from nstbench.objective.objective import Objective
from nstbench.objective.term import Term
from nstbench.runs.targets import encoded, shared_encodings


def module(encoder: RandomVGG) -> ImageOptimization:
    term = Term("content/features", FeatureReconstruction(), {"relu1_1": 1.0}, 1.0)
    return ImageOptimization(Pixels(), encoder, Objective([term]), torch.optim.Adam)


def test_a_picture_is_encoded_once_for_all_runs_and_forgotten_afterwards() -> None:
    encoder = RandomVGG(shape="vgg11", width=0.0625)
    runs = [module(encoder) for _ in range(3)]
    picture, other = torch.rand(2, 1, 3, 32, 32).unbind()
    calls: list[int] = []
    handle = encoder.register_forward_hook(lambda *_: calls.append(1))
    with shared_encodings():
        maps = [encoded(run, picture.clone())["relu1_1"] for run in runs]
        different = encoded(runs[0], other)["relu1_1"]
        assert len(calls) == 2
    assert maps[0] is maps[1] is maps[2]
    assert not torch.equal(maps[0], different)
    assert torch.equal(encoded(runs[0], picture)["relu1_1"], maps[0])
    assert len(calls) == 3
    handle.remove()


def test_of_many_pictures_the_latest_are_kept() -> None:
    encoder = RandomVGG(shape="vgg11", width=0.0625)
    calls: list[int] = []
    handle = encoder.register_forward_hook(lambda *_: calls.append(1))
    run, pictures = module(encoder), torch.rand(9, 1, 3, 32, 32).unbind()
    with shared_encodings():
        for picture in pictures:
            encoded(run, pictures[0])  # what is used again and again stays
            encoded(run, picture)
    assert len(calls) == 9
    handle.remove()
