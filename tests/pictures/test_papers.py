"""The papers' pictures: what is known of them, how they are fetched, added and checked."""

from __future__ import annotations

import hashlib
import io
import re
import runpy
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from loopback import Behaviour, Server, endless, ranged, redirect, serving, status, whole
from PIL import Image

from nstbench.config.schema import Config
from nstbench.downloads import fetch as fetch_module
from nstbench.errors import UserError
from nstbench.pictures.papers.files import (
    add_picture,
    check,
    chosen,
    copy_of,
    fetch_picture,
    how_to_get,
    locate,
    pictures_folder,
    state,
)
from nstbench.pictures.papers.picture import CONDITIONS, LICENCES, PaperPicture
from nstbench.pictures.papers.registry import COLLECTIONS, PAPERS
from nstbench.pictures.source import load, names
from nstbench.runs.inputs import load_inputs
from nstbench.tracking.fingerprint import fingerprint

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = b"<!DOCTYPE html>\n<html><body>This page has moved</body></html>"


def jpeg(seed: int, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


BODY = jpeg(0)
MD5, SHA256 = hashlib.md5(BODY).hexdigest(), hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "WAIT_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PaperPicture]:
    """Return a function that adds a free picture to the registry, with an md5 as most have."""

    def add(*urls: str, **changed: object) -> PaperPicture:
        known = {"key": "toy", "title": "Toy", "author": "A. Nonym", "died": 1900, "md5": MD5, "urls": urls}
        picture = PaperPicture(**{**known, **changed})  # type: ignore[arg-type]
        monkeypatch.setitem(PAPERS, picture.key, picture)
        return picture

    return add


Register = Callable[..., PaperPicture]


def left() -> set[str]:
    """What lies in nstbench's folder."""
    folder = pictures_folder()
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def refusal(picture: PaperPicture, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        fetch_picture(picture, progress=False, **options)  # type: ignore[arg-type]
    return str(caught.value)


# What is known


def test_nothing_protected_or_unclear_has_an_address() -> None:
    for picture in PAPERS.values():
        if picture.withheld(date(2026, 1, 1)):
            assert not picture.urls, picture.key
        else:
            assert picture.md5 or picture.sha256, picture.key  # never anything that nobody can check
            assert all(url.startswith("https://") for url in picture.urls)


def test_every_entry_has_terms_and_a_place() -> None:
    assert len(PAPERS) >= 17
    for key, picture in PAPERS.items():
        assert re.fullmatch("[a-z_]+", key)
        assert set(picture.figures) <= set(COLLECTIONS)
        assert picture.figures
        assert picture.terms
        assert bool(picture.died) != bool(picture.licence)
        assert re.fullmatch("([0-9a-f]{32})?", picture.md5)
        assert re.fullmatch("([0-9a-f]{64})?", picture.sha256)
        if picture.licence in LICENCES:
            assert picture.author in picture.credit()
            assert LICENCES[picture.licence] in picture.credit()
    for collection in COLLECTIONS:
        assert chosen([collection])


def test_the_term_of_copyright_ends_with_its_seventieth_year() -> None:
    feininger, picasso = PAPERS["jesuiten_iii"], PAPERS["femme_nue_assise"]
    assert picasso.withheld(date(2043, 12, 31)).startswith(
        "Pablo Picasso died in 1973: protected until 2043 where copyright lasts 70 years after death"
    )
    assert "2026" in feininger.withheld(date(2026, 12, 31))
    assert feininger.withheld(date(2027, 1, 1)) == "no address of it is known"
    assert PAPERS["the_scream"].withheld(date(2014, 6, 1))
    assert not PAPERS["the_scream"].withheld(date(2015, 1, 1))


def test_collections_and_keys_can_be_mixed_and_misspelt() -> None:
    found = [picture.key for picture in chosen(["paper:pebbles", "gatys2016", "pebbles"])]
    assert found[0] == "pebbles"
    assert {"neckarfront", "jesuiten_iii"} <= set(found)
    assert len(found) == len(set(found))
    for typed, meant in (("gatys2015", "gatys2016"), ("stary_night", "starry_night")):
        with pytest.raises(UserError, match=f"Did you mean .*{meant}"):
            chosen([typed])


# Fetching


def test_a_picture_arrives_is_checked_and_is_the_source_of_runs(server: Server, register: Register) -> None:
    picture = register(server.offer("/toy.jpg", whole(BODY, "image/jpeg")))
    assert state(picture) == "to fetch"
    path = fetch_picture(picture, progress=False)
    assert path.read_bytes() == BODY
    assert left() == {"toy.jpg", "toy.jpg.sha256", "toy.jpg.verified"}
    assert (pictures_folder() / "toy.jpg.sha256").read_text() == f"{SHA256}  toy.jpg\n"
    assert state(picture) == "here"
    loaded = load("paper:toy", setting="pictures.content")
    assert (loaded.name, loaded.source, loaded.sha256) == ("toy", "paper:toy", SHA256)
    assert loaded.pixels.shape == (1, 3, 60, 80)
    fetch_picture(picture, progress=False)
    assert len(server.requests) == 1


@pytest.mark.parametrize("hashes", [{"md5": MD5}, {"sha256": SHA256, "md5": ""}, {"md5": ""}])
def test_a_redirect_is_followed(server: Server, register: Register, hashes: dict[str, str]) -> None:
    there = server.offer("/there", whole(BODY, "image/jpeg"))
    picture = register(server.offer("/here", redirect(there)), **hashes)
    assert fetch_picture(picture, progress=False).read_bytes() == BODY


def cut(body: bytes) -> bytes:
    return body[: len(body) // 2]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (whole(jpeg(1), "image/jpeg"), f"its md5 is {hashlib.md5(jpeg(1)).hexdigest()}, expected {MD5}"),
        (status(404), "HTTP 404 Not Found"),
        (status(410), "HTTP 410 Gone"),
        (status(403), "HTTP 403 Forbidden"),
        (status(429), r"HTTP 429 Too Many Requests (5 attempts)"),
        (status(503), r"HTTP 503 Service Unavailable (5 attempts)"),
        (
            whole(PAGE, "text/html; charset=utf-8"),
            "it is a web page, not the file: the file may have been removed",
        ),
        (whole(PAGE, "image/jpeg"), "it is a web page, not a picture"),
        (whole(b"", "image/jpeg"), "it is an empty file, not a picture"),
        (whole(cut(BODY), "image/jpeg"), "the file is truncated: its end is missing"),
        (ranged(BODY, upto=1000), "the transfer was interrupted at 0.0 of "),
        (whole(b"%PDF-1.4 not a picture at all", "application/pdf"), "PDF files cannot be read"),
        (whole(bytes(range(256)) * 9, "image/jpeg"), "the file is not a picture"),
        (endless(BODY), "it is larger than 1 MB, the limit for such files"),
        (whole(BODY * 500, "image/jpeg"), "it is larger than 1 MB, the limit for such files"),
        (redirect("file:///etc/passwd"), "No connection adapters were found for 'file:///etc/passwd'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_arrive_is_told_and_nothing_is_kept(
    server: Server,
    register: Register,
    behaviour: Behaviour,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PaperPicture, "largest", 1_000_000)
    url = server.offer("/toy.jpg", behaviour)
    for hashes in ({"md5": MD5}, {"md5": ""}):
        if not hashes["md5"] and reason.startswith("its md5"):
            continue
        message = refusal(register(url, **hashes))
        assert message.startswith(f"images=paper:toy: could not fetch toy.jpg: {url}: {reason}")
        assert "type `nstbench images add toy FILE`" in message
        assert "`pictures=samples` runs every study with stand-ins" in message
        assert "\n" not in message
        assert left() == set()


def test_a_wrong_sha256_is_told_with_both(server: Server, register: Register) -> None:
    other = jpeg(1)
    picture = register(server.offer("/toy.jpg", whole(other)), sha256=SHA256)
    message = refusal(picture)
    assert f"its sha256 is {hashlib.sha256(other).hexdigest()}, expected {SHA256}" in message
    assert left() == set()


def test_a_host_that_is_gone(register: Register) -> None:
    message = refusal(register("http://127.0.0.1:9/toy.jpg"))
    assert "no server can be reached for toy.jpg" in message
    assert "Is there a network?" in message
    assert left() == set()


def test_only_the_web_is_asked(register: Register, tmp_path: Path) -> None:
    (tmp_path / "toy.jpg").write_bytes(BODY)
    for url in (f"file://{tmp_path}/toy.jpg", "ftp://127.0.0.1/toy.jpg"):
        assert "No connection adapters" in refusal(register(url))


def test_the_next_mirror_is_tried(server: Server, register: Register) -> None:
    urls = server.offer("/gone", status(404)), server.offer("/page", whole(PAGE, "text/html"))
    picture = register(*urls, server.offer("/good", ranged(BODY)))
    assert fetch_picture(picture, progress=False).read_bytes() == BODY


def test_without_a_published_hash_the_first_copy_is_pinned(server: Server, register: Register) -> None:
    url = server.offer("/toy.jpg", whole(BODY))
    picture = register(url, md5="")
    path = fetch_picture(picture, progress=False)
    path.unlink()
    server.offer("/toy.jpg", whole(jpeg(1)))
    assert f"expected {SHA256}" in refusal(picture)
    assert not path.exists()
    path.write_bytes(jpeg(1))
    with pytest.raises(UserError, match=f"expected {SHA256}") as caught:
        load("paper:toy", setting="pictures.style")
    assert str(caught.value).startswith("pictures.style=paper:toy: ")
    server.offer("/toy.jpg", whole(BODY))
    assert fetch_picture(picture, progress=False).read_bytes() == BODY


def test_what_is_not_free_everywhere_is_never_asked_for(server: Server, register: Register) -> None:
    url = server.offer("/toy.jpg", whole(BODY))
    for changed in ({"died": date.today().year - 70}, {"died": None, "licence": "unclear"}):
        picture = register(url, **changed)
        for own in (None, url):
            message = refusal(picture, accepted=set(CONDITIONS), url=own)
            assert "the user must supply this picture. It is not fetched by nstbench: " in message
            assert "type `nstbench images add toy FILE`" in message
        assert state(picture) == "to supply"
    assert server.requests == []


def test_conditions_must_be_accepted(server: Server, register: Register) -> None:
    picture = register(
        server.offer("/toy.jpg", whole(BODY)), died=None, licence="CC BY-SA 2.0", page="http://x"
    )
    assert "`--accept-licence cc-by-sa-2.0`" in refusal(picture, accepted={"academic use"})
    assert server.requests == []
    assert fetch_picture(picture, accepted={"CC BY-SA 2.0"}, progress=False).read_bytes() == BODY


# Adding and checking


def test_a_picture_that_is_missing_says_how_to_get_it() -> None:
    for source, words in {
        "paper:neckarfront": [
            "`nstbench images fetch neckarfront`",
            "`nstbench images add neckarfront FILE`",
        ],
        "paper:emma": ["`nstbench images fetch emma --accept-licence cc-by-sa-2.0`"],
        "paper:femme_nue_assise": [
            "Pablo Picasso died in 1973",
            "`nstbench images add femme_nue_assise FILE`",
        ],
        "paper:london": ["its licence is unclear", "`nstbench images add london FILE`"],
    }.items():
        with pytest.raises(UserError) as caught:
            load(source, setting="pictures.content")
        message = str(caught.value)
        assert message.startswith(f"pictures.content={source}: this picture is not on this machine. ")
        for word in [*words, "`pictures=samples` runs the study with stand-ins"]:
            assert word in message
    with pytest.raises(UserError, match="Did you mean starry_night"):
        load("paper:stary_night", setting="pictures.style")
    with pytest.raises(UserError, match="Did you mean paper:neckarfront"):
        load("neckarfront", setting="pictures.style")


def test_a_users_file_must_be_the_published_one_where_one_is_published(
    register: Register, tmp_path: Path
) -> None:
    picture, mine = register("http://127.0.0.1:9/toy.jpg"), tmp_path / "mine.jpg"
    mine.write_bytes(jpeg(1))
    with pytest.raises(UserError, match=f"expected {MD5}") as caught:
        add_picture(picture, mine)
    assert f"pictures.cast.toy={mine}" in str(caught.value)
    assert left() == set()
    mine.write_bytes(BODY)
    assert add_picture(picture, mine).read_bytes() == BODY
    assert locate("toy", setting="x") == copy_of(picture)


def test_a_supplied_picture_may_be_any_and_is_pinned_until_it_is_replaced(tmp_path: Path) -> None:
    picture, mine = PAPERS["femme_nue_assise"], tmp_path / "my scan.PNG"
    for wrong in (PAGE, b"", cut(BODY), b"\0" * 99):
        mine.write_bytes(wrong)
        with pytest.raises(UserError, match="cannot be used"):
            add_picture(picture, mine)
        assert left() == set()
    mine.write_bytes(jpeg(3, "PNG"))
    path = add_picture(picture, mine)
    assert path.name == "femme_nue_assise.png"
    assert load("paper:femme_nue_assise", setting="x").sha256 == hashlib.sha256(mine.read_bytes()).hexdigest()
    path.write_bytes(jpeg(4, "PNG"))
    with pytest.raises(UserError, match="is damaged or is another file"):
        check(picture, path)
    mine.with_suffix(".jpg").write_bytes(BODY)
    again = add_picture(picture, mine.with_suffix(".jpg"))
    assert again.name == "femme_nue_assise.jpg"
    assert load("paper:femme_nue_assise", setting="x").sha256 == SHA256
    assert left() == {f"femme_nue_assise.jpg{end}" for end in ("", ".sha256", ".verified")}


def test_a_file_put_there_by_hand_is_checked_too(register: Register) -> None:
    register("http://127.0.0.1:9/toy.jpg")
    pictures_folder().mkdir(parents=True)
    (pictures_folder() / "toy.jpg").write_bytes(jpeg(1))
    with pytest.raises(UserError, match=rf"expected {MD5}\. Delete it, and get it again"):
        load("paper:toy", setting="x")
    (pictures_folder() / "toy.jpg").write_bytes(BODY)
    assert load("paper:toy", setting="x").sha256 == SHA256


def test_a_file_that_is_nowhere_cannot_be_added(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        add_picture(PAPERS["london"], tmp_path / "nowhere.jpg")


# What runs make of it


def test_a_papers_picture_and_its_file_are_one_run(
    register: Register, tmp_path: Path, compose_config: Callable[..., Config]
) -> None:
    mine = tmp_path / "mine.jpg"
    mine.write_bytes(BODY)
    add_picture(register("http://127.0.0.1:9/toy.jpg"), mine)
    prints = set()
    for content, start in (("paper:toy", "paper:toy"), (str(mine), str(mine)), ("paper:toy", str(mine))):
        config = compose_config(f"pictures.content={content}", f"canvas.start={start}")
        prints.add(fingerprint(config.plain, load_inputs(config).hashes()))
    assert len(prints) == 1
    other = compose_config(f"canvas.start={mine}")
    assert fingerprint(other.plain, load_inputs(other).hashes()) not in prints


COLLECTION_OPTIONS = ["papers", *COLLECTIONS]


@pytest.mark.parametrize("option", COLLECTION_OPTIONS)
def test_the_options_cast_pictures_of_the_registry(
    option: str, compose_config: Callable[..., Config]
) -> None:
    config = compose_config(f"pictures={option}")
    assert config.pictures.cast
    assert {source.partition(":")[0] for source in config.pictures.cast.values()} == {"paper"}
    assert {source.removeprefix("paper:") for source in config.pictures.cast.values()} <= set(PAPERS)


def test_the_samples_stand_in_for_every_part(compose_config: Callable[..., Config]) -> None:
    samples = compose_config("pictures=samples").pictures.cast
    assert set(samples) == set(compose_config("pictures=papers").pictures.cast)
    assert {source.partition("@")[0] for source in samples.values()} <= set(names())


def test_how_to_get_a_picture_knows_every_entry() -> None:
    for picture in PAPERS.values():
        assert f"nstbench images add {picture.key} FILE" in how_to_get(picture)


def test_the_page_tells_what_the_registry_holds() -> None:
    page = (DOCS / "pictures.md").read_text(encoding="utf-8")
    tables = runpy.run_path(str(DOCS / "pictures" / "make_papers.py"))["tables"]()
    assert set(tables) == {*COLLECTIONS, "stand-ins"}
    for name, table in tables.items():
        assert f"<!-- {name} -->\n{table}\n<!-- /{name} -->" in page, "run docs/pictures/make_papers.py"
    assert all(f"`{key}`" in page for key in PAPERS)
