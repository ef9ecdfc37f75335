from __future__ import annotations

import errno
import hashlib
import io
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Server, ranged, serving, status, whole

import nstbench
from nstbench.downloads import fetch as fetch_module
from nstbench.downloads.fetch import fetch, store
from nstbench.downloads.verification import verify
from nstbench.encoders.registry import Weights
from nstbench.errors import UserError

PAGE = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"


def _state_dict_bytes() -> bytes:
    file = io.BytesIO()
    torch.save({"features.0.weight": torch.randn(300_000, generator=torch.manual_seed(0))}, file)
    return file.getvalue()


BODY = _state_dict_bytes()
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "WAIT_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as bound:  # and never listening: nobody else gets the port meanwhile
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def entry(*urls: str, sha256: str = SHA256) -> Weights:
    return Weights("toy", "toy.pth", urls, sha256, len(BODY), "torch", "vgg19", "MIT")


def get(weights: Weights, folder: Path) -> Path:
    return fetch(weights, folder, progress=False, timeout=(5, 5))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith((".verified", ".lock"))}


def test_the_file_arrives_whole_and_nothing_else_stays(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    path = get(entry(server.offer("/toy.pth", ranged(BODY))), folder)
    assert path == folder / "toy.pth"
    assert path.read_bytes() == BODY
    assert {p.name for p in folder.iterdir()} == {"toy.pth", "toy.pth.verified"}


def test_the_bar_is_drawn_on_standard_error(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(entry(server.offer("/toy.pth", ranged(BODY))), tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    assert "toy.pth" in err
    assert "1.2/1.2 MB" in err


def test_a_good_file_is_not_fetched_again_but_a_damaged_one_is(server: Server, tmp_path: Path) -> None:
    weights = entry(server.offer("/toy.pth", ranged(BODY)))
    path = get(weights, tmp_path)
    get(weights, tmp_path)
    assert len(server.requests) == 1
    path.write_bytes(BODY[:-1] + b"?")
    get(weights, tmp_path)
    assert len(server.requests) == 2
    assert path.read_bytes() == BODY


def test_a_prefix_of_the_hash_suffices(server: Server, tmp_path: Path) -> None:
    url = server.offer("/toy.pth", ranged(BODY))
    assert get(entry(url, sha256=SHA256[:8]), tmp_path).read_bytes() == BODY


def test_a_cut_connection_is_continued_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    half = len(BODY) // 2
    path = get(entry(server.offer("/toy.pth", ranged(BODY, upto=half), ranged(BODY))), tmp_path)
    first, second = server.ranges()
    assert first is None
    assert second is not None
    start = int(second.removeprefix("bytes=").removesuffix("-"))
    assert half - fetch_module.CHUNK <= start <= half
    assert path.read_bytes() == BODY


@given(cuts=st.lists(st.integers(0, 20_000), max_size=4), there=st.integers(0, 25_000), good=st.booleans())
@settings(max_examples=25, deadline=None)
def test_however_often_it_breaks_off_the_bytes_are_right(cuts: list[int], there: int, good: bool) -> None:
    body = BODY[:20_000]
    answers = [ranged(body, upto=cut) for cut in sorted(cuts)]
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        url = server.offer("/toy.pth", *answers, ranged(body))
        (Path(folder) / "toy.pth.part").write_bytes(body[:there] if good else b"x" * there)
        assert get(entry(url, sha256=hashlib.sha256(body).hexdigest()), Path(folder)).read_bytes() == body
        assert names(Path(folder)) == {"toy.pth"}


def test_a_line_that_keeps_breaking_says_how_much_is_there(server: Server, tmp_path: Path) -> None:
    weights = entry(server.offer("/toy.pth", ranged(BODY, upto=700_000)))
    with pytest.raises(UserError, match=r"0\.7 MB are kept and the same command continues") as caught:
        get(weights, tmp_path)
    assert "the transfer was interrupted at 0.7 of 1.2 MB" in str(caught.value)
    assert len(server.requests) == fetch_module.RETRIES + 1
    assert names(tmp_path) == {"toy.pth.part"}
    server.offer("/toy.pth", ranged(BODY))
    assert get(weights, tmp_path).read_bytes() == BODY
    assert server.ranges()[-1] is not None


def test_a_server_without_ranges_sends_all_of_it_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy.pth.part").write_bytes(BODY[:500_000])
    path = get(entry(server.offer("/toy.pth", whole(BODY))), tmp_path)
    assert server.ranges() == ["bytes=500000-"]
    assert path.read_bytes() == BODY


def test_a_part_longer_than_the_file_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy.pth.part").write_bytes(BODY + b"too much")
    path = get(entry(server.offer("/toy.pth", ranged(BODY))), tmp_path)
    assert server.ranges() == [f"bytes={len(BODY) + 8}-", None]
    assert path.read_bytes() == BODY


def test_a_range_from_elsewhere_starts_over(server: Server, tmp_path: Path) -> None:
    def from_zero(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-{len(BODY) - 1}/{len(BODY)}")
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY)

    (tmp_path / "toy.pth.part").write_bytes(BODY[:1000])
    path = get(entry(server.offer("/toy.pth", from_zero, ranged(BODY))), tmp_path)
    assert server.ranges() == ["bytes=1000-", None]
    assert path.read_bytes() == BODY


def test_a_complete_part_needs_no_request(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy.pth.part").write_bytes(BODY)
    assert get(entry(server.offer("/toy.pth", ranged(BODY))), tmp_path).read_bytes() == BODY
    assert server.requests == []


def test_a_part_from_elsewhere_is_not_the_mirrors_fault(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy.pth.part").write_bytes(b"another file")
    assert get(entry(server.offer("/toy.pth", ranged(BODY))), tmp_path).read_bytes() == BODY
    assert server.ranges() == ["bytes=12-", None]


def test_wrong_bytes_are_refused_with_both_hashes(server: Server, tmp_path: Path) -> None:
    url = server.offer("/toy.pth", whole(BODY[::-1]))
    with pytest.raises(UserError) as caught:
        get(entry(url), tmp_path)
    message = str(caught.value)
    assert all(part in message for part in (url, SHA256, hashlib.sha256(BODY[::-1]).hexdigest()))
    assert names(tmp_path) == set()


def test_a_web_page_is_called_a_web_page(server: Server, tmp_path: Path) -> None:
    for sha256 in (SHA256, ""):
        url = server.offer("/toy.pth", whole(PAGE, "text/html"))
        with pytest.raises(UserError, match="it is a web page"):
            get(entry(url, sha256=sha256), tmp_path)
        assert names(tmp_path) == set()


def test_a_missing_file_sends_us_to_the_next_mirror(server: Server, tmp_path: Path, closed_port: int) -> None:
    weights = entry(
        f"http://127.0.0.1:{closed_port}/toy.pth",
        server.offer("/gone", status(404)),
        server.offer("/wrong", whole(b"\x80" * 100)),
        server.offer("/good", ranged(BODY)),
        server.offer("/never", ranged(BODY)),
    )
    assert get(weights, tmp_path).read_bytes() == BODY
    assert [path for path, _ in server.requests] == ["/gone", "/wrong", "/good"]


def test_when_all_mirrors_fail_each_has_its_reason(server: Server, tmp_path: Path, closed_port: int) -> None:
    urls = (
        server.offer("/a", status(404)),
        server.offer("/b", status(403)),
        f"http://127.0.0.1:{closed_port}/c",
        "ftp://127.0.0.1/d",
    )
    with pytest.raises(UserError) as caught:
        get(entry(*urls), tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "weights=toy: could not fetch toy.pth:"
    assert lines[1] == f"  {urls[0]}: HTTP 404 Not Found"
    assert lines[2] == f"  {urls[1]}: HTTP 403 Forbidden"
    assert lines[3] == f"  {urls[2]}: Connection refused"
    assert lines[4].startswith("  ftp://127.0.0.1/d: No connection adapters")
    assert f"put it in {tmp_path}" in lines[4]


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    url = server.offer("/toy.pth", status(503), status(429), ranged(BODY))
    assert get(entry(url), tmp_path).read_bytes() == BODY
    assert len(server.requests) == 3


def test_no_network_is_one_line(tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as caught:
        get(entry(f"http://127.0.0.1:{closed_port}/toy.pth"), tmp_path)
    message = str(caught.value)
    assert "no server can be reached" in message
    assert "Connection refused" in message
    assert "HTTPConnectionPool" not in message
    assert "\n" not in message

    def unknown(*args: object, **kwargs: object) -> object:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UserError, match=r"its name cannot be resolved\. Is there a network"):
        get(entry("http://weights.invalid/toy.pth"), tmp_path)


def test_a_silent_server_is_given_up(server: Server, tmp_path: Path) -> None:
    release = threading.Event()
    weights = entry(server.offer("/toy.pth", lambda handler: release.wait(20) and None))
    with pytest.raises(UserError, match=r"no answer within 0\.1 s"):
        fetch(weights, tmp_path, progress=False, timeout=(5, 0.1))
    release.set()


def test_without_a_published_hash_the_first_copy_is_pinned(server: Server, tmp_path: Path) -> None:
    weights = entry(server.offer("/toy.pth", ranged(BODY)), sha256="")
    path = get(weights, tmp_path)
    assert (tmp_path / "toy.pth.sha256").read_text() == f"{SHA256}  toy.pth\n"
    subprocess.run(["sha256sum", "-c", "toy.pth.sha256"], cwd=tmp_path, check=True, capture_output=True)
    path.unlink()
    server.offer("/toy.pth", ranged(BODY[:-1] + b"?"))
    with pytest.raises(UserError, match=f"expected {SHA256}"):
        get(weights, tmp_path)
    assert not path.exists()


def test_without_a_hash_two_mirrors_are_never_mixed(server: Server, tmp_path: Path) -> None:
    other = b"\x80" + bytes(500_000)
    a, b = server.offer("/a", ranged(other, upto=200_000)), server.offer("/b", ranged(BODY))
    (tmp_path / "toy.pth.part").write_bytes(b"from an earlier day")
    path = get(entry(a, b, sha256=""), tmp_path)
    assert path.read_bytes() == BODY
    assert server.requests[0] == ("/a", None)
    assert server.requests[-1] == ("/b", None)


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    weights = entry(server.offer("/toy.pth", ranged(BODY)))
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="NSTBENCH_WEIGHTS") as caught:
            get(weights, folder)
        assert str(folder) in str(caught.value)
    assert server.requests == []


def test_a_disk_that_takes_no_more_is_told_and_the_transfer_continues_later(
    server: Server, tmp_path: Path
) -> None:
    weights = entry(server.offer("/toy.pth", ranged(BODY)))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, old[1]))
    try:
        with pytest.raises(UserError, match=os.strerror(errno.EFBIG)) as caught:
            get(weights, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "Free disk space and type the same command again" in str(caught.value)
    assert names(tmp_path) == {"toy.pth.part"}
    assert get(weights, tmp_path).read_bytes() == BODY
    assert server.ranges() == [None, "bytes=500000-"]


def test_a_disk_that_is_too_small_is_told_before_the_transfer(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def little(path: Path) -> object:
        return type("usage", (), {"free": 10})

    monkeypatch.setattr(fetch_module.shutil, "disk_usage", little)
    with pytest.raises(UserError, match="1 MB are needed and 0 MB are free"):
        get(entry(server.offer("/toy.pth", ranged(BODY))), tmp_path)


_FETCH_IN_A_PROCESS = """
import sys
from pathlib import Path
from nstbench.downloads.fetch import fetch
from nstbench.encoders.registry import Weights
url, sha256, folder = sys.argv[1:]
fetch(Weights("toy", "toy.pth", (url,), sha256, None, "torch", "vgg19", "MIT"), Path(folder))
assert "torch" not in sys.modules
"""


def start_process(url: str, folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(nstbench.__file__).parents[1])}
    command = [sys.executable, "-c", _FETCH_IN_A_PROCESS, url, SHA256, str(folder)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for 20 s"
        time.sleep(0.01)


def test_a_killed_fetch_leaves_a_part_and_the_next_continues_it(server: Server, tmp_path: Path) -> None:
    release, half = threading.Event(), len(BODY) // 2
    url = server.offer("/toy.pth", ranged(BODY, upto=half, then=release), ranged(BODY))
    part = tmp_path / "toy.pth.part"
    with start_process(url, tmp_path) as process:
        wait_for(lambda: part.exists() and part.stat().st_size >= half - fetch_module.CHUNK)
        process.send_signal(signal.SIGKILL)
    release.set()
    assert process.returncode == -signal.SIGKILL
    assert names(tmp_path) == {"toy.pth.part"}
    there = part.stat().st_size
    assert get(entry(url), tmp_path).read_bytes() == BODY
    assert server.ranges() == [None, f"bytes={there}-"]
    assert names(tmp_path) == {"toy.pth"}


def test_of_two_processes_the_second_waits_and_finds_it_done(server: Server, tmp_path: Path) -> None:
    release = threading.Event()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        release.wait(20)
        ranged(BODY)(handler)

    url = server.offer("/toy.pth", slow)
    with start_process(url, tmp_path) as first:
        wait_for(lambda: len(server.requests) == 1)
        with start_process(url, tmp_path) as second:
            assert second.stderr is not None
            assert second.stderr.readline() == "another process is fetching toy.pth; waiting for it\n"
            time.sleep(0.5)
            assert second.poll() is None
            assert len(server.requests) == 1
            release.set()
            second.communicate()
        first.communicate()
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(server.requests) == 1
    assert (tmp_path / "toy.pth").read_bytes() == BODY
    assert {p.name for p in tmp_path.iterdir()} == {"toy.pth", "toy.pth.verified"}


def test_where_files_cannot_be_locked_two_at_once_still_do_no_harm(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*args: object) -> None:
        raise OSError(errno.ENOSYS, "no locks")

    monkeypatch.setattr(fetch_module.fcntl, "flock", no_locks)
    both = threading.Barrier(2, timeout=20)

    def together(handler: BaseHTTPRequestHandler) -> None:
        both.wait()
        ranged(BODY)(handler)

    weights = entry(server.offer("/toy.pth", together))
    with ThreadPoolExecutor() as pool:
        for path in pool.map(get, [weights] * 2, [tmp_path] * 2):
            assert path.read_bytes() == BODY
    assert len(server.requests) == 2
    assert (tmp_path / "toy.pth").read_bytes() == BODY
    assert {p.name for p in tmp_path.iterdir()} == {"toy.pth", "toy.pth.verified"}


def test_a_file_of_ones_own_is_stored_only_if_it_is_the_right_one(tmp_path: Path) -> None:
    source, folder = tmp_path / "mine.pth", tmp_path / "folder"
    source.write_bytes(BODY)
    path = store(entry(), source, folder)
    assert path.read_bytes() == BODY
    assert source.exists()
    verify(entry(), path, folder)

    source.write_bytes(BODY[::-1])
    with pytest.raises(UserError, match=SHA256) as caught:
        store(entry(), source, folder)
    assert f"encoder.weights={source}" in str(caught.value)
    assert path.read_bytes() == BODY
    assert names(folder) == {"toy.pth"}

    for page in (PAGE, b"", b"plain text"):
        source.write_bytes(page)
        with pytest.raises(UserError, match=r"it is (a web page|an empty file|not a PyTorch file)"):
            store(replace(entry(), sha256="", file="other.pth"), source, folder)
    with pytest.raises(UserError, match="cannot be copied"):
        store(entry(), tmp_path / "missing", folder)
    assert names(folder) == {"toy.pth"}
