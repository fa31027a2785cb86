"""Padded batches made in loader workers, in memory that is shared with the parent process and used again.

A worker that allocates new shared memory for each batch spends more time on that than on reading. Here a batch
lies in a file in memory that both processes keep mapped. Its first byte says whether the batch is in use: the
worker sets it, and the parent clears it when nobody holds the batch's array any more.

    loader = DataLoader(SharedBatches(features), batch_size=None, sampler=lists_of_ids, num_workers=2)
    for batch in loader:
        values = torch.from_numpy(batch.values).view(torch.bfloat16)

Shapes: B samples, T_max time steps of the longest, S tokens per step, D dimension.
"""

import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from store.errors import StoreError
from store.feature_set import FeatureSet
from store.features import Array

_MEMORY_FILES = Path("/dev/shm")
_HEADER_BYTES = 4096  # a page, so that the values are aligned
_FREE, _IN_USE = 0, 1


@dataclass(frozen=True, eq=False)
class Batch:
    """Features of some samples.

    Attributes:
        values: (B, T_max, S, D) in the dtype on disk (bfloat16 as uint16), zeros after a sample's last step.
        lengths: (B,) int64, the time steps of each sample.
    """

    values: Array
    lengths: Array


class SharedBatches:
    """A dataset of batches, indexed by lists of sample ids; for `DataLoader(..., batch_size=None)`.

    It belongs to the process that made it: when that one lets go of it, or ends, the memory is given back, but
    batches that are still held stay valid.
    """

    def __init__(self, features: FeatureSet, tensor: str = "values") -> None:
        """Args: tensor: "values" or the name of a companion."""
        self._features = features
        self._layout = features.record.tensor(tensor)
        self._folder = Path(
            tempfile.mkdtemp(prefix="pave-batches-", dir=_MEMORY_FILES if _MEMORY_FILES.is_dir() else None)
        )
        self._parent = os.getpid()
        self._buffers: list[_Buffer] = []  # of a worker, which has a copy of this object
        weakref.finalize(self, _remove, self._folder, self._parent)

    def __getitem__(self, sample_ids: Sequence[str]) -> "Batch | _SentBatch":
        """The batch; in a worker its place, which becomes the `Batch` in the parent.

        Raises StoreError for an empty list, and as `FeatureSet.read_into` does.
        """
        if not sample_ids:
            raise StoreError("a batch needs at least one sample; leave empty lists out of the sampler")
        longest = int(self._features.lengths(sample_ids).max())
        shape = (len(sample_ids), longest, self._layout.tokens, self._layout.dim)
        if os.getpid() == self._parent:
            values = np.empty(shape, self._layout.storage_dtype)
            return Batch(values, self._features.read_into(sample_ids, values, self._layout.name))
        buffer = self._free_buffer(int(np.prod(shape)) * self._layout.storage_dtype.itemsize)
        values = buffer.array(shape, self._layout.storage_dtype)
        lengths = self._features.read_into(sample_ids, values, self._layout.name)
        return _SentBatch(buffer.path, shape, self._layout.storage_dtype.str, lengths)

    def _free_buffer(self, nbytes: int) -> "_Buffer":
        """A buffer that nobody uses, marked as in use; a new one where all are too small or in use."""
        for buffer in self._buffers:
            if buffer.size >= nbytes and buffer.content[0] == _FREE:
                buffer.content[0] = _IN_USE
                return buffer
        # some more than asked for, so that batches of nearly the same size share it
        buffer = _Buffer.create(self._folder, nbytes + nbytes // 4)
        self._buffers.append(buffer)
        return buffer


class _Buffer:
    """A file in memory, mapped for as long as somebody has an array of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self.content = mmap.mmap(file.fileno(), 0)
        self.size = len(self.content) - _HEADER_BYTES

    @classmethod
    def create(cls, folder: Path, nbytes: int) -> "_Buffer":
        try:
            with tempfile.NamedTemporaryFile(prefix=f"{os.getpid()}-", dir=folder, delete=False) as file:
                # written, and not only made so long: without room that is an error, and no crash later
                file.write(bytes(_HEADER_BYTES + nbytes))
        except OSError as error:
            raise StoreError(
                f"there is no room for a batch of {nbytes} bytes in {folder}: {error.strerror}; "
                "use smaller batches or fewer workers"
            ) from error
        buffer = cls(Path(file.name))
        buffer.content[0] = _IN_USE
        return buffer

    def array(self, shape: tuple[int, ...], dtype: "np.dtype[np.generic]") -> Array:
        count = int(np.prod(shape))
        return np.frombuffer(self.content, dtype, count, _HEADER_BYTES).reshape(shape)


@dataclass(frozen=True, eq=False)
class _SentBatch:
    """Where a worker put a batch; unpickles as the `Batch`."""

    path: Path
    shape: tuple[int, ...]
    dtype: str
    lengths: Array

    def __reduce__(self) -> tuple[object, ...]:
        return _received, (str(self.path), self.shape, self.dtype, self.lengths)


# path -> the buffer of a worker, mapped once in the parent
_received_buffers: dict[str, _Buffer] = {}


def _received(path: str, shape: tuple[int, ...], dtype: str, lengths: Array) -> Batch:
    buffer = _received_buffers.get(path)
    if buffer is None:
        buffer = _received_buffers[path] = _Buffer(Path(path))
        _let_go_of_dead_workers(Path(path).parent)
    values = buffer.array(shape, np.dtype(dtype))
    # every view and tensor of it holds the array of the whole buffer
    weakref.finalize(values.base, _give_back, buffer.content)
    return Batch(values, lengths)


def _give_back(content: mmap.mmap) -> None:
    content[0] = _FREE


def _let_go_of_dead_workers(folder: Path) -> None:
    """Gives back the memory of workers that have ended, such as those of the epoch before."""
    for path in [*folder.iterdir()]:
        try:
            os.kill(int(path.name.partition("-")[0]), 0)
        except ProcessLookupError:
            _received_buffers.pop(str(path), None)
            path.unlink(missing_ok=True)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() != owner:  # a forked child
        return
    shutil.rmtree(folder, ignore_errors=True)
    for path in [path for path in _received_buffers if Path(path).parent == folder]:
        del _received_buffers[path]
