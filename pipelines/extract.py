"""Extracting channels of a dataset into the feature store, without doing anything twice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from queue import SimpleQueue
from threading import Event

from extractors import extractor_class
from extractors.contract import Extractor, FeatureSpec
from pipelines.config import (
    EXTRACT_CONFIGS,
    ExecutionConfig,
    ExtractConfig,
    ExtractTogetherConfig,
    Settings,
)
from pipelines.errors import ExtractionFailedError, PipelineError
from pipelines.extract_rows import Failure, WorkItem
from pipelines.manifest import Manifest, list_media, read_manifest
from pipelines.media_folders import find_media
from pipelines.progress import Progress, ProgressFactory, silent
from pipelines.sample_states import SampleStates, sample_states
from store import FailureRow, FeatureSetRecord, FeatureStore, PartRecord, TensorLayout

_MISSING_TRACK = "MissingTrackError"  # says nothing bad about the file
_LEAST_COMMIT_SECONDS = 0.1


class FailedSample(Settings):
    """A sample that this run could not do."""

    sample_id: str
    error_type: str
    message: str


class ExtractReport(Settings):
    """What one extraction did.

    Of `total` samples `already_done` had features before and `done` got them now; `failed` lists those found
    unusable now, and `skipped_failures` counts those known to be. `version` is the catalog version
    afterwards; `rate` is in samples a second, start and probing included.
    """

    channel: str
    dataset: str
    fingerprint: str
    store: str
    version: int
    total: int
    already_done: int
    done: int
    failed: tuple[FailedSample, ...]
    skipped_failures: int
    seconds: float
    rate: float

    def summary(self) -> str:
        """A few lines for people."""
        lines = [
            f"{self.dataset}/{self.channel}/{self.fingerprint}: {self.total} samples, "
            f"{self.already_done} were done, {self.done} done now in {self.seconds:.1f} s "
            f"({self.rate:.1f}/s), {len(self.failed)} failed, {self.skipped_failures} had failed before",
            f"store {self.store}, version {self.version}",
        ]
        return "\n".join(lines + [f"  failed: {item.sample_id}: {item.message}" for item in self.failed])


class TogetherReport(Settings):
    """What one extraction of several channels did: a report for each."""

    reports: tuple[ExtractReport, ...]

    def summary(self) -> str:
        """A few lines for people."""
        return "\n".join(report.summary() for report in self.reports)


def extract(channel: str, config: ExtractConfig, progress: ProgressFactory = silent) -> ExtractReport:
    """Extract what is missing of one channel; the same call again does nothing.

    Finished parts are committed on the way, so that a run that dies loses little. Failures are recorded in
    the store.

    Args: config: of the channel's own class (`EXTRACT_CONFIGS`).

    Raises UnknownChannelError; ManifestError for media or manifests that are not there; StoreError for a
    store that cannot be opened or written; WeightsError for an encoder that cannot be loaded; and, after all
    is recorded, ExtractionFailedError when more of the media is unusable than the configuration allows, or
    nothing of the manifest has features in the end.
    """
    return _extract({channel: extractor_of(channel, config)}, config, progress)[0]


def extract_together(config: ExtractTogetherConfig, progress: ProgressFactory = silent) -> TogetherReport:
    """As `extract` for several channels at once: a sample's files are opened once for all of them.

    A failure in one channel leaves the others of the sample alone. Raises what `extract` raises, for the first
    channel that failed as a whole.
    """
    extractors = {
        channel: extractor_class(channel)(encoder) for channel, encoder in config.channels.given().items()
    }
    return TogetherReport(reports=_extract(extractors, config, progress))


def _extract(
    extractors: dict[str, Extractor], config: ExtractConfig, progress: ProgressFactory
) -> tuple[ExtractReport, ...]:
    started = time.monotonic()
    store, manifest = _store_and_manifest(config, progress)
    feature_sets = {}
    for channel, extractor in extractors.items():
        feature_set = _feature_set(manifest.dataset, extractor)
        store.register(feature_set)
        feature_sets[channel] = feature_set
    store.add_samples(manifest.table)
    if manifest.instructions is not None:
        store.add_instructions(manifest.instructions)
    channels = {}
    for name, feature_set in feature_sets.items():
        states = sample_states(store, feature_set, manifest, config.retry_failed)
        store.record_failures(states.unrecorded)
        channels[name] = _Channel(extractors[name], feature_set, states)
    if any(channel.states.to_do for channel in channels.values()):
        with progress(f"extract {', '.join(channels)}") as stage:
            _Committer(store, channels, config.execution).carry_out(manifest, stage)
    reports = tuple(
        _report(channel, store, manifest, time.monotonic() - started) for channel in channels.values()
    )
    for report in reports:
        done = channels[report.channel]
        _check_outcome(report, done.states.failing | done.failures, config.max_failure_fraction)
    return reports


@dataclass
class _Channel:
    """One channel of an extraction: what is to do, and what came of it."""

    extractor: Extractor
    feature_set: FeatureSetRecord
    states: SampleStates
    num_done: int = 0
    failures: dict[str, FailureRow] = field(default_factory=dict)


def extractor_of(channel: str, config: ExtractConfig) -> Extractor:
    """The channel's extractor, not loaded.

    Raises UnknownChannelError, and PipelineError for the configuration of another channel.
    """
    made_by = extractor_class(channel)
    if not isinstance(config, EXTRACT_CONFIGS[channel]):
        raise PipelineError(
            f"{type(config).__name__} has no settings of the channel {channel!r}; "
            f"give {EXTRACT_CONFIGS[channel].__name__}"
        )
    extractor: Extractor = made_by(config.encoder)  # type: ignore[attr-defined]  # every channel's class has it
    return extractor


def _store_and_manifest(config: ExtractConfig, progress: ProgressFactory) -> tuple[FeatureStore, Manifest]:
    """Both, opened in an order that finds what is wrong before long work and leaves no store for nothing."""
    if config.manifest is not None:
        manifest = read_manifest(config.manifest)
        return FeatureStore.open(config.store), manifest
    found = find_media(config)
    store = FeatureStore.open(config.store)
    return store, list_media(found, config.dataset, progress)


def _feature_set(dataset: str, extractor: Extractor) -> FeatureSetRecord:
    spec: FeatureSpec = extractor.spec
    return FeatureSetRecord(
        dataset=dataset,
        channel=spec.channel,
        extractor=spec.extractor,
        version=spec.version,
        fingerprint=spec.fingerprint(),
        tensors=tuple(TensorLayout(**asdict(tensor)) for tensor in spec.tensors),
        rate_hz=spec.rate_hz,
        licence=spec.licence,
        config={"encoder": extractor.config.model_dump(mode="json"), "identity": dict(spec.identity)},
    )


def _report(channel: _Channel, store: FeatureStore, manifest: Manifest, seconds: float) -> ExtractReport:
    states = channel.states
    return ExtractReport(
        channel=channel.feature_set.channel,
        dataset=manifest.dataset,
        fingerprint=channel.feature_set.fingerprint,
        store=store.url,
        version=store.snapshot().version,
        total=len(manifest.table),
        already_done=len(states.done),
        done=channel.num_done,
        failed=tuple(
            FailedSample(sample_id=row.sample_id, error_type=row.error_type, message=row.message)
            for row in (*states.unrecorded, *channel.failures.values())
        ),
        skipped_failures=len(states.failing) - len(states.unrecorded),
        seconds=seconds,
        rate=channel.num_done / seconds,
    )


class _Committer:
    """Has the samples that are to do done, while a thread of its own commits what is finished."""

    def __init__(
        self, store: FeatureStore, channels: dict[str, _Channel], execution: ExecutionConfig
    ) -> None:
        self._store = store
        self._channels = channels
        self._execution = execution
        self._pending: SimpleQueue[PartRecord | FailureRow] = SimpleQueue()  # not in the store yet
        self._stop = Event()

    def carry_out(self, manifest: Manifest, stage: Progress) -> None:
        # slow to import, and not needed when there is nothing to do
        from pipelines import ray_extract

        channels = self._channels
        items = _work_items(channels, manifest)
        hashes = {item.sample_id: item.source_hash for item in items}
        total = sum(len(item.channels) for item in items)  # features of one sample and channel
        job = ray_extract.Job(
            {name: channel.extractor for name, channel in channels.items()},
            {name: channel.feature_set for name, channel in channels.items()},
            self._store.location,
        )
        stage.update(0, total, note="starting")
        with self._commits() as commits, closing(ray_extract.run(job, items, self._execution)) as finished:
            for news in finished:
                for part in news.parts:
                    channels[part.channel].num_done += len(part.rows)
                    self._pending.put(part)
                for failure in news.failures:
                    channel = channels[failure.channel]
                    row = _failure_row(failure, channel, hashes[failure.sample_id])
                    channel.failures[failure.sample_id] = row
                    self._pending.put(row)
                failed = sum(len(channel.failures) for channel in channels.values())
                done = sum(channel.num_done for channel in channels.values())
                stage.update(done + failed, total, failed)
                if commits.done():
                    break  # with an error, which comes up now

    @contextmanager
    def _commits(self) -> Iterator[Future[None]]:
        """Commits while the body runs, and what is left at its end, also when that is an error."""
        with ThreadPoolExecutor(1, "commits") as thread:
            commits = thread.submit(self._commit_regularly)
            try:
                yield commits
            finally:
                self._stop.set()
                commits.result()
                self._commit()

    def _commit_regularly(self) -> None:
        while not self._stop.wait(max(self._execution.commit_seconds, _LEAST_COMMIT_SECONDS)):
            self._commit()

    def _commit(self) -> None:
        finished = []
        while not self._pending.empty():
            finished.append(self._pending.get())
        if finished:
            self._store.commit([item for item in finished if isinstance(item, PartRecord)])
            self._store.record_failures([item for item in finished if isinstance(item, FailureRow)])


def _work_items(channels: dict[str, _Channel], manifest: Manifest) -> list[WorkItem]:
    """The samples that some channel has to do, in the manifest's order, each with its channels."""
    wanted: dict[str, list[str]] = {}
    for name, channel in channels.items():
        for row in channel.states.to_do:
            wanted.setdefault(row["sample_id"], []).append(name)
    return [
        WorkItem(
            row["sample_id"],
            {role: str(manifest.root / path) for role, path in json.loads(row["media"]).items()},
            row["source_hash"],
            row["duration"],
            tuple(wanted[row["sample_id"]]),
        )
        for row in manifest.table.to_pylist()
        if row["sample_id"] in wanted
    ]


def _failure_row(failure: Failure, channel: _Channel, source_hash: str | None) -> FailureRow:
    feature_set = channel.feature_set
    return FailureRow(
        sample_id=failure.sample_id,
        dataset=feature_set.dataset,
        channel=feature_set.channel,
        fingerprint=feature_set.fingerprint,
        error_type=failure.error_type,
        message=failure.message,
        permanent=failure.permanent,
        source_hash=source_hash,
        attempt=channel.states.attempts.get(failure.sample_id, 0) + 1,
    )


def _check_outcome(report: ExtractReport, failing: dict[str, FailureRow], max_fraction: float) -> None:
    """Raises ExtractionFailedError when the extraction is no success as a whole."""
    unusable = [row for row in failing.values() if row.error_type != _MISSING_TRACK]
    nothing = report.already_done + report.done == 0
    if not nothing and len(unusable) <= max_fraction * report.total:
        return
    shown = (unusable or list(failing.values()))[0]
    others = len(unusable or failing) - 1
    if nothing:
        what = f"none of the {report.total} samples gave {report.channel} features"
    else:
        what = f"{len(unusable)} of {report.total} samples are unusable, more than the allowed {max_fraction:.0%}"
    more = f" (and {others} more)" if others else ""
    raise ExtractionFailedError(
        f"{what}: {shown.sample_id}: {shown.message}{more}; see: "
        f'pave store query --store {report.store} "SELECT * FROM failures"'
    )
