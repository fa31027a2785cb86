"""Making few big parts of many small ones, while others read and write."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from store import catalog
from store.errors import DamagedPartError, SampleError
from store.feature_set import FeatureSet
from store.features import FeatureSetRecord
from store.kept_rows import newest_rows
from store.location import Location
from store.part_writer import PartWriter
from store.snapshot import latest_rows, registered_feature_sets

_ABOUT_MEDIA = ("duration", "fps", "n_frames", "source_hash")


@dataclass(frozen=True)
class CompactReport:
    """The outcome of `FeatureStore.compact`.

    Attributes:
        num_samples, num_bytes: that were moved.
        num_parts_before, num_parts_after: the parts that they were in, and are in now. The old ones stay for
            the readers of older versions until a vacuum removes them.
        left_alone: why a part was not touched, for each that is damaged.
        version: the newest catalog version.
    """

    num_samples: int
    num_bytes: int
    num_parts_before: int
    num_parts_after: int
    left_alone: tuple[str, ...]
    version: int


def compact_store(
    location: Location, target_bytes: int, progress: Callable[[int, int], None] | None = None
) -> CompactReport:
    """Moves the samples of parts that hold less than half of `target_bytes` into parts of about that size.

    Then merges the small files of the tables. Nothing that is committed meanwhile is lost or hidden: a sample
    that was written again since is not moved.
    """
    groups = []
    for record in registered_feature_sets(location).values():
        where = {"dataset": record.dataset, "channel": record.channel, "fingerprint": record.fingerprint}
        rows = newest_rows(location, catalog.latest_version(location, "catalog"), where)
        groups += [(record, where, group) for group in _groups(rows, target_bytes)]
    total, done = sum(len(group) for _, _, group in groups), 0
    moved: list[dict[str, Any]] = []
    left_alone = []
    num_after = 0
    for record, where, group in groups:
        try:
            landed = _move(location, record, where, group)
            moved += landed
            num_after += bool(landed)
        except (DamagedPartError, SampleError) as error:
            left_alone.append(f"{group[0]['part']} and the {len(group)} samples from it on: {error}")
        done += len(group)
        if progress is not None:
            progress(done, total)
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda name: catalog.merge_small_files(location, name), catalog.SCHEMAS))
    return CompactReport(
        num_samples=len(moved),
        num_bytes=sum(row["nbytes"] for row in moved),
        num_parts_before=len({row["part"] for row in moved}),
        num_parts_after=num_after,
        left_alone=tuple(left_alone),
        version=catalog.latest_version(location, "catalog"),
    )


def _groups(rows: pa.Table, target_bytes: int) -> Iterator[list[dict[str, Any]]]:
    """Rows (sorted by part) of small parts, those of each new part together; none where that saves no part."""
    sizes = rows.group_by("part").aggregate([("nbytes", "sum")])
    small = sizes.filter(pc.less(sizes["nbytes_sum"], target_bytes / 2))["part"]
    rows = rows.filter(pc.is_in(rows["part"], value_set=small.combine_chunks()))
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows.to_pylist():
        if group and size + row["nbytes"] > target_bytes:
            yield group
            group, size = [], 0
        group.append(row)
        size += row["nbytes"]
    if len({row["part"] for row in group}) > 1:
        yield group


def _move(
    location: Location, record: FeatureSetRecord, where: dict[str, str], group: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Copies the rows' samples into one new part and commits it; returns the rows that were still the newest.

    Raises DamagedPartError or SampleError when a sample cannot be read back as it was written.
    """
    features = FeatureSet(location, record, -1, latest_rows(pa.Table.from_pylist(group)))
    with PartWriter(location, record) as writer:
        for row in group:
            writer.write(
                row["sample_id"],
                features[row["sample_id"]],
                **{name: row[name] for name in _ABOUT_MEDIA},
                attributes=None if row["attributes"] is None else json.loads(row["attributes"]),
            )
            if writer.last_row.crc32c != row["crc32c"]:
                raise DamagedPartError(
                    f"sample {row['sample_id']!r} is not what was written (crc32c differs); extract it again"
                )
    part = writer.close()
    landed: list[dict[str, Any]] = []

    def still_newest(version: int) -> list[dict[str, Any]]:
        newest = newest_rows(location, version, where)
        places = set(zip(newest["part"].to_pylist(), newest["row0"].to_pylist(), strict=True))
        landed[:] = [row for row in group if (row["part"], row["row0"]) in places]
        ids = {row["sample_id"] for row in landed}
        return [where | asdict(row) for row in part.rows if row.sample_id in ids]

    catalog.append(location, "catalog", still_newest)
    if not landed:
        location.remove_part(part.part)
    return landed
