"""PAVE as a model of lmms-eval: it answers from the features in a store, and never opens media.

lmms-eval asks with the text of its own prompt; here the text becomes an instruction about the document's sample,
and is answered as `pave evaluate` answers. Only lmms-eval imports this module.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from lmms_eval.api.model import lmms
from loguru import logger
from pydantic import Field, Json, model_validator

from pave_model.config import NewlinePosition, TooLong
from pipelines.config import Settings, checked
from pipelines.errors import MissingFeaturesError, PipelineError
from pipelines.evaluate import greedy_answers, load_subject
from pipelines.feature_dataset import FeatureDataset, open_features
from pipelines.lmms_documents import Benchmark, sample_id
from pipelines.progress import TerminalProgress
from tasks.instruction import Instruction

_NAMED_IDS = 20  # most missing samples that an error or the log names


class LmmsSettings(Settings):
    """The keywords of `--model_args`, with lmms-eval's own `--batch_size` and `--device`."""

    run: Path | None = Field(default=None, description="run folder of a training")
    base: str | None = Field(default=None, description="this base without a patch")
    newline: NewlinePosition = Field(default="grid", description="with base; a run brings its own")
    store: str = Field(description="where the features are")
    dataset: Benchmark = Field(description="their dataset in the store, and how documents name their samples")
    snapshot: int | str | None = Field(
        default=None, description="version of the store, or a tag; default: newest"
    )
    fingerprints: Json[dict[str, str]] | None = Field(
        default=None, description='{"channel": "fingerprint"}, where the store has several of a channel'
    )
    allow_missing: bool = Field(
        default=False, description="answer documents without features with an empty text, and say so"
    )
    max_new_tokens: int = Field(default=16, gt=0, description="for tasks that name no number")
    max_length: int | None = Field(default=32768, gt=0, description="most tokens of a sample")
    too_long: TooLong = "error"
    batch_size: int = Field(default=1, gt=0)
    device: str | None = Field(default=None, description="default: the GPU, where there is one")

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.run is None) == (self.base is None):
            raise ValueError("give either run or base")
        return self


@dataclass(frozen=True)
class _Request:
    """A request of lmms-eval: what to answer, how long at most, and where the answer ends."""

    instruction: Instruction
    max_new_tokens: int
    stops: tuple[str, ...]


class PaveLmms(lmms):  # type: ignore[misc]  # lmms-eval has no types
    """A run's patched model, or a bare base, behind lmms-eval's interface of simple models.

    Keywords are those of `LmmsSettings`. Raises PipelineError for wrong ones and for several processes, and what
    `load_subject` and `open_features` raise.
    """

    is_simple = True

    def __init__(
        self,
        batch_size: int | str = 1,
        device: str | None = None,
        max_batch_size: int | None = None,  # lmms-eval always gives it; there is no automatic size here
        **keywords: object,
    ) -> None:
        super().__init__()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise PipelineError("PAVE answers in one process; start lmms-eval without a launcher")
        given = {**keywords, "batch_size": batch_size, "device": device}
        settings = checked(LmmsSettings, given, "--model_args of pave")
        self._settings = settings
        self._subject = load_subject(settings.run, settings.base, settings.newline, settings.device)
        self._source = open_features(
            settings.store,
            settings.snapshot,
            settings.fingerprints or {},
            settings.dataset,
            self._subject.channels,
        )
        logger.info(f"PAVE {self._subject.name} answers from {self._source.identity()}")

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answers, greedy and stripped, in the order of the requests.

        Raises MissingFeaturesError, with the samples, before anything is generated where a document's sample has no
        features, unless `allow_missing`: then its answer is empty. Raises PipelineError where a task wants
        sampling or beams.
        """
        asked = [self._read(request) for request in requests]
        without = self._without_features([item.instruction.sample_id for item in asked])
        answers = [""] * len(asked)
        by_length: dict[int, list[int]] = defaultdict(list)
        for index, item in enumerate(asked):
            if item.instruction.sample_id not in without:
                by_length[item.max_new_tokens].append(index)
        with TerminalProgress(f"answer with {self._subject.name}") as stage:
            done = 0
            for max_new_tokens, indices in by_length.items():
                texts = self._answer([asked[index].instruction for index in indices], max_new_tokens)
                for index, text in zip(indices, texts, strict=True):
                    answers[index] = _cut(text, asked[index].stops)
                    done += 1
                    stage.update(done, len(asked))
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> NoReturn:
        """Raises PipelineError: PAVE only generates."""
        raise PipelineError("PAVE gives no likelihoods; take a task of output_type generate_until")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> NoReturn:
        """Raises PipelineError: no task of several rounds is about one sample's features."""
        raise PipelineError("PAVE answers no tasks of several rounds; take one of output_type generate_until")

    def _read(self, request: Any) -> _Request:
        text, generation, _, document_id, task, split = request.args
        document = self.task_dict[task][split][document_id]
        instruction = Instruction(
            instruction_id=f"{task}/{split}/{document_id}",
            sample_id=sample_id(self._settings.dataset, document, task),
            dataset=self._settings.dataset,
            split=split,
            question_type=task,
            question=text,
            answer="",
        )
        _require_greedy(generation, task)
        stops = generation.get("until") or ()
        return _Request(
            instruction,
            int(generation.get("max_new_tokens") or self._settings.max_new_tokens),
            (stops,) if isinstance(stops, str) else tuple(stops),
        )

    def _without_features(self, samples: Sequence[str]) -> set[str]:
        wanted = sorted(set(samples))
        sets = (self._source.frames, *self._source.side.values())
        without = {name for features in sets for name in features.missing(wanted)}
        if not without:
            return without
        named = ", ".join(sorted(without)[:_NAMED_IDS])
        more = f" and {len(without) - _NAMED_IDS} more" if len(without) > _NAMED_IDS else ""
        found = (
            f"{len(without)} of {len(wanted)} samples of {self._settings.dataset} lack features in "
            f"{self._settings.store}: {named}{more}"
        )
        if not self._settings.allow_missing:
            channels = ",".join(("frames", *self._source.side))
            raise MissingFeaturesError(
                f"{found}; run `pave extract {channels}` for them, or add allow_missing=True to --model_args"
            )
        logger.warning(f"{found}; their answers are empty")
        return without

    def _answer(self, instructions: Sequence[Instruction], max_new_tokens: int) -> Iterator[str]:
        dataset = FeatureDataset(
            instructions,
            self._source,
            self._subject.tokenizer,
            self._subject.model.config.video_token_id,
            self._subject.model.patch_config.newline,
            for_training=False,
        )
        settings = self._settings
        for texts in greedy_answers(
            self._subject,
            dataset,
            settings.batch_size,
            max_new_tokens,
            settings.max_length,
            settings.too_long,
        ):
            yield from texts


def _require_greedy(generation: Mapping[str, Any], task: str) -> None:
    sampling = generation.get("do_sample")
    if sampling is None:
        sampling = (generation.get("temperature") or 0) > 0
    if sampling or (generation.get("num_beams") or 1) > 1:
        raise PipelineError(
            f"task {task!r} asks for sampling or beams ({dict(generation)}) and PAVE answers greedily; "
            "add --gen_kwargs do_sample=False,temperature=0,num_beams=1"
        )


def _cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first of `stops`."""
    for stop in stops:
        text = text.split(stop, 1)[0] if stop else text
    return text.rstrip()
