"""Where a store's bytes are: a local folder, this machine's memory, or an object store.

The rest of the store asks a `Location` for its files and knows nothing else of the place. Paths are relative
to the store, with `/` between their parts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from store.errors import StoreError
from store.features import Array

# The fsspec package of each kind of object store. Only s3 is tested.
OBJECT_STORES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}


@dataclass(frozen=True)
class ByteRange:
    """Bytes of a file and where they go.

    Attributes:
        buffer: (nbytes,) uint8, contiguous and writable; filled from byte `offset` of the file `path`.
    """

    path: str
    offset: int
    buffer: Array


@dataclass(frozen=True)
class FoundPart:
    """A folder where a part can be, temporary ones included.

    Attributes:
        path: relative to the store.
        modified: UTC, when something in it was last written.
        nbytes: size of its files.
    """

    path: str
    modified: datetime
    nbytes: int


class FileReader(Protocol):
    """Reads byte ranges. Pickles without open files or connections, and works in a forked child."""

    def read_into(self, ranges: Sequence[ByteRange]) -> None:
        """Fills all the buffers; raises DamagedPartError for a file that is missing, unreadable or too short."""


class Location(Protocol):
    """A place for one store. Pickles; OSError of every method is the place's own."""

    @property
    def url(self) -> str:
        """What `FeatureStore.open` takes to come here, and people read."""

    @property
    def folder(self) -> Path | None:
        """The folder of a store that is in files of this machine, else None."""

    def table_url(self, name: str) -> str:
        """Address of a Delta table, for delta-rs."""

    def table_options(self) -> dict[str, str]:
        """Storage options for delta-rs; credentials come from the environment's usual places."""

    def make(self) -> None:
        """Makes the place where it can be made."""

    def names(self) -> list[str]:
        """Files and folders at the top of the store."""

    def exists(self, path: str) -> bool:
        """Whether there is a file of that path, or anything in a folder of it."""

    def read_bytes(self, path: str) -> bytes:
        """A whole small file."""

    def write_bytes(self, path: str, content: bytes) -> None:
        """Writes a whole small file: durable, and never seen half-written."""

    def tail(self, path: str, nbytes: int) -> tuple[int, bytes]:
        """Size of a file, and its last `nbytes` bytes."""

    def stage(self, part: str) -> Path:
        """A new local folder in which to write the part; raises OSError where it cannot be made."""

    def publish(self, stage: Path, part: str, durable: bool) -> None:
        """Gives the finished folder its final place; it survives a power cut if `durable`."""

    def part_folders(self) -> Iterator[FoundPart]:
        """Every folder below `parts/` where a part can be."""

    def remove_part(self, part: str) -> None:
        """Removes a part's folder."""

    def reader(self) -> FileReader:
        """A reader of this place's files."""


def location_of(url: str | Path) -> Location:
    """The place that a path, `file://`, `memory://` or object store URL names; nothing is made or looked at.

    Raises StoreError for other URLs.
    """
    from store.local_folder import local_folder, memory_folder

    if isinstance(url, Path) or "://" not in url:
        return local_folder(Path(url))
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return local_folder(Path(unquote(parts.path)))
    if parts.scheme == "memory":
        return memory_folder(url.removeprefix("memory://"))
    if parts.scheme in OBJECT_STORES and parts.netloc:
        from store.bucket import Bucket

        return Bucket(url.rstrip("/"))
    raise StoreError(
        f"{url} is no place for a store; give a folder, file://, memory://NAME or s3://BUCKET/PREFIX"
    )
