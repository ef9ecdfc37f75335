"""The precision of a stage: what is computed how, when `auto` settles, and that it can be continued."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nstbench.config.schema import Config
from nstbench.encoders.random import RandomVGG
from nstbench.errors import UserError
from nstbench.modules import precision
from nstbench.modules.member import Evaluation, EvaluationCallback, Member
from nstbench.modules.plateau import Plateau
from nstbench.modules.precision import Encoding, with_bf16_weights
from nstbench.runs.preparation import prepare
from nstbench.runs.run import Result, run

Compose = Callable[..., Config]
CPU = torch.device("cpu")
LAYERS = ["relu1_1", "relu3_1"]


@pytest.fixture
def fast_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any processor pass for one that computes bfloat16 in hardware."""
    monkeypatch.setattr(precision, "fast_bf16", lambda device: True)


@pytest.fixture(scope="module")
def encoder() -> RandomVGG:
    return RandomVGG("vgg11", width=0.0625)


class Watch(EvaluationCallback):
    """Note what each evaluation was computed in, and stop as a kill would, if that is asked for."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.dtypes: list[torch.dtype] = []

    def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
        if evaluation.index == self.kill_at:
            raise RuntimeError("killed")
        self.dtypes.append(member.encode(evaluation.picture)["relu2_1"].dtype)


def outcome(result: Result) -> tuple[bytes, list[list[str]], object, object]:
    with (result.folder / "curves.csv").open() as file:
        rows = [[v for k, v in row.items() if k != "seconds"] for row in csv.DictReader(file)]
    picture = (result.folder / "canvas.png").read_bytes()
    return picture, rows, result.record.stages, result.record.final_losses


def test_a_plateau_is_where_nothing_has_fallen_for_long_enough() -> None:
    plateau = Plateau(tolerance=0.01, evaluations=3)
    for value in (10, 8, 6, 5):
        plateau.update(value)
    assert not plateau.reached
    for value in (4.99, 700.0, 4.98):  # a step that went too far is no progress, and no fall afterwards
        plateau.update(value)
    assert plateau.reached
    plateau.update(3.0)
    assert not plateau.reached


@given(fall=st.floats(0.02, 0.9), start=st.floats(1e-6, 1e6), k=st.integers(1, 30))
def test_what_falls_by_more_than_the_tolerance_is_on_no_plateau(fall: float, start: float, k: int) -> None:
    falling, flat = Plateau(0.01, k), Plateau(0.01, k)
    for i in range(k + 1):
        falling.update(start * (1 - fall) ** i)
        flat.update(start)
        assert flat.reached == (i == k)
    assert not falling.reached


def test_bf16_is_what_autocast_makes_of_the_encoder_without_casting_its_weights(encoder: RandomVGG) -> None:
    picture = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    ours = Encoding(encoder, "bf16")(picture, LAYERS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = encoder(picture, LAYERS)
    for layer in LAYERS:
        assert ours[layer].dtype == torch.bfloat16
        torch.testing.assert_close(ours[layer], theirs[layer], rtol=0, atol=0)
    copies = [m for m in with_bf16_weights(encoder).modules() if isinstance(m, nn.Conv2d)]
    assert {m.weight.dtype for m in copies} == {torch.bfloat16}
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}  # the encoder itself is left alone


def test_a_layout_changes_nothing_but_rounding(encoder: RandomVGG) -> None:
    picture = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    plain, last = (Encoding(encoder, "fp32", channels_last=c)(picture, LAYERS) for c in (False, True))
    assert last["relu3_1"].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)


def test_auto_is_float32_where_bfloat16_is_slow(encoder: RandomVGG, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fast_bf16", lambda device: False)
    encoding = Encoding(encoder, "auto")
    assert encoding.phase(CPU) == "fp32"
    assert encoding.phases(7, CPU) == {"fp32": 7}


def test_auto_settles_on_a_plateau_and_at_the_latest_near_the_end(
    encoder: RandomVGG, fast_bf16: None
) -> None:
    late = Encoding(encoder, "auto")
    assert [step for step in range(100) if late.end_bf16_if_due(step, 100)] == [80]
    assert late.phases(100, CPU) == {"bf16": 80, "fp32": 20}
    stalled = Encoding(encoder, "auto")
    for _ in range(precision.AUTO_EVALUATIONS + 1):
        assert stalled.phase(CPU) == "bf16"
        stalled.plateau.update(1.0)
    assert stalled.end_bf16_if_due(30, 100)
    assert not stalled.end_bf16_if_due(31, 100)
    assert stalled.phase(CPU) == "fp32"


def test_tf32_is_allowed_during_a_step_only(encoder: RandomVGG) -> None:
    before = torch.backends.cudnn.allow_tf32
    for chosen in ("tf32", "fp32", "bf16"):
        with contextlib.suppress(KeyError), Encoding(encoder, chosen).tf32_allowed(torch.device("cuda")):  # type: ignore[arg-type]
            assert torch.backends.cudnn.allow_tf32 is (chosen == "tf32")
            raise KeyError
        assert torch.backends.cudnn.allow_tf32 is before


def test_auto_begins_in_bfloat16_and_ends_in_float32(compose_config: Compose, fast_bf16: None) -> None:
    watch = Watch()
    result = run(compose_config("schedule.precision=auto", "steps=10"), callbacks=[watch])
    assert watch.dtypes == [torch.bfloat16] * 8 + [torch.float32] * 2
    (stage,) = result.record.stages
    assert stage == {
        "size": 48,
        "steps": 10,
        "evaluations": 10,
        "precision": {"bf16": 8, "fp32": 2},
        "batch": 1,
        "stopped": "steps",
    }


@pytest.mark.parametrize("kill_at", [4, 8, 9, 14])  # before, at and after the switch; in the second stage
def test_auto_continues_to_the_same_bytes(compose_config: Compose, fast_bf16: None, kill_at: int) -> None:
    settings = ["schedule=two_sizes", "size=96", "steps=10", "schedule.precision=auto"]
    settings += ["schedule.stages.1.steps=10", "record.checkpoint_every=1", "record.curves_every=1"]
    settings += ["weights.unit=gradient"]
    whole = run(compose_config(*settings, "output=whole"))
    with pytest.raises(RuntimeError, match="killed"):
        run(compose_config(*settings, "output=broken"), callbacks=[Watch(kill_at)])
    assert outcome(run(compose_config(*settings, "output=broken"))) == outcome(whole)
    assert [s["precision"] for s in whole.record.stages] == [{"bf16": 8, "fp32": 2}] * 2


def test_the_losses_of_the_result_are_those_of_float32(compose_config: Compose) -> None:
    still = ["optimizer=sgd", "optimizer.lr=0", "steps=1", "weights.content=0"]
    exact = run(compose_config(*still, "schedule.precision=fp32", "output=a")).record
    rounded = run(compose_config(*still, "schedule.precision=bf16", "output=b")).record
    assert rounded.final_losses == exact.final_losses  # of one canvas: the content picture
    assert rounded.starts == exact.starts


def test_a_canvas_in_bfloat16_is_compared_with_targets_in_bfloat16(compose_config: Compose) -> None:
    """The content picture, compared with itself, is at no distance."""
    seen: list[float] = []

    class See(EvaluationCallback):
        def on_evaluation(self, member: Member, evaluation: Evaluation) -> None:
            seen.append(float(evaluation.values.unweighted["content/features"]))

    run(compose_config("schedule.precision=bf16", "steps=1"), callbacks=[See()])
    assert seen == [0.0]


STILL = ("optimizer=sgd", "optimizer.lr=0", "steps=30", "record.curves_every=1")
PLATEAU = "schedule.plateau={tolerance: 0.001, evaluations: 5}"


def test_a_stage_ends_on_a_plateau_and_the_record_says_so(compose_config: Compose) -> None:
    result = run(compose_config(*STILL, "schedule=two_sizes", "size=96", PLATEAU))
    record = result.record
    assert [(s["steps"], s["stopped"]) for s in record.stages] == [(6, "plateau"), (6, "plateau")]
    assert (record.steps, record.evaluations) == (12, 12)
    rows = outcome(result)[1]
    assert [row[0] for row in rows] == [str(i) for i in range(13)]
    whole = run(compose_config(*STILL, "schedule=two_sizes", "size=96"))
    assert {s["stopped"] for s in whole.record.stages} == {"steps"}
    assert whole.record.fingerprint != record.fingerprint


@pytest.mark.parametrize("kill_at", [3, 6, 9])  # before the first stage ends, just after, in the second
def test_a_run_that_stops_early_continues_to_the_same_bytes(compose_config: Compose, kill_at: int) -> None:
    settings = [
        "schedule=two_sizes",
        "size=96",
        "steps=60",
        "record.checkpoint_every=1",
        "record.curves_every=1",
    ]
    settings += ["schedule.plateau={tolerance: 0.5, evaluations: 4}"]
    whole = run(compose_config(*settings, "output=whole"))
    assert "plateau" in {s["stopped"] for s in whole.record.stages}
    with pytest.raises(RuntimeError, match="killed"):
        run(compose_config(*settings, "output=broken"), callbacks=[Watch(kill_at)])
    assert outcome(run(compose_config(*settings, "output=broken"))) == outcome(whole)


def test_auto_waits_for_float32_before_it_stops_early(compose_config: Compose, fast_bf16: None) -> None:
    result = run(compose_config(*STILL, "schedule.precision=auto", PLATEAU))
    (stage,) = result.record.stages
    assert stage["precision"] == {"bf16": 21, "fp32": 6}  # each stalls: after 20 and 5 evaluations


def test_without_a_plateau_the_fingerprint_is_that_of_runs_before_there_was_one(
    compose_config: Compose,
) -> None:
    from nstbench.tracking.fingerprint import fingerprinted_settings

    assert "plateau" not in fingerprinted_settings(compose_config().plain)["schedule"]
    assert "plateau" in fingerprinted_settings(compose_config(PLATEAU).plain)["schedule"]


def test_without_a_compiler_nothing_is_written_and_the_message_is_one(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Callable[..., object]:
        from torch._dynamo.exc import TorchDynamoException

        def call(*_: object) -> None:
            raise TorchDynamoException("InvalidCxxCompiler: No working C++ compiler found")

        return call

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(UserError, match=r"trainer\.compile=true: .*No working C\+\+ compiler.*Remove it"):
        prepare(compose_config("trainer.compile=true"))
    assert not Path("outputs").exists()


@pytest.mark.slow
def test_a_compiled_encoder_makes_the_same_picture_but_for_rounding(compose_config: Compose) -> None:
    settings = ("optimizer=adam", "optimizer.lr=0.01")
    plain = run(compose_config(*settings, "output=a")).record.final_losses
    fast = run(compose_config(*settings, "trainer.compile=true", "output=b")).record.final_losses
    assert fast == pytest.approx(plain, rel=1e-3)


def test_the_encoder_is_moved_to_the_pictures(encoder: RandomVGG) -> None:
    """Metrics of another run of a batch, which shares the encoder, move it to the CPU."""
    meta = torch.device("meta")
    encoding = Encoding(deepcopy(encoder), "fp32")
    picture = torch.rand(1, 3, 32, 32)
    assert encoding(picture.to(meta), LAYERS)["relu3_1"].device == meta
    encoding.encoder.to_empty(device=CPU)
    assert encoding.full_precision(picture.to(meta), LAYERS)["relu3_1"].device == meta
