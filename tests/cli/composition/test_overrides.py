"""From what is typed to Hydra's grammar: nothing is lost, and what needs nothing stays as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from nstbench.cli.composition.overrides import overrides_from, split_arguments
from nstbench.errors import UserError


def value_of(override: str) -> object:
    (parsed,) = OverridesParser.create().parse_overrides([override])
    return parsed.value()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("content=a.jpg", "pictures.content=a.jpg"),
        ("style=sample:chelsea", "pictures.style=sample:chelsea"),
        ("style=procedural:strokes@7", "pictures.style=procedural:strokes@7"),
        ("++content=a.jpg", "++pictures.content=a.jpg"),
        ("content=my photo (1).jpg", 'pictures.content="my photo (1).jpg"'),
        ("pictures.content=a=b.jpg", 'pictures.content="a=b.jpg"'),
        ("canvas.start=été.png", 'canvas.start="été.png"'),
        ("output=my results", 'output="my results"'),
        ("output=2024", 'output="2024"'),
        ("study=1e3", 'study="1e3"'),
        ("study=true", 'study="true"'),
        ("style=null", "pictures.style=null"),
        ("pictures.guides.sky.content=my sky.png", '++pictures.guides.sky.content="my sky.png"'),
        ("+pictures.guides.sky.weight=2", "++pictures.guides.sky.weight=2"),
        ("pictures.guides={sky: {content: a.png}}", "++pictures.guides={sky: {content: a.png}}"),
        ("schedule.stages.0.precision=bf16", "++schedule.stages.0.precision=bf16"),
        ("schedule.stages.1.size=25%", "++schedule.stages.1.size=25%"),
        ("schedule.stages=[{size: 50%}]", "schedule.stages=[{size: 50%}]"),
        ("pictures.guide_propagation=all", "pictures.guide_propagation=all"),
        ("style=[a.jpg,b c.jpg]", 'pictures.style=[a.jpg,"b c.jpg"]'),
        ("style=a.jpg,b c.jpg", 'pictures.style=a.jpg,"b c.jpg"'),
        ("style=a.jpg, b.jpg", "pictures.style=a.jpg,b.jpg"),
        ("style='a b.jpg'", "pictures.style='a b.jpg'"),
        ('style=["a b.jpg",c.jpg]', 'pictures.style=["a b.jpg",c.jpg]'),
        ("style=[a,b],[c,d]", "pictures.style=[a,b],[c,d]"),
        ("style=a.jpg,[a.jpg,b.jpg]", "pictures.style=a.jpg,[a.jpg,b.jpg]"),
        ("style=[a.jpg,b.jpg],a.jpg", "pictures.style=[a.jpg,b.jpg],a.jpg"),
        ("style=a b.jpg,[c d.jpg,e.jpg],f(1).jpg", 'pictures.style="a b.jpg",["c d.jpg",e.jpg],"f(1).jpg"'),
        ("style='a,b.jpg',[\"c,d.jpg\",e]", "pictures.style='a,b.jpg',[\"c,d.jpg\",e]"),
        ("style=[[a b,c],d],null", 'pictures.style=[["a b",c],d],null'),
        ("style=a.jpg,[a.jpg,b.jpg", "pictures.style=a.jpg,[a.jpg,b.jpg"),
        ("style=choice(a.jpg,b.jpg)", "pictures.style=choice(a.jpg,b.jpg)"),
        ("style=${pictures.content}", "pictures.style=${pictures.content}"),
        ("encoder.weights=my file.pth", 'encoder.weights="my file.pth"'),
    ],
)
def test_texts_are_quoted_where_hydra_needs_it(typed: str, meant: str) -> None:
    assert overrides_from([typed]) == [meant]


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "steps=100",
            "weights.style=1e2,1e3",
            "loss/style=[gram,mrf]",
            "encoder=vgg19",
            "-m",
            "--cfg",
            "job",
        ),
        *("~optimizer.momentum", "+optimizer.nesterov=true", "optimizer.betas=[0.9,0.99]", "steps", "", "="),
        *(
            "pictures=samples",
            "layers.style=[relu1_1]",
            "seed=range(0,3)",
            "study=first",
            "output=outputs/a-b_c.d",
        ),
    ],
)
def test_what_needs_nothing_is_left_as_it_is(typed: str) -> None:
    assert overrides_from([typed]) == [typed]


@pytest.mark.parametrize(
    "name", ["a,b.jpg", "'quoted'.jpg", "[list].jpg", "choice(a,b)", "{a: b}", '"x', "a, b"]
)
def test_a_file_of_that_name_is_meant_where_there_is_one(name: str) -> None:
    Path(name).touch()
    (override,) = overrides_from([f"content={name}"])
    assert getattr(value_of(override), "text", value_of(override)) == name


def test_a_comma_in_the_name_of_a_file_does_not_split_it() -> None:
    Path("a, b.jpg").touch()
    Path("c,d.jpg").touch()
    Path("c").touch()
    (override,) = overrides_from(["style=x.jpg,a, b.jpg,[a, b.jpg,y.jpg],c,d.jpg"])
    assert override == 'pictures.style=x.jpg,"a, b.jpg",["a, b.jpg",y.jpg],c,d.jpg'


def test_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert overrides_from(["output=~/results"]) == ["output=/home/me/results"]
    assert overrides_from(["style=~/a b.jpg,~/c.jpg"]) == ['pictures.style="/home/me/a b.jpg",/home/me/c.jpg']
    assert overrides_from(["study=~/a"]) == ['study="~/a"']  # a name, not a path


anything = st.text(st.characters(codec="utf-8"), max_size=30)
keys = st.sampled_from(
    ["content", "pictures.style", "canvas.start", "output", "study", "steps", "a.b", "+style", ""]
)


@given(st.lists(st.one_of(anything, st.builds("{}={}".format, keys, anything)), max_size=4))
def test_nothing_typed_makes_it_raise(arguments: list[str]) -> None:
    assert len(overrides_from(arguments)) == len(arguments)


swept = st.recursive(
    st.sampled_from(["a.jpg", "my b.jpg", "c=(1).png", "'d,e.jpg'", "null", "sample:chelsea"]),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda items: f"[{','.join(items)}]"),
    max_leaves=6,
)


@given(st.lists(swept, min_size=2, max_size=4))
def test_lists_and_texts_are_swept_in_any_order(values: list[str]) -> None:
    (override,) = overrides_from([f"style={','.join(values)}"])
    (parsed,) = OverridesParser.create().parse_overrides([override])
    assert len([*parsed.sweep_string_iterator()]) == len(values)


@given(
    st.one_of(anything, st.builds("{}={}".format, st.sampled_from(["steps", "loss/style", "a.b"]), anything))
)
def test_other_settings_are_never_touched(argument: str) -> None:
    if argument.partition("=")[0].lstrip("+") not in {"content", "style"}:
        assert overrides_from([argument]) == [argument] or argument.startswith(
            ("pictures.", "study=", "output=")
        )


GRAMMAR = re.compile(r"[ \t]*['\"{\[].*|.*\$\{.*|null", re.DOTALL | re.IGNORECASE)


@given(
    anything.filter(lambda text: text and "," not in text and "\0" not in text and not text.startswith("~"))
)
@example("\r{")
@example('\n"')
@example("\x0b[a")
def test_hydra_reads_the_very_text_that_was_typed(text: str) -> None:
    """Whatever it is: only quotes, brackets and references at the start are somebody's grammar."""
    if GRAMMAR.fullmatch(text) or re.match(r"(choice|glob|sort|shuffle|tag|str)\s?\(", text):
        return
    (override,) = overrides_from([f"content={text}"])
    value = value_of(override)
    assert getattr(value, "text", value) == text


@given(st.permutations(["-m", "a=1", "b=2", "c=3"]))
def test_flags_and_overrides_are_told_apart_in_any_order(arguments: list[str]) -> None:
    flags, overrides, meaning = split_arguments(arguments)
    assert flags == ["-m"]
    assert overrides == [a for a in arguments if a != "-m"]
    assert meaning.multirun


def test_flags_with_values() -> None:
    flags, overrides, meaning = split_arguments(["a=1", "--cfg", "job", "b=2", "--config-dir=.", "--resolve"])
    assert flags == ["--cfg", "job", "--config-dir=.", "--resolve"]
    assert overrides == ["a=1", "b=2"]
    assert (meaning.cfg, meaning.config_dir, meaning.multirun) == ("job", ".", False)


def test_a_file_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(UserError, match=r"it is not UTF-8\. Rename the file") as caught:
        split_arguments(["content=caf\udce9.jpg"])
    assert caught.value.setting == "content"


def test_a_line_break_pasted_along_is_refused() -> None:
    for argument in ("steps=1\n", "ste\nps=1", "steps=1\r\nsize=2", "--cfg\n"):
        with pytest.raises(UserError, match="it contains a line break") as caught:
            split_arguments(["seed=0", argument])
        assert "\n" not in str(caught.value)
