"""`python -m pipelines.train_worker TASK.json`: one of several processes of a training, started by torchrun.

News for the process that started the training are lines of JSON on stdout: progress of rank 0, and expected errors.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Self

from pipelines.die_with_parent import die_with_parent
from pipelines.train_launcher import LAUNCHER

PROGRESS, ERROR = "pave_progress", "pave_error"
_SECONDS = 0.2  # between two lines of progress


class StdoutProgress:
    """Progress as lines on stdout; from rank 0 alone."""

    def __init__(self, label: str) -> None:
        self._silent = os.environ["RANK"] != "0"
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, done: int, total: int, failed: int = 0, note: str = "") -> None:
        """Print the counts, unless the last line is new or this is another rank."""
        now = time.monotonic()
        if self._silent or (done < total and now - self._shown_at < _SECONDS):
            return
        self._shown_at = now
        tell({PROGRESS: [done, total, failed, note]})


def tell(news: dict[str, object]) -> None:
    """Print one line, in one write, so that lines of several processes do not mix."""
    sys.stdout.flush()
    os.write(sys.stdout.fileno(), f"{json.dumps(news)}\n".encode())


def main() -> None:
    """Train; exit code 1 after an expected error, which is told in one line."""
    die_with_parent(int(os.environ[LAUNCHER]))
    from extractors.errors import ExtractorError
    from pave_model.errors import PaveModelError
    from pipelines.errors import PipelineError
    from pipelines.train import train_worker
    from store.errors import StoreError

    task = json.loads(Path(sys.argv[1]).read_text())
    try:
        train_worker(task, StdoutProgress)
    except (PipelineError, PaveModelError, StoreError, ExtractorError) as error:
        tell({ERROR: f"{error}"})
        sys.stdout.flush()
        os._exit(1)  # the others may wait for this one, in which case a tidy end would too


if __name__ == "__main__":
    main()
