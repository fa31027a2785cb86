"""Progress of long functions: they report counts, and the caller chooses where these are shown.

A long function takes `progress`, a factory that is called with the label of each stage:

    with progress("extract audio") as stage:
        stage.update(done, total, failed)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

if TYPE_CHECKING:  # a bar is shown on terminals only, and rich takes a while to import
    from rich.progress import Progress as RichProgress

PLAIN_SECONDS = 5.0  # between two lines where there is no terminal


class Progress(Protocol):
    """One running stage."""

    def update(self, done: int, total: int, failed: int = 0, note: str = "") -> None:
        """Say that `done` of `total` items are handled, `failed` of them without success. Cheap."""


ProgressFactory: TypeAlias = Callable[[str], AbstractContextManager[Progress]]


class Silent:
    """Shows nothing."""

    def __init__(self, label: str = "") -> None:
        self.label = label

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, done: int, total: int, failed: int = 0, note: str = "") -> None:
        """Do nothing."""


def silent(label: str) -> Silent:
    """The progress of functions that are called without one."""
    return Silent(label)


class TerminalProgress:
    """Shows a stage on stderr: a bar on a terminal, else a plain line every few seconds and at the end."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._bar: RichProgress | None = None
        self._started = self._shown_at = time.monotonic()
        self._line = self._shown_line = ""

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._bar.add_task(self.label, total=None, state="")
            self._bar.start()
        self._started = self._shown_at = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._line != self._shown_line:
            self._show_line()

    def update(self, done: int, total: int, failed: int = 0, note: str = "") -> None:
        """Show the new counts, at once on a terminal, else when the last line is old enough."""
        state = ", ".join(text for text in (f"{failed} failed" if failed else "", note) if text)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, state=state)
            return
        now = time.monotonic()
        rate = done / max(now - self._started, 1e-3)
        left = f", {_duration((total - done) / rate)} left" if 0 < done < total else ""
        counts = f"{self.label}: {done}/{total}, {rate:.1f}/s"
        self._line = f"{counts}{left}{', ' if state else ''}{state}"
        if now - self._shown_at >= PLAIN_SECONDS:
            self._shown_at = now
            self._show_line()

    def _show_line(self) -> None:
        self._shown_line = self._line
        print(self._line, file=sys.stderr, flush=True)


def _bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class RateColumn(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:.1f}/s")

    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(""),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
        console=Console(stderr=True),
    )


def _duration(seconds: float) -> str:
    """0:42, 12:05 or 3:00:00."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
