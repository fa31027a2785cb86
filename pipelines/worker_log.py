"""What workers log, brought to the driver with their results.

Workers are processes, often of other machines. Their warnings travel as a column of the rows, so none is lost that
belongs to a result. The driver logs them again, under the logger of the same name.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

MOST_RECORDS = 20  # kept of one task; a library may warn at every frame


@dataclass(frozen=True)
class WorkerRecord:
    """One warning or error of a worker; `level` as in `logging`."""

    logger: str
    level: int
    message: str


class Heard(logging.Handler):
    """Collects records of at least WARNING, each message once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._records: dict[WorkerRecord, None] = {}
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record, on one line."""
        text = " ".join(record.getMessage().split())
        if record.exc_info is not None and record.exc_info[1] is not None:
            text = f"{text} ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        kept = WorkerRecord(record.name, record.levelno, text)
        if kept in self._records or len(self._records) < MOST_RECORDS:
            self._records[kept] = None
        else:
            self._dropped += 1

    def taken(self) -> str | None:
        """What there is since the last call, as JSON; None for nothing."""
        records = list(self._records)
        if self._dropped:
            records.append(WorkerRecord(__name__, logging.WARNING, f"... and {self._dropped} more records"))
        self._records, self._dropped = {}, 0
        return json.dumps([asdict(record) for record in records]) if records else None


@contextmanager
def listening() -> Iterator[Heard]:
    """In the body, what any logger of this process logs is heard."""
    heard = Heard()
    root = logging.getLogger()
    root.addHandler(heard)
    try:
        yield heard
    finally:
        root.removeHandler(heard)


def log_again(text: str | None) -> None:
    """Log in this process what a worker has taken."""
    for record in json.loads(text or "[]"):
        logging.getLogger(record["logger"]).log(record["level"], "worker: %s", record["message"])


def joined(first: str | None, second: str | None) -> str | None:
    """Both as one."""
    if first is None or second is None:
        return first if second is None else second
    return json.dumps(json.loads(first) + json.loads(second))
