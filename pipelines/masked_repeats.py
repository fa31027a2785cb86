"""Equal shares for several processes: an epoch is filled up with repeats that teach nothing.

Processes take batches of one size in turn, so that the last optimizer step of an epoch would repeat examples where
one process trains on fewer. The repeats of an order are given as -1 - position, and their labels are masked: they
count neither in the loss nor in the number of tokens that it is divided by.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Dataset, Sampler

from pipelines.feature_dataset import Example, FeatureDataset
from pipelines.training_order import TrainingOrder

IGNORED = -100  # as a label, for the loss


class FilledOrder(Sampler[int]):
    """The positions of `order`, then repeats of the first ones up to a multiple of `multiple`."""

    def __init__(self, order: TrainingOrder, multiple: int) -> None:
        self._order = order
        self._multiple = multiple

    def __len__(self) -> int:
        return -(-len(self._order) // self._multiple) * self._multiple

    def __iter__(self) -> Iterator[int]:
        positions = list(self._order)
        yield from positions
        for index in range(len(self) - len(positions)):
            yield -1 - positions[index % len(positions)]


class MaskedRepeats(Dataset[Example]):
    """`dataset`, which at -1 - position has the example of that position with all labels masked."""

    def __init__(self, dataset: FeatureDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Example:
        if index >= 0:
            return self._dataset[index]
        example = self._dataset[-1 - index]
        return {**example, "labels": torch.full_like(example["labels"], IGNORED)}
