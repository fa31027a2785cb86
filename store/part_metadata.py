"""The Zarr metadata and the small arrays of a part, made through zarr-python."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from store.features import Array, FeatureSetRecord
from store.part_layout import FORMAT_VERSION, padded_steps, steps_per_chunk

WRITER = "PAVE part writer"


def write_metadata(
    folder: Path,
    record: FeatureSetRecord,
    sample_ids: list[str],
    sample_attributes: list[dict[str, Any] | None],
    timestamps: Array,
    row_offsets: Array,
    checksums: Array,
) -> None:
    """Makes `folder` a Zarr v3 group around the shards that are already in it.

    Args:
        sample_attributes: of each sample, see `PartWriter.write`.
        timestamps: (sum T,) float64. row_offsets: (n + 1,) int64. checksums: (n,) uint32, crc32c per sample.
    """
    total_steps = len(timestamps)
    # In memory first: zarr writes files in threads of its own, which go on when one of them has failed.
    content: dict[str, Buffer] = {}
    group = zarr.create_group(
        MemoryStore(content),
        zarr_format=3,
        attributes={
            "format_version": FORMAT_VERSION,
            "feature_set": asdict(record),
            "sample_ids": sample_ids,
            "sample_attributes": sample_attributes,
            "rate_hz": record.rate_hz,
            "shape_legend": "T time steps of all samples, S tokens per step, D dimension",
            "writer": f"{WRITER}, zarr-python {zarr.__version__}",
        },
    )
    for tensor in record.tensors:
        row_shape = (tensor.tokens, tensor.dim)
        chunk_steps = steps_per_chunk(tensor.row_bytes, total_steps)
        group.create_array(
            tensor.name,
            shape=(total_steps, *row_shape),
            dtype=tensor.storage_dtype,
            chunks=(chunk_steps, *row_shape),
            shards=(padded_steps(total_steps, chunk_steps), *row_shape),
            compressors=None,
            fill_value=0,
            attributes={"dtype": tensor.dtype},
            dimension_names=("T", "S", "D"),
        )
    for name, values in (
        ("timestamps", timestamps.astype("<f8")),
        ("row_offsets", row_offsets.astype("<i8")),
        ("crc32c", checksums.astype("<u4")),
    ):
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=values.shape,
            compressors=None,
            fill_value=0,
            # Byte ranges need the chunk on disk even when it is all zeros.
            config={"write_empty_chunks": True},
        )
        array[:] = values
    for key, buffer in content.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.to_bytes())
