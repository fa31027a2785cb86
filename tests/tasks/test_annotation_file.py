"""Reading annotation files: whole values across blocks, positions of lines, and memory that does not grow."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import json_stream
from tasks.annotation_file import Entry, read_entries, read_object
from tasks.instruction import AnnotationError


class Line(Entry):
    id: int
    text: str


def test_lines_are_counted_and_only_line_feeds_end_them(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text(
        '{"id": 1, "text": "a\u2028b\x85"}\n\n{"id": 2, "text": "c"}\r\n{"id": "3", "text": "d"}\n'
    )
    entries = read_entries(file, Line)
    assert [next(entries)[0].position, next(entries)[0].position] == ["line 1", "line 3"]
    with pytest.raises(AnnotationError, match=r"lines.jsonl, line 4: id: Input should be a valid integer"):
        next(entries)
    file.write_text('{"id": 1, "text": "a"}\n{"id": 1,\n')
    with pytest.raises(AnnotationError, match=r"line 2: no JSON value"):
        list(read_entries(file, Line))


def test_values_across_the_reader_s_blocks_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = [
        {"id": number, "text": "x" * (number % 40), "more": [1.5e3, None, {"é": []}]} for number in range(300)
    ]
    text = json.dumps(content, ensure_ascii=False, indent=1)
    file = tmp_path / "array.json"
    file.write_text(text)
    for block in (1, 2, 3, 7, 64):
        monkeypatch.setattr(json_stream, "_FIRST_CHARS", block)
        with file.open() as opened:
            stream = json_stream.JsonStream(opened)
            assert list(stream.array()) == content
            stream.end()
        assert stream.position == len(text)


def test_a_value_that_is_never_closed_is_not_read_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "MAX_VALUE_CHARS", 1 << 18)
    file = tmp_path / "open.json"
    file.write_text('[{"id": 1, "text": "' + "x" * (1 << 21))
    with pytest.raises(AnnotationError, match=r"character 1: a value is not closed within 262144 characters"):
        list(read_entries(file, Line))


def peak_bytes(entries: Iterator[Any]) -> tuple[int, int]:
    """How many entries there are, and the most memory that reading them took."""
    tracemalloc.start()
    try:
        count = sum(1 for _ in entries)
        return count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_reading_takes_no_more_memory_for_a_longer_file(count: int, tmp_path: Path) -> None:
    line = '{"id": 1, "text": "' + "x" * 80 + '"}'
    lines, array, mapping = tmp_path / "a.jsonl", tmp_path / "a.json", tmp_path / "b.json"
    lines.write_text(f"{line}\n" * count)
    array.write_text("[" + ",\n".join([line] * count) + "]")
    for entries in (read_entries(lines, Line), read_entries(array, Line)):
        found, peak = peak_bytes(entries)
        assert found == count
        assert peak < 2**20
    mapping.write_text("{" + ",".join(f'"{number}": {line}' for number in range(20_000)) + "}")
    assert sum(1 for _ in read_object(mapping, Line)) == 20_000
