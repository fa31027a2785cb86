"""transformers' Trainer with the data path of a patch: order of the examples, reading ahead, and what steps cost."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipelines.read_ahead import read_ahead
from pipelines.step_meter import StepMeter
from pipelines.training_order import TrainingOrder


class MeteredTrainer(Trainer):  # type: ignore[misc]  # transformers has no types
    """Arguments as for `Trainer`, whose training dataset must have a length, and:

    Args:
        lengths: of the examples, to put similar ones into a batch; None: batches as they fall.
        group_size: examples that are put together by length; default: those of a forward pass of all processes.
        prefetch: batches that a thread reads ahead; without effect where loader workers do.

    Each logged loss comes with the numbers of `StepMeter.read`, and with the learning rate of each group of
    parameters that has a "part", as `PART_learning_rate`.
    """

    def __init__(
        self,
        *args: Any,
        lengths: Sequence[int] | None = None,
        group_size: int | None = None,
        prefetch: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.meter = StepMeter()
        self._order = TrainingOrder(
            len(self.train_dataset),
            group_size or self.args.train_batch_size * self.args.world_size,
            self.args.seed if self.args.data_seed is None else self.args.data_seed,
            lengths,
        )
        self.add_callback(_EpochBegins(self._begin_epoch))
        self._prefetch = 0 if self.args.dataloader_num_workers else prefetch
        self._epoch_batches: Iterator[Any] | None = None
        self._batches: Generator[Any] | None = None
        self._part_rates: dict[str, float] = {}

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`; no thread is left when it returns or raises."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._read(None)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The batches of the next optimizer step."""
        if epoch_iterator is not self._epoch_batches:
            self._read(epoch_iterator)
        assert self._batches is not None
        return super().get_batch_samples(self.meter.watch(self._batches), num_batches, device)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add to a logged loss what its steps cost; in all processes at once."""
        if "loss" in logs:
            logs |= self._part_rates
            logs |= self.meter.read(self._add_up, self.args.device)
        super().log(logs, start_time)

    def _add_up(self, counts: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.accelerator.reduce(counts, reduction="sum")
        return total

    def _begin_epoch(self, epoch: int) -> None:
        # the thread must be done with the loader before that is told of the next epoch
        self._read(None)
        # the Trainer's own way does not reach the order in a resumed run of several processes
        self._order.set_epoch(epoch)

    def _read(self, epoch_iterator: Iterator[Any] | None) -> None:
        """Begin to read an epoch, and stop reading the one before."""
        if self._batches is not None:
            self._batches.close()
        self._epoch_batches = epoch_iterator
        self._batches = None if epoch_iterator is None else read_ahead(epoch_iterator, self._prefetch)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self._order

    def _get_learning_rate(self) -> Any:
        # asked for right before the schedule goes on: these are the rates of the step that is logged
        self._part_rates = {
            f"{group['part']}_learning_rate": float(group["lr"])
            for group in self.optimizer.param_groups
            if "part" in group
        }
        return super()._get_learning_rate()


class _EpochBegins(TrainerCallback):  # type: ignore[misc]
    def __init__(self, begin: Callable[[int], None]) -> None:
        self._begin = begin

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._begin(int(state.epoch))
