"""The report of any stage as rows of one table, and the places that it names."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipelines.prediction_file import SCORES_FILE

MOST_IDS = 5  # sample ids shown of one reason
MOST_ROWS = 200

Row = dict[str, Any]


def report_rows(report: BaseModel) -> list[Row]:
    """Rows of `what`, `value` and `samples`: the counts of every channel, and failures by reason with some ids."""
    rows = list(_rows(report, ""))
    more = len(rows) - MOST_ROWS
    return rows if more <= 0 else [*rows[:MOST_ROWS], _row(f"... and {more} more rows", "")]


def report_places(report: BaseModel) -> dict[str, str]:
    """By field the URL of each file or folder that the report names; for a folder with scores, of these."""
    places = {}
    for part in (report, *getattr(report, "reports", ())):
        for name, value in part:
            if isinstance(value, Path):
                scores = value / SCORES_FILE
                places[name] = (scores if scores.is_file() else value).absolute().as_uri()
            elif name == "store" and isinstance(value, str):
                places[name] = value if "://" in value else Path(value).absolute().as_uri()
    return places


def _rows(report: BaseModel, prefix: str) -> Iterator[Row]:
    for name, value in report:
        what = f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from _rows(value, f"{what}: ")
        elif isinstance(value, Mapping):
            yield from (_row(f"{what}: {key}", item) for key, item in value.items())
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from _rows_of_many(what, value)
        elif value is not None:
            yield _row(what, value)


def _rows_of_many(what: str, items: Sequence[Any]) -> Iterator[Row]:
    if items and all(isinstance(item, BaseModel) for item in items):
        if all(hasattr(item, "sample_id") for item in items):
            yield from _rows_by_reason(what, items)
        elif all(hasattr(item, "channel") and hasattr(item, "summary") for item in items):
            for item in items:  # reports of channels
                yield from _rows(item, f"{item.channel}: ")
        else:
            yield from (_row(f"{what} {number}", _short(item)) for number, item in enumerate(items, start=1))
    elif items and all(isinstance(item, str) for item in items):
        yield _row(what, len(items), items)
    else:
        yield _row(what, len(items))


def _rows_by_reason(what: str, items: Sequence[Any]) -> Iterator[Row]:
    yield _row(what, len(items))
    by_reason: dict[str, list[str]] = {}
    for item in items:
        reason = str(getattr(item, "error_type", None) or getattr(item, "error", ""))
        by_reason.setdefault(reason, []).append(item.sample_id)
    for reason, sample_ids in sorted(by_reason.items(), key=lambda group: -len(group[1])):
        yield _row(f"{what}: {reason}", len(sample_ids), sample_ids)


def _row(what: str, value: object, sample_ids: Sequence[str] = ()) -> Row:
    plain = (
        value if isinstance(value, int | str) else f"{value:.4g}" if isinstance(value, float) else str(value)
    )
    more = len(sample_ids) - MOST_IDS
    samples = ", ".join(sample_ids[:MOST_IDS]) + (f" and {more} more" if more > 0 else "")
    return {"what": what, "value": plain, "samples": samples}


def _short(item: BaseModel) -> str:
    """Its plain fields, on one line."""
    fields = item.model_dump(mode="json", exclude_none=True)
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in fields.items()
        if isinstance(value, str | int | float)
    )
