"""`pave store ...`: asking a feature store what is in it."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines import store_transfer_commands, store_ui_command, store_upkeep_commands
from pipelines.store_options import (
    feature_set_named,
    opened,
    size,
    snapshot_of,
    store_option,
    version_option,
)

if TYPE_CHECKING:
    import pyarrow as pa


@click.group()
def store() -> None:
    """Look into a feature store, keep it in order, and move features in and out."""


@store.command()
@store_option
@version_option
def ls(url: str, version: str | None) -> None:
    """List the feature sets: samples with features, failures, size."""
    rows = [
        (row["feature_set"], row["samples"], row["failures"], size(row["bytes"]), row["licence"])
        for row in _overview(url, version)
    ]
    _echo_table(("feature set", "samples", "failures", "size", "licence of the encoder"), rows)


@store.command("size")
@store_option
@version_option
def how_big(url: str, version: str | None) -> None:
    """Show how big the feature sets are, and what the whole store takes."""
    rows = [
        (
            row["feature_set"],
            row["samples"],
            "-" if row["hours"] is None else f"{row['hours']:.2f}",
            row["steps"],
            row["parts"],
            size(row["bytes"]),
            size(row["bytes"] // row["samples"]) if row["samples"] else "-",
        )
        for row in _overview(url, version)
    ]
    _echo_table(("feature set", "samples", "hours", "steps", "parts", "size", "per sample"), rows)
    parts = list(opened(url).location.part_folders())
    click.echo(f"all versions: {len(parts)} parts, {size(sum(part.nbytes for part in parts))}")


@store.command()
@store_option
@version_option
def encoders(url: str, version: str | None) -> None:
    """Show which encoder made each feature set: extractor, weights, licence."""
    rows = [
        (
            row["feature_set"],
            row["extractor"],
            json.dumps(json.loads(row["config"]).get("encoder", "-")),
            row["licence"],
        )
        for row in _overview(url, version)
    ]
    _echo_table(("feature set", "extractor", "encoder", "licence"), rows)


@store.command()
@click.argument("feature_set")
@store_option
@version_option
def show(feature_set: str, url: str, version: str | None) -> None:
    """Show all that is known of FEATURE_SET, written dataset/channel or dataset/channel/fingerprint, as JSON."""
    from dataclasses import asdict

    found = feature_set_named(feature_set, url, version)
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
@version_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "parquet"]),
    default="table",
    show_default=True,
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write. [default: stdout]"
)
def query(sql: str, url: str, version: str | None, form: str, output: Path | None) -> None:
    """Run one SELECT over the views features, samples, instructions, feature_sets and failures.

    `features` is what the catalog version holds; the other views are the newest.
    """
    opened_store = opened(url)
    _write(opened_store.query(sql, snapshot_of(opened_store, version).version), form, output)


@store.command()
@click.argument("before")
@click.argument("after")
@store_option
@click.option("--list", "listed", is_flag=True, help="Every sample, not only counts.")
def diff(before: str, after: str, url: str, listed: bool) -> None:
    """Show what changed between two catalog versions (numbers, tags or moments)."""
    opened_store = opened(url)
    versions = [snapshot_of(opened_store, version).version for version in (before, after)]
    changes = opened_store.diff(*versions)
    if listed:
        _write(changes, "table", None)
        return
    counts = changes.group_by(["dataset", "channel", "fingerprint", "change"]).aggregate([([], "count_all")])
    rows = sorted(
        (f"{row['dataset']}/{row['channel']}/{row['fingerprint']}", row["change"], row["count_all"])
        for row in counts.to_pylist()
    )
    click.echo(f"catalog version {versions[0]} to {versions[1]}: {len(changes)} samples changed")
    if rows:
        _echo_table(("feature set", "change", "samples"), rows)


@store.command()
@click.argument("dataset")
@click.argument("channel")
@store_option
@version_option
@click.option("--fingerprint", help="Which feature set, where there are several.")
@click.option(
    "--manifest", type=click.Path(path_type=Path), help="Ask for its samples, not for all known ones."
)
def missing(
    dataset: str, channel: str, url: str, version: str | None, fingerprint: str | None, manifest: Path | None
) -> None:
    """List the samples of DATASET that have no features of CHANNEL, with the reason where one is known."""
    from store.features import check_name

    check_name("dataset", dataset)
    opened_store = opened(url)
    found = snapshot_of(opened_store, version).feature_set(dataset, channel, fingerprint)
    if manifest is None:
        # the name is checked: there is no quote in it
        known = opened_store.query(
            f"SELECT sample_id FROM samples WHERE dataset = '{dataset}' ORDER BY sample_id"
        )
    else:
        from pipelines.manifest import read_manifest

        known = read_manifest(manifest).table
    failures = opened_store.known_failures(dataset, channel, found.record.fingerprint)
    for sample_id in found.missing(known["sample_id"].to_pylist()):
        failure = failures.get(sample_id)
        click.echo(f"{sample_id}\t{failure.message if failure else 'not extracted yet'}")


for command in (store_ui_command.ui, *store_upkeep_commands.COMMANDS, *store_transfer_commands.COMMANDS):
    store.add_command(command)


def _overview(url: str, version: str | None) -> list[dict[str, Any]]:
    from pipelines.store_overview import overview

    opened_store = opened(url)
    return overview(opened_store, snapshot_of(opened_store, version).version)


def _echo_table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    from pipelines.plain_table import plain_table

    click.echo(plain_table(header, rows))


def _write(result: pa.Table, form: str, output: Path | None) -> None:
    if form == "parquet" and output is None and sys.stdout.isatty():
        from pipelines.errors import PipelineError

        raise PipelineError("Parquet is not for a terminal; give --output FILE")
    content = _as_parquet(result) if form == "parquet" else (_as_text(result, form) + "\n").encode()
    if output is None:
        click.echo(content, nl=False)
    else:
        output.write_bytes(content)


def _as_text(result: pa.Table, form: str) -> str:
    from pipelines.plain_table import plain_table

    if form == "json":
        return json.dumps(result.to_pylist(), indent=1, default=str)
    if form == "csv":
        return _as_csv(result)
    return plain_table(result.column_names, _rows(result))


def _rows(result: pa.Table) -> list[tuple[Any, ...]]:
    # not to_pylist(): two columns may have one name
    return list(zip(*(column.to_pylist() for column in result.columns), strict=True))


def _as_csv(result: pa.Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(result.column_names)
    writer.writerows(_rows(result))
    return text.getvalue().rstrip("\n")


def _as_parquet(result: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(result, sink)
    return sink.getvalue()
