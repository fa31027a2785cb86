"""Instructions with their cached features, as training and evaluation read them: no media, no vision tower.

Shapes: F key frames, S tokens of a key frame, C_v width of the vision tower, D width of the LLM, T steps of a
side channel with S_k tokens of width C_s, L text positions (video placeholders included), B examples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from pave_model.chat_text import evaluation_prompt, training_example
from pave_model.config import NewlinePosition
from pave_model.video_tokens import num_video_tokens
from pipelines.config import DataConfig, Settings
from pipelines.errors import ManifestError, MissingFeaturesError
from store import FeatureSet, FeatureStore
from tasks.instruction import Instruction


class Example(TypedDict):
    """One instruction. `labels` is empty in evaluation. Times are float64 seconds; ids are int64."""

    sample_id: str
    input_ids: Tensor  # (L,)
    labels: Tensor  # (L,)
    queries: Tensor  # (F, S, C_v)
    visual: Tensor  # (F, S, D)
    frame_times: Tensor  # (F,)
    side: dict[str, Tensor]  # channel -> (T, S_k, C_s)
    side_times: dict[str, Tensor]  # channel -> (T,)


class Coverage(Settings):
    """How much of what was asked for can be used; stands beside every score."""

    instructions: int
    with_features: int
    samples: int
    samples_with_features: int
    missing: dict[str, int]  # channel -> samples without features


@dataclass(frozen=True)
class FeatureSource:
    """The feature sets of one snapshot that a run reads: key frames, and its side channels by name."""

    version: int
    frames: FeatureSet
    side: Mapping[str, FeatureSet]

    def identity(self) -> dict[str, Any]:
        """Snapshot and feature sets, for run and score files."""
        sets = {"frames": self.frames, **self.side}
        return {
            "snapshot": self.version,
            "feature_sets": {
                channel: {
                    "name": found.record.name,
                    "extractor": f"{found.record.extractor}@{found.record.version}",
                    "config": found.record.config,
                }
                for channel, found in sets.items()
            },
        }


def open_source(data: DataConfig, dataset: str, channels: Sequence[str]) -> FeatureSource:
    """The feature sets of `dataset` in the configured snapshot. Raises StoreError where one is not there."""
    return open_features(data.store, data.snapshot, data.fingerprints, dataset, channels)


def open_features(
    url: str,
    version: int | str | None,
    fingerprints: Mapping[str, str],
    dataset: str,
    channels: Sequence[str],
) -> FeatureSource:
    """The same of a store by its URL; `version` may be a tag. Raises StoreError as above."""
    store = FeatureStore.open(url, create=False)
    snapshot = store.snapshot(tag=version) if isinstance(version, str) else store.snapshot(version)
    found = {
        channel: snapshot.feature_set(dataset, channel, fingerprints.get(channel))
        for channel in ("frames", *channels)
    }
    return FeatureSource(snapshot.version, found.pop("frames"), found)


def read_instructions(data: DataConfig) -> list[Instruction]:
    """The instructions of the configured split and question types, in the file's order.

    Raises ManifestError when the file cannot be read or nothing is left.
    """
    try:
        rows = pq.read_table(data.instructions).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise ManifestError(
            f"{data.instructions} is no instructions file ({' '.join(str(error).split())}); make it with `pave prepare`"
        ) from error
    items = [Instruction(**row) for row in rows]
    wanted = [
        item
        for item in items
        if item.split == data.split
        and (data.question_types is None or item.question_type in data.question_types)
    ]
    if not wanted:
        splits = sorted({item.split for item in items})
        kinds = sorted({item.question_type for item in items})
        raise ManifestError(
            f"{data.instructions} has no instruction of split {data.split!r} and the wanted types; "
            f"it has splits {splits} and types {kinds}"
        )
    return wanted


def with_features(
    instructions: Sequence[Instruction], source: FeatureSource, max_missing_fraction: float
) -> tuple[list[Instruction], Coverage]:
    """The instructions whose sample has all features, and how many that are.

    Raises MissingFeaturesError when a larger share than `max_missing_fraction` lacks features.
    """
    samples = sorted({item.sample_id for item in instructions})
    lacking: set[str] = set()
    missing: dict[str, int] = {}
    for channel, features in {"frames": source.frames, **source.side}.items():
        absent = features.missing(samples)
        missing[channel] = len(absent)
        lacking.update(absent)
    usable = [item for item in instructions if item.sample_id not in lacking]
    coverage = Coverage(
        instructions=len(instructions),
        with_features=len(usable),
        samples=len(samples),
        samples_with_features=len(samples) - len(lacking),
        missing=missing,
    )
    if not usable or 1 - len(usable) / len(instructions) > max_missing_fraction:
        raise MissingFeaturesError(
            f"{len(instructions) - len(usable)} of {len(instructions)} instructions lack features (samples without, "
            f"by channel: {json.dumps(missing)}; first: {min(lacking)}); run `pave extract` for these channels, "
            f"look into the failures, or raise max_missing_fraction ({max_missing_fraction})"
        )
    return usable, coverage


class FeatureDataset(Dataset[Example]):
    """Examples of instructions, read from the feature store one by one. Safe in loader workers.

    `for_training` adds answers and labels; else the ids end where the answer begins.
    """

    def __init__(
        self,
        instructions: Sequence[Instruction],
        source: FeatureSource,
        tokenizer: PreTrainedTokenizerBase,
        video_token_id: int,
        newline: NewlinePosition,
        for_training: bool,
    ) -> None:
        self.instructions = list(instructions)
        self._source = source
        tokens_per_frame = source.frames.record.values.tokens
        num_frames = source.frames.lengths([item.sample_id for item in self.instructions])
        # Texts are short and few beside features: they are encoded once.
        self._texts: list[tuple[list[int], list[int]]] = []
        for item, frames in zip(self.instructions, num_frames.tolist(), strict=True):
            count = num_video_tokens(frames, tokens_per_frame, newline)
            text = (tokenizer, item.turns, video_token_id, count, item.sample_id)
            self._texts.append(training_example(*text) if for_training else (evaluation_prompt(*text), []))

    def __len__(self) -> int:
        return len(self.instructions)

    def lengths(self) -> list[int]:
        """Tokens of each example, L, those of text and video; reads no features.

        Side channels do not count: what their padding costs is little beside the language model's, and a run
        without them, the LoRA-only twin, sees the same batches as the patch.
        """
        return [len(input_ids) for input_ids, _ in self._texts]

    def __getitem__(self, index: int) -> Example:
        sample_id = self.instructions[index].sample_id
        input_ids, labels = self._texts[index]
        frames = self._source.frames[sample_id]
        side = {channel: features[sample_id] for channel, features in self._source.side.items()}
        return Example(
            sample_id=sample_id,
            input_ids=torch.tensor(input_ids),
            labels=torch.tensor(labels, dtype=torch.int64),
            queries=as_tensor(frames.values),
            visual=as_tensor(frames.companions["visual"]),
            frame_times=torch.from_numpy(frames.timestamps),
            side={channel: as_tensor(found.values) for channel, found in side.items()},
            side_times={channel: torch.from_numpy(found.timestamps) for channel, found in side.items()},
        )


def as_tensor(values: np.ndarray[Any, np.dtype[Any]]) -> Tensor:
    """A torch tensor over the same memory; bfloat16, which numpy itself does not know, goes through its bits."""
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(values)
