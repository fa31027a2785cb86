"""Reading a whole part back without trusting it: the structure first, then the checksum of each sample.

Plain `json` and byte ranges only, so that it is independent of the code that wrote the part.
"""

import json
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np

from store.errors import DamagedPartError
from store.features import Array, FeatureSetRecord, TensorLayout
from store.location import ByteRange, FileReader, Location
from store.part_layout import (
    FORMAT_VERSION,
    TIMESTAMPS_FILE,
    padded_steps,
    shard_file,
    shard_index,
)

_BUFFER_BYTES = 8 * 1024 * 1024
_BYTES_CODEC = {"name": "bytes", "configuration": {"endian": "little"}}
_FLAT_ARRAY_DTYPES = {"timestamps": "float64", "row_offsets": "int64", "crc32c": "uint32"}


@dataclass(frozen=True)
class PartContent:
    """What a part says it holds.

    Attributes:
        sample_ids: n of them. row_offsets: (n + 1,) int64. checksums: (n,) uint32, crc32c of each sample.
    """

    sample_ids: list[str]
    row_offsets: Array
    checksums: Array


def read_part(location: Location, part: str, record: FeatureSetRecord) -> PartContent:
    """Checks that every array of the part has the feature set's layout and every byte is where it must be.

    Raises DamagedPartError naming what is wrong.
    """
    try:
        return _read_part(location, part, record)
    except OSError as error:
        raise DamagedPartError(f"{error.filename or part} cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise DamagedPartError(f"the metadata is broken: {type(error).__name__}: {error}") from error


def _read_part(location: Location, part: str, record: FeatureSetRecord) -> PartContent:
    attributes = json.loads(location.read_bytes(f"{part}/zarr.json"))["attributes"]
    if attributes["format_version"] > FORMAT_VERSION:
        raise DamagedPartError(
            f"it has format {attributes['format_version']}; upgrade this package to read it"
        )
    feature_set = attributes["feature_set"]
    stored_name = f"{feature_set['dataset']}/{feature_set['channel']}/{feature_set['fingerprint']}"
    if stored_name != record.name:
        raise DamagedPartError(f"it holds {stored_name}, not {record.name}")
    content = PartContent(
        sample_ids=attributes["sample_ids"],
        row_offsets=_read_flat(location, part, "row_offsets"),
        checksums=_read_flat(location, part, "crc32c"),
    )
    if not all(isinstance(sample_id, str) for sample_id in content.sample_ids):
        raise DamagedPartError("its sample_ids are not all text")
    num_samples, offsets = len(content.sample_ids), content.row_offsets
    if len(offsets) != num_samples + 1 or len(content.checksums) != num_samples:
        raise DamagedPartError(f"row_offsets or crc32c do not fit its {num_samples} samples")
    if offsets[0] != 0 or (np.diff(offsets) < 1).any():
        raise DamagedPartError("row_offsets do not rise from 0")
    total_steps = int(offsets[-1])
    if len(_read_flat(location, part, "timestamps")) != total_steps:
        raise DamagedPartError(f"timestamps do not fit its {total_steps} rows")
    for layout in record.tensors:
        _check_tensor(location, part, layout, total_steps)
    return content


def _read_flat(location: Location, part: str, name: str) -> Array:
    """A one-dimensional array of one uncompressed chunk, (n,)."""
    metadata = json.loads(location.read_bytes(f"{part}/{name}/zarr.json"))
    dtype = _FLAT_ARRAY_DTYPES[name]
    content = location.read_bytes(f"{part}/{name}/c/0")
    values = np.frombuffer(content, dtype=np.dtype(dtype).newbyteorder("<"))
    size = [len(values)]
    chunk_shape = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    if metadata["data_type"] != dtype or metadata["shape"] != size or chunk_shape != size:
        raise DamagedPartError(f"{name} is not {dtype}{size} in one chunk")
    if metadata["codecs"] != [_BYTES_CODEC]:
        raise DamagedPartError(f"{name} is not stored as plain little-endian bytes")
    return values


def _check_tensor(location: Location, part: str, layout: TensorLayout, total_steps: int) -> None:
    metadata = json.loads(location.read_bytes(f"{part}/{layout.name}/zarr.json"))
    shape = [total_steps, layout.tokens, layout.dim]
    stored = (metadata["data_type"], metadata["attributes"]["dtype"], metadata["shape"])
    if stored != (layout.storage_dtype.name, layout.dtype, shape):
        raise DamagedPartError(
            f"{layout.name} is {stored[1]}{stored[2]}, but the feature set stores {layout.dtype}{shape}"
        )
    (sharding,) = metadata["codecs"]
    chunk_steps = sharding["configuration"]["chunk_shape"][0]
    num_rows = padded_steps(total_steps, chunk_steps)
    if metadata["chunk_grid"]["configuration"]["chunk_shape"] != [num_rows, *shape[1:]]:
        raise DamagedPartError(f"{layout.name} is not one shard of {num_rows} rows")
    if sharding != _sharding_codec([chunk_steps, *shape[1:]]):
        raise DamagedPartError(f"{layout.name} is not a shard of plain chunks with its index at the end")
    index = shard_index(total_steps, chunk_steps, layout.row_bytes)
    size = num_rows * layout.row_bytes
    found, end = location.tail(f"{part}/{shard_file(layout.name)}", len(index))
    if found != size + len(index):
        raise DamagedPartError(f"the shard of {layout.name} has {found} bytes instead of {size + len(index)}")
    if end != index:
        raise DamagedPartError(f"the shard index of {layout.name} is wrong")


def _sharding_codec(chunk_shape: list[int]) -> dict[str, Any]:
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": chunk_shape,
            "codecs": [_BYTES_CODEC],
            "index_codecs": [_BYTES_CODEC, {"name": "crc32c"}],
            "index_location": "end",
        },
    }


def stored_crc32c(files: FileReader, part: str, record: FeatureSetRecord, row0: int, row1: int) -> int:
    """crc32c of one sample's bytes as they are on disk; see `PartRow.crc32c`.

    Args: files: of the store folder; part: relative to it; row0, row1: the sample's rows.
    """
    ranges = [(shard_file(layout.name), layout.row_bytes) for layout in record.tensors]
    ranges.append((TIMESTAMPS_FILE, np.dtype(np.float64).itemsize))
    buffer = np.empty(_BUFFER_BYTES, dtype=np.uint8)
    crc = 0
    for name, row_bytes in ranges:
        end = row1 * row_bytes
        for start in range(row0 * row_bytes, end, _BUFFER_BYTES):
            piece = buffer[: min(_BUFFER_BYTES, end - start)]
            files.read_into([ByteRange(f"{part}/{name}", start, piece)])
            crc = google_crc32c.extend(crc, piece)
    return crc
