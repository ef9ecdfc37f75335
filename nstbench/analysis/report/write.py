"""Writing the report of a study into a folder: index.html, its scripts, its data and its pictures."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from nstbench import __version__
from nstbench.analysis.records import STATES, Damaged, Study, read_study
from nstbench.analysis.report import commands, content, problems
from nstbench.analysis.report.curves import Curve, thinned
from nstbench.analysis.report.pictures import Pictures
from nstbench.analysis.report.tradeoffs import tradeoff_of
from nstbench.errors import FULL, StorageError, UserError
from nstbench.runtime.files import write_text

GENERATOR = '<meta name="generator" content="nstbench report">'
SCRIPTS = (
    "page.js", "state.js", "metrics.js", "grid.js", "table.js", "plot.js", "curves.js", "tradeoff.js",
    "dialog.js", "start.js",
)  # fmt: skip
_COMMANDS = 20  # largest number of commands that are shown


@dataclass
class Report:
    """The report of a study, which can be written repeatedly: only what has changed is written again.

    Attributes:
        study: Folder of the study.
        output: Folder of the report.
        tell: Function that prints a message when something takes long.
    """

    study: Path
    output: Path
    tell: Callable[[str], None] = lambda _: None
    _pictures: Pictures = field(init=False)
    _curves: dict[Path, tuple[tuple[int, int], Curve | str | None]] = field(default_factory=dict, init=False)
    _written: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self._pictures = Pictures(self.output, self.tell, self.study)

    def write(self, *, watched: float | None = None) -> bool:
        """Write what has changed since the last time.

        Args:
            watched: Interval in seconds at which the page looks for changes; None: it does not.

        Returns:
            Whether runs of the study are in progress, or, if it is watched, ended a few seconds ago.

        Raises:
            UserError: If there is no such study, it holds no runs, or the report cannot be written.
            StorageError: If the disk is full.
        """
        study = read_study(self.study)
        in_progress = problems.in_progress(study) or bool(watched and problems.changed_recently(self.study))
        if study.runs.empty and not in_progress:
            found = "; ".join(f"{each.path}: {each.reason}" for each in study.damaged[:3])
            hint = found or "Type the folder of a study: it holds a folder for each run."
            raise UserError("STUDY", self.study, "there is no run in it", hint)
        check_output_folder(self.output)
        try:
            self._pictures.make_folders()
            page = content.build(study, self._pictures)
            curves, damaged_curves = self._curves_of(study)
            entries = problems.entries_of_sweeps(study.folder)
            typed = commands.typed(study.folder)
            known = typed or commands.reconstructed(study.records)
            states = {state: int((study.runs.get("state") == state).sum()) for state in STATES}
            watching = watched if watched and in_progress else None
            shown: dict[str, Any] = {
                "study": page.data["study"],
                "version": __version__,
                "counts": states,
                "same": content.same_in_all(study),
                "typed": bool(typed),
                "commands": known[:_COMMANDS],
                "all_commands": len(known),
                "failures": problems.failures(study, entries),
                "unfinished": problems.unfinished(study, entries),
                "damaged": [*study.damaged, *page.damaged, *damaged_curves],
                "unavailable": sorted(study.unavailable.items()),
                "metrics": bool(study.metrics),
                "watched": watching,
                "scripts": SCRIPTS,
            }
            page.data["tradeoff"] = tradeoff_of(study)
            self._write_files(page.data, curves, shown)
            self._pictures.remove_all_but(page.copies)
        except OSError as error:
            if error.errno in FULL | {errno.EIO}:
                raise StorageError(self.output, error) from error
            reason = f"results cannot be written there ({error.strerror or error})"
            raise UserError(
                "--output", self.output, reason, "Type a folder that you may write to."
            ) from error
        return in_progress

    def _write_files(self, data: dict[str, Any], curves: list[Curve | None], shown: dict[str, Any]) -> None:
        texts = {
            "data.js": f"const study = {_json(data)};\n",
            "data-curves.js": f"drawCurves({_json(curves)});\n",
        }
        contents = json.dumps([texts, shown], default=vars)
        if contents == self._written:
            return
        stamp = str(time.time_ns())
        made = time.strftime("%Y-%m-%d %H:%M:%S")
        for name in ("report.css", *SCRIPTS):
            texts[name] = _asset(name)
        html = _template().render(**shown, stamp=stamp, made=made)
        # The page is written last, and after it the script by which an open page detects the new one.
        texts |= {"index.html": html, "stamp.js": f"newest({json.dumps(stamp)});\n"}
        for name, text in texts.items():
            file = self.output / name
            if not file.is_file() or file.read_text(encoding="utf-8") != text:
                write_text(file, text)
        self._written = contents

    def _curves_of(self, study: Study) -> tuple[list[Curve | None], list[Damaged]]:
        """Return the curve of each run, and the files that could not be read."""
        curves: list[Curve | None] = []
        damaged = []
        for name, path in zip(study.runs.get("folder", ()), study.paths, strict=True):
            found = self._curve(path / "curves.csv")
            if isinstance(found, str):
                damaged.append(Damaged(f"{name}/curves.csv", found))
            curves.append(None if isinstance(found, str) else found)
        return curves, damaged

    def _curve(self, file: Path) -> Curve | str | None:
        """Return a curve, None if there is none, or the reason why it cannot be read."""
        try:
            stat = file.stat()
        except OSError:
            return None
        version = (stat.st_mtime_ns, stat.st_size)
        if self._curves.get(file, ((0, 0), None))[0] != version:
            try:
                found: Curve | str | None = thinned(file, study=self.study)
            except ValueError as error:
                found = str(error)
            self._curves[file] = (version, found)
        return self._curves[file][1]


def check_output_folder(output: Path) -> None:
    """Check that the report would not overwrite something that is not a report.

    Raises:
        UserError: If it would.
    """
    index = output / "index.html"
    if output.exists() and not output.is_dir():
        raise UserError("--output", output, "it is a file", "Type a folder.")
    if index.exists() and GENERATOR not in index.read_text(encoding="utf-8", errors="replace"):
        raise UserError("--output", output, "it holds another index.html", "Type another folder.")
    if (output / "run.json").exists():
        raise UserError("--output", output, "it is the folder of a run", "Type another folder.")


def _json(data: Any) -> str:
    # ASCII, as some other characters end a line in older browsers.
    return json.dumps(data, allow_nan=False, separators=(",", ":"))


def _asset(name: str) -> str:
    return (resources.files("nstbench.analysis.report") / name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_asset("index.html.j2"))
