"""SQL reaches the store's views and nothing else: no other file, no variable of the caller, no setting."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from tiny_store import TinyStore, add_part, features

from store import query
from store.errors import QueryError

FORBIDDEN = (
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_parquet('{parquet}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM '{parquet}'",
    "SELECT * FROM read_text('{store}/store.json')",
    "SELECT * FROM read_parquet('{store}/catalog/*.parquet')",
    "SELECT getenv('HOME')",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY features FROM '{secret}'",
    "EXPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/other.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET allowed_paths = ['{secret}']",
    "PRAGMA database_list",
    "CREATE TABLE t AS SELECT 1",
    "INSERT INTO catalog_rows SELECT * FROM catalog_rows",
    "SELECT 1; COPY features TO '{folder}/out.csv'",
    "SELECT * FROM caller_table",
    "SELECT * FROM CALLER_GLOBAL",
)


@pytest.mark.parametrize("through_arrow", [False, True])
def test_nothing_else_is_reached(
    make_store: Callable[..., TinyStore],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    through_arrow: bool,
) -> None:
    if through_arrow:
        monkeypatch.setattr(query, "_readable_files", lambda *_: [])
    caller_table = pa.table({"a": [1]})
    (tmp_path / "secret.csv").write_text("a\n1\n")
    pyarrow.parquet.write_table(caller_table, tmp_path / "secret.parquet")
    tiny = make_store()
    names = {"secret": tmp_path / "secret.csv", "parquet": tmp_path / "secret.parquet", "folder": tmp_path}
    before = sorted(tmp_path.iterdir())
    for sql in FORBIDDEN:
        with pytest.raises(QueryError):
            tiny.store.query(sql.format(store=tiny.store.url, **names))
    assert sorted(tmp_path.iterdir()) == before


CALLER_GLOBAL = pa.table({"a": [1]})


@pytest.mark.parametrize("name", ["plain", "it's a store", "ünï 100 store", "a*b"])
def test_any_folder_name_answers(make_store: Callable[..., TinyStore], name: str) -> None:
    tiny = make_store(name)
    assert tiny.store.query("SELECT count(*) AS n FROM features").to_pylist() == [{"n": 4}]


def test_newest_rows_win_whichever_way_the_tables_are_read(
    make_store: Callable[..., TinyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = make_store()
    again = min(tiny.samples)
    before = tiny.store.snapshot().version
    add_part(tiny.store, tiny.record, {again: features(7)})
    sql = "SELECT sample_id, steps, commit_seq FROM features ORDER BY sample_id"
    direct = [tiny.store.query(sql), tiny.store.query(sql, version=before)]
    steps = {row["sample_id"]: row["steps"] for row in direct[0].to_pylist()}
    assert steps == {name: len(sample.values) for name, sample in tiny.samples.items()} | {again: 7}
    assert len(direct[1]) == len(tiny.samples)
    monkeypatch.setattr(query, "_readable_files", lambda *_: [])
    assert [tiny.store.query(sql), tiny.store.query(sql, version=before)] == direct
