"""Features of a side channel from which what they tell is taken away, for the side-channel meter.

    zeroed      all numbers are zero
    shuffled    those of another sample, drawn so that none keeps its own
    shifted     rolled in time by half of the clip, under the timestamps as they were

Features are (T, S, D): T time steps, S tokens of a step, D dimension; companions are altered alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pipelines.config import Alteration
from pipelines.errors import PipelineError
from pipelines.feature_dataset import FeatureSource
from store import Features, FeatureSet
from store.features import Array


@dataclass(frozen=True)
class AlteredFeatures:
    """Stands in for the feature set where samples are read; `others` names whose features a sample gets."""

    features: FeatureSet
    how: Alteration
    others: Mapping[str, str]

    def __getitem__(self, sample_id: str) -> Features:
        """The altered features of a sample. Raises StoreError as the feature set does."""
        if self.how == "shuffled":
            return self.features[self.others[sample_id]]
        found = self.features[sample_id]
        change = (
            np.zeros_like if self.how == "zeroed" else partial(_shifted, steps=len(found.timestamps) // 2)
        )
        companions = {name: change(array) for name, array in found.companions.items()}
        return replace(found, values=change(found.values), companions=companions)

    def lengths(self, sample_ids: Sequence[str]) -> Array:
        """The time steps of each sample."""
        return self.features.lengths([self.others.get(name, name) for name in sample_ids])


def alter(
    source: FeatureSource, altered: Mapping[str, Alteration], sample_ids: Sequence[str], seed: int
) -> FeatureSource:
    """The source with channels altered, for these samples. Raises PipelineError for a channel that is not read, and
    for shuffling a single sample.
    """
    unknown = sorted(altered.keys() - source.side.keys())
    if unknown:
        raise PipelineError(
            f"the model reads no channel {unknown[0]!r}; it has {sorted(source.side) or 'none'}"
        )
    side = dict(source.side)
    for channel, how in altered.items():
        others = _derangement(sample_ids, seed) if how == "shuffled" else {}
        side[channel] = AlteredFeatures(source.side[channel], how, others)  # type: ignore[assignment]  # reads like one
    return replace(source, side=side)


def _derangement(sample_ids: Sequence[str], seed: int) -> dict[str, str]:
    """Another sample for each: the next one in a random round."""
    names = sorted(set(sample_ids))
    if len(names) < 2:
        raise PipelineError("one sample alone cannot be shuffled; evaluate more samples")
    around = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    return dict(zip(around, [*around[1:], around[0]], strict=True))


def _shifted(array: Array, steps: int) -> Array:
    return np.roll(array, steps, axis=0)
