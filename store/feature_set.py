"""Reading the features of one feature set at one catalog version.

Shapes: B samples asked for, T time steps (ragged), S tokens per step, D dimension.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from store.errors import FeatureShapeError, MissingSampleError, StoreError
from store.features import Array, Features, FeatureSetRecord, TensorLayout
from store.location import ByteRange, Location
from store.mapped_parts import MappedParts
from store.part_layout import TIMESTAMPS_FILE, as_bytes, shard_file
from store.sample_index import SampleIndex

_TIMESTAMP = np.dtype(np.float64)


class FeatureSet:
    """The samples of one feature set in one snapshot; made by `Snapshot.feature_set`.

    Everything is resolved to sorted arrays when it is made: reading opens no table and starts no thread, so
    it works in loader workers, forked or spawned. It pickles without open files.

    Attributes:
        record: what is stored.
        version: the catalog version that it was read at.
    """

    def __init__(self, location: Location, record: FeatureSetRecord, version: int, rows: pa.Table) -> None:
        """Args: rows: from `latest_rows`: one row per sample, in the order of `id_hash`."""
        self.record = record
        self.version = version
        self._files = location.reader()
        self._mapped = None if location.folder is None else MappedParts(location.folder, record)
        self._index = SampleIndex.from_hashed(rows["sample_id"].combine_chunks(), rows["id_hash"].to_numpy())
        parts = rows["part"].combine_chunks()
        self._parts: list[str] = parts.dictionary.to_pylist()
        self._part: Array = parts.indices.to_numpy()
        self._row0: Array = rows["row0"].to_numpy()
        self._row1: Array = rows["row1"].to_numpy()

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, sample_id: object) -> bool:
        return isinstance(sample_id, str) and self._index.find(sample_id) is not None

    def __iter__(self) -> Iterator[str]:
        """The sample ids, sorted."""
        return iter(self.sample_ids)

    @property
    def sample_ids(self) -> list[str]:
        """The sample ids, sorted; a new list each time."""
        return sorted(self._index.to_list())

    def missing(self, sample_ids: Sequence[str]) -> list[str]:
        """Those of `sample_ids` that have no features here, in the order given."""
        return self._index.absent(sample_ids)

    def lengths(self, sample_ids: Sequence[str]) -> Array:
        """Time steps of each sample, (B,) int64, without reading any features."""
        return self._steps([self._find(sample_id) for sample_id in sample_ids])

    def __getitem__(self, sample_id: str) -> Features:
        """The features of one sample, in memory of their own.

        In a store on this machine they are copied out of mapped files, which is the quickest way. Raises
        MissingSampleError when it is not here, DamagedPartError when its bytes cannot be read.
        """
        row = self._find(sample_id)
        if self._mapped is not None:
            return self._mapped.copy(*self._place(row))
        steps = int(self._row1[row] - self._row0[row])
        tensors = {
            layout.name: np.empty((steps, layout.tokens, layout.dim), layout.numpy_dtype)
            for layout in self.record.tensors
        }
        timestamps = np.empty(steps, _TIMESTAMP)
        ranges = [self._range(row, layout, tensors[layout.name]) for layout in self.record.tensors]
        path, offset = self._timestamps_at(row)
        self._files.read_into([*ranges, ByteRange(path, offset, as_bytes(timestamps))])
        return Features(tensors.pop("values"), timestamps, tensors)

    def view(self, sample_id: str) -> Features:
        """The features of one sample without a copy: read-only arrays, mapped from the files.

        They stay valid for as long as somebody holds them. Raises as `fs[sample_id]` does, and StoreError
        where the store is not in files of this machine.
        """
        if self._mapped is None:
            raise StoreError(
                f"{self.record.name} is not in files of this machine; read with features[sample_id] or read_into"
            )
        return self._mapped.view(*self._place(self._find(sample_id)))

    def read_into(self, sample_ids: Sequence[str], out: Array, tensor: str = "values") -> Array:
        """Reads one tensor of B samples straight into the caller's batch, out of mapped files if there are any.

        Args:
            out: (B, T_max, S, D), C-contiguous and writable, in the tensor's dtype; for bfloat16 uint16 will
                do too (a torch tensor is given as `batch.view(torch.uint16).numpy()`). Row b is filled with
                the steps of sample b, and with zeros after them.
            tensor: "values" or the name of a companion.

        Returns: lengths, (B,) int64: the time steps of each sample.

        Raises MissingSampleError, FeatureShapeError naming the first sample that is longer than T_max,
        StoreError when `out` does not fit, DamagedPartError when bytes cannot be read.
        """
        layout = self.record.tensor(tensor)
        self._check_batch(out, len(sample_ids), layout)
        rows = [self._find(sample_id) for sample_id in sample_ids]
        # plain numbers: numpy's calls for single ones would cost more than the copying of small samples
        lengths = [self._row1.item(row) - self._row0.item(row) for row in rows]
        for sample_id, length in zip(sample_ids, lengths, strict=True):
            if length > out.shape[1]:
                raise FeatureShapeError(
                    sample_id,
                    f"has {length} time steps, but the batch has room for {out.shape[1]}; "
                    "size it by the largest of `lengths(sample_ids)`",
                )
        batch = out.view(layout.storage_dtype)
        if self._mapped is not None:
            for row, length, batch_row in zip(rows, lengths, batch, strict=True):
                batch_row[:length] = self._mapped.stored(*self._place(row), tensor)
        else:
            ranges = zip(rows, lengths, batch, strict=True)
            self._files.read_into([self._range(row, layout, one[:length]) for row, length, one in ranges])
        for length, batch_row in zip(lengths, batch, strict=True):
            if length < len(batch_row):
                batch_row[length:] = 0
        return np.array(lengths, dtype=np.int64)

    def _find(self, sample_id: str) -> int:
        row = self._index.find(sample_id)
        if row is None:
            raise MissingSampleError(
                sample_id,
                f"has no features in {self.record.name} at catalog version {self.version}; "
                f"run `pave extract {self.record.channel}` for it, or take a newer snapshot",
            )
        return row

    def _steps(self, rows: list[int]) -> Array:
        return np.array(self._row1[rows] - self._row0[rows], dtype=np.int64)

    def _place(self, row: int) -> tuple[str, int, int]:
        """Part of the sample at a position of the index, and its rows there."""
        return self._parts[self._part.item(row)], self._row0.item(row), self._row1.item(row)

    def _range(self, row: int, layout: TensorLayout, out: Array) -> ByteRange:
        """The sample's rows of a tensor, to be read into `out`, (T, S, D) and contiguous."""
        path, offset = self._tensor_at(row, layout)
        return ByteRange(path, offset, as_bytes(out))

    def _tensor_at(self, row: int, layout: TensorLayout) -> tuple[str, int]:
        part = self._parts[self._part[row]]
        return f"{part}/{shard_file(layout.name)}", int(self._row0[row]) * layout.row_bytes

    def _timestamps_at(self, row: int) -> tuple[str, int]:
        part = self._parts[self._part[row]]
        return f"{part}/{TIMESTAMPS_FILE}", int(self._row0[row]) * _TIMESTAMP.itemsize

    def _check_batch(self, out: Array, batch_size: int, layout: TensorLayout) -> None:
        wanted = (batch_size, layout.tokens, layout.dim)
        if out.ndim != 4 or (out.shape[0], *out.shape[2:]) != wanted:
            raise StoreError(
                f"out has shape {list(out.shape)}; {layout.name} of {batch_size} samples needs "
                f"[{batch_size}, T_max, {layout.tokens}, {layout.dim}]"
            )
        if out.dtype not in (layout.numpy_dtype, layout.storage_dtype):
            raise StoreError(f"out is {out.dtype}; {self.record.name} stores {layout.name} as {layout.dtype}")
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise StoreError("out must be C-contiguous and writable; pass a freshly allocated array")
