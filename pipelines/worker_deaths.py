"""Samples that kill their worker.

A crash inside a media library, or the kernel short of memory, takes the whole process; Ray starts another and runs
its task again, without end. So a worker leaves a mark before it touches a sample and removes it afterwards:
marks that are found tell how often workers died there, and what kills again and again is given up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

MOST_DEATHS = 2


class DeathMarks:
    """Marks in a folder of this machine; on a cluster every machine counts for itself.

    Args:
        folder: of this run alone; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deaths(self, sample_id: str) -> int:
        """How often a worker died between `set` and `clear`."""
        mark = self._mark(sample_id)
        return mark.stat().st_size if mark.exists() else 0

    def set(self, sample_ids: Iterable[str]) -> None:
        """From here on a death counts."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for sample_id in sample_ids:
            with self._mark(sample_id).open("ab") as mark:
                mark.write(b".")

    def clear(self, sample_ids: Iterable[str]) -> None:
        """The worker lives."""
        for sample_id in sample_ids:
            self._mark(sample_id).unlink()

    def _mark(self, sample_id: str) -> Path:
        return self._folder / hashlib.sha256(sample_id.encode()).hexdigest()
