"""A hub cache on disk, filled as a download would fill it, to load from hub ids without a network."""

import shutil
from pathlib import Path

REVISION = "0" * 40


class FakeHub:
    """The cache folder of a machine that downloaded some repositories before."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def publish(self, repo: str, files: list[Path]) -> None:
        """Put files into the cache as revision `main` of a repository."""
        folder = self.cache / f"models--{repo.replace('/', '--')}"
        snapshot = folder / "snapshots" / REVISION
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(REVISION)
        for file in files:
            shutil.copy(file, snapshot / file.name)
