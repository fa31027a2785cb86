"""The streaming writer of one part.

Samples go straight to the shard files of a local staging folder; `close` adds the indexes, the metadata and
the small arrays, and publishes the folder: a rename in a local store, an upload to an object store. A writer
killed at any instant leaves an orphan that no committed row names.
"""

import json
import shutil
from collections.abc import Mapping
from io import FileIO
from types import TracebackType
from typing import Any

import numpy as np

from store.errors import FeatureShapeError, FeatureValueError, SampleError, SampleIdError, StoreError
from store.features import Array, Features, FeatureSetRecord
from store.location import Location
from store.part_layout import (
    as_bytes,
    extend_crc32c,
    is_finite,
    padded_steps,
    parts_folder,
    shard_file,
    shard_index,
    steps_per_chunk,
    time_ordered_uuid,
)
from store.part_metadata import write_metadata
from store.records import PartRecord, PartRow


class PartWriter:
    """Writes samples of one feature set into one new part. Made by `FeatureStore.writer`.

    As a context manager it closes the part at the end and aborts it on an exception; `close()` may be called
    again afterwards and returns the same record. Memory is bounded by one sample.
    """

    def __init__(self, location: Location, record: FeatureSetRecord, durable: bool = True) -> None:
        """Opens a part.

        Args: durable: whether `close` waits until the disk has all of it (a power cut loses nothing then).

        Raises StoreError where it cannot be written.
        """
        self._location = location
        self._durable = durable
        self._feature_set = record
        self._part = f"{parts_folder(record)}/{time_ordered_uuid()}"
        self._rows: list[PartRow] = []
        self._sample_ids: set[str] = set()
        self._timestamps: list[Array] = []
        self._total_steps = 0
        self._finished: PartRecord | None = None
        self._aborted = False
        self._shards: dict[str, FileIO] = {}
        try:
            self._folder = location.stage(self._part)
        except OSError as error:
            raise self._write_error(error) from error
        try:
            for tensor in record.tensors:
                path = self._folder / shard_file(tensor.name)
                path.parent.mkdir(parents=True)
                self._shards[tensor.name] = FileIO(path, "wb")
        except OSError as error:
            self.abort()
            raise self._write_error(error) from error

    def write(
        self,
        sample_id: str,
        features: Features,
        *,
        duration: float | None = None,
        fps: float | None = None,
        n_frames: int | None = None,
        source_hash: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Appends one sample.

        Args:
            sample_id: any text that is not empty, once per part.
            features: tensors as the feature set says. Every value must be finite, unless the tensor's layout
                lets NaN through; a timestamp may be NaN ("time has no meaning") but not infinite.
            duration (seconds), fps, n_frames, source_hash: of the media; go into the catalog.
            attributes: what else is known of these features, as plain JSON values; goes into the catalog and
                the part.

        Raises SampleIdError, FeatureShapeError, FeatureValueError or SampleError (attributes), with nothing
        written and the writer still usable; StoreError when the bytes cannot be written, which aborts the part.
        """
        self._check_usable()
        self._check_sample_id(sample_id)
        tensors = self._checked_tensors(sample_id, features)
        about = _as_json(sample_id, attributes)
        timestamps = np.ascontiguousarray(features.timestamps)
        crc, nbytes = 0, 0
        try:
            for name, tensor in tensors.items():
                _write_all(self._shards[name], as_bytes(tensor).data)
                crc = extend_crc32c(crc, tensor)
                nbytes += tensor.nbytes
        except OSError as error:
            self.abort()
            raise self._write_error(error) from error
        steps = len(timestamps)
        self._rows.append(
            PartRow(
                sample_id=sample_id,
                part=self._part,
                row0=self._total_steps,
                row1=self._total_steps + steps,
                nbytes=nbytes,
                crc32c=extend_crc32c(crc, timestamps),
                duration=duration,
                fps=fps,
                n_frames=n_frames,
                source_hash=source_hash,
                attributes=about,
            )
        )
        self._sample_ids.add(sample_id)
        self._timestamps.append(timestamps.copy())
        self._total_steps += steps

    @property
    def last_row(self) -> PartRow:
        """The catalog row of the sample that was written last; raises IndexError before the first."""
        return self._rows[-1]

    def close(self) -> PartRecord:
        """Finishes the part and returns its record, ready to be committed.

        A part without samples leaves nothing on disk. Raises StoreError when it cannot be written.
        """
        if self._finished is not None:
            return self._finished
        self._check_usable()
        if self._rows:
            try:
                self._finish_on_disk()
            except OSError as error:
                self.abort()
                raise self._write_error(error) from error
        else:
            self._remove()
        record = self._feature_set
        self._finished = PartRecord(
            record.dataset, record.channel, record.fingerprint, self._part, tuple(self._rows)
        )
        return self._finished

    def abort(self) -> None:
        """Gives the part up and removes its temporary folder; harmless when it is closed already."""
        if self._finished is None:
            self._aborted = True
            self._remove()

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.abort()
        elif not self._aborted:
            self.close()

    def _check_usable(self) -> None:
        if self._finished is not None or self._aborted:
            state = "aborted" if self._aborted else "closed"
            raise StoreError(f"the writer of {self._part} is {state}; open another with store.writer(...)")

    def _check_sample_id(self, sample_id: str) -> None:
        if not isinstance(sample_id, str) or not sample_id:
            raise SampleIdError(sample_id, "a sample id is text and not empty; name the sample")
        if sample_id in self._sample_ids:
            raise SampleIdError(sample_id, "is in this part already; write each sample once")
        try:
            sample_id.encode()
        except UnicodeEncodeError as error:
            raise SampleIdError(sample_id, "is not valid Unicode; rename the sample") from error

    def _checked_tensors(self, sample_id: str, features: Features) -> dict[str, Array]:
        """The sample's tensors in the feature set's order, C-contiguous, in their dtype on disk."""
        record = self._feature_set
        given = {"values": features.values, **features.companions}
        expected = [tensor.name for tensor in record.tensors]
        if set(given) != set(expected):
            raise FeatureShapeError(
                sample_id, f"has tensors {sorted(given)}, but {record.name} stores {sorted(expected)}"
            )
        for name, array in {**given, "timestamps": features.timestamps}.items():
            if not isinstance(array, np.ndarray):
                raise FeatureShapeError(sample_id, f"{name} is a {type(array).__name__}; give a NumPy array")
        steps = len(features.values) if features.values.ndim else 0
        if steps == 0:
            raise FeatureShapeError(sample_id, "has no time steps (T is 0); record a failure for it instead")
        tensors = {}
        for layout in record.tensors:
            array = given[layout.name]
            shape = (steps, layout.tokens, layout.dim)
            if array.shape != shape or array.dtype != layout.numpy_dtype:
                raise FeatureShapeError(
                    sample_id,
                    f"{layout.name} is {array.dtype}{list(array.shape)}, but {record.name} stores "
                    f"{layout.dtype}{list(shape)}; cast or reshape it before writing",
                )
            stored = np.ascontiguousarray(array).view(layout.storage_dtype)
            if layout.finite and not is_finite(stored):
                raise FeatureValueError(
                    sample_id, f"{layout.name} holds NaN or infinity; every stored value must be finite"
                )
            tensors[layout.name] = stored
        times = features.timestamps
        if times.shape != (steps,) or times.dtype != np.float64:
            raise FeatureShapeError(
                sample_id, f"timestamps are {times.dtype}{list(times.shape)}; they must be float64[{steps}]"
            )
        if np.isinf(times).any():
            raise FeatureValueError(sample_id, "timestamps hold infinity; use NaN where time has no meaning")
        return tensors

    def _finish_on_disk(self) -> None:
        for layout in self._feature_set.tensors:
            shard = self._shards[layout.name]
            chunk_steps = steps_per_chunk(layout.row_bytes, self._total_steps)
            padding = padded_steps(self._total_steps, chunk_steps) - self._total_steps
            index = shard_index(self._total_steps, chunk_steps, layout.row_bytes)
            _write_all(shard, memoryview(bytes(padding * layout.row_bytes) + index))
            shard.close()
        write_metadata(
            self._folder,
            self._feature_set,
            sample_ids=[row.sample_id for row in self._rows],
            sample_attributes=[
                None if row.attributes is None else json.loads(row.attributes) for row in self._rows
            ],
            timestamps=np.concatenate(self._timestamps),
            row_offsets=np.array([0, *(row.row1 for row in self._rows)], dtype=np.int64),
            checksums=np.array([row.crc32c for row in self._rows], dtype=np.uint32),
        )
        self._location.publish(self._folder, self._part, self._durable)

    def _remove(self) -> None:
        for shard in self._shards.values():
            shard.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write_error(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write a part at {error.filename or self._location.url}: {error.strerror}; "
            "check the permissions and the free space there"
        )


def _as_json(sample_id: str, attributes: Mapping[str, Any] | None) -> str | None:
    if attributes is None:
        return None
    try:
        return json.dumps(dict(attributes), allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise SampleError(
            sample_id, f"attributes are not JSON ({error}); keep plain values in them"
        ) from error


def _write_all(file: FileIO, rest: memoryview) -> None:
    """Writes all of it: one call of an unbuffered file stops at 2 GiB, or when the disk fills up."""
    while rest:
        rest = rest[file.write(rest) :]
