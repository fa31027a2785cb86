"""Samples that kill their worker, or stall it.

A crash inside a media library, or the kernel short of memory, takes the whole process; Ray starts another and runs
its task again, without end. So a worker leaves a mark before it touches a sample and removes it afterwards:
marks that are found tell how often workers died there, and what kills again and again is given up. A worker
that a sample stalls ends itself and says so in the mark; such a sample is given up at once.
"""

from __future__ import annotations

import faulthandler
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from extractors.heartbeat import on_beat

MOST_DEATHS = 2
_RE_ARM_SECONDS = 0.5  # a timer costs a thread; frames come faster than that


class DeathMarks:
    """Marks in a folder of this machine; on a cluster every machine counts for itself.

    Args:
        folder: of this run alone; made when it is needed.
        stall_seconds: a sample may be silent (`extractors.heartbeat`) for so long.
    """

    def __init__(self, folder: Path, stall_seconds: float) -> None:
        self.stall_seconds = stall_seconds
        self._folder = folder

    def deaths(self, key: str) -> int:
        """How often a worker died while it was `watching` this."""
        mark = self._path(key, "deaths")
        return mark.stat().st_size if mark.exists() else 0

    def stalled(self, key: str) -> bool:
        """Whether a worker ended itself because this, alone, was silent for too long."""
        note = self._path(key, "stall")
        return note.exists() and note.stat().st_size > 0

    @contextmanager
    def watching(self, keys: Sequence[str], reading: bool) -> Iterator[None]:
        """In the body a death counts for all `keys`, and silence ends the process; of one key it is noted, too.

        Args: reading: whether the body reads media all the time; else silence counts from a beat to a rest.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for key in keys:
            with self._path(key, "deaths").open("ab") as mark:
                mark.write(b".")
        note = self._path(keys[0], "stall") if len(keys) == 1 else Path(os.devnull)
        with note.open("w") as file, _stall_timer(self.stall_seconds, file, reading):
            yield
        for key in keys:
            self._path(key, "deaths").unlink()

    def _path(self, key: str, suffix: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.{suffix}"


@contextmanager
def _stall_timer(seconds: float, note: TextIO, reading: bool) -> Iterator[None]:
    """Ends the process after `seconds` of silence; where it hung is then in `note`.

    The timer is a thread of C code, so that it also works while a library holds Python's lock.
    """
    armed_at = 0.0

    def arm() -> None:
        nonlocal armed_at
        now = time.monotonic()
        if now - armed_at >= _RE_ARM_SECONDS:
            armed_at = now
            faulthandler.dump_traceback_later(seconds, exit=True, file=note)

    def disarm() -> None:
        nonlocal armed_at
        armed_at = 0.0
        faulthandler.cancel_dump_traceback_later()

    if reading:
        arm()
    on_beat(arm, None if reading else disarm)
    try:
        yield
    finally:
        on_beat(None)
        disarm()
