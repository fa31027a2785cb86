"""A store in an object store, through fsspec; the tables go through delta-rs.

The whole configuration comes from the environment's usual places (for S3: AWS_ACCESS_KEY_ID, AWS_PROFILE,
AWS_ENDPOINT_URL, AWS_REGION, ...).
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
import numpy as np
from fsspec.utils import merge_offset_ranges

from store.errors import DamagedPartError, StoreError
from store.location import OBJECT_STORES, ByteRange, FoundPart
from store.part_layout import PARTS

# Reading a short gap is quicker than asking twice; long requests are split, and run side by side.
_MAX_GAP_BYTES = 64 * 1024
_MAX_REQUEST_BYTES = 16 * 1024 * 1024


class _Connection:
    """The file system of one process; made anew in every other, since its thread and sockets stay behind."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        self._owner = -1

    def __reduce__(self) -> tuple[type["_Connection"], tuple[str]]:
        return _Connection, (self._scheme,)

    @property
    def fs(self) -> Any:
        if self._owner != os.getpid():
            try:
                self._fs = fsspec.filesystem(self._scheme, skip_instance_cache=True, use_listings_cache=False)
            except ImportError as error:
                package = OBJECT_STORES[self._scheme]
                raise StoreError(
                    f"{self._scheme}:// needs the package {package}; install it with: pip install {package}"
                ) from error
            self._owner = os.getpid()
        return self._fs


@dataclass(frozen=True)
class Bucket:
    """A `Location` below a prefix of a bucket.

    Attributes:
        url: scheme://bucket/prefix, without a slash at the end.
    """

    url: str
    _connection: _Connection = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_connection", _Connection(urlsplit(self.url).scheme))

    @property
    def folder(self) -> None:
        """There is none."""

    def table_url(self, name: str) -> str:
        return f"{self.url}/{name}"

    def table_options(self) -> dict[str, str]:
        if not self.url.startswith("s3://"):
            return {}
        # a commit is a put that fails when the object exists
        options = {"aws_conditional_put": "etag"}
        if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
            options["aws_allow_http"] = "true"
        return options

    def make(self) -> None:
        with _as_os_error():
            if not self._fs.exists(self._root.partition("/")[0]):
                raise FileNotFoundError(0, f"there is no bucket {self._root.partition('/')[0]!r}")

    def names(self) -> list[str]:
        with _as_os_error():
            try:
                return sorted(path.rpartition("/")[2] for path in self._fs.ls(self._root, detail=False))
            except FileNotFoundError:
                return []

    def exists(self, path: str) -> bool:
        with _as_os_error():
            return bool(self._fs.exists(self._path(path)))

    def read_bytes(self, path: str) -> bytes:
        with _as_os_error():
            return bytes(self._fs.cat_file(self._path(path)))

    def write_bytes(self, path: str, content: bytes) -> None:
        with _as_os_error():
            self._fs.pipe_file(self._path(path), content)

    def tail(self, path: str, nbytes: int) -> tuple[int, bytes]:
        with _as_os_error():
            size = int(self._fs.size(self._path(path)))
            return size, bytes(self._fs.cat_file(self._path(path), start=max(0, size - nbytes), end=size))

    def stage(self, part: str) -> Path:
        return Path(tempfile.mkdtemp(prefix="pave-part-"))

    def publish(self, stage: Path, part: str, durable: bool) -> None:
        # an object is durable once it is there; nobody looks at the part before it is committed
        files = sorted(path for path in stage.rglob("*") if path.is_file())
        with _as_os_error():
            self._fs.put(
                [str(path) for path in files],
                [self._path(f"{part}/{path.relative_to(stage).as_posix()}") for path in files],
            )
        shutil.rmtree(stage)

    def part_folders(self) -> Iterator[FoundPart]:
        with _as_os_error():
            found: dict[str, dict[str, Any]] = self._fs.find(self._path(PARTS), detail=True)
        newest: dict[str, datetime] = {}
        sizes: dict[str, int] = {}
        for path, about in found.items():
            steps = path.removeprefix(f"{self._root}/").split("/")
            if len(steps) > 5:
                part = "/".join(steps[:5])
                modified = about.get("LastModified") or about.get("last_modified") or datetime.now(UTC)
                newest[part] = max(modified, newest.get(part, modified))
                sizes[part] = sizes.get(part, 0) + int(about["size"])
        for part, modified in newest.items():
            yield FoundPart(part, modified, sizes[part])

    def remove_part(self, part: str) -> None:
        with _as_os_error():
            self._fs.rm(self._path(part), recursive=True)

    def reader(self) -> "BucketFiles":
        return BucketFiles(self.url, self._connection)

    @property
    def _root(self) -> str:
        return self.url.partition("://")[2]

    @property
    def _fs(self) -> Any:
        return self._connection.fs

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}"


class BucketFiles:
    """A `FileReader` of objects, with ranged requests side by side; neighbours are read in one."""

    def __init__(self, url: str, connection: _Connection) -> None:
        self._url = url
        self._root = url.partition("://")[2]
        self._connection = connection

    def read_into(self, ranges: Sequence[ByteRange]) -> None:
        """See `FileReader.read_into`."""
        wanted = sorted(ranges, key=lambda one: (one.path, one.offset))
        paths, starts, ends = merge_offset_ranges(
            [f"{self._root}/{one.path}" for one in wanted],
            [one.offset for one in wanted],
            [one.offset + len(one.buffer) for one in wanted],
            max_gap=_MAX_GAP_BYTES,
            max_block=_MAX_REQUEST_BYTES,
        )
        try:
            with _as_os_error():
                blocks = self._connection.fs.cat_ranges(paths, starts, ends, on_error="raise")
        except OSError as error:
            raise DamagedPartError(
                f"cannot read {wanted[0].path} of {self._url}: {error}; run `pave store verify` on the store"
            ) from error
        block = 0
        for one in wanted:
            # every range lies inside one block, and both are in the same order
            while paths[block] != f"{self._root}/{one.path}" or one.offset + len(one.buffer) > ends[block]:
                block += 1
            start = one.offset - starts[block]
            piece = np.frombuffer(blocks[block], np.uint8)[start : start + len(one.buffer)]
            if len(piece) < len(one.buffer):
                raise DamagedPartError(
                    f"{self._url}/{one.path} ends {len(one.buffer) - len(piece)} bytes too early; "
                    "run `pave store verify` on the store"
                )
            one.buffer[:] = piece


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Errors of the S3 client, which has its own family, as OSError."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:  # another kind of object store
        yield
        return
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise OSError(0, " ".join(str(error).split())) from error
