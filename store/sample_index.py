"""Sorted sample ids in two flat arrays.

A million ids as Python strings would be copied page by page into every forked loader worker, because reading
a string writes its reference count; flat arrays stay shared.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa

from store.features import Array


class SampleIndex:
    """Ids in sorted order (of UTF-8 bytes, which is the order of Python strings), found by binary search."""

    def __init__(self, content: Array, offsets: Array) -> None:
        """Args: content: (bytes,) uint8, all ids end to end; offsets: (n + 1,) int64, their bounds."""
        self._content = content
        self._offsets = offsets

    @classmethod
    def from_sorted(cls, ids: pa.Array) -> "SampleIndex":
        """From a sorted Arrow string array without nulls."""
        ids = ids.cast(pa.large_string())
        if len(ids) == 0:
            return cls(np.empty(0, np.uint8), np.zeros(1, np.int64))
        _, offsets, content = ids.buffers()
        bounds = np.frombuffer(offsets, dtype=np.int64)[ids.offset : ids.offset + len(ids) + 1]
        text = np.frombuffer(content, dtype=np.uint8)[bounds[0] : bounds[-1]]
        return cls(text.copy(), bounds - bounds[0])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[str]:
        content = self._content.tobytes()
        bounds = self._offsets.tolist()
        return (content[start:end].decode() for start, end in pairwise(bounds))

    def find(self, sample_id: str) -> int | None:
        """Position of the id, or None."""
        wanted = sample_id.encode(errors="surrogatepass")
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._bytes(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self._bytes(low) == wanted else None

    def _bytes(self, position: int) -> bytes:
        return self._content[self._offsets[position] : self._offsets[position + 1]].tobytes()
