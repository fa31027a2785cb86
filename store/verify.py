"""Checking a store: every committed row against the bytes on disk, and what on disk nobody names."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from store.errors import DamagedPartError
from store.features import FeatureSetRecord
from store.kept_rows import committed_twice, kept_rows
from store.location import FileReader, Location
from store.part_reader import PartContent, read_part, stored_crc32c
from store.snapshot import registered_feature_sets


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        part: folder relative to the store.
        sample_id: None when the whole part is concerned.
        reason: for a person.
    """

    part: str
    sample_id: str | None
    reason: str

    def __str__(self) -> str:
        where = self.part if self.sample_id is None else f"{self.part}, sample {self.sample_id!r}"
        return f"{where}: {self.reason}"


@dataclass(frozen=True)
class VerifyReport:
    """The outcome of `FeatureStore.verify`.

    Attributes:
        version: the catalog version that was checked.
        num_parts, num_rows, num_bytes: parts, samples in them, and tensor bytes that the readable versions
            see, superseded rows included.
        problems: empty when the store is sound.
        orphans: folders below `parts/` that no readable version sees: left by killed writers, superseded, or
            not committed yet. Harmless; `vacuum` removes them.
    """

    version: int
    num_parts: int
    num_rows: int
    num_bytes: int
    problems: tuple[Problem, ...]
    orphans: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


def verify_store(location: Location, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
    """Checks all rows that a readable version sees; memory holds the catalog, one part's rows and a small buffer."""
    # Folders first: a part that is committed in between is then found in the catalog.
    on_disk = {part.path for part in location.part_folders()}
    kept = kept_rows(location)
    rows = kept.rows
    feature_sets = registered_feature_sets(location)
    files = location.reader()
    parts = rows["part"].to_numpy(zero_copy_only=False)
    bounds = sorted({0, *(np.flatnonzero(parts[1:] != parts[:-1]) + 1).tolist(), len(rows)})
    problems = [
        Problem(row["part"], row["sample_id"], "is committed twice")
        for row in committed_twice(location, kept.version).to_pylist()
    ]
    for start, end in pairwise(bounds):
        if progress is not None:
            progress(start, len(rows))
        part_rows = rows.slice(start, end - start).to_pylist()
        first = part_rows[0]
        record = feature_sets.get((first["dataset"], first["channel"], first["fingerprint"]))
        problems += _part_problems(location, files, part_rows, record)
    if progress is not None:
        progress(len(rows), len(rows))
    committed = {parts[start] for start in bounds[:-1]}
    return VerifyReport(
        version=kept.version,
        num_parts=len(committed),
        num_rows=len(rows),
        num_bytes=int(rows["nbytes"].to_numpy().sum()),
        problems=tuple(problems),
        orphans=tuple(sorted(on_disk - committed)),
    )


def _part_problems(
    location: Location, files: FileReader, rows: list[dict[str, Any]], record: FeatureSetRecord | None
) -> Iterator[Problem]:
    """What is wrong with one part and the catalog rows that name it."""
    part = rows[0]["part"]
    if record is None:
        yield Problem(part, None, "its feature set is not registered")
        return
    try:
        content = read_part(location, part, record)
    except DamagedPartError as error:
        yield Problem(part, None, f"{error}; {len(rows)} samples are concerned")
        return
    position = {sample_id: index for index, sample_id in enumerate(content.sample_ids)}
    for row in rows:
        sample_id = row["sample_id"]
        reason = _row_problem(files, row, record, content, position)
        if reason:
            yield Problem(part, sample_id, reason)


def _row_problem(
    files: FileReader,
    row: dict[str, Any],
    record: FeatureSetRecord,
    content: PartContent,
    position: dict[str, int],
) -> str | None:
    index = position.get(row["sample_id"])
    if index is None:
        return "the part does not hold it"
    row0, row1 = int(content.row_offsets[index]), int(content.row_offsets[index + 1])
    if (row["row0"], row["row1"]) != (row0, row1):
        return f"the catalog says rows {row['row0']} to {row['row1']}, the part {row0} to {row1}"
    if row["nbytes"] != (row1 - row0) * sum(layout.row_bytes for layout in record.tensors):
        return f"the catalog says {row['nbytes']} bytes, which its {row1 - row0} steps do not make"
    try:
        found = stored_crc32c(files, row["part"], record, row0, row1)
    except DamagedPartError as error:
        return str(error)
    if not found == row["crc32c"] == content.checksums[index]:
        return "its bytes are not the ones that were written (crc32c differs); extract it again"
    return None
