"""`pave store ...`: looking into a feature store."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pyarrow as pa

    from store import FeatureStore

_OVERVIEW = """
WITH filled AS (
    SELECT dataset, channel, fingerprint, count(*) AS samples, sum(nbytes) AS bytes FROM features GROUP BY ALL
), failed AS (
    SELECT dataset, channel, fingerprint, count(DISTINCT sample_id) AS failures
    FROM failures f ANTI JOIN features USING (dataset, channel, fingerprint, sample_id) GROUP BY ALL
)
SELECT dataset || '/' || channel || '/' || fingerprint AS feature_set,
       coalesce(samples, 0) AS samples, coalesce(failures, 0) AS failures, coalesce(bytes, 0) AS bytes, licence
FROM feature_sets LEFT JOIN filled USING (dataset, channel, fingerprint)
     LEFT JOIN failed USING (dataset, channel, fingerprint)
ORDER BY ALL
"""

store_option = click.option(
    "--store", "folder", default="data/store", show_default=True, help="Folder of the feature store."
)


@click.group()
def store() -> None:
    """Look into a feature store."""


@store.command()
@store_option
def ls(folder: str) -> None:
    """List the feature sets: samples with features, failures, size."""
    from pipelines.plain_table import plain_table

    rows = [
        (row["feature_set"], row["samples"], row["failures"], _size(row["bytes"]), row["licence"])
        for row in _opened(folder).query(_OVERVIEW).to_pylist()
    ]
    click.echo(plain_table(("feature set", "samples", "failures", "size", "licence of the encoder"), rows))


@store.command()
@click.argument("feature_set")
@store_option
def show(feature_set: str, folder: str) -> None:
    """Show all that is known of FEATURE_SET, written dataset/channel or dataset/channel/fingerprint, as JSON."""
    from dataclasses import asdict

    from pipelines.errors import PipelineError

    parts = feature_set.split("/")
    if len(parts) not in (2, 3):
        raise PipelineError(f"{feature_set!r} names no feature set; write dataset/channel[/fingerprint]")
    found = _opened(folder).snapshot().feature_set(*parts)
    steps = found.lengths(found.sample_ids)
    content = {
        **asdict(found.record),
        "catalog_version": found.version,
        "samples": len(found),
        "time_steps": int(steps.sum()),
        "bytes": int(steps.sum()) * sum(layout.row_bytes for layout in found.record.tensors),
    }
    click.echo(json.dumps(content, indent=1))


@store.command()
@click.argument("sql")
@store_option
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True
)
@click.option("--version", type=int, help="Catalog version that `features` shows. [default: the newest]")
def query(sql: str, folder: str, form: str, version: int | None) -> None:
    """Run one SELECT over the views features, samples, feature_sets and failures."""
    click.echo(_FORMATS[form](_opened(folder).query(sql, version)))


@store.command()
@click.argument("dataset")
@click.argument("channel")
@store_option
@click.option("--fingerprint", help="Which feature set, where there are several.")
@click.option(
    "--manifest", type=click.Path(path_type=Path), help="Ask for its samples, not for all known ones."
)
def missing(dataset: str, channel: str, folder: str, fingerprint: str | None, manifest: Path | None) -> None:
    """List the samples of DATASET that have no features of CHANNEL, with the reason where one is known."""
    from store.features import check_name

    check_name("dataset", dataset)
    opened = _opened(folder)
    found = opened.snapshot().feature_set(dataset, channel, fingerprint)
    if manifest is None:
        # the name is checked: there is no quote in it
        known = opened.query(f"SELECT sample_id FROM samples WHERE dataset = '{dataset}' ORDER BY sample_id")
    else:
        from pipelines.manifest import read_manifest

        known = read_manifest(manifest).table
    failures = opened.known_failures(dataset, channel, found.record.fingerprint)
    for sample_id in found.missing(known["sample_id"].to_pylist()):
        failure = failures.get(sample_id)
        click.echo(f"{sample_id}\t{failure.message if failure else 'not extracted yet'}")


@store.command()
@store_option
def verify(folder: str) -> None:
    """Read every committed byte and check it; exit code 1 when something is wrong."""
    report = _opened(folder).verify()
    for problem in report.problems:
        click.echo(f"problem: {problem}")
    click.echo(
        f"catalog version {report.version}: {report.num_rows} samples in {report.num_parts} parts, "
        f"{_size(report.num_bytes)}; {len(report.problems)} problems, {len(report.orphans)} orphans (harmless)"
    )
    if not report.ok:
        raise click.exceptions.Exit(1)


def _opened(folder: str) -> FeatureStore:
    from store import FeatureStore

    return FeatureStore.open(folder, create=False)


def _as_table(result: pa.Table) -> str:
    from pipelines.plain_table import plain_table

    return plain_table(result.column_names, _rows(result))


def _rows(result: pa.Table) -> list[tuple[Any, ...]]:
    # not to_pylist(): two columns may have one name
    return list(zip(*(column.to_pylist() for column in result.columns), strict=True))


def _as_json(result: pa.Table) -> str:
    return json.dumps(result.to_pylist(), indent=1, default=str)


def _as_csv(result: pa.Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(result.column_names)
    writer.writerows(_rows(result))
    return text.getvalue().rstrip("\n")


_FORMATS: dict[str, Callable[[Any], str]] = {"table": _as_table, "json": _as_json, "csv": _as_csv}


def _size(num_bytes: int) -> str:
    """1.5 MB and the like."""
    size, units = float(num_bytes), ["B", "kB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"
