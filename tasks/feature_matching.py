"""Which of the release's feature files belongs to a training sample: by a key made of the sample's video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.instruction import TaskError

BLOCKED_KEYS = frozenset({"00013654"})
"""Never used by the release."""
_SCENE_MARK, _SCENE_CHARS = "Scene", 13


@dataclass(frozen=True)
class FeatureFile:
    """What was found for one sample.

    Attributes:
        feature: file or folder; None: the release drops the sample, for `dropped`.
        video: the clip, where a mapping of videos was given.
        dropped: the reason, None for a sample that is kept.
    """

    feature: Path | None = None
    video: Path | None = None
    dropped: str | None = None


@dataclass(frozen=True)
class FeatureMapping:
    """Key -> path below `root`, as in the release's mapping files."""

    paths: Mapping[str, str]
    root: Path


def feature_key(video: str) -> str:
    """The key of a sample's `video`: its base name up to the FIRST dot, or 13 characters of the name of a cut.

    A name with a dot in it is thus cut short, and two videos of one base name have one key.
    """
    name = video.rsplit("/", 1)[-1]
    if _SCENE_MARK in name:
        name = name[:_SCENE_CHARS]
    return name.split(".", 1)[0]


def match_features(video: str, features: FeatureMapping, videos: FeatureMapping | None = None) -> FeatureFile:
    """The feature file of a sample, and its clip where `videos` is given, by the release's rule.

    Raises TaskError where the features are there and `videos` has no such key: the release crashes.
    """
    key = feature_key(video)
    if key in BLOCKED_KEYS:
        return FeatureFile(dropped=f"the key {key!r} is blocked")
    if key not in features.paths:
        return FeatureFile(dropped=f"the key {key!r} is not in the mapping of features")
    feature = features.root / features.paths[key]
    if not feature.exists():
        return FeatureFile(dropped=f"{feature} does not exist")
    if videos is None:
        return FeatureFile(feature)
    if key not in videos.paths:
        raise TaskError(f"{video}: the mapping of videos has no key {key!r}; add it, or match without videos")
    clip = videos.root / videos.paths[key]
    if not clip.exists():
        return FeatureFile(dropped=f"{clip} does not exist")
    return FeatureFile(feature, clip)
