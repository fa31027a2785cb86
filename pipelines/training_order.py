"""The order in which a training sees its examples: decided by seed and epoch alone, the same in every process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

_POOL_BATCHES = 50  # that examples of similar length are looked for in; more would make epochs too much alike


class TrainingOrder(Sampler[int]):
    """The positions of all examples, each once an epoch; for `DataLoader(sampler=...)`.

    With `lengths`, each `batch_size` positions in a row are of similar length, so that little is padded: within
    pools of the shuffled examples the lengths are sorted, then the batches are shuffled. The batch with the longest
    example comes first, so that too little memory shows at once, and what fills no batch comes last, as it fell.
    Without, the order is that of accelerate's `SeedableRandomSampler`.

    transformers' `LengthGroupedSampler` is not used: it reads every example for its length, draws an order that
    cannot be resumed, and sorts pools from long to short, so that lengths drift from step to step.
    """

    def __init__(
        self, num_examples: int, batch_size: int, seed: int, lengths: Sequence[int] | None = None
    ) -> None:
        """Args: batch_size: examples of one forward pass, those of all processes together."""
        self._num_examples = num_examples
        self._batch_size = batch_size
        self._seed = seed
        self._lengths = lengths
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch, from 0, whose order the next iteration gives."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._num_examples

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        order = torch.randperm(self._num_examples, generator=generator).tolist()
        return iter(order if self._lengths is None else self._grouped(order, self._lengths, generator))

    def _grouped(self, order: list[int], lengths: Sequence[int], generator: torch.Generator) -> list[int]:
        size = self._batch_size
        num_full = len(order) // size * size
        pool = size * max(1, min(_POOL_BATCHES, len(order) // (4 * size)))
        by_length = [
            position
            for first in range(0, num_full, pool)
            for position in sorted(order[first : min(first + pool, num_full)], key=lengths.__getitem__)
        ]
        batches = [by_length[first : first + size] for first in range(0, num_full, size)]
        batches = [batches[at] for at in torch.randperm(len(batches), generator=generator).tolist()]
        longest = [max(lengths[position] for position in batch) for batch in batches]
        if batches:
            batches.insert(0, batches.pop(longest.index(max(longest))))
        return [position for batch in batches for position in batch] + order[num_full:]
