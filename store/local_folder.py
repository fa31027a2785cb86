"""A store in a folder of this machine, on disk or in memory."""

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from store.durable import sync_parents, sync_path, sync_tree
from store.errors import StoreError
from store.features import check_name
from store.local_files import LocalFiles
from store.location import FoundPart
from store.part_layout import PARTS, TEMPORARY_PREFIX, time_ordered_uuid

_NO_PATH_FOR_TABLES = re.compile(r"[\[\]|\\\x00-\x1f]|%[0-9A-Fa-f]{2}")
_MEMORY_FILES = Path("/dev/shm")
_memory_root: Path | None = None


@dataclass(frozen=True)
class LocalFolder:
    """A `Location` in a local folder.

    Attributes:
        folder: absolute path.
        url: the folder, or memory://NAME.
    """

    folder: Path
    url: str

    def table_url(self, name: str) -> str:
        return str(self.folder / name)

    def table_options(self) -> dict[str, str]:
        return {}

    def make(self) -> None:
        (self.folder / PARTS).mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        if not self.folder.exists():
            return []
        if not self.folder.is_dir():
            raise StoreError(f"{self.folder} is a file; give the store a folder of its own")
        # hidden files are an operating system's, or temporary ones
        return sorted(path.name for path in self.folder.iterdir() if path.name[0] != ".")

    def exists(self, path: str) -> bool:
        return (self.folder / path).exists()

    def read_bytes(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def write_bytes(self, path: str, content: bytes) -> None:
        final = self.folder / path
        temporary = final.with_name(f".{final.name}-{time_ordered_uuid()}")
        temporary.write_bytes(content)
        sync_path(temporary)
        temporary.rename(final)
        sync_path(final.parent)

    def tail(self, path: str, nbytes: int) -> tuple[int, bytes]:
        with (self.folder / path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - nbytes))
            return size, file.read()

    def stage(self, part: str) -> Path:
        final = self.folder / part
        stage = final.with_name(f"{TEMPORARY_PREFIX}{final.name}")
        stage.mkdir(parents=True)
        return stage

    def publish(self, stage: Path, part: str, durable: bool) -> None:
        if durable:
            sync_tree(stage)
        final = self.folder / part
        stage.rename(final)
        if durable:
            sync_parents(final, top=self.folder)

    def part_folders(self) -> Iterator[FoundPart]:
        for folder in self.folder.glob(f"{PARTS}/*/*/*/*"):
            yield _looked_at(folder, folder.relative_to(self.folder).as_posix())

    def remove_part(self, part: str) -> None:
        shutil.rmtree(self.folder / part)

    def reader(self) -> LocalFiles:
        return LocalFiles(self.folder)


def local_folder(path: Path) -> LocalFolder:
    """The place of that path; raises StoreError for one that delta-rs would take for an address of another."""
    path = path.absolute()
    if wrong := _NO_PATH_FOR_TABLES.search(str(path)):
        raise StoreError(f"{str(path)!r} has {wrong[0]!r} in it, which no table can have; rename the folder")
    return LocalFolder(path, str(path))


def memory_folder(name: str) -> LocalFolder:
    """The place memory://NAME: files in this machine's memory, of this process, gone when it ends.

    Processes that it starts can read and write there through the objects that they are given. Raises
    UnsafeNameError for a name that cannot be a folder.
    """
    global _memory_root
    check_name("memory store", name)
    if _memory_root is None:
        _memory_root = Path(
            tempfile.mkdtemp(prefix="pave-store-", dir=_MEMORY_FILES if _MEMORY_FILES.is_dir() else None)
        )
        atexit.register(_remove_memory, _memory_root, os.getpid())
    return LocalFolder(_memory_root / name, url=f"memory://{name}")


def _remove_memory(root: Path, owner: int) -> None:
    if os.getpid() == owner:  # and not a forked child
        shutil.rmtree(root, ignore_errors=True)


def _looked_at(folder: Path, path: str) -> FoundPart:
    """The part with its age and size; a writer may be removing or renaming it meanwhile."""
    newest, nbytes = 0.0, 0
    for parent, _, names in os.walk(folder):
        for name in ("", *names):
            try:
                status = os.stat(os.path.join(parent, name))
            except FileNotFoundError:
                newest = datetime.now(UTC).timestamp()
                continue
            newest = max(newest, status.st_mtime)
            nbytes += status.st_size if name else 0
    return FoundPart(path, datetime.fromtimestamp(newest, UTC), nbytes)
