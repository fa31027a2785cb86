"""What differs between two nested mappings, by dotted name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ABSENT = "(absent)"


def differences(before: Any, after: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """(name, value before, value after) of each value that differs, by name; `ABSENT` where there is none."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return [] if before == after else [(prefix, before, after)]
    found: list[tuple[str, Any, Any]] = []
    for name in sorted({*before, *after}):
        dotted = f"{prefix}.{name}" if prefix else name
        found += differences(before.get(name, ABSENT), after.get(name, ABSENT), dotted)
    return found
