"""Progress without a terminal."""

import pytest

from pipelines import progress
from pipelines.progress import TerminalProgress, silent


def test_a_line_every_few_seconds_and_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with TerminalProgress("work") as stage:
        stage.update(0, 10, note="starting")
        assert capsys.readouterr().err == ""
        now += 6
        stage.update(3, 10, 1)
        assert capsys.readouterr().err == "work: 3/10, 0.5/s, 0:14 left, 1 failed\n"
        now += 2
        stage.update(9, 10, 2)
        stage.update(10, 10, 2)
        assert capsys.readouterr().err == ""
    assert capsys.readouterr().err == "work: 10/10, 1.2/s, 2 failed\n"


def test_a_stage_that_does_nothing_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress("work"):
        pass
    with silent("work") as stage:
        stage.update(1, 1)
    assert capsys.readouterr() == ("", "")
