"""Retraining: from the media as they are now to a challenger, and to a new champion if it is better.

List the media, extract what lacks features, train on the new snapshot, answer the same items with challenger and
champion, and promote by the paired interval. Each stage is found done by the next call: features in the store, the
training in a run folder that is named for what is learned (`lineage.training_lineage`), the answers in that folder,
the decision in the registry. So a retraining that was killed is simply started again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.config import ChannelEncoders, ExtractTogetherConfig, TrainConfig
from pipelines.errors import PipelineError, RunError
from pipelines.extract import ExtractReport, extract_together
from pipelines.feature_dataset import FeatureSource, open_source, read_instructions, with_features
from pipelines.lineage import patch_hashes, training_lineage
from pipelines.manifest import MANIFEST, PrepareReport, prepare
from pipelines.patch_events import KnownPatch, PatchScore
from pipelines.patch_registry import PatchRegistry
from pipelines.progress import ProgressFactory, silent
from pipelines.retrain_config import RetrainConfig
from pipelines.retrain_judge import Judgement, judge
from pipelines.retrain_news import News, first_news, news_since
from pipelines.retrain_report import RetrainReport
from pipelines.run_folder import PATCH_FOLDER, RUN_FILE, read_run
from pipelines.train import train
from store import FeatureStore
from tasks.instruction import Instruction

TAG = "patch-"  # of the snapshots that patches were trained on
_DIGITS = 12  # of an identity in the name of a run folder


@dataclass(frozen=True)
class Challenger:
    """What would be learned now: pinned settings, its identity, and the snapshot with all that is there."""

    config: TrainConfig
    identity: str
    source: FeatureSource
    instructions: list[Instruction]

    @property
    def run(self) -> Path:
        """Its run folder."""
        return self.config.out


def retrain(config: RetrainConfig, progress: ProgressFactory = silent) -> RetrainReport:
    """Retrain as configured; the same call again does nothing where nothing is new.

    A sample that is known to be unusable is not new, and neither are features that no instruction of the training
    is about: they are extracted, and nothing is trained.

    Raises RegistryError while another retraining has the registry, RunError when the champion's run folder is gone,
    and what `prepare`, `extract_together`, `train` and `evaluate` raise.
    """
    registry = PatchRegistry(config.registry)
    with registry.only_retraining():
        prepared = prepare(config.source, progress)
        extracted = _extract(config, progress)
        challenger = _challenger(
            config, prepared, {report.channel: report.fingerprint for report in extracted}
        )
        states = registry.states()
        champion = states.champion
        content = None if champion is None else _champion_run(champion)
        report = _report(prepared, extracted, challenger, champion, _news(challenger, champion, content))
        known = states.patches.get(challenger.run.absolute())
        settled = _settled(challenger, known, champion, content)
        if settled is not None:
            return report.model_copy(update={"decision": "nothing new", "reason": settled})
        run = _trained(challenger, progress)
        registry.register(
            challenger.run, run["snapshot"], run["patch"], f"trained on {report.news.summary()}"
        )
        judgement = judge(config, challenger.run, champion, challenger.source.version, progress)
        return _decide(config, registry, challenger, champion, judgement, report)


def _extract(config: RetrainConfig, progress: ProgressFactory) -> tuple[ExtractReport, ...]:
    assert config.train.features is not None  # RetrainConfig checks that all are there
    needed = {"frames", *config.train.channels}
    encoders = {name: found for name, found in config.train.features.given().items() if name in needed}
    settings = ExtractTogetherConfig(
        store=config.train.data.store,
        manifest=config.source.out / MANIFEST,
        max_failure_fraction=config.max_failure_fraction,
        execution=config.execution,
        channels=ChannelEncoders.model_validate(encoders),
    )
    return extract_together(settings, progress).reports


def _challenger(config: RetrainConfig, prepared: PrepareReport, fingerprints: dict[str, str]) -> Challenger:
    """What would be learned of the store as it is now."""
    store = FeatureStore.open(config.train.data.store, create=False)
    now = config.train.data.model_copy(
        update={"fingerprints": fingerprints, "snapshot": store.snapshot().version}
    )
    instructions = read_instructions(now)
    dataset = instructions[0].dataset
    if dataset != prepared.dataset:
        raise PipelineError(
            f"{now.instructions} is about dataset {dataset!r}, but the media are those of {prepared.dataset!r}; "
            "set source.dataset, or give the instructions of these media"
        )
    source = open_source(now, dataset, list(config.train.channels))
    usable, _ = with_features(instructions, source, now.max_missing_fraction)
    identity = training_lineage(config.train, source, usable)["identity"]
    name = f"{dataset}-{identity[:_DIGITS]}"
    tagged = store.tags().get(f"{TAG}{name}")  # of a training of this that was interrupted
    data = now if tagged is None else now.model_copy(update={"snapshot": tagged.version})
    pinned = config.train.model_copy(update={"out": config.runs / name, "data": data})
    return Challenger(pinned, identity, source, usable)


def _champion_run(champion: KnownPatch) -> dict[str, Any]:
    remedy = "restore it, or choose another champion with `pave patches rollback`"
    try:
        content = read_run(champion.run)
    except RunError as error:
        raise RunError(f"the run folder of champion {champion.run} is gone or damaged; {remedy}") from error
    if patch_hashes(champion.run / PATCH_FOLDER) != champion.patch:
        raise RunError(f"the patch of champion {champion.run} is not the one that was promoted; {remedy}")
    return content


def _news(challenger: Challenger, champion: KnownPatch | None, content: dict[str, Any] | None) -> News:
    if (
        champion is None or content is None or "identity" not in content
    ):  # or it was trained before there were any
        return first_news(challenger.instructions)
    if content["identity"] == challenger.identity:
        return News()
    return news_since(champion.run, content, challenger.config, challenger.source, challenger.instructions)


def _settled(
    challenger: Challenger,
    known: KnownPatch | None,
    champion: KnownPatch | None,
    content: dict[str, Any] | None,
) -> str | None:
    """Why there is nothing to decide; None where there is."""
    if content is not None and content.get("identity") == challenger.identity:
        return "the champion has learned all of this already"
    if known is None or champion is None:
        return None
    when = f"{known.event.time:%Y-%m-%d}"
    if known.state in ("rolled back", "former champion"):
        return (
            f"{known.run.name} has learned all of this already, and was replaced on {when} ({known.event.reason}); "
            "`pave patches promote` brings it back"
        )
    if known.event.kind == "reject" and known.event.against == champion.run:
        return f"{known.run.name} has learned all of this already, and was no better on {when} ({known.event.reason})"
    return None


def _trained(challenger: Challenger, progress: ProgressFactory) -> dict[str, Any]:
    """The run.json of the challenger, trained now unless it is there."""
    config = challenger.config
    if not (config.out / RUN_FILE).exists():
        snapshot = config.data.snapshot
        assert isinstance(snapshot, int)  # pinned by `_challenger`
        # before the training, which may take longer than a vacuum's grace period
        FeatureStore.open(config.data.store, create=False).tag(f"{TAG}{config.out.name}", snapshot)
        train(config, progress)
    run = read_run(config.out)
    if run.get("identity") != challenger.identity:
        raise RunError(f"{config.out} is the run of something else than its name says; move it away")
    return run


def _report(
    prepared: PrepareReport,
    extracted: tuple[ExtractReport, ...],
    challenger: Challenger,
    champion: KnownPatch | None,
    news: News,
) -> RetrainReport:
    """The report up to the decision."""
    run = None if champion is None else champion.run
    return RetrainReport(
        dataset=prepared.dataset,
        decision="nothing new",
        reason="",
        snapshot=challenger.source.version,
        samples=prepared.total,
        extracted={report.channel: report.done for report in extracted},
        failed={report.channel: len(report.failed) for report in extracted},
        known_failures={report.channel: report.skipped_failures for report in extracted},
        news=news,
        challenger=None,
        before=run,
        champion=run,
    )


def _decide(
    config: RetrainConfig,
    registry: PatchRegistry,
    challenger: Challenger,
    champion: KnownPatch | None,
    judgement: Judgement,
    report: RetrainReport,
) -> RetrainReport:
    verdict, run = judgement.verdict, challenger.run.absolute()
    score = PatchScore(
        metric=judgement.metric,
        value=judgement.score,
        file=judgement.file.absolute(),
        **({} if verdict is None else verdict.model_dump(include={"difference", "low", "high", "n"})),
    )
    before = None if champion is None else champion.run
    better = verdict is None or verdict.low > 0
    if verdict is None or before is None:
        reason = "the first patch"
    elif better:
        reason = f"better than {before.name}: {verdict.summary()}"
    else:
        reason = f"not better beyond chance than {before.name}: {verdict.summary()}"
    if better:
        registry.promote(run, reason, score, instead_of=before)
    else:
        if config.keep_snapshots == "promoted":  # first, because nobody comes back to what is rejected
            _untag(config.train.data.store, f"{TAG}{run.name}")
        registry.reject(run, reason, score, instead_of=before)
    return report.model_copy(
        update={
            "decision": "promoted" if better else "not promoted",
            "reason": reason,
            "challenger": run,
            "champion": run if better else before,
            "metric": judgement.metric,
            "score": judgement.score,
            "verdict": verdict,
        }
    )


def _untag(url: str, name: str) -> None:
    store = FeatureStore.open(url, create=False)
    if name in store.tags():
        store.untag(name)
