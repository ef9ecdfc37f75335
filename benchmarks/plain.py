"""A plain PyTorch loop of style transfer, as a script would have it: what the benchmarks compare with."""

from __future__ import annotations

import time
from typing import cast

import torch
from torch import Tensor

from nstbench.config.schema import Config
from nstbench.encoders.build import build_encoder
from nstbench.runs.inputs import content_at, load_inputs, styles_at
from nstbench.runs.plan import plan_stages
from nstbench.runtime.device import choose_device


def _gram(f: Tensor) -> Tensor:
    f = f.flatten(2)
    return f @ f.transpose(1, 2) / f.shape[2]


def _variation(x: Tensor) -> Tensor:
    return ((x[..., 1:] - x[..., :-1]) ** 2).sum() + ((x[..., 1:, :] - x[..., :-1, :]) ** 2).sum()


class PlainLoop:
    """The default objective written out, minimised on pixels by L-BFGS at one size in float32.

    Args:
        config: Configuration, of which the pictures, encoder, size and weights are used.

    Attributes:
        device: Device of the canvas.
        canvas: Pixels of the canvas, ``(1, 3, H, W)``.
        seconds: Seconds of the targets and of every step so far.
        steps: Number of steps made so far.
    """

    def __init__(self, config: Config) -> None:
        self.device = choose_device(config.trainer.accelerator, config.trainer.threads)
        self.encoder = build_encoder(config.encoder).to(self.device)
        inputs = load_inputs(config)
        stage = plan_stages(config, inputs)[-1]
        found = content_at(inputs, stage.shape)
        assert found is not None
        content = found.to(self.device)
        style = styles_at(inputs, stage.style_shapes)[0].to(self.device)
        (self.deep,), self.shallow = (self.encoder.default_layers[role] for role in ("content", "style"))
        self.weights, self.roughness = config.weights, _variation(content)
        began = time.perf_counter()
        with torch.no_grad():
            self.P = self.encoder(content, [self.deep])[self.deep]
            self.A = {layer: _gram(f) for layer, f in self.encoder(style, self.shallow).items()}
        self.seconds, self.steps = time.perf_counter() - began, 0
        self.canvas = content.clone().requires_grad_()
        self.optimizer = torch.optim.LBFGS(
            [self.canvas], max_iter=1, history_size=10, tolerance_grad=0, tolerance_change=0
        )

    def objective(self, x: Tensor) -> Tensor:
        """Return the objective of a canvas at full size, in float32."""
        f, w = self.encoder(x, [self.deep, *self.shallow]), self.weights
        loss = w.content * ((f[self.deep] - self.P) ** 2).mean() / (self.P**2).mean()
        for layer in self.shallow:
            distance = ((_gram(f[layer]) - self.A[layer]) ** 2).sum() / (self.A[layer] ** 2).sum()
            loss = loss + w.style / len(self.shallow) * distance
        return cast(Tensor, loss + w.regularizer * _variation(x) / self.roughness)

    def step(self) -> Tensor:
        """Make a step; return the objective before it."""

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self.objective(self.canvas)
            torch.autograd.backward(loss)
            return loss

        began = time.perf_counter()
        loss = cast(Tensor, self.optimizer.step(closure))  # type: ignore[no-untyped-call]
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds, self.steps = self.seconds + time.perf_counter() - began, self.steps + 1
        return loss.detach()
