"""One run, end to end: what is left in its folder."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from nstbench.canvas.base import Canvas
from nstbench.config.schema import Config
from nstbench.errors import NonFiniteObjectiveError, UserError
from nstbench.modules.image_optimization import ImageOptimization
from nstbench.modules.member import Evaluation, EvaluationCallback, Member
from nstbench.pictures.io import read_picture, read_provenance
from nstbench.runs.inputs import load_inputs, start_at
from nstbench.runs.plan import plan_stages
from nstbench.runs.run import Result, run

Compose = Callable[..., Config]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "curves.csv").open() as file:
        return list(csv.DictReader(file))


def canvas_of(result: Result) -> bytes:
    return (result.folder / "canvas.png").read_bytes()


def test_a_run_leaves_a_picture_its_curves_and_its_record(compose_config: Compose) -> None:
    config, began = compose_config("record.curves_every=2", "metrics=fast"), time.monotonic()
    result = run(config, ["steps=4"])
    elapsed = time.monotonic() - began
    folder, record = result.folder, json.loads((result.folder / "run.json").read_text())
    assert folder.parent == Path("outputs/first")
    assert folder.name == f"photo-painting-gram-s0-{record['fingerprint'][:8]}"
    assert sorted(p.name for p in folder.glob("[!.]*")) == [
        "canvas.png",
        "config.yaml",
        "curves.csv",
        "run.json",
        "run.log",
    ]
    assert (record["state"], record["steps"], record["evaluations"], record["overrides"]) == (
        "completed",
        4,
        4,
        ["steps=4"],
    )
    assert set(record["metrics"]) == {"ssim", "psnr", "colour_distance", "total_variation"}
    assert record["layers"]["style/gram"] == ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    assert set(record["timings"]) == {"setup_s", "optimize_s", "evaluate_s"}
    assert sum(record["timings"].values()) < elapsed  # nothing is counted twice
    assert record["peak_memory_bytes"] > 1e7
    assert all(
        len(h) == 64
        for h in [record["inputs"]["content"], *record["inputs"]["style"], record["inputs"]["weights"]]
    )
    rows = rows_of(folder)
    assert [int(r["evaluation"]) for r in rows] == [0, 2, 4]
    assert float(rows[-1]["loss/total"]) < float(rows[0]["loss/total"])
    for row in rows:
        terms = sum(float(v) for k, v in row.items() if k.startswith("loss/") and k != "loss/total")
        assert float(row["loss/total"]) == pytest.approx(terms, rel=1e-5)
    assert float(rows[-1]["loss/total"]) == record["final_losses"]["loss/total"]


def test_the_picture_says_how_it_was_made(compose_config: Compose) -> None:
    result = run(compose_config())
    said = read_provenance(result.folder / "canvas.png")
    assert said["nstbench:fingerprint"] == result.record.fingerprint
    assert json.loads(said["nstbench:config"])["optimizer"]["_target_"] == "nstbench.optimizers.lbfgs.LBFGS"
    assert read_picture(result.folder / "canvas.png").shape == (1, 3, 36, 48)


def test_the_same_run_is_not_run_twice_and_gains_metrics_later(
    compose_config: Compose, killed_at: Callable[[int], Any]
) -> None:
    first = run(compose_config())
    again = run(
        compose_config("metrics=fast", "logger=none", "record.curves_every=1"), callbacks=[killed_at(0)]
    )
    assert (again.skipped, again.folder) == (True, first.folder)
    assert again.record.evaluations == first.record.evaluations
    assert "ssim" in again.record.metrics
    assert "ssim" in json.loads((first.folder / "run.json").read_text())["metrics"]


def test_a_seed_means_one_picture(compose_config: Compose) -> None:
    noise = ["canvas.start=noise", "loss/content=none"]
    one = canvas_of(run(compose_config(*noise, "output=a")))
    assert one == canvas_of(run(compose_config(*noise, "output=b")))
    assert one != canvas_of(run(compose_config(*noise, "output=a", "seed=1")))


STAGES = "schedule=coarse_to_fine"
OPTIMIZERS = ("lbfgs", "adam", "sgd", "rmsprop")


@pytest.mark.parametrize("chosen", [*(f"optimizer={o}" for o in OPTIMIZERS), "canvas=spectral"])
@pytest.mark.parametrize("stop", [5, 8, 11])
def test_a_run_stopped_anywhere_ends_with_the_same_bytes(
    compose_config: Compose, chosen: str, stop: int, killed_at: Callable[[int], Any]
) -> None:
    settings = [
        STAGES,
        "size=192",
        chosen,
        "record.checkpoint_every=3",
        "record.curves_every=1",
    ]
    settings += ["weights.unit=gradient", "record.snapshot_every=2"]
    whole = run(compose_config(*settings, "output=whole"))
    with pytest.raises(RuntimeError, match="killed"):
        run(compose_config(*settings, "output=broken"), callbacks=[killed_at(stop)])
    continued = run(
        compose_config(*settings, "output=broken"), callbacks=[killed_at(stop - 4)]
    )  # never evaluated again
    assert canvas_of(continued) == canvas_of(whole)
    assert continued.record.evaluations == whole.record.evaluations == 12
    assert continued.record.final_losses == whole.record.final_losses
    keys = [k for k in rows_of(whole.folder)[0] if k != "seconds"]
    assert [[r[k] for k in keys] for r in rows_of(continued.folder)] == [
        [r[k] for k in keys] for r in rows_of(whole.folder)
    ]
    for snapshot in (whole.folder / "snapshots").iterdir():
        assert (continued.folder / "snapshots" / snapshot.name).read_bytes() == snapshot.read_bytes()


def test_a_damaged_checkpoint_means_starting_again(
    compose_config: Compose, killed_at: Callable[[int], Any]
) -> None:
    whole = run(compose_config("output=whole"))
    with pytest.raises(RuntimeError):
        run(compose_config("record.checkpoint_every=1"), callbacks=[killed_at(3)])
    (folder,) = Path("outputs/first").iterdir()
    (folder / "checkpoint.ckpt").write_bytes(b"not a checkpoint")
    assert canvas_of(run(compose_config())) == canvas_of(whole)


def test_the_encoder_stays_out_of_checkpoints(
    compose_config: Compose, killed_at: Callable[[int], Any]
) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        run(compose_config("record.checkpoint_every=2", "optimizer=sgd"), callbacks=[killed_at(3)])
    (file,) = Path("outputs/first").glob("*/checkpoint.ckpt")
    with safe_open(file, "pt") as saved:  # readable with what others use, too
        shapes = [tuple(saved.get_slice(name).get_shape()) for name in saved.keys()]  # noqa: SIM118
    assert shapes.count((1, 3, 36, 48)) == 2  # the canvas and its momentum
    assert all(shape == (1, 3, 36, 48) or len(shape) < 2 for shape in shapes)
    file.with_name(".checkpoint.next.ckpt.123.part").touch()  # of an attempt that was killed while it wrote
    run(compose_config("record.checkpoint_every=2", "optimizer=sgd"))
    assert [*file.parent.glob("*checkpoint*")] == []  # of no use to a run that is finished


class Poison(EvaluationCallback):
    """Make the canvas infinite before an evaluation, as a step that is too long would."""

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        self.last = evaluation.picture
        if evaluation.index == 2:
            member.canvas.pixels.data.fill_(float("inf"))


def test_a_non_finite_objective_fails_clearly_and_keeps_the_last_good_canvas(compose_config: Compose) -> None:
    poison = Poison()
    settings = ["optimizer=sgd", "optimizer.lr=0", "record.checkpoint_every=3"]
    with pytest.raises(NonFiniteObjectiveError, match="after 3 evaluations"):
        run(compose_config(*settings), callbacks=[poison])
    with pytest.raises(NonFiniteObjectiveError):  # continued from a checkpoint of the bad canvas
        run(compose_config(*settings))
    (folder,) = Path("outputs/first").iterdir()
    record = json.loads((folder / "run.json").read_text())
    assert record["state"] == "failed"
    assert "NonFiniteObjectiveError: the objective became" in record["error"]
    assert "Traceback" in (folder / "run.log").read_text()
    kept = read_picture(folder / "canvas.png")
    torch.testing.assert_close(kept, poison.last.clamp(0, 1), rtol=0, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("steps", [1, 20])
def test_a_learning_rate_that_explodes_is_caught_even_in_the_last_step(
    compose_config: Compose, steps: int
) -> None:
    with pytest.raises(NonFiniteObjectiveError, match="after 1 evaluations"):
        run(compose_config("optimizer=sgd", "optimizer.lr=1e38", f"steps={steps}"))
    (folder,) = Path("outputs/first").iterdir()
    assert json.loads((folder / "run.json").read_text())["state"] == "failed"
    assert read_picture(folder / "canvas.png").shape == (1, 3, 36, 48)


def test_two_processes_never_work_on_one_run(compose_config: Compose) -> None:
    class Again(EvaluationCallback):
        def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
            with pytest.raises(UserError, match="another process is at work"):
                run(compose_config())

    assert run(compose_config(), callbacks=[Again()]).record.state == "completed"


def test_after_a_stage_nothing_is_evaluated_before_the_canvas_is_back_on_its_device(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning moves the module to the CPU when a fit ends; on a GPU the targets stay behind."""
    events: list[str] = []

    def spy_on(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def spy(self: object, *args: object, **kwargs: object) -> object:
            events.append(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, spy)

    for owner, name in ((ImageOptimization, "cpu"), (Canvas, "to"), (Member, "evaluate")):
        spy_on(owner, name)
    run(compose_config(STAGES, "size=192", "steps=1"))
    assert events.count("cpu") == 3
    assert events.count("evaluate") >= 1
    assert ("cpu", "evaluate") not in set(pairwise(events))


def test_a_mistake_in_a_metric_shows_before_the_run(compose_config: Compose) -> None:
    with pytest.raises(UserError, match=r"relu1_9.*Did you mean relu1_"):
        run(compose_config("metrics=default", "metrics.gram_distance.layers=[relu1_9]"))
    assert not Path("outputs").exists()


def test_a_judge_without_weights_is_no_reason_not_to_run(compose_config: Compose) -> None:
    record = run(compose_config("metrics=default", "judge=efficientnet_lite0")).record
    for name in ("gram_distance", "content_distance"):
        assert "nstbench weights fetch efficientnet_lite0" in record.unavailable_metrics[name]


def test_a_dashboard_that_is_not_installed_leaves_no_folder(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise UserError("logger", "tensorboard", "TensorBoard is not installed")

    monkeypatch.setattr("nstbench.tracking.dashboards.Dashboards.open", missing)
    with pytest.raises(UserError, match="not installed"):
        run(compose_config())
    assert not Path("outputs").exists()


def test_the_canvas_is_carried_up_the_stages(compose_config: Compose) -> None:
    seen: list[tuple[int, Tensor]] = []

    class See(EvaluationCallback):
        def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
            seen.append((evaluation.stage, evaluation.picture))

    run(compose_config(STAGES, "size=192", "optimizer=sgd", "optimizer.lr=0", "steps=1"), callbacks=[See()])
    assert [(stage, tuple(p.shape[-2:])) for stage, p in seen] == [
        (0, (36, 48)),
        (1, (72, 96)),
        (2, (144, 192)),
    ]
    assert (seen[2][1].mean(dim=(2, 3)) - seen[0][1].mean(dim=(2, 3))).abs().max() < 0.02


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_stage_encodes_in_its_precision_and_the_rest_is_float32(
    compose_config: Compose, precision: str
) -> None:
    seen = set()

    class See(EvaluationCallback):
        def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
            encoded = member.encode(evaluation.picture)["relu2_1"].dtype
            targets = [target for term in member.terms for target in term.targets.values()]
            dtypes = {target.dtype for target in targets if isinstance(target, torch.Tensor)}
            seen.add((encoded, evaluation.picture.dtype, *dtypes))

    result = run(compose_config(f"schedule.precision={precision}"), callbacks=[See()])
    wanted = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert seen == {(wanted, torch.float32, torch.float32)}
    assert result.record.final_losses["loss/total"] > 0


def test_texture_synthesis_and_reconstruction_need_one_picture_each(compose_config: Compose) -> None:
    texture = run(compose_config("pictures.content=null", "loss/content=none", "canvas.start=noise"))
    assert set(texture.record.layers) == {"style/gram", "regularizer/tv"}
    content = run(compose_config("pictures.style=null", "loss/style=none", "canvas.start=noise"))
    assert set(content.record.layers) == {"content/features", "regularizer/tv"}


def test_content_layers_and_pictures_too_small_are_refused_before_anything_is_written(
    compose_config: Compose,
) -> None:
    with pytest.raises(UserError, match=r"size=16.*16×12 pixels, too small"):
        run(compose_config("size=16"))
    with pytest.raises(UserError, match=r"loss\.content\.features\.layers=relu4_7.*Did you mean relu4_"):
        run(compose_config("layers.content=[relu4_7]"))
    assert not Path("outputs").exists()


def test_the_canvas_may_start_from_each_of_its_beginnings(
    compose_config: Compose, pair: dict[str, str]
) -> None:
    first: dict[str, Tensor] = {}

    class See(EvaluationCallback):
        def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
            first.setdefault(name, evaluation.picture)

    starts = {"content": [], "style": [], "file": [f"canvas.start={pair['painting']}"], "noise": []}
    for name, extra in starts.items():
        run(
            compose_config(*(extra or [f"canvas.start={name}"]), "steps=1", f"output={name}"),
            callbacks=[See()],
        )
    assert {tuple(p.shape) for p in first.values()} == {(1, 3, 36, 48)}
    torch.testing.assert_close(first["style"], first["file"])
    assert not torch.allclose(first["content"], first["style"], atol=0.05)
    assert first["noise"].std() > 0.25


@pytest.mark.parametrize(
    ("noise", "mean", "std"),
    [
        ("uniform", 0.5, 12**-0.5),
        ("gatys", 0.45, 1 / 255),
        ("neural_style", 0.45, 0.001 / 255),
        ("gordicaleksa", 0.45, 90 / 255),
        ("{distribution: normal, mean: [0.2, 0.2, 0.2], std: 0.05}", 0.2, 0.05),
    ],
)
def test_white_noise_is_the_noise_that_was_published(
    compose_config: Compose, noise: str, mean: float, std: float
) -> None:
    config = compose_config("canvas.start=noise", f"canvas.noise={noise}")
    picture = start_at(config.canvas, config.seed, load_inputs(config), (200, 300), "none").double()
    assert picture.mean().item() == pytest.approx(mean, abs=0.01)
    assert picture.std(dim=(0, 2, 3)).mean().item() == pytest.approx(std, rel=0.02)


def test_an_animation_of_the_snapshots(compose_config: Compose) -> None:
    from PIL import Image

    settings = ["record.snapshot_every=1", "record.animation=gif", STAGES, "size=192", "steps=2"]
    result = run(compose_config(*settings))
    assert len(list((result.folder / "snapshots").iterdir())) == 6
    with Image.open(result.folder / "canvas.gif") as gif:
        assert gif.size == (192, 144)
        assert 4 <= gif.n_frames <= 6  # equal frames are joined


def test_a_start_can_be_a_picture_with_a_share_of_noise(compose_config: Callable[..., Config]) -> None:
    def start(*overrides: str) -> torch.Tensor:
        config = compose_config(*overrides)
        inputs = load_inputs(config)
        (stage,) = plan_stages(config, inputs)
        return start_at(config.canvas, config.seed, inputs, stage.shape, "none")

    photo, noise = start(), start("canvas.start=noise")
    torch.testing.assert_close(start("canvas.noise_share=0.25"), 0.75 * photo + 0.25 * noise)
    assert torch.equal(start("canvas.noise_share=0"), photo)
    assert not torch.equal(start("canvas.noise_share=0.25", "seed=1"), start("canvas.noise_share=0.25"))
