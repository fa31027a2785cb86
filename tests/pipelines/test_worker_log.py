"""What workers log, on its way to the driver."""

import json
import logging

import pytest

from pipelines.worker_log import MOST_RECORDS, joined, listening, log_again


def test_warnings_are_logged_again_with_their_name_and_level(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("extractors.some")
    with listening() as heard:
        logger.warning("clip %s is\nodd", 1)
        logger.info("not of interest")
        try:
            raise ValueError("reason")
        except ValueError:
            logger.exception("it failed")
    logger.warning("afterwards")
    caplog.clear()
    log_again(joined(heard.taken(), None))
    assert caplog.record_tuples == [
        ("extractors.some", logging.WARNING, "worker: clip 1 is odd"),
        ("extractors.some", logging.ERROR, "worker: it failed (ValueError: reason)"),
    ]


def test_a_flood_is_short() -> None:
    with listening() as heard:
        for number in range(1000):
            logging.getLogger("flood").warning("the same")
            logging.getLogger("flood").warning("frame %d", number)
    messages = [record["message"] for record in json.loads(heard.taken() or "")]
    assert len(messages) == MOST_RECORDS + 1
    assert messages.count("the same") == 1
    assert messages[-1] == "... and 981 more records"
    assert heard.taken() is None


def test_two_stages_join() -> None:
    assert joined(None, None) is None
    assert joined("[1]", None) == joined(None, "[1]") == "[1]"
    assert joined("[1]", "[2]") == "[1, 2]"
    log_again(None)
