"""The arrays of parts in files of this machine, mapped into memory.

Shapes: T time steps of a sample, N of all samples in its part, S tokens per step, D dimension.
"""

import mmap
from pathlib import Path

import numpy as np

from store.errors import DamagedPartError
from store.features import Array, Features, FeatureSetRecord, TensorLayout
from store.part_layout import TIMESTAMPS_FILE, shard_file

# Each map holds a descriptor, of which a process usually has 1024.
_MAX_MAPPED_FILES = 256


class MappedParts:
    """Maps the parts of one feature set on first use and lets go of those that were mapped first.

    No map is pickled; a forked child goes on with those of its parent. Threads may share one object: the mapped
    parts are replaced as a whole, so there is no lock.
    """

    def __init__(self, root: Path, record: FeatureSetRecord) -> None:
        self._root = root
        self._record = record
        self._layouts = {one.name: (one, index) for index, one in enumerate(record.tensors)}
        self._companions = [one.name for one in record.tensors[1:]]
        self._parts: dict[str, _Part] = {}

    def __reduce__(self) -> tuple[type["MappedParts"], tuple[Path, FeatureSetRecord]]:
        return MappedParts, (self._root, self._record)

    def view(self, part: str, row0: int, row1: int) -> Features:
        """The rows `row0 <= row < row1` as read-only arrays, which stay valid when the part is removed.

        Raises DamagedPartError when a file is not there, cannot be mapped or ends too early.
        """
        mapped = self._parts.get(part) or self._map(part)
        arrays = [tensor.part_of(row0, row1) for tensor in mapped.tensors]
        return Features(arrays[0], mapped.times_of(row0, row1), self._named(arrays))

    def copy(self, part: str, row0: int, row1: int) -> Features:
        """The same in memory of its own."""
        mapped = self._parts.get(part) or self._map(part)
        arrays = [tensor.part_of(row0, row1).copy() for tensor in mapped.tensors]
        return Features(arrays[0], mapped.times_of(row0, row1).copy(), self._named(arrays))

    def stored(self, part: str, row0: int, row1: int, name: str) -> Array:
        """The rows of one tensor as they are on disk (bfloat16 as uint16), (T, S, D), not copied."""
        mapped = self._parts.get(part) or self._map(part)
        layout, tensor = self._layouts[name]
        return mapped.tensors[tensor].part_of(row0, row1).view(layout.storage_dtype)

    def _named(self, arrays: list[Array]) -> dict[str, Array]:
        return dict(zip(self._companions, arrays[1:], strict=True)) if self._companions else {}

    def _map(self, part: str) -> "_Part":
        folder = self._root / part
        tensors = tuple(_Tensor(folder / shard_file(one.name), one) for one in self._record.tensors)
        mapped = _Part(tensors, folder / TIMESTAMPS_FILE)
        kept = list(self._parts.items())[-max(1, _MAX_MAPPED_FILES // len(tensors)) + 1 :]
        self._parts = dict([*kept, (part, mapped)])
        return mapped


class _Tensor:
    """One mapped tensor of a part: all rows, (N, S, D)."""

    def __init__(self, path: Path, layout: TensorLayout) -> None:
        self._path = path
        self._row_bytes = layout.row_bytes
        try:
            with path.open("rb") as file:
                self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: it is empty
            raise _damaged(path, f"cannot be mapped ({error})") from error
        # what follows the last row of a shard may look like some more
        num_rows = len(self._file) // layout.row_bytes
        flat = np.frombuffer(self._file, layout.numpy_dtype, num_rows * layout.tokens * layout.dim)
        self._rows = flat.reshape(num_rows, layout.tokens, layout.dim)

    def part_of(self, row0: int, row1: int) -> Array:
        """The rows `row0 <= row < row1`, (T, S, D), not copied."""
        # asks the file, not the map: to touch what was cut off since would end the process
        if self._file.size() < row1 * self._row_bytes:
            raise _damaged(self._path, f"ends {row1 * self._row_bytes - self._file.size()} bytes too early")
        return self._rows[row0:row1]


class _Part:
    """A mapped part. The timestamps of all rows, (N,), are in memory, since they are small."""

    def __init__(self, tensors: tuple[_Tensor, ...], path: Path) -> None:
        self.tensors = tensors
        self._path = path
        try:
            self._timestamps = np.fromfile(path, np.float64)
        except OSError as error:
            raise _damaged(path, f"cannot be read ({error.strerror})") from error
        self._timestamps.flags.writeable = False

    def times_of(self, row0: int, row1: int) -> Array:
        """The timestamps of the rows `row0 <= row < row1`, (T,), not copied."""
        if row1 > len(self._timestamps):
            raise _damaged(self._path, f"ends {row1 - len(self._timestamps)} timestamps too early")
        return self._timestamps[row0:row1]


def _damaged(path: Path, reason: str) -> DamagedPartError:
    return DamagedPartError(f"{path} {reason}; run `pave store verify` on the store")
