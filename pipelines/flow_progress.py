"""Progress of a stage of a flow, as Prefect shows it: an artifact and log lines."""

import re
import time
from typing import Self
from uuid import UUID

from httpx import HTTPError
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

ARTIFACT_SECONDS = 1.0  # between two updates of a progress artifact
LOG_SECONDS = 10.0  # between two log lines of progress


class ArtifactProgress:
    """Progress of a stage as a Prefect progress artifact and log lines; for use inside a run.

    A server that is away for a while costs news, not the work.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._logger = get_run_logger()

    def __enter__(self) -> Self:
        self._artifact: UUID | None = None
        self._started = self._shown_at = self._logged_at = time.monotonic()
        self._percent, self._line = 0.0, self._label
        self._show()
        return self

    def __exit__(self, *_: object) -> None:
        self._show()
        self._log()

    def update(self, done: int, total: int, failed: int = 0, note: str = "") -> None:
        """Take the new counts; they are shown when what is shown is old enough."""
        now = time.monotonic()
        self._percent = 100.0 * done / total if total else 100.0
        self._line = progress_line(self._label, done, total, failed, note, now - self._started)
        if now - self._shown_at >= ARTIFACT_SECONDS:
            self._shown_at = now
            self._show()
        if now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            self._log()

    def _show(self) -> None:
        try:
            if self._artifact is None:
                artifact = create_progress_artifact(self._percent, artifact_key(self._label), self._line)
                assert isinstance(artifact, UUID)  # a coroutine would come only inside an event loop
                self._artifact = artifact
            else:
                update_progress_artifact(self._artifact, self._percent, self._line)
        except HTTPError as error:
            self._logger.warning("the progress artifact of %r is out of date: %r", self._label, error)

    def _log(self) -> None:
        self._logger.info("%s", self._line)


def artifact_key(label: str) -> str:
    """The key of a stage's progress artifact: only lower-case letters, digits and dashes are allowed."""
    return key_of(f"{label}-progress")


def key_of(name: str) -> str:
    """A name as the key of an artifact."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def progress_line(label: str, done: int, total: int, failed: int, note: str, seconds: float) -> str:
    """One line of news: counts, items a second, seconds left."""
    rate = done / max(seconds, 1e-3)
    words = [f"{label}: {done}/{total}", f"{rate:.1f}/s" if rate >= 1 else f"{rate:.3f}/s"]
    if 0 < done < total:
        words.append(f"{(total - done) / rate:.0f} s left")
    if failed:
        words.append(f"{failed} failed")
    return ", ".join([*words, note] if note else words)
