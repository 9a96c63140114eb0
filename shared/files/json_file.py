"""JSON as every reader takes it: JSON has no infinite numbers and no NaN, so null stands where a number is not finite."""

import json
import math
import os
from typing import Any

from shared.files.atomic import write_text


def to_json(content: Any, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """Plain values (mappings, sequences, text, numbers, None) as JSON text."""
    return json.dumps(_finite(content), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def write_json(path: str | os.PathLike[str], content: Any, *, indent: int | None = 2, ensure_ascii: bool = True) -> None:
    """Write plain values to `path`, whole or not at all."""
    write_text(path, to_json(content, indent=indent, ensure_ascii=ensure_ascii) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, (list, tuple)) else value
