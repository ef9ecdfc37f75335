"""Pictures that several runs remember are encoded once."""

from __future__ import annotations

import torch

from nstbench.canvas.pixels import Pixels
from nstbench.encoders.random import RandomVGG
from nstbench.losses.content import FeatureReconstruction
from nstbench.modules.member import Member, Progress
from nstbench.modules.precision import Encoding
from nstbench.objective.term import Term
from nstbench.runs.targets import EncodedPictures


def member(encoder: RandomVGG) -> Member:
    term = Term("content/features", FeatureReconstruction(), {"relu1_1": 1.0}, 1.0)
    return Member("run", Pixels(), [term], Encoding(encoder), Progress())


def test_a_picture_is_encoded_once_for_all_runs() -> None:
    encoder = RandomVGG(shape="vgg11", width=0.0625)
    runs = [member(encoder) for _ in range(3)]
    picture, other = torch.rand(2, 1, 3, 32, 32).unbind()
    calls: list[int] = []
    handle = encoder.register_forward_hook(lambda *_: calls.append(1))
    encoded = EncodedPictures()
    maps = [encoded.encode(run, picture.clone())["relu1_1"] for run in runs]
    different = encoded.encode(runs[0], other)["relu1_1"]
    assert len(calls) == 2
    assert maps[0] is maps[1] is maps[2]
    assert not torch.equal(maps[0], different)
    handle.remove()


def test_of_many_pictures_the_latest_are_kept() -> None:
    encoder = RandomVGG(shape="vgg11", width=0.0625)
    calls: list[int] = []
    handle = encoder.register_forward_hook(lambda *_: calls.append(1))
    run, pictures = member(encoder), torch.rand(9, 1, 3, 32, 32).unbind()
    encoded = EncodedPictures()
    for picture in pictures:
        encoded.encode(run, pictures[0])  # what is used again and again stays
        encoded.encode(run, picture)
    assert len(calls) == 9
    handle.remove()
