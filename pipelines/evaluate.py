"""Evaluation: answer every instruction greedily from cached features, score, and say what the score rests on.

The folder, complete when `scores.json` is there (it is written last):

    scores.json         accuracy per question type with its 95% interval, coverage, model, snapshot, feature sets
    predictions.jsonl   one line an item: question, answer, prediction, whether they match
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from pave_model.checkpoint import record_scores
from pave_model.config import NewlinePosition, PatchConfig
from pave_model.patched_model import PatchedVideoLLM
from pave_model.sequence_assembly import TooLong
from pipelines.base_model import load_base
from pipelines.collator import Collator
from pipelines.config import EvaluateConfig, Settings
from pipelines.errors import RunError
from pipelines.feature_dataset import (
    Coverage,
    FeatureDataset,
    open_source,
    read_instructions,
    with_features,
)
from pipelines.progress import ProgressFactory, silent
from pipelines.train import PATCH_FOLDER, code_versions, read_run
from tasks.scoring import bootstrap_interval, exact_match

SCORES_FILE = "scores.json"
PREDICTIONS_FILE = "predictions.jsonl"


class Score(Settings):
    """Exact-match accuracy of one question type with its bootstrap interval over `n` items."""

    question: str
    accuracy: float
    low: float
    high: float
    n: int
    chance: float | None


class Prediction(Settings):
    """One answered item."""

    instruction_id: str
    sample_id: str
    question_type: str
    question: str
    answer: str
    prediction: str
    correct: bool


class EvaluateReport(Settings):
    """The scores, and where they and the predictions were written."""

    out: Path
    model: str
    snapshot: int
    coverage: Coverage
    scores: tuple[Score, ...]

    def summary(self) -> str:
        """A table for people, coverage below it."""
        lines = [f"{'question':<16} {'accuracy':>8}  95% interval    n     chance"]
        for score in self.scores:
            chance = "" if score.chance is None else f"{score.chance:.0%}"
            interval = f"{score.low:.1%} - {score.high:.1%}"
            lines.append(f"{score.question:<16} {score.accuracy:>8.1%}  {interval:<15} {score.n:<5} {chance}")
        covered = self.coverage
        lines.append(
            f"{covered.with_features} of {covered.instructions} instructions and "
            f"{covered.samples_with_features} of {covered.samples} samples had features "
            f"(snapshot {self.snapshot})"
        )
        lines.append(f"predictions and scores: {self.out}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model, its tokenizer, its side channels, and its name in reports."""

    model: PatchedVideoLLM
    tokenizer: PreTrainedTokenizerBase
    channels: list[str]
    name: str
    lineage: dict[str, Any]


def evaluate(config: EvaluateConfig, progress: ProgressFactory = silent) -> EvaluateReport:
    """Evaluate a run's patch, or an unpatched base, as configured.

    Raises RunError for an unfinished run or an `out` that exists, StoreError and MissingFeaturesError when the
    snapshot lacks what is needed, ManifestError without instructions, CheckpointError for a damaged patch.
    """
    if config.out.exists():
        raise RunError(f"{config.out} exists already; choose another folder for the scores, or remove it")
    instructions = read_instructions(config.data)
    subject = load_subject(config.run, config.base, config.newline)
    source = open_source(config.data, instructions[0].dataset, subject.channels)
    usable, coverage = with_features(instructions, source, config.data.max_missing_fraction)
    dataset = FeatureDataset(
        usable,
        source,
        subject.tokenizer,
        subject.model.config.video_token_id,
        subject.model.patch_config.newline,
        for_training=False,
    )
    with progress(f"evaluate {subject.name}") as stage:
        answers: list[str] = []
        for answered in greedy_answers(
            subject,
            dataset,
            config.batch_size,
            config.max_new_tokens,
            config.data.max_length,
            config.data.too_long,
        ):
            answers += answered
            stage.update(len(answers), len(dataset))
    predictions = [
        Prediction(
            instruction_id=item.instruction_id,
            sample_id=item.sample_id,
            question_type=item.question_type,
            question=item.question,
            answer=item.answer,
            prediction=answer,
            correct=exact_match(answer, item.answer),
        )
        for item, answer in zip(usable, answers, strict=True)
    ]
    chances = {item.question_type: item.chance for item in usable}
    report = EvaluateReport(
        out=config.out,
        model=subject.name,
        snapshot=source.version,
        coverage=coverage,
        scores=tuple(score_predictions(predictions, chances, config)),
    )
    written = {
        "config": config.model_dump(mode="json"),
        "report": report.model_dump(mode="json"),
        **subject.lineage,
        **source.identity(),
        "code": code_versions(),
    }
    config.out.mkdir(parents=True)
    with (config.out / PREDICTIONS_FILE).open("w") as file:
        file.writelines(item.model_dump_json() + "\n" for item in predictions)
    temporary = config.out / f".{SCORES_FILE}.part"
    temporary.write_text(json.dumps(written, indent=1) + "\n")
    temporary.rename(config.out / SCORES_FILE)
    if config.run is not None:
        accuracies = {
            f"{config.data.split}, {score.question}: accuracy": score.accuracy for score in report.scores
        }
        record_scores(config.run / PATCH_FOLDER, accuracies)
    return report


def score_predictions(
    predictions: list[Prediction], chances: dict[str, float | None], config: EvaluateConfig
) -> list[Score]:
    """Accuracy and interval per question type, in alphabetical order."""
    by_type: dict[str, list[float]] = defaultdict(list)
    for item in predictions:
        by_type[item.question_type].append(float(item.correct))
    scores = []
    for question_type, correct in sorted(by_type.items()):
        low, high = bootstrap_interval(correct, config.bootstrap_samples, config.seed)
        scores.append(
            Score(
                question=question_type,
                accuracy=sum(correct) / len(correct),
                low=low,
                high=high,
                n=len(correct),
                chance=chances[question_type],
            )
        )
    return scores


def load_subject(
    run_folder: Path | None, base_name: str | None, newline: NewlinePosition, device: str | None = None
) -> Subject:
    """The patched model of a run, or with `base_name` an unpatched base with the given newlines.

    Raises RunError for an unfinished run, PipelineError for a missing base, CheckpointError for a damaged patch.
    """
    run = None if run_folder is None else read_run(run_folder)
    name = str(base_name) if run is None else run["config"]["base"]
    base, tokenizer = load_base(name)
    if run_folder is None:
        model = PatchedVideoLLM(base, PatchConfig(base=name, channels={}, lora=None, newline=newline))
    else:
        model = PatchedVideoLLM.from_pretrained(run_folder / PATCH_FOLDER, base)
    return Subject(
        model=model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(),
        tokenizer=tokenizer,
        channels=list(model.patch_config.channels),
        name="base" if run_folder is None else run_folder.name,
        lineage={
            "run": None if run_folder is None else str(run_folder.resolve()),
            "base": name,
            "base_fingerprint": model.base_fingerprint,
        },
    )


def greedy_answers(
    subject: Subject,
    dataset: FeatureDataset,
    batch_size: int,
    max_new_tokens: int,
    max_length: int | None,
    too_long: TooLong,
) -> Iterator[list[str]]:
    """Yield the answers' texts, stripped, batch by batch, in the dataset's order."""
    tokenizer = subject.tokenizer
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        collate_fn=Collator(tokenizer.pad_token_id, "left", max_length, too_long),
    )
    device = subject.model.base.device
    for batch in loader:
        ids = subject.model.generate(
            **_to_device(batch, device),
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        yield [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]


def _to_device(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, dict):
        return {key: _to_device(value, device) for key, value in batch.items()}
    return batch.to(device) if isinstance(batch, torch.Tensor) else batch  # names stay as they are
