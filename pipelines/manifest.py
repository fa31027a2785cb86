"""From media to a manifest: a Parquet table with one row per sample.

Its columns are exactly those of the store's `SampleRow`. `media` is a JSON object from role to a POSIX path
below the media root; the root, absolute, is kept in the metadata of the Parquet schema. Nothing is dropped: a sample
of which no file can be used is a row with an `error`. One that has usable files has none, and fails only for the
channels that read its others.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.config import PrepareConfig, Settings
from pipelines.errors import ManifestError
from pipelines.media_facts import look_at
from pipelines.media_folders import FoundMedia, MediaItem, find_media, find_videos
from pipelines.progress import ProgressFactory, silent
from store.features import check_name
from store.records import SampleRow
from tasks import task_module
from tasks.instruction import Instruction

MANIFEST = "manifest.parquet"
INSTRUCTIONS = "instructions.parquet"
_INSTRUCTIONS_AT_ONCE = 4096
_MOST_SHOWN = 50  # files in a summary
_ROOT_KEY = b"pave_media_root"
_TYPES = {"duration": pa.float64(), "fps": pa.float64(), "n_frames": pa.int64(), "audio_streams": pa.int64()}
_SCHEMA = pa.schema([(field.name, _TYPES.get(field.name, pa.string())) for field in fields(SampleRow)])
_INSTRUCTION_SCHEMA = pa.schema(
    [(field.name, pa.float64() if field.name == "chance" else pa.string()) for field in fields(Instruction)]
)


class UnusableFile(Settings):
    """A file or folder of a sample that cannot be used, and why."""

    sample_id: str
    role: str
    error: str


@dataclass(frozen=True)
class Manifest:
    """Samples of one dataset.

    Attributes:
        table: the columns of `SampleRow`.
        root: absolute folder that the paths in `media` start from.
        dataset: the name that every row has.
        instructions: the columns of `InstructionRow`, where the manifest's folder has them.
        unusable: the files that cannot be used, where they were just looked at.
    """

    table: pa.Table
    root: Path
    dataset: str
    instructions: pa.Table | None = None
    unusable: tuple[UnusableFile, ...] = ()


class SplitMedia(Settings):
    """What media the instructions of one split have.

    Of `instructions` about `samples`, those of `whole` have every file of their sample, those of `partial` some.
    """

    split: str
    instructions: int
    samples: int
    whole: int
    partial: int

    def summary(self) -> str:
        """One line for people."""
        line = f"{self.split}: {self.instructions} instructions on {self.samples} samples, {self.whole} with all media"
        return line + (f", {self.partial} with a part" if self.partial else "")


class PrepareReport(Settings):
    """What `prepare` wrote.

    `num_unusable` counts the samples of which nothing can be used; `unusable` are all files that cannot be, also
    those of the other samples. `splits` is empty where there are no instructions.
    """

    dataset: str
    manifest: Path
    instructions: Path | None
    total: int
    num_instructions: int
    num_unusable: int
    unusable: tuple[UnusableFile, ...]
    splits: tuple[SplitMedia, ...] = ()

    def summary(self) -> str:
        """A few lines for people; of very many files that cannot be used, the first."""
        lines = [f"{self.dataset}: {self.total} samples, {self.num_unusable} unusable -> {self.manifest}"]
        if self.instructions is not None:
            lines.append(f"{self.num_instructions} instructions -> {self.instructions}")
        lines += [f"  {split.summary()}" for split in self.splits]
        shown = self.unusable[:_MOST_SHOWN]
        lines += [f"  unusable: {file.sample_id} ({file.role}): {file.error}" for file in shown]
        if len(self.unusable) > len(shown):
            lines.append(f"  ... and {len(self.unusable) - len(shown):,} more files that cannot be used")
        return "\n".join(lines)


def prepare(config: PrepareConfig, progress: ProgressFactory = silent) -> PrepareReport:
    """Write the manifest, and a task's instructions, into the folder `config.out`.

    Raises ManifestError for a missing or empty folder, paths outside of the root, and places that cannot be
    written; TaskError when a task's annotations are not what they should be; UnsafeNameError for a dataset
    name that the store cannot have.
    """
    questions: list[Instruction] | None = None
    if config.task is None:
        manifest = list_media(find_media(config), config.dataset, progress)
    else:
        assert config.root is not None  # PrepareConfig checks that it is there
        manifest, questions = _task_manifest(config.task, config.root, config.dataset, progress)
    instructions = None if questions is None else config.out / INSTRUCTIONS
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        if questions is not None and instructions is not None:
            _write_instructions(questions, instructions)
        write_manifest(manifest, config.out / MANIFEST)
    except OSError as error:
        reason = f"cannot write the manifest to {config.out}: {error.strerror}"
        raise ManifestError(f"{reason}; choose a folder that you may write to") from error
    return PrepareReport(
        dataset=manifest.dataset,
        manifest=config.out / MANIFEST,
        instructions=instructions,
        total=len(manifest.table),
        num_instructions=len(questions or []),
        num_unusable=len(manifest.table) - manifest.table["error"].null_count,
        unusable=manifest.unusable,
        splits=_media_of_splits(questions or [], manifest),
    )


def build_manifest(videos: Path, dataset: str | None = None, progress: ProgressFactory = silent) -> Manifest:
    """The manifest of a folder's videos, or of one file, as `list_media` makes it of `find_videos`."""
    return list_media(find_videos(videos), dataset, progress)


def list_media(found: FoundMedia, dataset: str | None = None, progress: ProgressFactory = silent) -> Manifest:
    """The manifest of what was found in a folder; what cannot be used has its reason.

    Args: dataset: None for the folder's name, made fit for the store.

    Raises ManifestError for paths outside of the folder.
    """
    return _manifest(found.items, found.root, dataset or safe_name(found.name), progress)


def safe_name(name: str) -> str:
    """`name` with whatever a dataset's name in the store cannot have replaced."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-")[:128] or "videos"


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest under a temporary name, then rename it."""
    metadata = {_ROOT_KEY: os.fsencode(manifest.root)}
    _write(manifest.table.replace_schema_metadata(metadata), path)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest: the file, or the folder that holds `manifest.parquet`.

    Raises ManifestError when it is missing, not a manifest, empty, of several datasets, or names paths
    outside of its root; and when the root is gone.
    """
    if path.is_dir():
        path = path / MANIFEST
    if not path.is_file():
        raise ManifestError(f"there is no manifest {path}; make one with: pave prepare")
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ManifestError(f"{path} is no Parquet file; make it again with: pave prepare") from error
    metadata = table.schema.metadata or {}
    if _ROOT_KEY not in metadata or set(table.column_names) != set(_SCHEMA.names):
        raise ManifestError(f"{path} is no manifest of PAVE; make one with: pave prepare")
    root = Path(os.fsdecode(metadata[_ROOT_KEY]))
    if not root.is_dir():
        raise ManifestError(f"the media folder {root} of {path} is gone; bring it back or prepare again")
    datasets = table["dataset"].unique().to_pylist()
    if len(datasets) != 1:
        raise ManifestError(f"{path} has rows of {len(datasets)} datasets; a manifest has one")
    for row in table.select(["sample_id", "media"]).to_pylist():
        _check_paths(row["sample_id"], json.loads(row["media"]))
    return Manifest(table.replace_schema_metadata(None), root, datasets[0], _instructions_beside(path))


def media_path(manifest: Path, sample_id: str, role: str) -> Path:
    """The absolute path of one sample's media. Raises ManifestError, also as `read_manifest` does."""
    found = read_manifest(manifest)
    for row in found.table.select(["sample_id", "media"]).to_pylist():
        if row["sample_id"] == sample_id:
            media: dict[str, str] = json.loads(row["media"])
            if role not in media:
                raise ManifestError(
                    f"{sample_id} has no {role!r} in {manifest}; it has: {', '.join(sorted(media))}"
                )
            return found.root / media[role]
    raise ManifestError(f"{manifest} has no sample {sample_id!r}; its dataset is {found.dataset!r}")


def _instructions_beside(manifest: Path) -> pa.Table | None:
    path = manifest.with_name(INSTRUCTIONS)
    if not path.is_file():
        return None
    try:
        return pq.read_table(path).select(_INSTRUCTION_SCHEMA.names)
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise ManifestError(
            f"{path} is no instructions file of PAVE; make it again with: pave prepare"
        ) from error


def _task_manifest(
    task: str, root: Path, dataset: str | None, progress: ProgressFactory
) -> tuple[Manifest, list[Instruction]]:
    module = task_module(task)
    if not root.is_dir():
        raise ManifestError(f"there is no folder {root}; give the folder that holds {task}")
    samples, questions = module.load(root)
    name: str = dataset or module.DATASET
    items = [MediaItem(sample.sample_id, sample.split, sample.media) for sample in samples]
    manifest = _manifest(items, root.absolute(), name, progress)
    return manifest, [replace(question, dataset=name) for question in questions]


def _media_of_splits(questions: Sequence[Instruction], manifest: Manifest) -> tuple[SplitMedia, ...]:
    """The media of each split's instructions, in the order in which the splits come."""
    table = manifest.table.select(["sample_id", "error"])
    without = {row["sample_id"] for row in table.to_pylist() if row["error"] is not None}
    partial = {file.sample_id for file in manifest.unusable} - without
    by_split: dict[str, list[str]] = {}
    for question in questions:
        by_split.setdefault(question.split, []).append(question.sample_id)
    return tuple(
        SplitMedia(
            split=split,
            instructions=len(sample_ids),
            samples=len(set(sample_ids)),
            whole=sum(name not in without and name not in partial for name in sample_ids),
            partial=sum(name in partial for name in sample_ids),
        )
        for split, sample_ids in by_split.items()
    )


def _manifest(items: Sequence[MediaItem], root: Path, dataset: str, progress: ProgressFactory) -> Manifest:
    check_name("dataset", dataset)
    for item in items:
        _check_paths(item.sample_id, item.media)
    rows = []
    unusable: list[UnusableFile] = []
    failed = 0
    # FFmpeg and hashing let other threads run
    with ThreadPoolExecutor() as pool, progress("read the media") as stage:
        for row, broken in pool.map(lambda item: _row(item, root, dataset), items):
            rows.append(asdict(row))
            unusable += broken
            failed += row.error is not None
            stage.update(len(rows), len(items), failed)
    return Manifest(pa.Table.from_pylist(rows, _SCHEMA), root, dataset, unusable=tuple(unusable))


def _check_paths(sample_id: str, media: Mapping[str, str]) -> None:
    for path in media.values():
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ManifestError(
                f"{sample_id}: the media path {path!r} leaves the media folder; give paths below it"
            )


def _row(item: MediaItem, root: Path, dataset: str) -> tuple[SampleRow, list[UnusableFile]]:
    found = look_at({role: root / path for role, path in item.media.items()}, item.sample_id)
    row = SampleRow(
        dataset,
        item.sample_id,
        item.split,
        json.dumps(dict(item.media), sort_keys=True),
        source_hash=found.source_hash,
        error=found.error,
        **vars(found.facts),
    )
    broken = [
        UnusableFile(sample_id=item.sample_id, role=role, error=error)
        for role, error in sorted(found.errors.items())
    ]
    return row, broken


def _write_instructions(questions: Sequence[Instruction], path: Path) -> None:
    """Write them some thousand at a time: as rows they are larger than as records."""
    temporary = path.with_name(f".{path.name}.part")
    with pq.ParquetWriter(temporary, _INSTRUCTION_SCHEMA) as writer:
        for start in range(0, len(questions), _INSTRUCTIONS_AT_ONCE):
            rows = [asdict(question) for question in questions[start : start + _INSTRUCTIONS_AT_ONCE]]
            writer.write_table(pa.Table.from_pylist(rows, _INSTRUCTION_SCHEMA))
    os.replace(temporary, path)


def _write(table: pa.Table, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.part")
    pq.write_table(table, temporary)
    os.replace(temporary, path)
