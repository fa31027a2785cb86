"""Sample ids in flat arrays, in the order of their hashes.

A million ids as Python strings would be copied page by page into every forked loader worker, because reading
a string writes its reference count; flat arrays stay shared. The hash only finds the place, the bytes decide.
"""

import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.features import Array

_MAX_REMEMBERED = 65_536


def id_hashes(ids: pa.ChunkedArray) -> Array:
    """crc32 of each id's UTF-8 bytes, (n,) uint32."""
    found = np.empty(len(ids), np.uint32)
    start = 0
    for chunk in ids.chunks:
        content = chunk.cast(pa.binary()).to_pylist()
        found[start : start + len(content)] = np.fromiter(map(zlib.crc32, content), np.uint32, len(content))
        start += len(content)
    return found


class SampleIndex:
    """Ids in the order of `id_hashes`, found by binary search; iterates in that order."""

    def __init__(self, content: Array, offsets: Array, hashes: Array) -> None:
        """Args:
        content: (bytes,) uint8, all ids end to end.
        offsets: (n + 1,) int64, their bounds.
        hashes: (n,) uint32, ascending.
        """
        self._arrays = (content, offsets, hashes)
        self._found: dict[str, int] = {}  # a training asks for the same ids in every epoch
        # single items of a memoryview come in a third of the time that numpy takes
        self._content, self._offsets, self._hashes = (array.data for array in self._arrays)

    @classmethod
    def from_hashed(cls, ids: pa.Array, hashes: Array) -> "SampleIndex":
        """Args: ids: Arrow strings without nulls, in the order of their hashes; hashes: their `id_hashes`."""
        ids = ids.cast(pa.large_string())
        if len(ids) == 0:
            return cls(np.empty(0, np.uint8), np.zeros(1, np.int64), hashes)
        _, offsets, content = ids.buffers()
        bounds = np.frombuffer(offsets, dtype=np.int64)[ids.offset : ids.offset + len(ids) + 1]
        text = np.frombuffer(content, dtype=np.uint8)[bounds[0] : bounds[-1]]
        return cls(text.copy(), bounds - bounds[0], hashes)

    def __reduce__(self) -> tuple[Any, ...]:
        return SampleIndex, self._arrays

    def __len__(self) -> int:
        return len(self._hashes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_list())

    def to_list(self) -> list[str]:
        """The ids as strings, a new list."""
        ids: list[str] = self._as_arrow(pa.large_string()).to_pylist()
        return ids

    def find(self, sample_id: str) -> int | None:
        """Position of the id, or None."""
        known = self._found.get(sample_id)
        if known is not None:
            return known
        wanted = _encoded(sample_id)
        wanted_hash = zlib.crc32(wanted)
        position = bisect_left(self._hashes, wanted_hash)
        while position < len(self._hashes) and self._hashes[position] == wanted_hash:
            if self._content[self._offsets[position] : self._offsets[position + 1]] == wanted:
                if len(self._found) < _MAX_REMEMBERED:
                    self._found[sample_id] = position
                return position
            position += 1
        return None

    def absent(self, sample_ids: Sequence[str]) -> list[str]:
        """Those of `sample_ids` that are not here, in the order given; for a million of them at once."""
        if len(self) == 0:
            return list(sample_ids)
        try:
            wanted = list(map(str.encode, sample_ids))
        except UnicodeEncodeError:
            wanted = [_encoded(sample_id) for sample_id in sample_ids]
        hashes = self._arrays[2]
        places = hashes.searchsorted(np.fromiter(map(zlib.crc32, wanted), np.uint32, len(wanted)))
        there = self._as_arrow(pa.large_binary()).take(pa.array(np.minimum(places, len(self) - 1)))
        same = pc.equal(there, pa.array(wanted, pa.large_binary())).to_numpy(zero_copy_only=False)
        # what differs is not here, or stands behind another id of the same hash
        differing = (sample_ids[index] for index in np.flatnonzero(~same).tolist())
        return [sample_id for sample_id in differing if self.find(sample_id) is None]

    def _as_arrow(self, kind: pa.DataType) -> pa.Array:
        content, offsets, _ = self._arrays
        return pa.Array.from_buffers(kind, len(self), [None, pa.py_buffer(offsets), pa.py_buffer(content)])


def _encoded(sample_id: str) -> bytes:
    """An id that is no valid Unicode is never stored, but may be asked for."""
    return sample_id.encode(errors="surrogatepass")
