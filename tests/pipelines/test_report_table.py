"""Reports as tables and links."""

from pathlib import Path

from pipelines.config import Settings
from pipelines.extract import ExtractReport, FailedSample, TogetherReport
from pipelines.report_table import MOST_ROWS, report_places, report_rows


def report_of(channel: str, store: str = "s3://bucket/store") -> ExtractReport:
    """Of ten samples, of which eight failed for two reasons."""
    failed = [("MediaError", number) for number in range(7)] + [("MissingTrackError", 7)]
    return ExtractReport(
        channel=channel,
        dataset="clips",
        fingerprint="f",
        store=store,
        version=3,
        total=10,
        already_done=1,
        done=1,
        failed=tuple(
            FailedSample(sample_id=f"clip-{number}", error_type=reason, message="broken; check it")
            for reason, number in failed
        ),
        skipped_failures=0,
        seconds=1.23456,
        rate=0.81,
    )


def test_failures_are_counted_by_reason_with_some_of_the_samples() -> None:
    rows = {row["what"]: (row["value"], row["samples"]) for row in report_rows(report_of("audio"))}
    assert rows["total"] == (10, "")
    assert rows["already_done"] == (1, "")
    assert rows["failed"] == (8, "")
    assert rows["failed: MediaError"] == (7, "clip-0, clip-1, clip-2, clip-3, clip-4 and 2 more")
    assert rows["failed: MissingTrackError"] == (1, "clip-7")
    assert rows["seconds"] == ("1.235", "")


def test_each_channel_has_its_counts() -> None:
    rows = [
        row["what"] for row in report_rows(TogetherReport(reports=(report_of("audio"), report_of("dense"))))
    ]
    assert "audio: done" in rows
    assert "dense: failed: MediaError" in rows


def test_any_report_fits_and_stays_short() -> None:
    class Part(Settings):
        name: str
        value: float

    class Any(Settings):
        """Has something of every kind."""

        run: Path
        nothing: str | None
        coverage: Part
        scores: tuple[Part, ...]
        losses: tuple[tuple[int, float], ...]
        absent: dict[str, str]
        ids: tuple[str, ...]

    part = Part(name="accuracy", value=0.5)
    report = Any(
        run=Path("/runs/a"),
        nothing=None,
        coverage=part,
        scores=(part,) * 300,
        losses=((1, 0.5), (2, 0.25)),
        absent={"bleu": "no package"},
        ids=("a", "b"),
    )
    rows = {row["what"]: row["value"] for row in report_rows(report)}
    assert rows["run"] == "/runs/a"
    assert rows["coverage: name"] == "accuracy"
    assert rows["scores 1"] == "name accuracy, value 0.5"
    assert len(rows) == MOST_ROWS + 1
    assert "... and 106 more rows" in rows
    short = {
        row["what"]: (row["value"], row["samples"])
        for row in report_rows(report.model_copy(update={"scores": ()}))
    }
    assert short["losses"] == (2, "")
    assert short["absent: bleu"] == ("no package", "")
    assert short["ids"] == (2, "a, b")


def test_places_are_links(tmp_path: Path) -> None:
    class Run(Settings):
        out: Path

    assert report_places(report_of("audio")) == {"store": "s3://bucket/store"}
    assert report_places(report_of("audio", "/data/my store")) == {"store": "file:///data/my%20store"}
    assert report_places(Run(out=tmp_path)) == {"out": tmp_path.as_uri()}
    (tmp_path / "scores.json").touch()
    assert report_places(Run(out=tmp_path)) == {"out": f"{tmp_path.as_uri()}/scores.json"}
