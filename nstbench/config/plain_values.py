"""Checking that a configuration holds only values that a person can type and a record can store."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

from nstbench.errors import UserError

LONGEST = 4096
"""Largest number of characters of a string: that of the path of a file."""
DEEPEST = 40
"""Largest depth of mappings and lists inside each other."""
MOST_VALUES = 10_000
"""Largest number of values of a configuration; the largest one in conf/ has 400."""
_LARGEST = 2**63  # what PyTorch and YAML readers of other languages can hold
_EXAMPLES = "Settings are strings, numbers, true, false, null, lists and mappings."


def plain_mapping(given: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a configuration with strings as its keys.

    Infinite values and NaN are refused later, by `check_finite`, after the schema, whose messages say more.

    Raises:
        UserError: The configuration has a value of another type than YAML's plain ones, an integer of more
            than 64 bits, a string with control characters, or is too long or too deeply nested.
    """
    plain: dict[str, Any] = _to_plain("", given, 0)
    most, key = max(((_count_values(value), key) for key, value in plain.items()), default=(0, ""))
    if most > MOST_VALUES:
        raise UserError(key, "", f"it has more than {MOST_VALUES:,} values", "No setting needs as many.")
    return plain


def check_finite(value: object, path: str = "") -> None:
    """Refuse NaN and infinite numbers at any depth.

    Raises:
        UserError: A number is not finite.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(path, value, "it must be a finite number", f"Type {path}=0.5, for example.")
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in below:
        check_finite(inside, f"{path}.{key}" if path else str(key))


def _count_values(value: object) -> int:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(_count_values(inside) for inside in below)


def _to_plain(path: str, value: Any, depth: int) -> Any:
    if depth > DEEPEST:
        reason = f"more than {DEEPEST} mappings or lists inside each other"
        raise UserError(path.split(".")[0], "", reason, "No setting is nested that deeply.")
    if isinstance(value, Mapping):
        named = [(_to_key(path, key), inside) for key, inside in value.items()]
        return {key: _to_plain(f"{path}.{key}" if path else key, inside, depth + 1) for key, inside in named}
    if isinstance(value, list | tuple):
        return [_to_plain(f"{path}.{i}", inside, depth + 1) for i, inside in enumerate(value)]
    if isinstance(value, str):
        _check_text(path, value)
    elif isinstance(value, int) and abs(value) >= _LARGEST:
        reason = f"an integer of {value.bit_length()} bits is too large"
        raise UserError(path, "", reason, f"Type {path}=200, for example.")
    elif not (value is None or isinstance(value, bool | int | float)):
        reason = f"no setting has values of the type {type(value).__name__}"
        raise UserError(path, value, reason, _EXAMPLES)
    return value


def _to_key(path: str, key: object) -> str:
    """Return a key as the text that JSON makes of it."""
    if isinstance(key, bool):
        return str(key).lower()
    if isinstance(key, int | float) and math.isfinite(key):
        return str(_to_plain(path, key, 0))
    if not isinstance(key, str):
        setting = path or "configuration"
        raise UserError(setting, key, "the name of a setting is a string", "Put it in quotes, or remove it.")
    _check_text(path or "configuration", key)
    return key


def _check_text(path: str, text: str) -> None:
    if len(text) > LONGEST:
        reason = f"a string of {len(text):,} characters is too long"
        raise UserError(path, text, reason, f"Give one of at most {LONGEST:,}.")
    # Control characters, and halves of characters that no file can hold.
    odd = (
        next((c for c in text if unicodedata.category(c) in {"Cc", "Cs"}), None)
        if not text.isprintable()
        else None
    )
    if odd is not None:
        what = {"\n": "a line break", "\t": "a tab"}.get(odd, f"the control character {ascii(odd)[1:-1]}")
        raise UserError(
            path, text, f"it contains {what}", "Remove it; rename a file that has one in its name."
        )
