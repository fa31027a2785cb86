"""What is new since a champion was trained: instructions, samples, features and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.config import Settings, TrainConfig
from pipelines.feature_dataset import FeatureSource
from pipelines.lineage import identity_settings, item_digests, read_items
from pipelines.setting_differences import differences
from store import FeatureStore
from tasks.instruction import Instruction


class News(Settings):
    """How what a challenger would learn differs from what the champion has learned; all of it without a champion.

    Instructions are compared by id and content. `new_samples` are those that no instruction was about before,
    `replaced_samples` those whose features have become others. `settings` are the names of changed ones.
    """

    new_instructions: int = 0
    changed_instructions: int = 0
    removed_instructions: int = 0
    new_samples: int = 0
    replaced_samples: int = 0
    feature_sets: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def summary(self) -> str:
        """A line for people."""
        counts = {
            "new instructions": self.new_instructions,
            "changed instructions": self.changed_instructions,
            "removed instructions": self.removed_instructions,
            "new samples": self.new_samples,
            "samples with other features": self.replaced_samples,
        }
        words = [f"{count} {what}" for what, count in counts.items() if count]
        words += [f"other features of {channel}" for channel in self.feature_sets]
        words += [f"setting {name}" for name in self.settings]
        return ", ".join(words) or "nothing"


def first_news(instructions: Sequence[Instruction]) -> News:
    """Everything, where there is no champion."""
    samples = {item.sample_id for item in instructions}
    return News(new_instructions=len(instructions), new_samples=len(samples))


def news_since(
    run: Path,
    content: Mapping[str, Any],
    config: TrainConfig,
    source: FeatureSource,
    instructions: Sequence[Instruction],
) -> News:
    """What differs from the run of the champion.

    Args: content: of its run.json. Raises RunError where the run folder does not say what it was trained on.
    """
    before, now = read_items(run), item_digests(instructions)
    samples_before = {sample_id for sample_id, _ in before.values()}
    samples_now = {item.sample_id for item in instructions}
    sets = {"frames": source.frames, **source.side}
    names = {channel: features.record.name for channel, features in sets.items()}
    names_before = {channel: found["name"] for channel, found in content["feature_sets"].items()}
    settings = identity_settings(config.model_dump(mode="json"))
    same_store = content["config"]["data"]["store"] == config.data.store
    replaced = (
        _replaced(config.data.store, content["snapshot"], source, names_before) if same_store else set()
    )
    return News(
        new_instructions=len(now.keys() - before.keys()),
        changed_instructions=sum(digest != before[name][1] for name, digest in now.items() if name in before),
        removed_instructions=len(before.keys() - now.keys()),
        new_samples=len(samples_now - samples_before),
        replaced_samples=len(replaced & samples_now & samples_before),
        feature_sets=tuple(
            channel for channel in sorted(names) if names[channel] != names_before.get(channel)
        ),
        settings=tuple(name for name, *_ in differences(identity_settings(content["config"]), settings)),
    )


def _replaced(url: str, version: int, source: FeatureSource, names: Mapping[str, str]) -> set[str]:
    """The samples whose features of the same feature sets are other numbers than at a version."""
    if version > source.version:
        return set()
    rows = FeatureStore.open(url, create=False).diff(version, source.version).to_pylist()
    sets = set(names.values())
    return {
        row["sample_id"]
        for row in rows
        if row["change"] == "replaced" and f"{row['dataset']}/{row['channel']}/{row['fingerprint']}" in sets
    }
