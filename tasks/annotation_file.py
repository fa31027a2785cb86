"""Reading annotation files entry by entry: checked types, and errors with the file and the position.

Entries come one at a time, so memory does not grow with the file: JSON lines by the line, a JSON array or
object by the element, Parquet by some hundred rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TextIO, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.instruction import AnnotationError, TaskError
from tasks.json_stream import MAX_VALUE_CHARS, JsonStream, JsonStreamError

_PARQUET_ROWS = 256


class Entry(BaseModel):
    """The fields of an entry that a task reads; others may be there. Types are not converted."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


EntryT = TypeVar("EntryT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry stands, such as "entry 3" (counted from 1), "line 3" or "entry 'QK7M2'"."""

    file: Path
    position: str

    def error(self, reason: str) -> AnnotationError:
        return AnnotationError(self.file, self.position, reason)

    def path(self, field: str, value: str) -> str:
        """`value`, checked to be a path that stays below its folder. Raises AnnotationError."""
        if value.strip() in ("", ".") or "\0" in value or "\\" in value:
            raise self.error(f"{field} {value!r} is no path of a media file")
        if PurePosixPath(value).is_absolute() or ".." in PurePosixPath(value).parts:
            raise self.error(f"{field} {value!r} leaves the media folder")
        return value

    def name(self, field: str, value: str) -> str:
        """`value`, checked to be the name of one file or folder. Raises AnnotationError."""
        if "/" in self.path(field, value):
            raise self.error(f"{field} {value!r} is no name of a media file: it holds a '/'")
        return value


def annotation_files(root: Path, splits: dict[str, str], source: str) -> list[tuple[Path, str]]:
    """Those of the files `root`/annotations/NAME that are there, each with its split, in the order given.

    Raises TaskError when there are none.
    """
    folder = root / "annotations"
    found = [(folder / name, split) for name, split in splits.items() if (folder / name).is_file()]
    if not found:
        raise TaskError(f"{folder} has none of: {', '.join(splits)}; get them from {source}")
    return found


def read_entries(path: Path, entry: type[EntryT], key: str | None = None) -> Iterator[tuple[Place, EntryT]]:
    """The entries of a JSON array, of JSON lines (the name has "jsonl") or of a Parquet file, with their places.

    Args: key: the array is the value of this field of the file's object.

    Raises AnnotationError for an entry that is not as `entry` says, and where the file is damaged.
    """
    if path.suffix == ".parquet":
        found = _parquet_rows(path)
    elif "jsonl" in path.name:
        found = _json_lines(path)
    else:
        found = _json_array(path, key)
    for place, content in found:
        yield place, checked(entry, content, place)


def read_object(path: Path, entry: type[EntryT]) -> Iterator[tuple[str, Place, EntryT]]:
    """The fields of a JSON object, each an entry. Raises as `read_entries`, also for a name that comes twice."""
    seen: set[str] = set()
    with _opened(path) as file, _json_stream(path, file) as stream:
        for name in stream.keys():  # noqa: SIM118  (not a dict)
            place = Place(path, f"entry {name!r}")
            if name in seen:
                raise place.error("the id was there before")
            seen.add(name)
            yield name, place, checked(entry, stream.value(), place)
        stream.end()


def checked(entry: type[EntryT], content: object, place: Place) -> EntryT:
    """`content` as an entry. Raises AnnotationError that names the first bad field."""
    try:
        return entry.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the entry"
        raise place.error(f"{field}: {' '.join(first['msg'].split())}") from error


def _json_array(path: Path, key: str | None) -> Iterator[tuple[Place, Any]]:
    with _opened(path) as file, _json_stream(path, file) as stream:
        if key is None:
            yield from _entries(path, stream)
        else:
            found = False
            for name in stream.keys():  # noqa: SIM118  (not a dict)
                if name == key and not found:
                    found = True
                    yield from _entries(path, stream)
                else:
                    stream.value()
            if not found:
                raise AnnotationError(path, "the whole file", f"it has no field {key!r}")
        stream.end()


def _entries(path: Path, stream: JsonStream) -> Iterator[tuple[Place, Any]]:
    for number, content in enumerate(stream.array(), start=1):
        yield Place(path, f"entry {number}"), content


def _json_lines(path: Path) -> Iterator[tuple[Place, Any]]:
    with _opened(path) as file:
        number = 0
        while line := file.readline(MAX_VALUE_CHARS):
            number += 1
            place = Place(path, f"line {number}")
            if not line.strip():
                continue
            try:
                content = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise place.error(f"no JSON value ({' '.join(str(error).split())})") from error
            yield place, content


def _parquet_rows(path: Path) -> Iterator[tuple[Place, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_PARQUET_ROWS):
                for content in batch.to_pylist():
                    number += 1
                    yield Place(path, f"row {number}"), content
    except (pa.ArrowException, OSError) as error:
        raise AnnotationError(path, f"row {number + 1}", " ".join(str(error).split())) from error


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """The file as text. A line ends only at a line feed: other separators may stand in a text."""
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            yield file
    except OSError as error:
        raise TaskError(
            f"{path} cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise AnnotationError(path, "its text", f"it is not UTF-8 ({error.reason})") from error


@contextmanager
def _json_stream(path: Path, file: TextIO) -> Iterator[JsonStream]:
    stream = JsonStream(file)
    try:
        yield stream
    except JsonStreamError as error:
        raise AnnotationError(path, f"character {stream.position}", str(error)) from error
