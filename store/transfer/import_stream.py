"""The stream that every import goes through: samples -> parts -> commits.

Memory is bounded by one sample, and a killed import loses at most the part that was being written; the next
one does only what is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from store.errors import SampleError
from store.feature_store import FeatureStore
from store.features import Features, FeatureSetRecord
from store.part_writer import PartWriter
from store.records import FailureRow, SampleRow
from store.transfer.errors import DuplicateSourceError, ImportSettingsError, UnusableFileError
from store.transfer.sample_names import printable
from store.transfer.source_files import SkippedFile

PART_BYTES = 128_000_000

Progress = Callable[[int, int, int], None]  # done, total, failed


def no_progress(done: int, total: int, failed: int) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class MediaFacts:
    """What the catalog keeps of a sample's media: duration in seconds, frame rate, frames, hash; None if unknown.

    Attributes:
        attributes: what else is known of the features, as plain JSON values.
    """

    duration: float | None = None
    fps: float | None = None
    n_frames: int | None = None
    source_hash: str | None = None
    attributes: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class SampleSource:
    """One sample that can be imported.

    Attributes:
        where: the file (or folder, or place in a file) it comes from, for messages.
        load: reads it; raises UnusableFileError.
    """

    sample_id: str
    where: str
    load: Callable[[], Features]
    media: MediaFacts = MediaFacts()


@dataclass(frozen=True)
class ImportReport:
    """The outcome of an import.

    Attributes:
        record: the feature set, as the store has it.
        version: catalog version that shows what was imported.
        total: samples that were found; `imported` + `already_present` + len(`failed`).
        failed: what could not be imported, also recorded in the store's `failures`.
        skipped: files that belong to no sample.
    """

    record: FeatureSetRecord
    version: int
    total: int
    imported: int
    already_present: int
    failed: tuple[FailureRow, ...]
    skipped: tuple[SkippedFile, ...] = ()

    def summary(self) -> str:
        """One line for a person."""
        return (
            f"{self.record.name}: {self.imported} of {self.total} samples imported, {self.already_present} there "
            f"already, {len(self.failed)} failed, {len(self.skipped)} files skipped; catalog version {self.version}"
        )


def import_samples(
    store: FeatureStore,
    record: FeatureSetRecord,
    sources: Sequence[SampleSource],
    *,
    skipped: Sequence[SkippedFile] = (),
    part_bytes: int = PART_BYTES,
    progress: Progress = no_progress,
) -> ImportReport:
    """Writes the samples that the feature set does not have yet, in the order given.

    A sample that cannot be read or stored becomes a failure, and the others go on. Samples that the store does not
    know yet are added to it, without media.

    Args:
        sources: in the order of writing; ids are valid Unicode and not empty.
        part_bytes: a new part is started, and the last one committed, after this many bytes of tensors.

    Raises DuplicateSourceError naming two sources of one sample, before anything is done; StoreError when the
    store cannot be written: what was committed until then stays.
    """
    _check_unique(sources)
    if part_bytes < 1:
        raise ImportSettingsError(f"part_bytes is {part_bytes}; give at least 1")
    store.register(record)
    feature_set = store.snapshot().feature_set(record.dataset, record.channel, record.fingerprint)
    missing = set(feature_set.missing([source.sample_id for source in sources]))
    _add_unknown_samples(store, record.dataset, sources)
    to_do = [source for source in sources if source.sample_id in missing]
    parts = _Parts(store, record, part_bytes)
    try:
        for source in to_do:
            parts.add(source)
            progress(parts.imported + len(parts.failed), len(to_do), len(parts.failed))
    finally:
        parts.commit()
    return ImportReport(
        record=feature_set.record,
        version=store.snapshot().version,
        total=len(sources),
        imported=parts.imported,
        already_present=len(sources) - len(to_do),
        failed=tuple(parts.failed),
        skipped=tuple(skipped),
    )


class _Parts:
    """Writes samples into one part after another and commits each when it is full."""

    def __init__(self, store: FeatureStore, record: FeatureSetRecord, part_bytes: int) -> None:
        self.imported = 0
        self.failed: list[FailureRow] = []
        self._store = store
        self._record = record
        self._part_bytes = part_bytes
        self._attempts = {
            sample_id: row.attempt
            for sample_id, row in store.known_failures(
                record.dataset, record.channel, record.fingerprint
            ).items()
        }
        self._writer: PartWriter | None = None
        self._bytes = 0
        self._num_recorded = 0  # of the failures

    def add(self, source: SampleSource) -> None:
        """Imports the sample, or notes its failure."""
        try:
            features = source.load()
            self._write(source, features)
        except (UnusableFileError, SampleError) as error:
            self._fail(source, error)
            return
        self.imported += 1
        tensors = (features.values, *features.companions.values())
        self._bytes += sum(tensor.nbytes for tensor in tensors)
        if self._bytes >= self._part_bytes:
            self.commit()

    def commit(self) -> None:
        """Makes visible what is written, and records the failures until now."""
        writer, self._writer, self._bytes = self._writer, None, 0
        if writer is not None:
            self._store.commit([writer.close()])
        self._store.record_failures(self.failed[self._num_recorded :])
        self._num_recorded = len(self.failed)

    def _write(self, source: SampleSource, features: Features) -> None:
        if self._writer is None:
            self._writer = self._store.writer(self._record)
        try:
            self._writer.write(source.sample_id, features, **asdict(source.media))
        except SampleError:
            raise  # nothing was written
        except BaseException:
            # half a sample may be in the part, also after an interrupt
            self._writer.abort()
            self._writer = None
            raise

    def _fail(self, source: SampleSource, error: UnusableFileError | SampleError) -> None:
        message = str(error) if isinstance(error, UnusableFileError) else f"{source.where}: {error.reason}"
        record = self._record
        self.failed.append(
            FailureRow(
                sample_id=source.sample_id,
                dataset=record.dataset,
                channel=record.channel,
                fingerprint=record.fingerprint,
                error_type=type(error).__name__,
                message=printable(message),
                permanent=True,
                attempt=self._attempts.get(source.sample_id, 0) + 1,
            )
        )


def _check_unique(sources: Sequence[SampleSource]) -> None:
    first: dict[str, SampleSource] = {}
    for source in sources:
        other = first.setdefault(source.sample_id, source)
        if other is not source:
            raise DuplicateSourceError(
                f"{other.where} and {source.where} are both sample {source.sample_id!r}; name each sample once"
            )


def _add_unknown_samples(store: FeatureStore, dataset: str, sources: Sequence[SampleSource]) -> None:
    """So that 'what is missing' sees also the samples that fail; what the store knows already is left alone."""
    # the record has checked the name: there is no quote in it
    known = store.query(f"SELECT sample_id FROM samples WHERE dataset = '{dataset}'")
    unknown = {source.sample_id: source.media for source in sources}
    for sample_id in known["sample_id"].to_pylist():
        unknown.pop(sample_id, None)
    if unknown:
        store.add_samples(
            [
                SampleRow(
                    dataset,
                    sample_id,
                    split=None,
                    media="{}",
                    duration=media.duration,
                    fps=media.fps,
                    n_frames=media.n_frames,
                    source_hash=media.source_hash,
                )
                for sample_id, media in unknown.items()
            ]
        )
