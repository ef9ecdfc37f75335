"""Arguments, file names and output in a locale that is not UTF-8, such as ``LC_ALL=C``."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper


def use_utf8() -> None:
    """Start this process again in Python's UTF-8 mode if it would read file names as ASCII.

    The mode can only be chosen when Python starts. In the C locale a name such as ``café.jpg`` is read as
    undecodable bytes, although files are named in UTF-8. The process keeps its id and arguments.
    """
    if sys.getfilesystemencoding().lower() not in {"ascii", "us-ascii", "646"} or sys.flags.utf8_mode:
        return
    if not sys.executable or len(sys.orig_argv) < 2:  # Python is embedded in another program
        return
    with suppress(OSError):
        arguments = [sys.executable, "-X", "utf8=1", *sys.orig_argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, "PYTHONUTF8": "1"})


def print_anything() -> None:
    """Make standard output and error escape characters that their encoding lacks, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
