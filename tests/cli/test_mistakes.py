"""Every mistake a user can make ends with one line that says what to do, and leaves nothing behind."""

from __future__ import annotations

import os
import pickle
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TINY, last_of_each, with_tiny
from PIL import Image

import nstbench.runtime.cores
from nstbench.cli import main
from nstbench.config.files import conf_dir, groups
from nstbench.encoders import efficientnet
from nstbench.tracking.files import run_folder

ROOT = Path(__file__).resolve().parents[2]
Complain = Callable[..., str]


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture
def complain(tmp_path: Path, pair: dict[str, str], capfd: pytest.CaptureFixture[str]) -> Complain:
    """Return a function from what is typed to the one line that is printed, checking all else."""

    def run(*arguments: str, tiny: tuple[str, ...] = TINY) -> str:
        inputs = [f"content={pair['photo']}", f"style={pair['painting']}"]
        if any(argument.startswith("pictures=") for argument in arguments):
            inputs = []
        before = tree(tmp_path)
        capfd.readouterr()
        status = main(["run", *last_of_each(*tiny, *inputs, *arguments)])
        out, err = capfd.readouterr()
        assert err.count("\n") == 1, err
        assert (status, out) == (2, "")
        assert "Traceback" not in err
        assert "Error executing job" not in err
        assert tree(tmp_path) == before
        return err.rstrip("\n")

    return run


def check(line: str, setting_and_value: str, reason: str, hint: str) -> None:
    """Check the parts of ``nstbench: setting=value: reason. hint``."""
    assert line.startswith(f"nstbench: {setting_and_value}: "), line
    said = line.removeprefix(f"nstbench: {setting_and_value}: ")
    assert reason in said
    assert hint in said.partition(reason)[2], f"no hint {hint!r} after the reason in: {said}"


# ------------------------------------------------------------------------------ pictures


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bad_picture(kind: str) -> bytes:
    if kind == "bomb.png":  # 50,000 × 50,000 pixels in a few bytes
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
        return (
            b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        )
    if kind == "cut.jpg":
        Image.effect_noise((64, 64), 80).convert("RGB").save("whole.jpg")
        return Path("whole.jpg").read_bytes()[:900]
    if kind == "dot.png":
        Image.new("RGB", (1, 1)).save("dot.png")
        return Path("dot.png").read_bytes()
    return {"empty.png": b"", "text.png": b"not a picture at all\n"}[kind]


@pytest.mark.parametrize(
    ("file", "reason", "hint"),
    [
        ("empty.png", "the file is empty", "save it again"),
        ("cut.jpg", "the file is truncated", "save it again"),
        ("text.png", "the file is not a picture", "JPEG, PNG"),
        ("dot.png", "1×1 pixels is too small", "larger picture"),
        ("bomb.png", "2,500,000,000 pixels are more than the limit", "smaller"),
    ],
)
def test_a_picture_that_cannot_be_used(complain: Complain, file: str, reason: str, hint: str) -> None:
    Path(file).write_bytes(bad_picture(file))
    role = "style" if file in {"cut.jpg", "dot.png"} else "content"
    check(complain(f"{role}={file}"), f"pictures.{role}={file}", reason, hint)


@pytest.mark.parametrize(
    ("typed", "setting", "reason", "hint"),
    [
        ("content=phto.png", "pictures.content=phto.png", "no such file", "photo.png"),
        ("content=qqq.webp", "pictures.content=qqq.webp", "no such file", "nstbench images"),
        (
            "content=gone/a.png",
            "pictures.content=gone/a.png",
            "no such file",
            "The folder gone does not exist",
        ),
        ("content=sample:chelsa", "pictures.content=sample:chelsa", "no such sample", "sample:chelsea"),
        ("content=chelsea", "pictures.content=chelsea", "no such file", "sample:chelsea"),
        (
            "style=procedural:stroke",
            "pictures.style=procedural:stroke",
            "no such procedural",
            "procedural:strokes",
        ),
        ("style=procedural:strokes@x", "pictures.style=procedural:strokes@x", "a seed is a whole", "@7"),
        ("content=https://a.org/b.jpg", "pictures.content=https://a.org/b.jpg", "network", "Download"),
        ("content=.", "pictures.content=.", "this is a folder", "painting.png"),
        ("canvas.noise=unifrm", "canvas.noise=unifrm", "no such noise", "uniform"),
    ],
)
def test_a_name_of_a_picture_that_leads_nowhere(
    complain: Complain, typed: str, setting: str, reason: str, hint: str
) -> None:
    check(complain(typed), setting, reason, hint)


def test_a_canvas_too_small_for_the_layers(complain: Complain) -> None:
    check(complain("size=16"), "size=16", "too small for the layers", "32 pixels or more")


# --------------------------------------------------------------------- values and ranges


def test_a_weight_for_a_unit_that_does_not_exist(complain: Complain) -> None:
    said = complain("loss.style.gram.weight={unti: 2}")
    check(said, "loss.style.gram.weight.unti=2", "there is no such setting", "Did you mean unit?")


def test_a_map_smaller_than_a_patch(complain: Complain) -> None:
    said = complain("loss/style=mrf", "size=44", "loss.style.mrf.layers=[relu5_1]")
    check(
        said,
        "loss.style.mrf=[relu5_1]",
        "positions on an edge at relu5_1",
        "It compares 3×3: give a size of 48",
    )


def test_pictures_that_cannot_be_blended(complain: Complain, pair: dict[str, str]) -> None:
    two = f"style=[{pair['photo']},{pair['painting']}]"
    said = complain(two, "loss/style=mrf", "pictures.style_weights=[1,2]")
    assert "their weights must be equal. Remove pictures.style_weights" in said


def test_a_regulariser_that_needs_the_style_picture_without_one(complain: Complain) -> None:
    said = complain("loss/style=none", "pictures.style=null", "loss/regularizer=[pixel_histogram]")
    assert said.startswith("nstbench: loss.regularizer.pixel_histogram")
    assert "it compares the canvas with the style picture, and there is none. Give pictures.style" in said


def test_a_loss_of_two_layers_that_gets_one(complain: Complain) -> None:
    said = complain("loss/style=cross_layer_gram", "loss.style.cross_layer_gram.layers=[relu1_1]")
    check(said, "loss.style.cross_layer_gram.layers=[relu1_1]", "needs two layers", "Give other layers")


@pytest.mark.parametrize(
    ("typed", "reason", "hint"),
    [
        ("steps=abc", "it must be a whole number", "steps=200"),
        ("steps=1.5", "it must be a whole number", "steps=200"),
        ("size=-5", "it must be greater than 0", "size=256"),
        ("size=0", "it must be greater than 0", "size=256"),
        ("size=1e+30", "it must be at most 100000", "size=100000"),
        ("weights.style=heavy", "it must be a number", "weights.style=20"),
        ("weights.unit=grad", "it must be paper, unit or gradient", "weights.unit=gradient"),
        ("pictures.style_weights=[1,2]", "2 weights for 1 pictures", "one weight per style picture"),
        ("loss.style=gram", "it must be a mapping", "loss/style=gram"),
        ("pictures=hello", "there is no such option", "own"),
        ("recipe=gatys2016_paper", "there is no such option", "Did you mean gatys2016/paper"),
        ("recipe=gatys2016/papr", "there is no such option", "Did you mean gatys2016/paper"),
        (
            "recipe=gatys2016",
            "there is no such option",
            "from: gatys2016/authors, gatys2016/authors_normalized",
        ),
        (
            "recipe=heitz2021/paper",
            "there is no such option",
            "Did you mean heitz2021/authors or heitz2021/proc",
        ),
        ("recipe=heitz2021", "there is no such option", "from: heitz2021/authors, heitz2021/procedural."),
        ("recipe=papier", "there is no such option", "kolkin2019/procedural"),
        ("schedule.stages.0.size=half", "a share above 0 such as 50%", "schedule.stages.0.size=50%"),
        ("schedule.stages.0.stepps=5", "there is no such setting", "Did you mean steps"),
        ("schedule.stages.5.steps=5", "the schedule has no such stage", "counted from 0"),
        ("loss.style.gram.normalization=papr", "it must be paper, authors", "normalization=paper"),
        ("loss.style.gram.weight=heavy", "it must be a number", "weight=0.5"),
        ("loss.style.gram.weight=-1", "it must be at least 0", "weight=0"),
        ("loss.style.gram.layer_weights=[1,2]", "2 weights for 5: relu1_1", "one for each"),
        ("optimizer.lr=abc", "it must be a number", "optimizer.lr=0.5"),
        ("optimizer.lr=-1", "Invalid learning rate", "Its default is 1"),
        ("optimizer._target_=torch.optim.Nope", "torch.optim has no such class", "LBFGS"),
        ("study=a/b", "it must be a plain folder name", "study=first"),
        ("steps=${stepss}", "there is no setting stepss to refer to", "Did you mean steps?"),
        ("steps=???", "it has no value", "steps="),
    ],
)
def test_a_value_that_cannot_be(complain: Complain, typed: str, reason: str, hint: str) -> None:
    shown = re.sub(r"\b(\d)\.0\b", r"\1", complain(typed))  # numbers that the schema made floats
    check(shown, typed, reason, hint)


def test_values_of_an_optimizer_that_only_it_can_judge(complain: Complain) -> None:
    line = complain("optimizer=adam", "optimizer.betas=[2,3]")
    check(line, "optimizer.betas=[2,3]", "Invalid beta parameter", "Its default is [0.9,0.999]")


def test_a_reference_is_told_by_the_name_people_type(complain: Complain) -> None:
    check(complain("schedule=two_sizes", "size=-5"), "size=-5", "greater than 0", "size=256")
    check(
        complain("layers.style=[relu9_9]"), "layers.style=relu9_9", "the encoder has no such layer", "relu5_"
    )
    own = complain("loss.style.gram.layers=[relu9_9]")
    check(own, "loss.style.gram.layers=relu9_9", "the encoder has no such layer", "relu5_")


def test_missing_values_are_asked_for(complain: Complain, pair: dict[str, str]) -> None:
    check(complain("pictures=own"), "pictures.content=???", "it has no value", "pictures.content=…")
    line = complain("pictures=own", f"content={pair['photo']}")
    check(line, "pictures.style=???", "it has no value", "pictures.style=…")
    check(complain("content=null"), "pictures.content=null", "loss/content needs it", "loss/content=none")
    none = [f"loss/{role}=none" for role in ("content", "style", "regularizer")]
    check(complain(*none), "loss", "there is no term to minimise", "loss/style=gram")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there(complain: Complain) -> None:
    check(complain("trainer=cuda"), "trainer.accelerator=cuda", "PyTorch sees no such device", "trainer=cpu")


def test_more_threads_than_cores(complain: Complain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nstbench.runtime.cores, "cores", lambda: 3)
    check(complain("trainer.threads=4"), "trainer.threads=4", "there are only 3 cores here", "threads=3")


def test_a_home_folder_of_nobody(complain: Complain) -> None:
    check(complain("output=~nobody2/x"), "output=~nobody2/x", "there is no user nobody2", "output=~/results")


# --------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("typed", "setting", "hint"),
    [
        ("stpes=100", "stpes=100", "Did you mean steps"),
        ("+stpes=100", "stpes=100", "Did you mean steps"),
        ("++stpes=100", "stpes=100", "Did you mean steps"),
        ("unit=paper", "unit=paper", "weights.unit"),
        ("pictures.contnet=a.png", "pictures.contnet=a.png", "content"),
        ("encoders=random", "encoders=random", "encoder"),
        ("loss.style.gram.weigth=3", "loss.style.gram.weigth=3", "weight"),
        ("optimizer.lrr=1", "optimizer.lrr=1", "lr"),
        ("++encoder.poolling=1", "encoder.poolling=1", "pooling"),
        ("++canvas.parametrization.size=1", "canvas.parametrization.size=1", ""),
        (
            "loss.style.none.weight=1",
            "loss.style.none.weight=1",
            "Select the option that defines it: loss/style=none",
        ),
        ("steps.x=1", "steps.x=1", "--help"),
    ],
)
def test_a_setting_that_does_not_exist(complain: Complain, typed: str, setting: str, hint: str) -> None:
    check(complain(typed), setting, "there is no such setting", hint)


def test_a_setting_of_another_option_is_told_with_the_option(complain: Complain) -> None:
    line = complain("optimizer.line_search_fn=strong_wolfe")
    instead = "type optimizer=lbfgs_torch optimizer.line_search_fn=strong_wolfe"
    check(line, "optimizer.line_search_fn=strong_wolfe", "there is no such setting", instead)
    typed = instead.removeprefix("type ").split()
    assert main(["run", *typed, "--cfg", "job"]) == 0


def test_an_argument_that_its_file_leaves_out_can_be_added(complain: Complain) -> None:
    line = complain("optimizer=adam", "optimizer.weight_decay=0.1")
    check(line, "optimizer.weight_decay=0.1", "there is no such setting", "+optimizer.weight_decay=0.1")
    assert main(["run", "optimizer=adam", "+optimizer.weight_decay=0.1", "--cfg", "job"]) == 0


@pytest.mark.parametrize(
    ("typed", "setting", "what", "hint"),
    [
        ("encoder=vgg91", "encoder=vgg91", "option", "vgg19"),
        ("encoder=5", "encoder=5", "option", "Options to choose from: alexnet"),
        ("loss/style=[gram,grma]", "loss/style=grma", "option", "gram"),
        ("logger=[csv,wandbb]", "logger=wandbb", "option", "wandb"),
        ("hydra/launcher=nope", "hydra/launcher=nope", "option", "basic"),
        ("loss/stile=gram", "loss/stile=gram", "group of options", "loss/style=gram"),
        ("loss=gram", "loss=gram", "group of options", "loss/style=gram"),
    ],
)
def test_an_option_that_does_not_exist(
    complain: Complain, typed: str, setting: str, what: str, hint: str
) -> None:
    check(complain(typed), setting, f"there is no such {what}", hint)


# ------------------------------------------------------------------------------- grammar


@pytest.mark.parametrize(
    ("typed", "setting", "reason", "hint"),
    [
        ("weights.style=1,10", "weights.style=1,10", "it has several values", "Add -m"),
        ("study=a,b", "study=a,b", "it has several values", """'study="a,b"'"""),
        ("encoder=vgg11,vgg19", "encoder=vgg11,vgg19", "it has several values", "Add -m"),
        ("study={a", "study={a", "this cannot be read", """'study="{a"'"""),
        ("steps=5=5", "steps=5=5", "this cannot be read", """'steps="5=5"'"""),
        (
            "loss/style=[gram",
            "loss/style=[gram",
            "a bracket or quote is not closed",
            "If it is a string, type",
        ),
        ("steps=(2)", "steps=(2)", "this cannot be read", "If it is a string, type"),
        ("steps", "steps", "this is not of the form setting=value", "Type steps=…"),
        ("a,b=3", "a,b=3", "this is not the name of a setting", "--help"),
        ("+steps=5", "+steps=5", "this setting exists already", "steps=5"),
        ("~nothing", "~nothing", "does not exist", "--help"),
    ],
)
def test_what_hydra_cannot_read(complain: Complain, typed: str, setting: str, reason: str, hint: str) -> None:
    tiny = PLAIN if typed.startswith("encoder=") else TINY  # whose encoder.width is another encoder's
    check(complain(typed, tiny=tiny), setting, reason, hint)


def test_what_is_said_of_quoting_works(complain: Complain, capfd: pytest.CaptureFixture[str]) -> None:
    line = complain("study={a")
    (advice,) = re.findall(r"string, type '(.*)'\.", line)
    assert main(["run", advice, "--cfg", "job"]) == 0
    assert "study: '{a'" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("flag", "reason", "hint"),
    [
        (["--hlep"], "there is no such flag", "--help"),
        (["--multirn"], "there is no such flag", "--multirun"),
        (["--cfg", "jobb"], "'jobb'", "--help"),
        (["--cfg"], "expected one argument", "--help"),
    ],
)
def test_flags(complain: Complain, flag: list[str], reason: str, hint: str) -> None:
    check(complain(*flag), flag[0], reason, hint)


@pytest.mark.parametrize(
    ("typed", "said", "hint"),
    [
        (["rnu"], "nstbench rnu: there is no such command", "Did you mean run?"),
        (["content=a.jpg"], "nstbench content=a.jpg: there is no such command", "nstbench run content=a.jpg"),
        (["frobnicate"], "nstbench frobnicate: there is no such command", "weights"),
        (["images", "--shet", "a.png"], "nstbench: --shet: nstbench images has no such argument", "--sheet"),
        (["weights"], "nstbench: nstbench weights: the following arguments are required", "--help"),
        (["weights", "fetch", "vgg91"], "weights=vgg91: there are no weights of that name", "vgg19"),
        (["--verison"], "nstbench: --verison: nstbench has no such argument", "--version"),
    ],
)
def test_commands(
    typed: list[str], said: str, hint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(typed) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err
    assert hint in err.partition(said)[2]
    assert tree(tmp_path) == {}


# ------------------------------------------------------------------- files of one's own


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str, str], list[str]]:
    """Return a function that writes an option to a folder for ``--config-dir``, and gives the flag."""

    def write(option: str, text: str) -> list[str]:
        file = tmp_path / "own" / f"{option}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return ["--config-dir", "own"]

    return write


Own = Callable[[str, str], list[str]]
GLOBAL = "# @package _global_\n"


@pytest.mark.parametrize(
    ("text", "setting", "reason", "hint"),
    [
        ("stpes: 100", "stpes=100", "there is no such setting", "steps"),
        ("pictures: {size_iss: area}", "pictures.size_iss=area", "there is no such setting", "size_is"),
        ("study: 2024", "study=2024", "it must be a string", 'study="2024"'),
        ("weights: null", "weights=null", "it must be a mapping", "weights.…=…"),
        ("canvas: pixels", "canvas=pixels", "it must be a mapping", "canvas=pixels"),
        (
            "loss: {style: {mrf: {weight: 3}}}",
            "loss.style.mrf={weight: 3}",
            "its option is not selected",
            "loss/style=mrf",
        ),
        (
            "loss: {style: {gram: {weight: x}}}",
            "loss.style.gram.weight=x",
            "it must be a number",
            "weight=0.5",
        ),
        ("defaults: [override /optimizer: adm]", "optimizer=adm", "there is no such option", "adam"),
        ("defaults: [override /encoders: vgg19]", "encoders", "there is no such group", "encoder"),
        ("hello", "experiment={hello: null}", "there is no such setting", ""),
    ],
)
def test_mistakes_in_an_experiment(
    complain: Complain, own: Own, text: str, setting: str, reason: str, hint: str
) -> None:
    flag = own("experiment/mine", f"{GLOBAL if text != 'hello' else ''}{text}\n")
    check(complain(*flag, "experiment=mine"), setting, reason, hint)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("study: [a", 3, "expected ',' or ']'"),
        ("record:\n\tprogress: true", 3, "found character '\\t'"),
        ("seed: 1\nseed: 2", 3, "found duplicate key seed"),
    ],
)
def test_files_that_are_not_yaml(
    complain: Complain, own: Own, tmp_path: Path, text: str, line: int, reason: str
) -> None:
    flag = own("experiment/mine", f"{GLOBAL}{text}\n")
    where = f"{tmp_path}/own/experiment/mine.yaml, line {line}"
    check(complain(*flag, "experiment=mine"), where, f"this is not YAML: {reason}", "Correct that line")


def test_a_file_that_is_not_utf8(complain: Complain, own: Own, tmp_path: Path) -> None:
    flag = own("experiment/mine", "")
    (tmp_path / "own/experiment/mine.yaml").write_bytes("study: café".encode("latin-1"))
    check(complain(*flag, "experiment=mine"), "--config-dir", "not UTF-8", "Save it as UTF-8")


def test_misspelt_keys_in_options_of_ones_own(complain: Complain, own: Own) -> None:
    flag = own("encoder/mine", "_target_: nstbench.encoders.random.RandomVGG\nshpe: vgg11\n")
    check(
        complain(*flag, "encoder=mine", tiny=("metrics=none", "logger=none")),
        "encoder.shpe=vgg11",
        "no such",
        "shape",
    )
    own("loss/style/mine", "gram: {_target_: nstbench.losses.gram.Gram, wieght: 3}\n")
    check(complain(*flag, "loss/style=mine"), "loss.style.gram.wieght=3", "no such setting", "weight")
    check(complain(*flag, "loss/style=mien"), "loss/style=mien", "no such option", "mine")


def test_a_loss_of_ones_own_that_does_not_import(
    complain: Complain, own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    Path("mine_broken.py").write_text("def oops(:\n")
    flag = own("loss/style/mine", "mine: {_target_: mine_broken.Loss}\n")
    line = complain(*flag, "loss/style=mine")
    check(line, "loss.style.mine._target_=mine_broken.Loss", "importing it failed (SyntaxError", "Correct")


def test_a_folder_of_options_that_is_not_there(complain: Complain) -> None:
    check(
        complain("--config-dir", "nowhere"), "--config-dir=nowhere", "there is no such folder", "like conf/"
    )


# ------------------------------------------------------------------------ output folders


@pytest.mark.parametrize("output", ["afile", "afile/below", "/proc/nope", "/dev/null/x"])
def test_an_output_that_cannot_be_written(complain: Complain, output: str) -> None:
    Path("afile").touch()
    line = complain(f"output={output}")
    check(line, f"output={output}", "results cannot be written there", "output=…")


def test_an_output_that_cannot_be_written_stops_a_sweep(complain: Complain) -> None:
    check(
        complain("-m", "output=/proc/nope", "seed=0,1"), "output=/proc/nope", "cannot be written", "output=…"
    )


def test_folders_made_on_the_way_are_removed(complain: Complain) -> None:
    """The names of the first folders are good, the last is too long for a file system."""
    line = complain("output=new/folder", f"study={'x' * 300}")
    check(line, "output=new/folder", "File name too long", "output=…")


def test_a_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run_folder("~/results", "first", "a") == tmp_path / "results/first/a"
    assert (tmp_path / "results/first/a").is_dir()


# ------------------------------------------------------------------------------- weights

PLAIN = tuple(setting for setting in TINY if not setting.startswith("encoder."))


class Payload:
    """Runs a command when it is unpickled without care."""

    def __reduce__(self) -> tuple[Callable[..., int], tuple[str]]:
        return os.system, ("touch payload-ran",)


@pytest.mark.parametrize(
    ("write", "reason", "hint"),
    [
        (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(500)), "the file is damaged", "once more"),
        (lambda p: p.write_bytes(b""), "this is an empty file", "once more"),
        (lambda p: p.write_text("<!doctype html>"), "this is a web page", "once more"),
        (lambda p: torch.save({"features.0.weight": Payload()}, p), "it is refused", "state_dict"),
        (lambda p: p.write_bytes(pickle.dumps(Payload())), "it is refused", "state_dict"),
        (
            lambda p: torch.save({"features.0.weight": torch.zeros(8, 3, 3, 3)}, p),
            "1 convolutions",
            "encoder.shape",
        ),
        (lambda p: torch.save({}, p), "no named tensors", "state_dict"),
        (lambda p: None, "neither a registered name nor a file", "encoder=procedural"),
    ],
    ids=[
        "corrupt",
        "empty",
        "web page",
        "payload",
        "pickled payload",
        "another network",
        "no tensors",
        "missing",
    ],
)
def test_weights_that_cannot_be_used(
    complain: Complain, tmp_path: Path, write: Callable[[Path], object], reason: str, hint: str
) -> None:
    write(tmp_path / "mine.pth")
    line = complain("encoder=vgg11", "encoder.weights=mine.pth", tiny=PLAIN)
    check(line, "encoder.weights=mine.pth", reason, hint)
    assert len(line) < 700
    assert not Path("payload-ran").exists()


def test_the_payload_is_a_real_one(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload()))
    assert Path("payload-ran").exists()


def test_registered_weights_that_are_not_here(complain: Complain) -> None:
    line = complain("encoder=vgg19", tiny=PLAIN)
    check(line, "encoder.weights=vgg19", "is not on this machine", "nstbench weights fetch vgg19")


# ------------------------------------------------------------ recipes with another encoder

BARE = tuple(setting for setting in PLAIN if setting != "encoder=random")


def test_a_recipe_for_a_vgg_with_another_encoder(complain: Complain) -> None:
    """The message names what was typed: neither the setting nor the layer that is missing was."""
    typed = ["encoder=efficientnet_lite0", "recipe=gatys2016/authors"]
    recipe, instead = "recipe=gatys2016/authors", "Type encoder=vgg19, encoder=vgg16"
    line = complain(*typed, tiny=BARE)
    check(
        line, recipe, "it sets encoder.pooling=max, which encoder=efficientnet_lite0 does not have", instead
    )
    assert "made for a VGG" in line
    torch.save(efficientnet.Network("constant").state_dict(), "lite.pth")
    lite = ["encoder=efficientnet_lite0", "encoder.weights=lite.pth"]
    line = complain(*lite, "recipe=gatys2016/authors", "~encoder.pooling", tiny=BARE)
    check(line, recipe, "it needs the layer relu4_2, which encoder=efficientnet_lite0 does not have", instead)
    line = complain(*lite, "layers=gatys2016", tiny=BARE)
    check(line, "layers=gatys2016", "it needs the layer relu4_2", "layers=default")
    line = complain("-m", "seed=1,2", *typed, tiny=BARE)
    check(line, recipe, "it sets encoder.pooling=max", instead)
    line = complain("encoder=efficientnet_lite0", "experiment=gatys2016/fig5", tiny=BARE)
    check(line, "experiment=gatys2016/fig5", "it sets encoder.pooling=average", instead)


def test_a_recipe_with_layers_that_the_encoder_that_ships_lacks(complain: Complain) -> None:
    line = complain("recipe=kolkin2019/authors", tiny=BARE)
    check(line, "recipe=kolkin2019/authors", "it needs the layer relu5_3", "recipe=kolkin2019/procedural")
    assert "encoder=vgg16" in line


def test_a_recipe_with_another_optimizer(complain: Complain) -> None:
    line = complain("recipe=gatys2016/paper", "optimizer=adam", tiny=BARE)
    check(line, "recipe=gatys2016/paper", "which optimizer=adam does not have", "Type optimizer=lbfgs")
    (setting,) = re.findall(r"it sets (optimizer\.\w+)=", line)
    assert f" or ~{setting}; or leave out recipe=gatys2016/paper." in line


def test_the_settings_to_choose_from_are_all_of_an_encoders(complain: Complain) -> None:
    line = complain("encoder=efficientnet_lite0", "++encoder.pooln=max", tiny=BARE)
    check(line, "encoder.pooln=max", "there is no such setting", "download, normalize_activations")


# -------------------------------------------------------------------------------- sweeps


@pytest.mark.parametrize(
    ("typed", "setting", "reason", "hint"),
    [
        (["stpes=1,2"], "stpes=1", "there is no such setting", "steps"),
        (["seed=0,1", "stpes=1"], "stpes=1", "there is no such setting", "steps"),
        (["seed=0,1", "++stpes=1"], "stpes=1", "there is no such setting", "steps"),
        (["seed=0,1", "weights.unit=grad"], "weights.unit=grad", "it must be paper", "gradient"),
        (["encoder=vgg91,random"], "encoder=vgg91", "there is no such option", "vgg19"),
        (["encoder=random,vgg91"], "encoder=vgg91", "there is no such option", "vgg19"),
        (["seed=0,1", "content=gone.png"], "pictures.content=gone.png", "there is no such file", ""),
        (["seed=0,1", "pictures=own"], "pictures.content=???", "it has no value", "pictures.content=…"),
        (["seed=0,1", "layers.style=[relu9_9]"], "layers.style=relu9_9", "no such layer", "relu5_"),
        (["seed=["], "seed=[", "this cannot be read", "If it is a string, type"),
        (["seed=glob(x)"], "seed=glob(x)", "glob stands for options of a group", "seed=…,…"),
        (["sede=glob(x)"], "sede=glob(x)", "glob stands for options of a group", "Did you mean seed"),
        (["loss/style=glob(zz*)"], "loss/style=glob(zz*)", "this glob matches no option", "gram"),
        (
            ["style=a.jpg,[a.jpg,b.jpg"],
            "pictures.style=a.jpg,[a.jpg,b.jpg",
            "this cannot be read",
            "If it is a string, type",
        ),
        (["style=glob(no/*.jpg)"], "pictures.style=glob(no/*.jpg)", "no picture matches", "The folder no"),
        (["seed=0,1", "output=~nobody2/x"], "output=~nobody2/x", "there is no user nobody2", "output=~/"),
        (["seed=0,1", "trainer.threads=999"], "trainer.threads=999", "cores here", "trainer.threads=3"),
        (
            ["seed=0,1", "hydra/launcher=pool", "hydra.launcher.workers=1", "hydra.launcher.threads=4"],
            "hydra.launcher.threads=4",
            "there are only 3 cores here",
            "hydra.launcher.threads=3",
        ),
        (
            ["seed=0,1", "hydra/launcher=pool", "hydra.launcher.workers=2", "hydra.launcher.threads=2"],
            "hydra.launcher.threads=2",
            "2 workers with 2 threads each are too many for the 3 cores here",
            "hydra.launcher.threads=1",
        ),
        (
            ["seed=0,1", "hydra/launcher=pool", "hydra.launcher.workers=3", "trainer.threads=2"],
            "trainer.threads=2",
            "3 workers with 2 threads each are too many for the 3 cores here",
            "trainer.threads=1",
        ),
    ],
)
def test_a_mistake_in_all_runs_stops_a_sweep_before_it_begins(
    complain: Complain,
    monkeypatch: pytest.MonkeyPatch,
    typed: list[str],
    setting: str,
    reason: str,
    hint: str,
) -> None:
    monkeypatch.setattr(nstbench.runtime.cores, "cores", lambda: 3)
    check(complain("-m", *typed), setting, reason, hint)


def test_one_bad_run_does_not_stop_the_others(
    tmp_path: Path, pair: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    Image.open(pair["photo"]).rotate(90).save("second.png")
    swept = ["seed=0,1", "content=photo.png,missing.png,second.png"]
    assert main(["run", *with_tiny(f"style={pair['painting']}", "-m", *swept)]) == 1
    out, err = capfd.readouterr()
    assert "6 runs: 4 completed, 2 failed" in out
    assert len([*tmp_path.glob("outputs/first/*/canvas.png")]) == 4
    assert not [*tmp_path.glob("outputs/first/*missing*")]
    failures = out.partition("failed runs")[2]
    assert failures.count("pictures.content=missing.png: there is no such") == 2
    assert "seed=0" in failures
    assert "seed=1" in failures
    assert "steps=4" not in failures  # what all runs have in common tells nothing
    assert err.count("failed: ") == 2
    assert "Traceback" not in out + err


def test_a_bad_value_among_good_ones_costs_its_run_only(
    tmp_path: Path, pair: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    pictures = [f"content={pair['photo']}", f"style={pair['painting']}"]
    assert main(["run", *with_tiny(*pictures, "-m", "size=-1,48")]) == 1
    out = capfd.readouterr().out
    assert "2 runs: 1 completed, 1 failed" in out
    assert "size=-1: it must be greater than 0" in " ".join(out.replace("│", " ").split())


# --------------------------------------------------------- failures that are no mistakes


def test_an_exploding_objective_is_one_line_and_status_1(
    tmp_path: Path, pair: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    pictures = [f"content={pair['photo']}", f"style={pair['painting']}"]
    assert main(["run", *with_tiny(*pictures, "optimizer=sgd", "optimizer.lr=1e30", "steps=20")]) == 1
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("nstbench: the run failed: the objective became ")
    assert "Try a smaller optimizer.lr" in err
    assert len([*tmp_path.glob("outputs/first/*/canvas.png")]) == 1


# ------------------------------------------------------------------- as the shell sees it


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["content=missing.png"], "nstbench: pictures.content=missing.png: there is no such file. "),
        (["stpes=100"], "nstbench: stpes=100: there is no such setting. Did you mean steps"),
        (["weights.style=1,10"], "nstbench: weights.style=1,10: it has several values. Add -m"),
    ],
)
def test_a_mistake_in_a_shell(tmp_path: Path, typed: list[str], said: str) -> None:
    before = tree(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "nstbench", "run", *typed],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(said)
    assert tree(tmp_path) == before


def test_the_message_names_groups_that_exist() -> None:
    """What the hints above tell people to type is there."""
    assert {"gram", "none"} <= set(groups()["loss/style"])
    assert (conf_dir() / "pictures" / "own.yaml").is_file()
