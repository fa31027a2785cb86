"""What the program logs during a flow, workers included, in the log of the flow run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger

_OTHERS = ("prefect", "httpx", "httpcore")  # log on behalf of the run's logger


class _RunLog(logging.Handler):
    """Passes warnings and errors on to the run's logger, from any thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._logger = get_run_logger()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] not in _OTHERS:
            self._logger.log(record.levelno, "%s: %s", record.name, record.getMessage())


@contextmanager
def logs_in_the_run() -> Iterator[None]:
    """In the body, warnings and errors of all loggers show in the run's log; for use inside a run."""
    handler, root = _RunLog(), logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
