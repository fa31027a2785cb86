"""The order of the examples: a new one each epoch, the same in every process, similar lengths together."""

import random

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler
from torch.utils.data import BatchSampler

from pipelines.training_order import TrainingOrder

NUM_EXAMPLES, BATCH = 1003, 8
LENGTHS = random.Random(0).choices([20, 25, 30, 40, 90, 400], k=NUM_EXAMPLES)


def order(epoch: int = 0, seed: int = 3, lengths: list[int] | None = LENGTHS) -> list[int]:
    found = TrainingOrder(NUM_EXAMPLES, BATCH, seed, lengths)
    found.set_epoch(epoch)
    return list(found)


def padding(positions: list[int]) -> int:
    """Positions that are filled up in batches of these examples."""
    batches = [positions[first : first + BATCH] for first in range(0, len(positions), BATCH)]
    lengths = [[LENGTHS[position] for position in batch] for batch in batches]
    return sum(len(batch) * max(batch) - sum(batch) for batch in lengths)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_each_epoch_has_every_example_once_in_an_order_of_its_own(lengths: list[int] | None) -> None:
    first, second = order(0, lengths=lengths), order(1, lengths=lengths)
    assert sorted(first) == sorted(second) == list(range(NUM_EXAMPLES))
    assert first != second
    assert first == order(0, lengths=lengths)
    assert first != order(0, seed=4, lengths=lengths)


def test_similar_lengths_stand_together_and_the_lengths_do_not_drift() -> None:
    grouped = order()
    assert padding(grouped) < 0.15 * padding(order(lengths=None))
    assert LENGTHS[max(grouped[:BATCH], key=LENGTHS.__getitem__)] == max(LENGTHS), "memory runs out at once"
    whole = grouped[BATCH : NUM_EXAMPLES // BATCH * BATCH]
    means = (
        torch.tensor([LENGTHS[position] for position in whole], dtype=torch.float64).view(-1, BATCH).mean(1)
    )
    steps = torch.arange(len(means), dtype=torch.float64)
    within_a_pool = torch.corrcoef(torch.stack([steps[:48], means[:48]]))[0, 1]
    assert abs(within_a_pool) < 0.35


def test_examples_alike_and_few_examples_are_no_special_case() -> None:
    assert sorted(TrainingOrder(3, BATCH, 0, [5, 5, 5])) == [0, 1, 2]
    assert sorted(TrainingOrder(9, BATCH, 0, [5] * 9)) == list(range(9))


def test_without_lengths_the_order_is_the_one_that_earlier_runs_had() -> None:
    theirs = SeedableRandomSampler(range(NUM_EXAMPLES), data_seed=3)
    for epoch in range(2):
        theirs.set_epoch(epoch)
        assert order(epoch, lengths=None) == list(theirs)


@pytest.mark.parametrize("split_batches", [False, True])
def test_two_processes_see_the_batches_of_one(split_batches: bool) -> None:
    one = list(BatchSampler(order(), BATCH, drop_last=True))
    own = BATCH if split_batches else BATCH // 2
    shares = [
        list(BatchSamplerShard(BatchSampler(order(), own, drop_last=True), 2, process, split_batches))
        for process in range(2)
    ]
    together = [first + second for first, second in zip(*shares, strict=True)]
    assert together[: len(one)] == one
