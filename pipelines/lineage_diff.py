"""What changed between two scores, from settings to media."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import PipelineError
from pipelines.lineage import read_items
from pipelines.prediction_file import read_predictions
from pipelines.score_file import ScoreFile, read_score
from pipelines.setting_differences import differences
from store import FeatureStore, StoreError

_NUM_LISTED = 5


def lineage_diff(first: Path, second: Path) -> dict[str, list[str]]:
    """What differs between two scores.json, by subject, each difference a line; subjects without are left out.

    What cannot be compared any more, because a run or store is gone, is told in the same place. Raises PipelineError
    for what is no score file.
    """
    one, other = read_score(first), read_score(second)
    subjects: dict[str, Callable[[ScoreFile, ScoreFile], list[str]]] = {
        "scores": _scores,
        "evaluation settings": lambda a, b: _settings(_without_out(a.content), _without_out(b.content)),
        "training settings": _training_settings,
        "patch": _patch,
        "base": lambda a, b: _settings(_base(a), _base(b)),
        "snapshot": lambda a, b: _snapshots(_evaluated(a), _evaluated(b)),
        "snapshot of the training": lambda a, b: _snapshots(_trained(a), _trained(b)),
        "feature sets": lambda a, b: _settings(a.content["feature_sets"], b.content["feature_sets"]),
        "items": _items,
        "instructions of the training": _training_items,
        "media": lambda a, b: _settings(_media(a.content), _media(b.content)),
        "media of the training": lambda a, b: _settings(_media(a.run), _media(b.run)),
        "code": lambda a, b: _settings(a.content["code"], b.content["code"]),
        "code of the training": lambda a, b: _settings(_code(a.run), _code(b.run)),
    }
    found = {subject: compare(one, other) for subject, compare in subjects.items()}
    return {subject: lines for subject, lines in found.items() if lines}


def _settings(first: Any, second: Any) -> list[str]:
    return [f"{name}: {before} -> {after}" for name, before, after in differences(first, second)]


def _scores(one: ScoreFile, other: ScoreFile) -> list[str]:
    values = [
        {row["metric"]: row["value"] for row in score.content["report"]["scores"] if row["group"] is None}
        for score in (one, other)
    ]
    return _settings(*values)


def _without_out(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content["config"].items() if name != "out"} | {
        "generation": content.get("generation", {})
    }


def _training_settings(one: ScoreFile, other: ScoreFile) -> list[str]:
    if one.content.get("run") == other.content.get("run"):
        return []
    unreadable = [
        str(score.content["run"])
        for score in (one, other)
        if score.content.get("run") is not None and score.run is None
    ]
    if unreadable:
        return [f"not known: the run folder {folder} is gone" for folder in unreadable]
    first, second = ({} if score.run is None else score.run["config"] for score in (one, other))
    return _settings(first, second)


def _patch(one: ScoreFile, other: ScoreFile) -> list[str]:
    first, second = (score.content.get("patch") for score in (one, other))
    if first is None or second is None:
        return ["not known: a score file of an older version does not name its patch"]
    return _settings(first, second)


def _base(score: ScoreFile) -> dict[str, Any]:
    return {name: score.content.get(name) for name in ("base", "base_fingerprint")}


def _media(content: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if content is None else dict(content.get("media", {}))


def _code(content: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if content is None else content["code"]


def _evaluated(score: ScoreFile) -> tuple[str, int, set[str]]:
    """Store, version and feature sets that were read."""
    return _place(score.content)


def _trained(score: ScoreFile) -> tuple[str, int, set[str]] | None:
    return None if score.run is None else _place(score.run)


def _place(content: Mapping[str, Any]) -> tuple[str, int, set[str]]:
    names = {found["name"] for found in content["feature_sets"].values()}
    return content["config"]["data"]["store"], content["snapshot"], names


def _snapshots(
    first: tuple[str, int, set[str]] | None, second: tuple[str, int, set[str]] | None
) -> list[str]:
    """The samples that came, went, or got other features between two snapshots, by feature set."""
    if first is None or second is None or first[:2] == second[:2]:
        return []
    (url, before, sets), (other_url, after, other_sets) = first, second
    if url != other_url:
        return [f"store: {url} -> {other_url}"]
    lines = [f"version: {before} -> {after}"]
    try:
        rows = FeatureStore.open(url, create=False).diff(before, after).to_pylist()
    except StoreError as error:
        return [*lines, f"not known which samples differ: {error}"]
    changed: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        name = f"{row['dataset']}/{row['channel']}/{row['fingerprint']}"
        if name in sets | other_sets:
            changed.setdefault((name, row["change"]), []).append(row["sample_id"])
    return lines + [f"{name}: {_listed(change, ids)}" for (name, change), ids in sorted(changed.items())]


def _items(one: ScoreFile, other: ScoreFile) -> list[str]:
    try:
        first, second = (read_predictions(score.predictions).items for score in (one, other))
    except PipelineError as error:
        return [f"not known: {error}"]
    texts = [
        {name: (item.question, item.answer) for name, item in items.items()} for items in (first, second)
    ]
    return _id_changes(*texts)


def _training_items(one: ScoreFile, other: ScoreFile) -> list[str]:
    if one.run is None or other.run is None or one.content["run"] == other.content["run"]:
        return []
    try:
        first, second = (read_items(Path(score.content["run"])) for score in (one, other))
    except PipelineError as error:
        return [f"not known: {error}"]
    return _id_changes(first, second)


def _id_changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    changes = {
        "only in A": [name for name in first if name not in second],
        "only in B": [name for name in second if name not in first],
        "changed": [name for name, content in first.items() if name in second and second[name] != content],
    }
    return [_listed(what, names) for what, names in changes.items() if names]


def _listed(what: str, names: Iterable[str]) -> str:
    ordered = sorted(names)
    return f"{len(ordered)} {what}: {', '.join(ordered[:_NUM_LISTED])}" + (
        ", ..." if len(ordered) > _NUM_LISTED else ""
    )
