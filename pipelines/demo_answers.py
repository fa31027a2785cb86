"""Questions to the models of a finished demo: the base, the LoRA-only twin and the patched model side by side.

Clips of the demo are answered from the feature store. An uploaded clip goes through the same extractors; it is decoded
in a process of its own, with limits of memory and time, and nothing of it is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors import extractor_class
from extractors.contract import Decoded, Extractor, Sample
from extractors.errors import MediaError
from extractors.joint_decoding import ROLE, decode_together
from extractors.media_info import probe
from pave_model.patch_attention import attention_over_time
from pipelines.apart_process import run_apart
from pipelines.collator import Collator
from pipelines.config import EXTRACT_CONFIGS
from pipelines.demo_channels import JOINT, PATCHES
from pipelines.errors import RunError
from pipelines.evaluate import Subject, greedy_answers, load_subject
from pipelines.extract_stages import stored_features
from pipelines.feature_dataset import FeatureDataset, FeatureSource, open_features
from pipelines.run_folder import RUN_FILE, read_run
from store import Features, FeatureSet
from store.features import FeatureSetRecord
from tasks import sidecue
from tasks.instruction import Instruction

LONGEST_SECONDS = 120.0  # of an uploaded clip
UPLOAD = "the uploaded clip"
_MAX_NEW_TOKENS = 8


@dataclass(frozen=True)
class DemoClip:
    """A held-out sample of the demo: its files by role, and its questions by type."""

    sample_id: str
    media: Mapping[str, Path]
    questions: Mapping[str, str]
    answers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """What the models say.

    Attributes:
        texts: by "base", "LoRA only" and "patched".
        attention: by channel (layers, F, T): how much of its attention each key frame gives to each time step.
        step_times, frame_times: by channel (T,) and (F,) seconds, NaN where there is no clock.
    """

    texts: Mapping[str, str]
    attention: Mapping[str, NDArray[np.float32]]
    step_times: Mapping[str, NDArray[np.float64]]
    frame_times: NDArray[np.float64]


@dataclass(frozen=True)
class _OneClip:
    """Stands in for a feature set where one sample is read."""

    record: FeatureSetRecord
    features: Features

    def __getitem__(self, sample_id: str) -> Features:
        return self.features

    def lengths(self, sample_ids: Sequence[str]) -> NDArray[np.int64]:
        return np.full(len(sample_ids), len(self.features.timestamps))


class PatchAnswers:
    """One patch of a demo with its twin and its base, loaded when first asked."""

    def __init__(self, out: Path, name: str, part: str) -> None:
        self.name = name
        self.part = part
        self._out = out
        self._run = read_run(out / "runs" / name / "patch")
        self.channels = list(self._run["config"]["channels"])
        self._working = Lock()  # torch and the extractors hold one clip at a time

    @cached_property
    def clips(self) -> dict[str, DemoClip]:
        """The held-out samples by id, with the questions that the patch was trained for and the video-only ones."""
        root = self._out / "sidecue" / self.part
        samples, instructions = sidecue.load(root)
        questions: dict[str, dict[str, Instruction]] = {}
        trained = self._run["config"]["data"]["question_types"]
        for item in instructions:
            if item.question_type in trained or not sidecue.QUESTIONS[item.question_type].channels:
                questions.setdefault(item.sample_id, {})[item.question_type] = item
        return {
            sample.sample_id: DemoClip(
                sample.sample_id,
                {role: root / path for role, path in sample.media.items()},
                *_ordered(questions[sample.sample_id], trained),
            )
            for sample in samples
            if sample.split == "test"
        }

    @property
    def takes_uploads(self) -> bool:
        """Whether a single video file is enough for it."""
        return not {"exo", "depth3d"} & set(self.channels)

    def ask(self, sample_id: str, question: str) -> Reply:
        """Answers about a held-out sample, from its cached features."""
        with self._working:
            return self._ask(self._source, sample_id, question)

    def ask_upload(self, path: Path, question: str) -> Reply:
        """Answers about a clip that is no part of the demo.

        Raises MediaError for a clip that cannot be used, in one line that says what is wrong.
        """
        if not self.takes_uploads:
            raise MediaError(
                UPLOAD, "one video file has no outside camera and no depth", "pick a clip of the demo"
            )
        with self._working:
            decoded = decode_upload(list(self._decoders.values()), path)
            features: dict[str, Any] = {}
            for (channel, extractor), item in zip(self._extractors.items(), decoded, strict=True):
                (encoded,) = extractor.encode([item])
                features[channel] = _OneClip(self._sets[channel].record, stored_features(encoded))
            source = FeatureSource(self._source.version, features.pop("frames"), features)
            return self._ask(source, "upload", question)

    def _ask(self, source: FeatureSource, sample_id: str, question: str) -> Reply:
        item = Instruction("asked", sample_id, sidecue.DATASET, "test", "asked", question, "")
        texts = {name: self._answer(subject, source, item) for name, subject in self._subjects.items()}
        attention = self._attention(source, item)
        features = {channel: found[sample_id] for channel, found in source.side.items()}
        return Reply(
            texts,
            attention,
            {channel: found.timestamps for channel, found in features.items()},
            source.frames[sample_id].timestamps,
        )

    def _answer(self, subject: Subject, source: FeatureSource, item: Instruction) -> str:
        read = replace(source, side={channel: source.side[channel] for channel in subject.channels})
        (texts,) = greedy_answers(subject, _dataset(subject, read, item), 1, _MAX_NEW_TOKENS, None, "error")
        return texts[0]

    def _attention(self, source: FeatureSource, item: Instruction) -> dict[str, NDArray[np.float32]]:
        subject = self._subjects["patched"]
        batch = Collator(0, "left")([_dataset(subject, source, item)[0]])
        queries = batch["queries"].float()
        found = {}
        for channel, fusion in subject.model.patch.items():
            packed = fusion.pack(  # type: ignore[operator]  # a FusionModule
                batch["side"][channel].float(),
                batch["side_lengths"][channel],
                queries,
                batch["side_times"][channel],
                batch["frame_times"],
            )
            found[channel] = attention_over_time(fusion, queries, packed).numpy()  # type: ignore[arg-type]
        return found

    @cached_property
    def _subjects(self) -> dict[str, Subject]:
        runs, config = self._out / "runs" / self.name, self._run["config"]
        return {
            "base": load_subject(None, config["base"], config["newline"], "cpu"),
            "LoRA only": load_subject(runs / "lora_only", None, config["newline"], "cpu"),
            "patched": load_subject(runs / "patch", None, config["newline"], "cpu"),
        }

    @cached_property
    def _source(self) -> FeatureSource:
        snapshot = self._run["snapshot"]
        return open_features(str(self._out / "store"), snapshot, {}, sidecue.DATASET, self.channels)

    @property
    def _sets(self) -> dict[str, FeatureSet]:
        return {"frames": self._source.frames, **self._source.side}

    @cached_property
    def _decoders(self) -> dict[str, Extractor]:
        """The extractors that made the cached features, without weights: another process can be given them."""
        made: dict[str, Extractor] = {}
        for channel, found in self._sets.items():
            schema = EXTRACT_CONFIGS[channel].model_fields["encoder"].annotation
            config = schema.model_validate(found.record.config["encoder"])  # type: ignore[union-attr]
            made[channel] = extractor_class(channel)(config)
        return made

    @cached_property
    def _extractors(self) -> dict[str, Extractor]:
        """The same, loaded."""
        loaded = copy.deepcopy(self._decoders)
        for extractor in loaded.values():
            extractor.load("cpu")
        return loaded


def demo_patches(out: Path) -> dict[str, PatchAnswers]:
    """The patches of a finished demo that have a LoRA-only twin, by name. Raises RunError where there is no demo."""
    found = {
        patch.name: PatchAnswers(out, patch.name, patch.part)
        for patch in (*PATCHES.values(), JOINT)
        if (out / "runs" / patch.name / "patch" / RUN_FILE).exists()
    }
    if not (out / "report.json").exists() or not found:
        raise RunError(f"{out} holds no finished demo; make one with: pave demo --out {out}")
    return found


def check_upload(path: Path) -> None:
    """Raise MediaError, which says what to do, unless the file is a video of a length that is answered at once."""
    info = probe(path, UPLOAD)
    if info.n_frames == 0 or info.fps is None:
        raise MediaError(UPLOAD, "it has no video track", "upload a video")
    if info.duration is not None and info.duration > LONGEST_SECONDS:
        reason = f"it is {info.duration:.0f} s long"
        raise MediaError(UPLOAD, reason, f"upload at most {LONGEST_SECONDS:.0f} s")


def decode_upload(extractors: Sequence[Extractor], path: Path) -> list[Decoded]:
    """Decode an uploaded clip for unloaded extractors, in a process of its own. Raises MediaError."""
    return run_apart(UPLOAD, _decode, extractors, path)


def _decode(extractors: Sequence[Extractor], path: Path) -> list[Decoded]:
    check_upload(path)
    results = decode_together(extractors, Sample("upload", "upload", {ROLE: path}))
    for result in results:
        if isinstance(result, Exception):
            raise result
    return [result for result in results if isinstance(result, Decoded)]


def _dataset(subject: Subject, source: FeatureSource, item: Instruction) -> FeatureDataset:
    model = subject.model
    return FeatureDataset(
        [item], source, subject.tokenizer, model.config.video_token_id, model.patch_config.newline, False
    )


def _ordered(items: Mapping[str, Instruction], first: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Questions and answers by type, the trained ones first."""
    order = sorted(items, key=lambda name: (name not in first, name))
    return {name: items[name].question for name in order}, {name: items[name].answer for name in order}
