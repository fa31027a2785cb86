"""Evaluation: answer every instruction greedily from cached features, score, and say what the score rests on.

The folder, complete when `scores.json` is there (it is written last):

    scores.json         every metric, over all and by group, with its 95% interval; what was not answered; published
                        numbers; coverage, model, patch, snapshot, feature sets, media (pipelines.lineage)
    predictions.jsonl   one line an answered item: question, answer, prediction, its score by every metric

The scorer is the one of the dataset's task (`tasks.task_module`); a dataset that PAVE does not know is scored by exact
match, by question type.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from pave_model.checkpoint import record_scores
from pave_model.config import NewlinePosition, PatchConfig, TooLong
from pave_model.patched_model import PatchedVideoLLM
from pipelines.altered_features import alter
from pipelines.base_model import load_base
from pipelines.collator import Collator
from pipelines.config import EvaluateConfig, PublishedScore, Settings, checked
from pipelines.errors import RunError
from pipelines.evaluate_report import EvaluateReport
from pipelines.feature_dataset import (
    FeatureDataset,
    open_source,
    read_instructions,
    with_features,
)
from pipelines.lineage import file_hash, patch_hashes, used_items, used_media
from pipelines.prediction_file import PREDICTIONS_FILE, SCORES_FILE
from pipelines.predictions import scored_predictions, write_predictions
from pipelines.progress import ProgressFactory, silent
from pipelines.run_folder import PATCH_FOLDER, RUN_FILE, code_versions, read_run
from pipelines.score_rows import beside_published, denominator_rule, score_rows
from tasks import TASKS, exact_answers, task_module


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
    snapshot lacks what is needed, ManifestError without instructions, CheckpointError for a damaged patch; TaskError
    for an unknown task, and ScoringError, before anything is generated, where the instructions are not those of the
    task or a tool of its metrics is not installed.
    """
    if config.out.exists():
        raise RunError(f"{config.out} exists already; choose another folder for the scores, or remove it")
    instructions = read_instructions(config.data)
    dataset = instructions[0].dataset
    named = config.task or (dataset if dataset in TASKS else None)
    task = exact_answers if named is None else task_module(named)
    # does every instruction have what the scorer needs, and is every tool there? Generation may take hours
    task.score(instructions, [None] * len(instructions), config.allow_missing_metrics)
    published = _published(config)
    subject = load_subject(config.run, config.base, config.newline)
    source = open_source(config.data, dataset, subject.channels)
    usable, coverage = with_features(instructions, source, config.data.max_missing_fraction)
    read = alter(source, config.altered, [item.sample_id for item in usable], config.seed)
    name = ", ".join([subject.name, *(f"{channel} {how}" for channel, how in config.altered.items())])
    max_new_tokens = config.max_new_tokens or task.MAX_NEW_TOKENS
    features = FeatureDataset(
        usable,
        read,
        subject.tokenizer,
        subject.model.config.video_token_id,
        subject.model.patch_config.newline,
        for_training=False,
    )
    texts: list[str] = []
    with progress(f"evaluate {name}") as stage:
        for answered in greedy_answers(
            subject,
            features,
            config.batch_size,
            max_new_tokens,
            config.data.max_length,
            config.data.too_long,
        ):
            texts += answered
            stage.update(len(texts), len(usable))
    replies = {item.instruction_id: text for item, text in zip(usable, texts, strict=True)}
    in_order = [replies.get(item.instruction_id) for item in instructions]
    scores = task.score(instructions, in_order, config.allow_missing_metrics)
    rows = score_rows(scores, instructions, task.HEADLINE, config.bootstrap_samples, config.seed)
    skips = getattr(task, "EVALUATION_SKIPS_WITHOUT", None)
    report = EvaluateReport(
        out=config.out,
        model=name,
        dataset=dataset,
        split=config.data.split,
        task=None if skips is None else named,
        headline=task.HEADLINE,
        snapshot=source.version,
        coverage=coverage,
        not_answered=tuple(
            item.instruction_id for item in instructions if item.instruction_id not in replies
        ),
        denominator=denominator_rule(skips, coverage, config.data.question_types),
        scores=tuple(rows),
        missing_groups=scores.missing_groups,
        absent_metrics=dict(scores.absent_metrics),
        published=tuple(beside_published(published, rows, named or dataset, task.TO_PERCENT)),
    )
    config.out.mkdir(parents=True)
    predictions = scored_predictions(instructions, in_order, scores, by_exact_match=skips is None)
    write_predictions(config.out / PREDICTIONS_FILE, predictions)
    media = used_media(config.data.store, source, {item.sample_id for item in usable})
    written = {
        "config": config.model_dump(mode="json"),
        "generation": {"do_sample": False, "max_new_tokens": max_new_tokens},
        "report": report.model_dump(mode="json"),
        **subject.lineage,
        **source.identity(),
        "media": {channel: used.model_dump() for channel, used in media.items()},
        "items": used_items(usable).model_dump(),
        "predictions": file_hash(config.out / PREDICTIONS_FILE),
        "code": code_versions(),
    }
    if config.run is not None and not config.altered:
        record_scores(config.run / PATCH_FOLDER, _card_scores(report))
    temporary = config.out / f".{SCORES_FILE}.part"
    temporary.write_text(json.dumps(written, indent=1) + "\n")
    temporary.rename(config.out / SCORES_FILE)
    return report


def _published(config: EvaluateConfig) -> tuple[PublishedScore, ...]:
    """The published numbers of the configuration, or else of the run's. Raises PipelineError for damaged ones."""
    if config.published is not None or config.run is None:
        return config.published or ()
    found = {"published": read_run(config.run)["config"].get("published", ())}
    return checked(_Published, found, str(config.run / RUN_FILE)).published


class _Published(Settings):
    published: tuple[PublishedScore, ...]


def _card_scores(report: EvaluateReport) -> dict[str, float]:
    """The official metrics over all items, and the headline by group, for the model card."""
    return {
        f"{report.dataset}, {report.split}, {score.group or 'all'}: {score.metric}": score.value
        for score in report.scores
        if score.official
        and score.value is not None
        and (score.group is None or score.metric == report.headline)
    }


def load_subject(
    run_folder: Path | None, base_name: str | None, newline: NewlinePosition, device: str | None = None
) -> Subject:
    """The patched model of a run, or with `base_name` an unpatched base with the given newlines.

    Raises RunError for an unfinished run, PipelineError for a missing base, CheckpointError for a damaged patch.
    """
    run = None if run_folder is None else read_run(run_folder)
    name = str(base_name) if run is None else run["config"]["base"]
    hashes = {} if run_folder is None else patch_hashes(run_folder / PATCH_FOLDER)
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
            "patch": hashes,
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
