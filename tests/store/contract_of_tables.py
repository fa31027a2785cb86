"""The contract of failures, samples, queries and verification."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from tiny_store import RECORD, add_part, features

from store.errors import (
    QueryError,
    SampleIdError,
    StoreError,
    UnsafeNameError,
)
from store.feature_store import FeatureStore
from store.records import FailureRow, SampleRow

BAD_SQL = (
    ("SELEC 1", "SELEC"),
    ("SELECT nope FROM features", "nope"),
    ("SELECT * FROM nowhere", "nowhere"),
    ("", "one SELECT"),
    ("SELECT 1; SELECT 2", "one SELECT"),
    ("DROP VIEW features", "one SELECT"),
    ("COPY features TO 'out.csv'", "one SELECT"),
    ("SET threads = 1", "one SELECT"),
    ("SELECT * FROM read_text('/etc/hostname')", "disabled by configuration"),
    ("SELECT * FROM glob('/*')", "disabled by configuration"),
    ("SELECT * FROM '/etc/hostname'", "does not exist"),
    ("SELECT * FROM secret_of_the_caller", "does not exist"),
)


class TableTests:
    # Failures and samples

    def test_known_failures_are_the_newest_of_each_sample(self, store: FeatureStore) -> None:
        start = datetime(2026, 1, 1, tzinfo=UTC)

        def row(sample_id: str, attempt: int, permanent: bool, **changes: str) -> FailureRow:
            fields = {"channel": "audio", "fingerprint": RECORD.fingerprint} | changes
            time = start + timedelta(hours=attempt)
            return FailureRow(
                sample_id, "avsd", error_type="MediaError", message="no audio track", permanent=permanent,
                source_hash=f"h{attempt}", attempt=attempt, time=time, **fields,
            )  # fmt: skip

        store.record_failures([row("a", 2, True), row("b", 1, False)])
        store.record_failures([row("a", 1, False), row("c", 1, True, channel="dense")])
        store.record_failures([])
        known = store.known_failures("avsd", "audio", RECORD.fingerprint)
        assert known == {"a": row("a", 2, True), "b": row("b", 1, False)}
        assert store.query("SELECT count(*) AS n FROM failures").to_pylist() == [{"n": 4}]

    def test_add_samples_appends_only_news(self, store: FeatureStore) -> None:
        rows = [
            SampleRow("avsd", "a", "train", '{"video": "a.mp4"}', 4.0, 25.0, 100, 1, "h1"),
            SampleRow("avsd", "b", None, "{}", error="no video stream"),
            SampleRow("other", "a", "test", "{}"),
        ]
        assert store.add_samples(rows) == 3
        assert store.add_samples(rows) == 0
        table = store.query("SELECT * FROM samples")
        assert store.add_samples(table) == 0
        repaired = SampleRow("avsd", "b", None, "{}", 3.0, 25.0, 75, 1, "h2")
        assert store.add_samples([rows[0], repaired]) == 1
        assert store.add_samples([]) == 0
        found = store.query("SELECT * FROM samples ORDER BY dataset, sample_id").to_pylist()
        assert [SampleRow(**row) for row in found] == [rows[0], repaired, rows[2]]

    def test_add_samples_refuses_bad_rows(self, store: FeatureStore) -> None:
        with pytest.raises(SampleIdError, match=r"'a': comes 2 times"):
            store.add_samples([SampleRow("avsd", "a", "train", "{}"), SampleRow("avsd", "a", "test", "{}")])
        with pytest.raises(SampleIdError, match="not empty"):
            store.add_samples([SampleRow("avsd", "", "train", "{}")])
        with pytest.raises(UnsafeNameError, match="dataset"):
            store.add_samples([SampleRow("a/b", "a", "train", "{}")])
        with pytest.raises(StoreError, match="columns"):
            store.add_samples(pa.table({"dataset": ["avsd"], "sample_id": ["a"]}))
        assert store.query("SELECT * FROM samples").num_rows == 0

    # Queries

    def test_features_view_joins_split_and_extractor(self, store: FeatureStore) -> None:
        add_part(store, RECORD, {"a": features(2), "b": features(3)})
        store.add_samples(
            [SampleRow("avsd", "a", "train", "{}"), SampleRow("avsd", "c", "test", "{}")],
        )
        rows = store.query(
            "SELECT sample_id, split, extractor, steps, duration FROM features ORDER BY 1"
        ).to_pylist()
        assert rows == [
            {"sample_id": "a", "split": "train", "extractor": "imagebind-audio", "steps": 2, "duration": 4.0},
            {"sample_id": "b", "split": None, "extractor": "imagebind-audio", "steps": 3, "duration": 4.0},
        ]
        undone = store.query("SELECT sample_id FROM samples ANTI JOIN features USING (dataset, sample_id)")
        assert undone.to_pylist() == [{"sample_id": "c"}]

    def test_bad_sql_is_one_line(self, store: FeatureStore) -> None:
        secret_of_the_caller = pa.table({"a": [1]})
        for sql, words in BAD_SQL:
            with pytest.raises(QueryError, match=words) as caught:
                store.query(sql)
            assert "\n" not in str(caught.value)
        assert len(secret_of_the_caller) == 1

    def test_query_takes_select_like_statements(self, store: FeatureStore) -> None:
        add_part(store, RECORD, {"a": features(2)})
        assert store.query("WITH f AS (FROM features) SELECT sample_id FROM f").to_pylist() == [
            {"sample_id": "a"}
        ]
        columns = store.query("DESCRIBE features")["column_name"].to_pylist()
        assert {"dataset", "channel", "fingerprint", "sample_id", "split", "steps", "source_hash"} <= {
            *columns
        }

    # Verification

    def test_verify_counts_and_lists_orphans(self, store: FeatureStore) -> None:
        add_part(store, RECORD, {"a": features(2), "b": features(3)})
        with store.writer(RECORD) as finished:
            finished.write("c", features(1))
        running = store.writer(RECORD)
        report = store.verify()
        assert report.ok
        assert (report.version, report.num_parts, report.num_rows) == (1, 1, 2)
        assert report.num_bytes == 5 * (2 * 3 * 2 + 4 * 5 * 2)
        assert finished.close().part in report.orphans
        # a local store has the running writer's folder, too
        assert len(report.orphans) == (1 if store.location.folder is None else 2)
        running.abort()
        assert store.verify().orphans == (finished.close().part,)
