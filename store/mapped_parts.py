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
        self._parts: dict[str, _Part] = {}

    def __reduce__(self) -> tuple[type["MappedParts"], tuple[Path, FeatureSetRecord]]:
        return MappedParts, (self._root, self._record)

    def view(self, part: str, row0: int, row1: int) -> Features:
        """The rows `row0 <= row < row1` as read-only arrays, which stay valid when the part is removed.

        Raises DamagedPartError when a file is not there, cannot be mapped or ends too early.
        """
        mapped = self._parts.get(part) or self._map(part)
        companions = {name: tensor.part_of(row0, row1) for name, tensor in mapped.companions}
        return Features(mapped.values.part_of(row0, row1), mapped.times_of(row0, row1), companions)

    def copy(self, part: str, row0: int, row1: int) -> Features:
        """The same in memory of its own."""
        mapped = self._parts.get(part) or self._map(part)
        companions = {name: tensor.part_of(row0, row1).copy() for name, tensor in mapped.companions}
        return Features(
            mapped.values.part_of(row0, row1).copy(), mapped.times_of(row0, row1).copy(), companions
        )

    def stored(self, part: str, row0: int, row1: int, name: str) -> Array:
        """The rows of one tensor as they are on disk (bfloat16 as uint16), (T, S, D), not copied."""
        mapped = self._parts.get(part) or self._map(part)
        tensor = mapped.values if name == "values" else dict(mapped.companions)[name]
        return tensor.part_of(row0, row1).view(self._record.tensor(name).storage_dtype)

    def _map(self, part: str) -> "_Part":
        folder = self._root / part
        values, *companions = [
            (one.name, _Tensor(folder / shard_file(one.name), one)) for one in self._record.tensors
        ]
        mapped = _Part(values[1], companions, folder / TIMESTAMPS_FILE)
        most = max(1, _MAX_MAPPED_FILES // len(self._record.tensors))
        self._parts = dict([*self._parts.items(), (part, mapped)][-most:])
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

    def __init__(self, values: _Tensor, companions: list[tuple[str, _Tensor]], path: Path) -> None:
        """Args: path: of the timestamps."""
        self.values = values
        self.companions = companions
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
