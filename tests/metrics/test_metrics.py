"""Metrics against their definitions, written another way or computed by another library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from nstbench.config.schema import Config
from nstbench.encoders.base import Encoder, LayerInfo
from nstbench.encoders.random import RandomVGG
from nstbench.errors import UserError
from nstbench.metrics.base import Subject, Unavailable
from nstbench.metrics.colour import ColourDistance
from nstbench.metrics.content import ContentDistance
from nstbench.metrics.evaluate import direction, judge
from nstbench.metrics.smoothness import TotalVariationPerPixel
from nstbench.metrics.structure import PSNR, SSIM, MultiScaleSSIM
from nstbench.metrics.style import GramDistance
from nstbench.runs.run import run

Compose = Callable[..., Config]
Array = Any

OTHER = cast(Encoder, SimpleNamespace(weights_sha256="the encoder of the run"))


def subject(
    picture: Array,
    content: Array | None = None,
    styles: Sequence[Array] = (),
    blend: Sequence[float] = (1.0,),
) -> Subject:
    """A subject of pictures (H, W, 3)."""
    of_content = None if content is None else tensor(content)
    return Subject(tensor(picture), of_content, [tensor(s) for s in styles], blend, OTHER)


def tensor(picture: Array) -> Tensor:
    return torch.from_numpy(np.asarray(picture, np.float32).transpose(2, 0, 1).copy())[None]


def in_8_bits(picture: Array) -> Array:
    return (np.round(np.clip(picture, 0, 1) * 255) / 255).astype(np.float32)


def noise(height: int, width: int, seed: int = 0) -> Array:
    return in_8_bits(np.random.default_rng(seed).random((height, width, 3)))


def waves(height: int, width: int) -> Array:
    """A picture with structure at many scales."""
    y, x = np.mgrid[:height, :width]
    bands = [np.sin(x / a + c) * np.cos(y / b) for a, b, c in ((3, 5, 0), (11, 7, 1), (40, 30, 2))]
    return in_8_bits(
        0.5 + 0.25 * np.stack([bands[0] + bands[2], bands[1] + bands[2], bands[0] - bands[1]], 2)
    )


def disturbed(picture: Array, by: float, seed: int = 3) -> Array:
    return in_8_bits(picture + by * np.random.default_rng(seed).standard_normal(picture.shape))


PAIRS = {
    "noise": (noise(60, 47, 1), noise(60, 47, 2)),
    "structure": (waves(50, 90), disturbed(waves(50, 90), 0.1)),
    "nearly flat and bright": (
        in_8_bits(np.full((40, 40, 3), 0.97)),
        disturbed(np.full((40, 40, 3), 0.97), 0.004),
    ),
    "inverted": (waves(44, 44), 1 - waves(44, 44)),
    "one window": (noise(11, 11, 1), noise(11, 11, 2)),
    "a strip": (waves(11, 80), disturbed(waves(11, 80), 0.2)),
}


@pytest.mark.parametrize("case", PAIRS)
def test_ssim_is_scikit_images(case: str) -> None:
    x, y = PAIRS[case]
    wanted = structural_similarity(
        *(p.astype(float) for p in (x, y)),
        channel_axis=2,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert SSIM()(subject(x, y)) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("case", PAIRS)
def test_psnr_is_scikit_images(case: str) -> None:
    x, y = PAIRS[case]
    wanted = peak_signal_noise_ratio(x.astype(float), y.astype(float), data_range=1.0)
    assert PSNR()(subject(y, x)) == pytest.approx(wanted, abs=1e-9)


def test_psnr_by_hand() -> None:
    assert PSNR()(subject(np.full((5, 5, 3), 0.6), np.full((5, 5, 3), 0.5))) == pytest.approx(20, abs=1e-4)


def test_psnr_of_the_content_picture_itself_is_infinite_so_unavailable() -> None:
    with pytest.raises(Unavailable, match="infinite"):
        PSNR()(subject(noise(8, 8), noise(8, 8)))


def ms_ssim_of_the_paper(x: Array, y: Array) -> float:
    """Wang, Simoncelli & Bovik (2003), eqs. 1-7, from weighted sums over explicit 11×11 windows."""
    d = np.arange(11) - 5
    window = np.exp(-(d[:, None] ** 2 + d[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = 0.01**2, 0.03**2
    value = 1.0
    for scale, exponent in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333], start=1):
        of_x, of_y = (sliding_window_view(p, (11, 11), axis=(0, 1)) for p in (x, y))
        mean_x, mean_y = ((p * window).sum((-1, -2)) for p in (of_x, of_y))
        away_x, away_y = of_x - mean_x[..., None, None], of_y - mean_y[..., None, None]
        var_x, var_y, cov = ((window * p).sum((-1, -2)) for p in (away_x**2, away_y**2, away_x * away_y))
        c_times_s = (2 * cov + c2) / (var_x + var_y + c2)
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        mean = (luminance * c_times_s if scale == 5 else c_times_s).mean()
        value *= max(mean, 0) ** exponent
        h, w = x.shape[0] // 2, x.shape[1] // 2
        x, y = (p[: 2 * h, : 2 * w].reshape(h, 2, w, 2, 3).mean((1, 3)) for p in (x, y))
    return value


@pytest.mark.parametrize(("size", "by"), [((176, 176), 0.05), ((187, 201), 0.3)])
def test_ms_ssim_is_the_papers(size: tuple[int, int], by: float) -> None:
    x = waves(*size)
    y = disturbed(x, by)
    value = MultiScaleSSIM()(subject(y, x))
    assert value == pytest.approx(ms_ssim_of_the_paper(x.astype(float), y.astype(float)), abs=1e-9)
    assert 0.1 < value < 0.999


def test_ms_ssim_of_flat_pictures_by_hand() -> None:
    # Without contrast, only the luminance at the coarsest scale is left.
    a, b = 51 / 255, 204 / 255
    luminance = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    value = MultiScaleSSIM()(subject(np.full((180, 180, 3), a), np.full((180, 180, 3), b)))
    assert value == pytest.approx(luminance**0.1333, abs=1e-6)


def test_ms_ssim_falls_from_1_as_a_picture_departs_and_is_0_for_a_negative() -> None:
    x = waves(176, 176)
    values = [MultiScaleSSIM()(subject(disturbed(x, by) if by else x, x)) for by in (0, 0.02, 0.1, 0.5)]
    assert values[0] == pytest.approx(1, abs=1e-9)
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.6
    assert MultiScaleSSIM()(subject(1 - x, x)) == 0


def lab(picture: Array) -> Array:
    """CIE 1976 L*a*b* of sRGB (IEC 61966-2-1), white D65."""
    v = np.asarray(picture, float)
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    t = linear @ np.array(to_xyz).T / [0.95047, 1.0, 1.08883]
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def sorted_distance(picture: Array, style: Array) -> float:
    """Wasserstein-1 of equally many equally weighted values: the mean difference once both are sorted."""
    a, b = (np.sort(lab(p).reshape(-1, 3), axis=0) for p in (picture, style))
    return float(np.abs(a - b).mean())


def test_colour_distance_is_that_of_sorted_values() -> None:
    for picture, style in [(noise(20, 30), waves(20, 30)), (waves(25, 24), 1 - waves(25, 24))]:
        value = ColourDistance()(subject(picture, styles=[style]))
        assert value == pytest.approx(sorted_distance(picture, style), rel=1e-3)


def test_colour_distance_ignores_positions_and_size() -> None:
    picture, style = noise(12, 18), waves(12, 18)
    value = ColourDistance()(subject(picture, styles=[style]))
    shuffled = np.random.default_rng(0).permutation(style.reshape(-1, 3)).reshape(18, 12, 3)
    assert ColourDistance()(subject(picture, styles=[np.tile(shuffled, (3, 2, 1))])) == pytest.approx(
        value, rel=1e-6
    )
    assert ColourDistance()(subject(shuffled, styles=[style])) == pytest.approx(0, abs=1e-9)


def test_colour_distance_from_black_to_white_by_hand() -> None:
    black, white = np.zeros((4, 4, 3)), np.ones((6, 3, 3))
    assert ColourDistance()(subject(black, styles=[white])) == pytest.approx(100 / 3, rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 0.95), st.integers(1, 5))
def test_colour_distance_counts_styles_by_their_blend_not_their_size(share: float, height: int) -> None:
    grey, dark, light = (np.full((h, 4, 3), v) for h, v in ((3, 0.5), (height, 0.2), (4, 0.9)))
    of_grey, of_dark, of_light = (lab(p)[0, 0, 0] for p in (grey, dark, light))
    wanted = share * (of_grey - of_dark) + (1 - share) * (of_light - of_grey)
    value = ColourDistance()(subject(grey, styles=[dark, light], blend=[share, 1 - share]))
    assert value == pytest.approx(wanted / 3, rel=1e-3)


def test_total_variation_by_hand() -> None:
    # Two rows of one channel, 0 1 / 0.5 0.5, the others flat: dx 1 + 0, dy 0.5 + 0.5, over 12 values.
    picture = np.zeros((2, 2, 3))
    picture[..., 1] = [[0, 1], [0.5, 0.5]]
    assert TotalVariationPerPixel()(subject(picture)) == pytest.approx(2 / 12)


def test_total_variation_is_the_mean_of_absolute_differences() -> None:
    picture = noise(13, 21)
    differences = np.abs(np.diff(picture, axis=0)).sum() + np.abs(np.diff(picture, axis=1)).sum()
    assert TotalVariationPerPixel()(subject(picture)) == pytest.approx(differences / picture.size, rel=1e-5)
    assert TotalVariationPerPixel()(subject(np.full((5, 6, 3), 0.3))) == 0


JUDGE = {"_target_": "nstbench.encoders.random.RandomVGG", "shape": "vgg11", "width": 0.0625, "seed": 7}
LAYERS = ["relu1_1", "relu3_1", "pool4"]


def gram_in_numpy(encoder: Encoder, picture: Array, layer: str) -> Array:
    features = encoder(tensor(picture), [layer])[layer][0].double().numpy()
    return np.einsum("ihw,jhw->ij", features, features) / features[0].size


def test_gram_distance_in_numpy_with_blended_styles() -> None:
    encoder = RandomVGG(**{k: v for k, v in JUDGE.items() if k != "_target_"})  # type: ignore[arg-type]
    picture, one, two = noise(40, 56), waves(40, 40), noise(33, 64, 5)
    for styles, blend in [([one], [1.0]), ([one, two], [0.25, 0.75])]:
        distances = []
        for layer in LAYERS:
            target = sum(w * gram_in_numpy(encoder, s, layer) for s, w in zip(styles, blend, strict=True))
            away = gram_in_numpy(encoder, picture, layer) - target
            distances.append((away**2).sum() / (target**2).sum())
        value = GramDistance(JUDGE, LAYERS)(subject(picture, styles=styles, blend=blend))
        assert value == pytest.approx(np.mean(distances), rel=1e-4)


def test_gram_distance_is_0_for_the_style_and_1_for_a_picture_without_features() -> None:
    style = waves(48, 48)
    assert GramDistance(JUDGE)(subject(style, styles=[style])) == 0

    class Pixels(Encoder):
        """The picture itself, less the mean colour that comes before VGG, as its features."""

        layers = {"pixels": LayerInfo(3, 1, 1)}  # noqa: RUF012

        def _features(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
            return dict.fromkeys(layers, x)

    metric = GramDistance(JUDGE)
    metric.judging.encoder, metric.layers = Pixels("torch"), ["pixels"]
    assert metric(subject(np.full((9, 9, 3), [0.485, 0.456, 0.406]), styles=[style])) == pytest.approx(
        1, abs=1e-6
    )


def test_content_distance_in_numpy() -> None:
    encoder = RandomVGG(**{k: v for k, v in JUDGE.items() if k != "_target_"})  # type: ignore[arg-type]
    picture, content = noise(40, 56), waves(40, 56)
    distances = []
    for layer in LAYERS:
        F, P = (encoder(tensor(x), [layer])[layer].double().numpy() for x in (picture, content))
        distances.append(((F - P) ** 2).sum() / (P**2).sum())
    value = ContentDistance(JUDGE, LAYERS)(subject(picture, content))
    assert value == pytest.approx(np.mean(distances), rel=1e-4)
    assert ContentDistance(JUDGE)(subject(content, content)) == 0


def test_content_distance_refuses_to_let_the_optimised_encoder_judge_itself() -> None:
    metric = ContentDistance(JUDGE)
    own = Subject(tensor(noise(32, 32)), tensor(noise(32, 32, 1)), [], [], metric.judging.encoder)
    with pytest.raises(Unavailable, match="the one that the run optimised"):
        metric(own)


def test_content_distance_checks_its_layers() -> None:
    with pytest.raises(UserError, match=r"metrics\.content_distance\.layers=relu1_9"):
        ContentDistance(JUDGE, ["relu1_9"])


def test_gram_distance_refuses_to_let_the_optimised_encoder_judge_itself() -> None:
    metric = GramDistance(JUDGE)
    own = Subject(tensor(noise(32, 32)), None, [tensor(noise(32, 32, 1))], [1.0], metric.judging.encoder)
    with pytest.raises(Unavailable, match="the one that the run optimised"):
        metric(own)


@pytest.mark.parametrize(
    ("metric", "case", "reason"),
    [
        (SSIM(), subject(noise(10, 30), noise(10, 30)), "30×10; 11 pixels"),
        (MultiScaleSSIM(), subject(noise(300, 175), noise(300, 175)), "175×300; 176 pixels"),
        (SSIM(), subject(noise(30, 30)), "no content picture"),
        (PSNR(), subject(noise(30, 30)), "no content picture"),
        (ColourDistance(), subject(noise(30, 30)), "no style picture"),
        (ContentDistance(JUDGE), subject(noise(30, 30)), "no content picture"),
        (ContentDistance(JUDGE), subject(noise(7, 30), noise(7, 30)), "smaller than the 16 pixels"),
        (GramDistance(JUDGE), subject(noise(30, 30)), "no style picture"),
        (GramDistance(JUDGE), subject(noise(30, 30), styles=[noise(30, 9)]), "smaller than the 32 pixels"),
    ],
)
def test_what_cannot_be_computed_is_unavailable_with_the_reason(
    metric: Any, case: Subject, reason: str
) -> None:
    with pytest.raises(Unavailable, match=reason):
        metric(case)


def test_every_metric_says_which_way_is_better_and_what_it_looks_at(compose_config: Compose) -> None:
    found = {name: direction(node) for name, node in compose_config("metrics=all").metrics.items()}
    assert found == {
        "lpips_alex": (False, "content"),
        "lpips_vgg": (False, "content"),
        "lpips_squeeze": (False, "content"),
        "ssim": (True, "content"),
        "ms_ssim": (True, "content"),
        "psnr": (True, "content"),
        "content_distance": (False, "content"),
        "gram_distance": (False, "style"),
        "colour_distance": (False, "style"),
        "total_variation": (False, "nothing"),
    }


def test_the_directions_hold() -> None:
    """What is closer to the content, to the style, or smoother has the better value."""
    content, style = waves(176, 176), noise(176, 176)
    near, far = disturbed(content, 0.02), disturbed(content, 0.4)
    content_distance = ContentDistance(JUDGE)
    assert content_distance(subject(near, content)) < content_distance(subject(far, content))
    for metric in (SSIM(), MultiScaleSSIM(), PSNR()):
        assert metric(subject(near, content)) > metric(subject(far, content))
    assert TotalVariationPerPixel()(subject(near)) < TotalVariationPerPixel()(subject(far))
    like = disturbed(style, 0.05)
    for metric in (ColourDistance(), GramDistance(JUDGE)):
        assert metric(subject(like, styles=[style])) < metric(subject(content, styles=[style]))


FAST = {
    "ssim": {"_target_": "nstbench.metrics.structure.SSIM"},
    "psnr": {"_target_": "nstbench.metrics.structure.PSNR"},
    "total_variation": {"_target_": "nstbench.metrics.smoothness.TotalVariationPerPixel"},
}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_recorded_as_unavailable(
    monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setattr(SSIM, "__call__", lambda *_: value)
    judgement = judge(FAST, subject(noise(20, 20), noise(20, 20, 1)))
    assert judgement.unavailable == {"ssim": f"its value is {value}"}
    assert set(judgement.values) == {"psnr", "total_variation"}


def test_a_metric_that_crashes_does_not_stop_the_run(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> float:
        raise ZeroDivisionError("a bug in a metric")

    monkeypatch.setattr(SSIM, "__call__", crash)
    result = run(compose_config("metrics=fast"))
    assert result.record.state == "completed"
    assert result.record.unavailable_metrics == {"ssim": "it failed: ZeroDivisionError: a bug in a metric"}
    assert set(result.record.metrics) == {"psnr", "colour_distance", "total_variation"}
    assert "a bug in a metric" in (result.folder / "run.log").read_text()


def test_a_run_records_what_the_metrics_say_of_the_picture_as_written(compose_config: Compose) -> None:
    from PIL import Image

    result = run(compose_config("metrics=default", "size=176"))
    pixels = np.asarray(Image.open(result.folder / "canvas.png")) / 255
    assert result.record.metrics["total_variation"] == pytest.approx(
        TotalVariationPerPixel()(subject(pixels)), rel=1e-5
    )
    assert set(result.record.metrics) == {
        "ssim",
        "psnr",
        "content_distance",
        "gram_distance",
        "colour_distance",
        "total_variation",
    }
    assert set(result.record.unavailable_metrics) == {"lpips_alex", "ms_ssim"}
    assert "176×132" in result.record.unavailable_metrics["ms_ssim"]
    assert all(np.isfinite(v) for v in result.record.metrics.values())
