"""The chain behind a score: patch, run, base, snapshot, feature sets, media; and which of its links no longer hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.errors import PipelineError, RunError
from pipelines.feature_dataset import FeatureSource, open_features
from pipelines.lineage import file_hash, media_of, patch_hashes, read_items, sample_rows
from pipelines.manifest import MANIFEST, read_manifest
from pipelines.media_facts import look_at
from pipelines.progress import ProgressFactory, silent
from pipelines.run_folder import PATCH_FOLDER
from pipelines.score_file import ScoreFile, answered_samples, read_score
from store import FeatureStore, StoreError

_NOT_RECORDED = "(not recorded)"


@dataclass
class Link:
    """One link: what it is, what is recorded of it by name, and in `broken` what does not hold any more."""

    what: str
    facts: dict[str, str]
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Chain:
    """The links from the score on; `samples` are (sample_id, hash of its media) of those that were evaluated."""

    links: tuple[Link, ...]
    samples: tuple[tuple[str, str | None], ...]

    @property
    def broken(self) -> list[str]:
        """What does not hold any more."""
        return [f"{link.what}: {problem}" for link in self.links for problem in link.broken]


def lineage_chain(
    path: Path, check_media: bool = False, manifest: Path | None = None, progress: ProgressFactory = silent
) -> Chain:
    """The chain behind a scores.json, each link compared with what is there now.

    Args:
        check_media: read all media files of the evaluated samples again.
        manifest: where these are; default: manifest.parquet beside the instructions.

    Raises PipelineError for what is no score file, ManifestError for a manifest that is needed and cannot be read.
    """
    score = read_score(path)
    links = [_score_link(score)]
    if score.content.get("run") is not None:
        links += [_patch_link(score), _run_link(score)]
    links.append(_base_link(score))
    snapshot, source = _snapshot_link("snapshot", score.content, score.content["config"]["data"]["store"])
    links += [snapshot, *_feature_set_links(score.content, source)]
    samples: tuple[tuple[str, str | None], ...] = ()
    try:
        evaluated = answered_samples(score)
    except PipelineError as error:
        links[0].broken.append(str(error))
    else:
        link, samples = _media_link("media, evaluated", score.content, source, evaluated)
        if check_media:
            at = manifest or Path(score.content["config"]["data"]["instructions"]).with_name(MANIFEST)
            link.broken += _changed_media(dict(samples), at, progress)
        links.append(link)
    if score.run is not None:
        links += _training_links(Path(score.content["run"]), score.run)
    return Chain(tuple(links), samples)


def _score_link(score: ScoreFile) -> Link:
    content, report = score.content, score.content["report"]
    items = content.get("items", {})
    facts = {
        "file": str(score.path),
        "of": f"{report['model']} on {report['dataset']}, split {report['split']}",
        **{
            row["metric"]: "none" if row["value"] is None else f"{row['value']:.4f} over {row['n']} items"
            for row in report["scores"]
            if row["group"] is None
        },
        "items": f"{items['instructions']} answered, digest {items['digest'][:16]}"
        if items
        else _NOT_RECORDED,
        "code": _versions(content["code"]),
    }
    link = Link("score", facts)
    recorded = content.get("predictions")
    if recorded is not None and score.predictions.is_file() and file_hash(score.predictions) != recorded:
        link.broken.append(f"{score.predictions} has other content than when it was scored")
    return link


def _patch_link(score: ScoreFile) -> Link:
    folder = Path(score.content["run"]) / PATCH_FOLDER
    recorded = score.content.get("patch")
    told = {} if score.run is None else score.run.get("patch", {})
    facts = {"folder": str(folder), **({"files": _NOT_RECORDED} if recorded is None else recorded)}
    link = Link("patch", facts)
    if recorded is None:
        return link
    if not folder.is_dir():
        link.broken.append(f"{folder} is gone")
    elif patch_hashes(folder) != recorded:
        link.broken.append(f"{folder} has other content than when it was evaluated")
    if told and told != recorded:
        link.broken.append("what was evaluated is not what the run trained")
    return link


def _run_link(score: ScoreFile) -> Link:
    link = Link("run", {"folder": score.content["run"]})
    if score.run is None:
        link.broken.append("the run folder is gone or has no readable run.json")
        return link
    link.facts["code"] = _versions(score.run["code"])
    link.facts["identity"] = score.run.get("identity", _NOT_RECORDED)
    link.facts |= {f"config.{name}": value for name, value in _flat(score.run["config"]).items()}
    for channel, recorded in score.run.get("started_from", {}).items():
        folder = Path(score.run["config"]["start_from"][channel]) / PATCH_FOLDER
        if not folder.is_dir() or patch_hashes(folder) != recorded:
            link.broken.append(
                f"{folder} is gone or has other content than when {channel} was started from it"
            )
    return link


def _base_link(score: ScoreFile) -> Link:
    fingerprint = score.content.get("base_fingerprint", _NOT_RECORDED)
    link = Link("base", {"name": score.content["base"], "fingerprint": fingerprint})
    trained_on = fingerprint if score.run is None else score.run.get("base_fingerprint", fingerprint)
    if trained_on != fingerprint:
        link.broken.append(f"the run was trained on a base with fingerprint {trained_on}")
    return link


def _snapshot_link(what: str, content: Mapping[str, Any], url: str) -> tuple[Link, FeatureSource | None]:
    """The link of a snapshot, and its feature sets where it is still there."""
    version = content["snapshot"]
    link = Link(what, {"store": url, "version": str(version)})
    sets = {channel: found["name"].split("/") for channel, found in content["feature_sets"].items()}
    fingerprints = {channel: fingerprint for channel, (*_, fingerprint) in sets.items()}
    try:
        tags = FeatureStore.open(url, create=False).tags().values()
        names = [tag.name for tag in tags if tag.version == version]
        link.facts["tags"] = ", ".join(names) or "none: a vacuum may remove its features"
        side = [channel for channel in sets if channel != "frames"]
        return link, open_features(url, version, fingerprints, sets["frames"][0], side)
    except StoreError as error:
        link.broken.append(str(error))
        return link, None


def _feature_set_links(content: Mapping[str, Any], source: FeatureSource | None) -> list[Link]:
    now = {} if source is None else {"frames": source.frames, **source.side}
    links = []
    for channel, found in content["feature_sets"].items():
        facts = {
            "name": found["name"],
            "extractor": found["extractor"],
            "fingerprint": found["name"].split("/")[-1],
            "licence": found.get("licence", _NOT_RECORDED),
            **_flat(found["config"]),
        }
        link = Link(f"feature set {channel}", facts)
        if channel in now and now[channel].record.config != found["config"]:
            link.broken.append("the store has another configuration of it")
        links.append(link)
    return links


def _media_link(
    what: str, content: Mapping[str, Any], source: FeatureSource | None, sample_ids: set[str]
) -> tuple[Link, tuple[tuple[str, str | None], ...]]:
    """The media behind the samples, and those of the key frames with their hashes where the snapshot is there."""
    recorded = content.get("media", {})
    facts = {
        channel: f"{used['samples']} samples, digest {used['media'][:16]}"
        for channel, used in recorded.items()
    }
    link = Link(what, facts or {"digest": _NOT_RECORDED})
    if source is None:
        return link, tuple((sample_id, None) for sample_id in sorted(sample_ids))
    url = content["config"]["data"]["store"]
    hashes: dict[str, str | None] = {}
    for channel, features in {"frames": source.frames, **source.side}.items():
        rows = [row for row in sample_rows(url, source.version, features.record) if row[0] in sample_ids]
        hashes |= {sample_id: source_hash for sample_id, source_hash, *_ in rows}
        if channel in recorded and media_of(rows).model_dump() != recorded[channel]:
            link.broken.append(f"{channel}: the snapshot has other samples, media or features than recorded")
    return link, tuple(sorted(hashes.items()))


def _changed_media(hashes: Mapping[str, str | None], manifest: Path, progress: ProgressFactory) -> list[str]:
    found = read_manifest(manifest)
    media = {
        row["sample_id"]: json.loads(row["media"])
        for row in found.table.select(["sample_id", "media"]).to_pylist()
    }

    def problem(sample_id: str) -> str | None:
        if sample_id not in media:
            return f"{sample_id} is not in {manifest}"
        paths = {role: found.root / path for role, path in media[sample_id].items()}
        now = look_at(paths, sample_id).source_hash
        return None if now == hashes[sample_id] else f"{sample_id} has other content, or is gone"

    problems = []
    known = [sample_id for sample_id, source_hash in hashes.items() if source_hash is not None]
    with ThreadPoolExecutor() as pool, progress("read the media") as stage:
        for done, answer in enumerate(pool.map(problem, known), start=1):
            problems += [] if answer is None else [answer]
            stage.update(done, len(known), len(problems))
    return problems


def _training_links(folder: Path, run: Mapping[str, Any]) -> list[Link]:
    """Snapshot and media of the training."""
    snapshot, source = _snapshot_link("snapshot of the training", run, run["config"]["data"]["store"])
    try:
        sample_ids = {sample_id for sample_id, _ in read_items(folder).values()}
    except RunError as error:
        return [snapshot, Link("media, trained on", {"digest": _NOT_RECORDED}, [str(error)])]
    media, _ = _media_link("media, trained on", run, source, sample_ids)
    items = run.get("items")
    if items is not None:
        media.facts["instructions"] = f"{items['instructions']}, digest {items['digest'][:16]}"
    return [snapshot, media]


def _versions(code: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {version or 'unknown'}" for name, version in code.items())


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings by dotted name; those that are null or empty are left out."""
    found: dict[str, str] = {}
    for name, value in values.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{dotted}.")
        elif value not in (None, "", [], ()):
            found[dotted] = str(value)
    return found
