"""Byte ranges of local files, read straight into the caller's memory."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from store.errors import DamagedPartError
from store.location import ByteRange

# Half of the usual soft limit of 1024 would leave too little for the rest of a training process.
_MAX_OPEN_FILES = 256


class _OpenFile:
    """A file descriptor that is closed when nothing uses it any more."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class LocalFiles:
    """Reads files below one folder with `preadv`.

    Descriptors are opened on first use, the least recently used are closed, and none is pickled or used by a
    process other than the one that opened it. Threads may share one object.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._start()

    def _start(self) -> None:
        self._owner = os.getpid()
        self._lock = Lock()
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()

    def __getstate__(self) -> Path:
        return self._root

    def __setstate__(self, root: Path) -> None:
        self._root = root
        self._start()

    def read_into(self, ranges: Sequence[ByteRange]) -> None:
        """See `FileReader.read_into`."""
        for one in ranges:
            self._read(one.path, one.offset, one.buffer.data)

    def _read(self, path: str, offset: int, view: memoryview) -> None:
        try:
            file = self._file(path)
            while view:
                count = os.preadv(file.descriptor, [view], offset)
                if count == 0:
                    break
                offset += count
                view = view[count:]
        except OSError as error:
            raise DamagedPartError(
                f"cannot read {self._root / path}: {error.strerror}; run `pave store verify` on the store"
            ) from error
        self._check_complete(path, len(view))

    def _check_complete(self, path: str, missing_bytes: int) -> None:
        if missing_bytes:
            raise DamagedPartError(
                f"{self._root / path} ends {missing_bytes} bytes too early; run `pave store verify` on the store"
            )

    def _file(self, path: str) -> _OpenFile:
        if self._owner != os.getpid():
            self._start()
        with self._lock:
            file = self._open.get(path)
            if file is None:
                file = self._open[path] = _OpenFile(self._root / path)
                if len(self._open) > _MAX_OPEN_FILES:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(path)
            return file
