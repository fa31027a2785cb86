"""`pave store import ...` and `pave store export ...`: the bridges of a feature store to other formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.store_options import feature_set_named, opened, store_option, version_option

if TYPE_CHECKING:
    from store import FeatureStore
    from store.transfer.array_import import ArrayImport
    from store.transfer.import_stream import ImportReport
    from store.transfer.imported_record import MadeBy

_MOST_LINES = 10  # of each kind in a report: a folder may hold thousands of other files

_DTYPES = ["bfloat16", "float16", "float32"]
_path = click.Path(path_type=Path)


def _together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The options as one decorator, shown in their order."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_stream_options = _together(
    store_option,
    click.option(
        "--part-megabytes", type=click.IntRange(min=1), default=128, show_default=True, help="Size of a part."
    ),
)
_identity_options = _together(
    click.option("--dataset", help="Name of the dataset in the store."),
    click.option("--channel", help="Name of the channel in the store."),
    click.option("--dtype", type=click.Choice(_DTYPES), help="Of all files. [default: see above]"),
    click.option("--extractor", help="Who made the numbers."),
    click.option("--extractor-version", help="Version of the extractor."),
    click.option("--licence", help="Of the encoder's weights."),
    click.option(
        "--made-with",
        multiple=True,
        metavar="KEY=VALUE",
        help="What else decides the numbers, such as revision=2a1c; part of the fingerprint.",
    ),
)
_rate_option = click.option(
    "--rate-hz", type=float, help="Time steps per second. [default: time has no meaning]"
)
_id_options = _together(
    click.option(
        "--id-pattern",
        help="Regular expression for a file's path below the folder, with a group (?P<id>...).",
    ),
    click.option(
        "--id-format", default="{id}", show_default=True, help="Sample id from the groups, such as {id}.mp4."
    ),
)


@click.group("import")
def import_group() -> None:
    """Bring features from other formats into a store; what is there already is not done again."""


@import_group.command("release")
@click.argument("source", metavar="FOLDER", type=_path)
@click.option(
    "--kind",
    type=click.Choice(["audio", "dense", "depth3d", "exo"]),
    required=True,
    help="Kind of the files.",
)
@click.option("--task", help="The files are of this dataset, named as its release does; see `pave tasks`.")
@click.option("--root", type=_path, help="Where the official files of the task are.")
@_stream_options
@_identity_options
@_id_options
def import_release_command(
    source: Path,
    kind: Any,
    task: str | None,
    root: Path | None,
    id_pattern: str | None,
    id_format: str,
    **options: Any,
) -> None:
    """Import a folder of .pt features of the original PAVE release.

    With --task the ids are those of `pave prepare --task`. Else, by default: the path without .pt (audio, dense), or
    the folder (depth3d, exo). Default dtype: that of the release; with depth3d that of the first file.
    """
    from pipelines.errors import PipelineError
    from pipelines.released_features import released_ids
    from store.transfer.import_release import ReleaseImport, import_release
    from store.transfer.release_kinds import RELEASE_KINDS

    if (task is None) != (root is None) or (task is not None and id_pattern is not None):
        raise PipelineError(
            "give --task together with --root and without --id-pattern, or neither of the two"
        )
    ids = None if task is None or root is None else released_ids(task, root)
    settings = ReleaseImport(
        kind,
        options["dataset"] or task or _required(options, "dataset"),
        channel=options["channel"],
        made_by=_made_by(options, RELEASE_KINDS[kind].made_by),
        dtype=options["dtype"],
        id_pattern=id_pattern,
        id_format=id_format,
        ids=ids,
    )
    _import(
        f"import {kind}", source, options, lambda store, **how: import_release(store, source, settings, **how)
    )


@import_group.command("npy")
@click.argument("source", metavar="FOLDER", type=_path)
@_stream_options
@_identity_options
@_rate_option
@_id_options
def import_npy_command(source: Path, id_pattern: str | None, id_format: str, **options: Any) -> None:
    """Import a folder of .npy files, each (T, S, D) or (T, D).

    Default id: the path without .npy. Default dtype: that of the first file.
    """
    from store.transfer.import_npy import NPY_IDS, import_npy
    from store.transfer.source_files import IdRule

    settings = _array_settings(options)
    ids = IdRule(id_pattern or NPY_IDS.pattern, id_format)
    _import(
        "import npy",
        source,
        options,
        lambda store, **how: import_npy(store, source, settings, ids=ids, **how),
    )


@import_group.command("hdf5")
@click.argument("source", metavar="FILE", type=_path)
@_stream_options
@_identity_options
@_rate_option
@click.option(
    "--values", default="values", show_default=True, help="The dataset of all samples, where there is one."
)
def import_hdf5_command(source: Path, values: str, **options: Any) -> None:
    """Import an HDF5 file: an export of ours, or arrays.

    An export brings its feature set with it: give no dataset and no channel. Arrays are one dataset a sample,
    whose full name is the id, or one dataset of all samples with sample_ids and row_offsets beside it.
    """
    from store.transfer.import_hdf5 import import_hdf5

    names = (
        "dataset",
        "channel",
        "dtype",
        "extractor",
        "extractor_version",
        "licence",
        "made_with",
        "rate_hz",
    )
    settings = _array_settings(options) if any(options[name] for name in names) else None
    _import(
        "import hdf5",
        source,
        options,
        lambda store, **how: import_hdf5(store, source, settings, values=values, **how),
    )


@import_group.command("safetensors")
@click.argument("source", metavar="FOLDER", type=_path)
@_stream_options
def import_safetensors_command(source: Path, **options: Any) -> None:
    """Import a folder that `pave store export --format safetensors` wrote."""
    from store.transfer.safetensors_folder import import_safetensors

    _import(
        "import safetensors", source, options, lambda store, **how: import_safetensors(store, source, **how)
    )


@click.command("export")
@click.argument("feature_set")
@click.argument("target", type=_path)
@store_option
@click.option(
    "--format", "form", type=click.Choice(["hdf5", "safetensors"]), required=True, help="Of the target."
)
@click.option("--concatenated", is_flag=True, help="hdf5: one dataset of all samples, with an index.")
@version_option
def export_command(
    feature_set: str, target: Path, url: str, form: str, concatenated: bool, version: str | None
) -> None:
    """Write FEATURE_SET, named dataset/channel or dataset/channel/fingerprint, to TARGET.

    TARGET is a file for hdf5 and a folder for safetensors; it must not exist, and appears when it is whole.
    """
    from pipelines.errors import PipelineError
    from pipelines.progress import TerminalProgress
    from store.transfer.export_hdf5 import export_hdf5
    from store.transfer.safetensors_folder import export_safetensors

    if concatenated and form != "hdf5":
        raise PipelineError("--concatenated is for --format hdf5; leave it out")
    found = feature_set_named(feature_set, url, version)
    with TerminalProgress(f"export {form}") as stage:
        if form == "hdf5":
            layout: Any = "concatenated" if concatenated else "per_sample"
            count = export_hdf5(opened(url), found, target, layout=layout, progress=stage.update)
        else:
            count = export_safetensors(opened(url), found, target, progress=stage.update)
    click.echo(f"{found.record.name}, catalog version {found.version}: {count} samples in {target}")


COMMANDS = (import_group, export_command)


def _import(label: str, source: Path, options: dict[str, Any], function: Callable[..., ImportReport]) -> None:
    """Runs the import and prints its report; raises PipelineError when a sample failed."""
    from pipelines.errors import PipelineError
    from pipelines.progress import TerminalProgress
    from store import FeatureStore

    if not source.exists():  # before a store is made for nothing
        raise PipelineError(f"there is no {source}; check the path")
    store: FeatureStore = FeatureStore.open(options["url"])
    with TerminalProgress(label) as stage:
        report = function(store, part_bytes=options["part_megabytes"] * 1_000_000, progress=stage.update)
    _echo_some("skipped", [str(skipped) for skipped in report.skipped])
    _echo_some("failed", [f"{failure.sample_id}: {failure.message}" for failure in report.failed])
    click.echo(report.summary())
    if report.failed:
        raise PipelineError(
            f"{len(report.failed)} of {report.total} samples could not be imported, the first: "
            f"{report.failed[0].message}; mend the files and run the same command again"
        )


def _echo_some(label: str, lines: list[str]) -> None:
    for line in lines[:_MOST_LINES]:
        click.echo(f"{label}: {' '.join(line.split())}")
    if len(lines) > _MOST_LINES:
        click.echo(f"{label}: and {len(lines) - _MOST_LINES} more")


def _array_settings(options: dict[str, Any]) -> ArrayImport:
    from store.transfer.array_import import ArrayImport

    settings = ArrayImport(_required(options, "dataset"), _required(options, "channel"))
    return replace(
        settings,
        made_by=_made_by(options, settings.made_by),
        dtype=options["dtype"],
        rate_hz=options["rate_hz"],
    )


def _made_by(options: dict[str, Any], default: MadeBy) -> MadeBy:
    """The default with what the options say."""
    from pipelines.errors import PipelineError

    identity = dict(default.identity)
    for item in options["made_with"]:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise PipelineError(f"--made-with {item!r} cannot be read; write it like revision=2a1c")
        identity[key] = value
    return replace(
        default,
        extractor=options["extractor"] or default.extractor,
        version=options["extractor_version"] or default.version,
        licence=options["licence"] or default.licence,
        identity=identity,
    )


def _required(options: dict[str, Any], name: str) -> str:
    from pipelines.errors import PipelineError

    if not options[name]:
        raise PipelineError(f"the import needs a {name}; give --{name} NAME")
    return str(options[name])
