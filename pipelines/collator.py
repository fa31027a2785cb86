"""From examples to the arguments of the patched model: texts and features of a batch, padded.

Shapes: B examples, L text positions, F key frames, S tokens of a key frame, C_v width of the vision tower, D width
of the language model, T steps of a side channel (T_pad in a batch) with S_k tokens of width C_s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pave_model.config import TooLong
from pave_model.sequence_assembly import PaddingSide, pad_batch
from pipelines.errors import MissingFeaturesError
from pipelines.feature_dataset import Example


class Collator:
    """Pads examples into the arguments of `PatchedVideoLLM.forward`; on the left for generation.

    An example with more ids than `max_length` is an error, or loses its end with `too_long="truncate"`.
    """

    def __init__(
        self,
        pad_token_id: int,
        padding_side: PaddingSide = "right",
        max_length: int | None = None,
        too_long: TooLong = "error",
    ) -> None:
        self.pad_token_id = pad_token_id
        self.padding_side = padding_side
        self.max_length = max_length
        self.too_long = too_long

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """(B, L) ids, mask and labels; (B, F, S, .) key frames; per channel (B, T_pad, S_k, C_s), lengths, times.

        `sample_ids` are the names of the B samples, for errors. Raises MissingFeaturesError when the examples have
        different numbers of key frames, and PromptError when one is too long.
        """
        if len({len(example["frame_times"]) for example in examples}) > 1:
            raise MissingFeaturesError(
                "a batch mixes clips with different numbers of key frames; extract them again"
            )
        sample_ids = [example["sample_id"] for example in examples]
        text = pad_batch(
            [example["input_ids"] for example in examples],
            [example["labels"] for example in examples] if len(examples[0]["labels"]) else None,
            self.pad_token_id,
            padding_side=self.padding_side,
            max_length=self.max_length,
            too_long=self.too_long,
            sample_ids=sample_ids,
        )
        channels = examples[0]["side"]
        batch: dict[str, Any] = {
            "sample_ids": sample_ids,
            "input_ids": text.input_ids,
            "attention_mask": text.attention_mask,
            "queries": torch.stack([example["queries"] for example in examples]),
            "visual": torch.stack([example["visual"] for example in examples]),
            "frame_times": torch.stack([example["frame_times"] for example in examples]),
            "side": {name: _padded([example["side"][name] for example in examples]) for name in channels},
            "side_lengths": {
                name: torch.tensor([len(example["side"][name]) for example in examples]) for name in channels
            },
            "side_times": {
                name: _padded([example["side_times"][name] for example in examples]) for name in channels
            },
        }
        if text.labels is not None:
            batch["labels"] = text.labels
        return batch


def _padded(rows: list[Tensor]) -> Tensor:
    """(T_i, ...) of each example -> (B, T_pad, ...), zeros behind."""
    return pad_sequence(rows, batch_first=True)
