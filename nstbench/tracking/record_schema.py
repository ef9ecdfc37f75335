"""The schema of ``run.json``, against which every record is checked once, when it is read.

A record may be truncated, of another version, or made with bad intent. After `parse_record` its fields
have the types of `RunRecord`, its configuration has the sections that readers use, and nothing in it is
deeper, longer or larger than in a record of a run. Names of classes in it are text: readers of records
never import them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from nstbench.tracking.record import RunRecord
from nstbench.tracking.record_files import MIB, read_inside, reason_of

MOST_BYTES = 4 * MIB
_DEEPEST = 24
_MOST_VALUES = 5_000  # a run with all metrics has about 500
_LONGEST_TEXT = 2**16
_LARGEST_INTEGER = 2**63 - 1
_LARGEST_NUMBER = 1e60  # its square, and sums of squares, are still numbers
_LARGEST_COUNT = 2**53

T = TypeVar("T")
Names = str | list[str] | None


class DamagedRecordError(ValueError):
    """A ``run.json`` that is not a run's record; the message is a clause that says why."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Pictures(_Strict):
    content: Names
    style: Names
    background: list[float] | None = None


class _Stage(_Strict):
    size: int


class _Schedule(_Strict):
    stages: Annotated[list[_Stage], Field(min_length=1)]


class _Config(_Strict):
    """The sections of a configuration that readers of records use."""

    pictures: _Pictures
    seed: int
    metrics: dict[str, dict[str, Any]]
    size: int | None = None
    steps: int | None = None
    loss: dict[str, dict[str, Any] | None] = {}
    encoder: dict[str, Any] = {}
    optimizer: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    schedule: _Schedule | None = None
    panel: str | None = None
    panels: dict[str, dict[str, Any]] = {}


@lru_cache(maxsize=8)
def _model(of: type[Any]) -> type[BaseModel]:
    """Return the fields of a dataclass as a model that converts nothing."""
    types = get_type_hints(of)
    found: dict[str, Any] = {}
    for each in fields(of):
        default = ... if each.default is MISSING else each.default
        if each.default_factory is not MISSING:
            default = Field(default_factory=each.default_factory)
        found[each.name] = (types[each.name], default)
    return create_model(of.__name__, __base__=_Strict, **found)


def read_record(root: Path, folder: Path, text: Callable[[str], str] = str) -> RunRecord:
    """Read the record of a run's folder.

    Args:
        root: Folder outside of which no file is read: that of the study, or of the run.
        folder: Folder of the run.
        text: Function for every text and name of the record, such as `record_files.printable`.

    Raises:
        FileNotFoundError: There is no ``run.json``.
        DamagedRecordError: The file cannot be read, or is not a run's record.
    """
    try:
        data = read_inside(root, folder / "run.json", MOST_BYTES)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedRecordError(f"run.json cannot be read: {reason_of(error)}") from error
    return parse_record(data, text)


def parse_record(data: bytes, text: Callable[[str], str] = str) -> RunRecord:
    """Return the record that the bytes of a ``run.json`` hold.

    Fields of later versions are left out.

    Raises:
        DamagedRecordError: The bytes are not a run's record.
    """
    try:
        record = parse(RunRecord, data, text)
        _Config.model_validate(record.config)
        _check_numbers(record)
    except ValidationError as error:
        raise DamagedRecordError(f"run.json is not a run's record: config.{_first_error(error)}") from None
    except ValueError as error:
        raise DamagedRecordError(f"run.json is not a run's record: {error}") from None
    return record


def parse(of: type[T], data: bytes, text: Callable[[str], str] = str) -> T:
    """Return a JSON object from an unknown source as a dataclass; the types of values are not converted.

    Raises:
        ValueError: The object is too large, or its fields are not those of ``of``; a clause says why.
    """
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_refuse_duplicate_keys)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is not JSON ({error})") from None
    try:
        model = _model(of)  # type: ignore[arg-type]  # a type is hashable
        checked = model.model_validate(_Bounds(text).checked(found))
    except ValidationError as error:
        raise ValueError(_first_error(error)) from None
    return of(**{each.name: getattr(checked, each.name) for each in fields(of)})  # type: ignore[arg-type]


class _Bounds:
    """Limits of parsed JSON: depth, number of values, length of strings and size of integers."""

    def __init__(self, text: Callable[[str], str]) -> None:
        self.text, self.values = text, 0

    def checked(self, value: Any, depth: int = 0) -> Any:
        """Return the value with every text converted.

        Raises:
            ValueError: A limit is exceeded.
        """
        self.values += 1
        if self.values > _MOST_VALUES:
            raise ValueError(f"it has more than {_MOST_VALUES} values")
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} levels deep")
        if isinstance(value, str):
            return self._checked_text(value)
        if isinstance(value, dict):
            return {self._checked_text(k): self.checked(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list):
            return [self.checked(each, depth + 1) for each in value]
        if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
            raise ValueError("it has an integer of more than 64 bits")
        return value

    def _checked_text(self, value: str) -> str:
        if len(value) > _LONGEST_TEXT:
            raise ValueError(f"it has a string of {len(value)} characters")
        return self.text(value)


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set[str]()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"it has the key {json.dumps(twice[:100])} twice")
    return found


def _check_numbers(record: RunRecord) -> None:
    """Refuse numbers that no run has; NaN and infinity are allowed, as diverged runs have them."""
    counts = {
        "threads": record.threads,
        "steps": record.steps,
        "evaluations": record.evaluations,
        "peak_memory_bytes": record.peak_memory_bytes,
    }
    for name, count in counts.items():
        if not 0 <= count < _LARGEST_COUNT:
            raise ValueError(f"{name} is {count}")
    tables: Mapping[str, Mapping[str, float]] = {
        "metrics": record.metrics,
        "timings": record.timings,
        "final_losses": record.final_losses,
    }
    for table, values in tables.items():
        for name, value in values.items():
            if math.isfinite(value) and abs(value) > _LARGEST_NUMBER:
                raise ValueError(f"{table}.{name} is {value:.3g}")


def _first_error(error: ValidationError) -> str:
    """Return the first validation error as a clause."""
    # The input is not quoted: it may be megabytes.
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(each)[:80] for each in first["loc"])
    if first["type"] in ("missing", "missing_argument"):
        return f"it has no {place}"
    return f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}"
