"""What run.json and scores.json say of where their numbers come from, so that it can be checked later.

Digests are sha256 over sorted lines of JSON: of the media (sample, hash of its files), of the features (sample,
checksum of its numbers) and of the instructions (id, hash of all its columns).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.config import WITHOUT_EFFECT, Settings, TrainConfig
from pipelines.errors import RunError
from pipelines.feature_dataset import FeatureSource
from pipelines.run_folder import PATCH_FOLDER
from store import FeatureSetRecord, FeatureStore
from tasks.instruction import Instruction

ITEMS_FILE = "items.parquet"  # in a run folder: the instructions that it was trained on
_ITEMS_SCHEMA = pa.schema(
    [("instruction_id", pa.string()), ("sample_id", pa.string()), ("digest", pa.string())]
)
_COLUMN_NAMES = tuple(column.name for column in fields(Instruction))
_column_values = attrgetter(*_COLUMN_NAMES)
# Kernels of the patch do not change what is learned, although their sums are rounded in another order.
_NOT_IDENTITY = WITHOUT_EFFECT | {"execution"}
SampleRow: TypeAlias = tuple[str, str | None, int, int]
_NOT_DATA_IDENTITY = frozenset({"store", "instructions", "snapshot", "fingerprints", "max_missing_fraction"})


class UsedMedia(Settings):
    """The samples of a feature set that were read: how many, and digests of their media and of their features."""

    samples: int
    media: str
    features: str


class UsedItems(Settings):
    """The instructions that were read: how many, and their digest."""

    instructions: int
    digest: str


def patch_hashes(folder: Path) -> dict[str, str]:
    """sha256 of each tensor file in a patch folder, by its name; empty where there are none."""
    return {path.name: file_hash(path) for path in sorted(folder.glob("*.safetensors"))}


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def item_digests(instructions: Iterable[Instruction]) -> dict[str, str]:
    """A digest of all columns of each instruction, by its id. A column that it leaves empty changes nothing."""
    return {item.instruction_id: _digest([_columns(item)]) for item in instructions}


def _columns(item: Instruction) -> dict[str, Any]:
    values = zip(_COLUMN_NAMES, _column_values(item), strict=True)  # a tenth of what dataclasses.asdict takes
    return {name: value for name, value in values if value is not None}


def used_items(instructions: Iterable[Instruction]) -> UsedItems:
    """What the instructions are, whatever their order."""
    digests = item_digests(instructions)
    return UsedItems(instructions=len(digests), digest=_digest(digests.items()))


def used_media(url: str, source: FeatureSource, sample_ids: Collection[str]) -> dict[str, UsedMedia]:
    """What these samples are in each feature set of a source, by channel. Raises StoreError as `sample_rows`."""
    wanted = set(sample_ids)
    sets = {"frames": source.frames, **source.side}
    return {
        channel: media_of(
            [row for row in sample_rows(url, source.version, features.record) if row[0] in wanted]
        )
        for channel, features in sets.items()
    }


def media_of(rows: Collection[SampleRow]) -> UsedMedia:
    """The digests of the rows of `sample_rows`."""
    return UsedMedia(
        samples=len(rows),
        media=_digest((sample_id, source_hash) for sample_id, source_hash, *_ in rows),
        features=_digest((sample_id, *numbers) for sample_id, _, *numbers in rows),
    )


def sample_rows(url: str, version: int, record: FeatureSetRecord) -> list[SampleRow]:
    """sample_id, source_hash, crc32c and nbytes of each sample of a feature set in a snapshot.

    Raises StoreError when the snapshot is not there any more.
    """
    # the store has checked these names: no quotes in them
    rows = FeatureStore.open(url, create=False).query(
        f"SELECT sample_id, source_hash, crc32c, nbytes FROM features WHERE dataset = '{record.dataset}' "
        f"AND channel = '{record.channel}' AND fingerprint = '{record.fingerprint}'",
        version,
    )
    return list(zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True))


def training_lineage(
    config: TrainConfig, source: FeatureSource, instructions: Sequence[Instruction]
) -> dict[str, Any]:
    """`identity`, `items`, `media` and `started_from` (hashes of these patches, by channel) for run.json.

    Two trainings of one identity learn the same from the same: equal settings, instructions and features. It does
    not depend on the version of the catalog, where the store is, and how fast the training was.
    """
    media = used_media(config.data.store, source, {item.sample_id for item in instructions})
    items = used_items(instructions)
    sets = {"frames": source.frames, **source.side}
    started_from = {channel: patch_hashes(run / PATCH_FOLDER) for channel, run in config.start_from.items()}
    identity = [
        identity_settings(config.model_dump(mode="json")),
        {channel: features.record.name for channel, features in sets.items()},
        {channel: used.features for channel, used in media.items()},
        items.digest,
        started_from,
    ]
    return {
        "started_from": started_from,
        "identity": _digest([identity]),
        "items": items.model_dump(),
        "media": {channel: used.model_dump() for channel, used in media.items()},
    }


def identity_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a training, as run.json has them, that change what is learned."""
    settings = {name: value for name, value in config.items() if name not in _NOT_IDENTITY}
    data = config.get("data", {})
    return {
        **settings,
        "data": {name: value for name, value in data.items() if name not in _NOT_DATA_IDENTITY},
    }


def write_items(path: Path, instructions: Iterable[Instruction]) -> None:
    """Write which instructions were trained on, with a digest of each."""
    items = list(instructions)
    digests = item_digests(items)
    rows = [
        {
            "instruction_id": item.instruction_id,
            "sample_id": item.sample_id,
            "digest": digests[item.instruction_id],
        }
        for item in items
    ]
    pq.write_table(pa.Table.from_pylist(rows, _ITEMS_SCHEMA), path)


def read_items(run: Path) -> dict[str, tuple[str, str]]:
    """(sample_id, digest) of each instruction that a run was trained on, by id.

    Raises RunError where the run folder does not say.
    """
    path = run / ITEMS_FILE
    try:
        table = pq.read_table(path, schema=_ITEMS_SCHEMA)
    except (OSError, pa.ArrowInvalid) as error:
        raise RunError(
            f"{run} does not say what it was trained on (no readable {ITEMS_FILE}: {' '.join(str(error).split())})"
        ) from error
    ids, samples, digests = (table[name].to_pylist() for name in _ITEMS_SCHEMA.names)
    return dict(zip(ids, zip(samples, digests, strict=True), strict=True))


def _digest(values: Iterable[Any]) -> str:
    lines = sorted(json.dumps(value, sort_keys=True, ensure_ascii=False) for value in values)
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()
