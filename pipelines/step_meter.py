"""What training steps spend their time on: how long they wait for batches, and how much they get through."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from pipelines import process_memory

MIB = 2**20


class StepMeter:
    """Counts from one reading to the next; the first begins when the first batch is asked for."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._waited = 0.0
        self._examples = 0
        self._tokens: Tensor | int = 0

    def watch(self, batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The same batches; the time until each is there is counted as waiting."""
        while True:
            asked = time.perf_counter()
            self._since = asked if self._since is None else self._since
            batch = next(batches, None)
            self._waited += time.perf_counter() - asked
            if batch is None:
                return
            self._examples += len(batch["input_ids"])
            self._tokens = self._tokens + batch["attention_mask"].sum()  # read later: it may be on a GPU
            yield batch

    def read(self, add_up: Callable[[Tensor], Tensor], device: torch.device) -> dict[str, float]:
        """The numbers since the last reading, and start again.

        `data_wait_share` of the time, 0 to 1; `examples_per_s` and `tokens_per_s` of all processes, text and video
        tokens without padding; `memory_mib` of this process without mapped files, and `cuda_memory_mib`, the
        most that tensors have taken on its GPU.

        Args: add_up: sums a tensor over the processes. device: where that is to happen.
        """
        now = time.perf_counter()
        elapsed = now - (now if self._since is None else self._since)
        counts = [elapsed, self._waited, float(self._examples), float(self._tokens), 1.0]
        elapsed, waited, examples, tokens, processes = add_up(
            torch.tensor(counts, dtype=torch.float64, device=device)
        ).tolist()
        self._since, self._waited, self._examples, self._tokens = now, 0.0, 0, 0
        seconds = max(elapsed / processes, 1e-9)
        numbers = {
            "data_wait_share": waited / processes / seconds,
            "examples_per_s": examples / seconds,
            "tokens_per_s": tokens / seconds,
        }
        if process_memory.is_known():
            numbers["memory_mib"] = process_memory.unmapped_memory() / MIB
        if device.type == "cuda":
            numbers["cuda_memory_mib"] = torch.cuda.max_memory_allocated(device) / MIB
        return numbers
