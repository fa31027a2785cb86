"""Answering the same items with challenger and champion, and comparing them item by item."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.config import DataConfig, EvaluateConfig
from pipelines.errors import PipelineError
from pipelines.evaluate import evaluate
from pipelines.feature_dataset import read_instructions
from pipelines.lineage import used_items
from pipelines.paired_comparison import compare_predictions
from pipelines.patch_events import KnownPatch
from pipelines.prediction_file import PREDICTIONS_FILE, SCORES_FILE, read_predictions
from pipelines.progress import ProgressFactory
from pipelines.retrain_config import RetrainConfig
from pipelines.retrain_report import Verdict
from pipelines.run_folder import read_run
from tasks import TASKS, exact_answers, task_module


@dataclass(frozen=True)
class Judgement:
    """What decides: the metric, the challenger's score over all its items and the file that has it.

    `verdict` is None without a champion.
    """

    metric: str
    score: float | None
    file: Path
    verdict: Verdict | None


def judge(
    config: RetrainConfig, run: Path, champion: KnownPatch | None, snapshot: int, progress: ProgressFactory
) -> Judgement:
    """Evaluate a run, and the champion, on one split at one snapshot; what is there already is not done again.

    Each reads the feature sets that it was trained on. Raises what `evaluate` raises, and PipelineError when the
    metric cannot be compared item by item.
    """
    settings = {"challenger": _settings(config, run, snapshot)}
    if champion is not None:
        settings["champion"] = _settings(config, champion.run, snapshot)
    folder = run / f"judged-v{snapshot}-{_digest(settings)}"
    for name, wanted in settings.items():
        out = folder / name
        if not (out / SCORES_FILE).exists():
            shutil.rmtree(out, ignore_errors=True)  # of an evaluation that was killed
            evaluate(wanted.model_copy(update={"out": out}), progress)
    file = folder / "challenger" / SCORES_FILE
    report = json.loads(file.read_text())["report"]
    metric = config.judge.metric or report["headline"]
    overall = {score["metric"]: score["value"] for score in report["scores"] if score["group"] is None}
    if metric not in overall:
        raise PipelineError(
            f"{file} has no metric {metric!r}; set judge.metric to one of: {', '.join(overall)}"
        )
    verdict = None if champion is None else _verdict(config, folder, metric)
    return Judgement(metric, overall[metric], file, verdict)


def _settings(config: RetrainConfig, run_folder: Path, snapshot: int) -> EvaluateConfig:
    """The evaluation of a run, on the items of the configuration with the feature sets of the run."""
    run, asked, training = read_run(run_folder), config.judge, config.train.data
    names = {channel: found["name"].split("/") for channel, found in run["feature_sets"].items()}
    dataset = names["frames"][0]
    task = task_module(dataset) if dataset in TASKS else exact_answers
    data = DataConfig(
        store=training.store,
        instructions=training.instructions,
        split=asked.split or task.EVALUATED_SPLIT,
        question_types=asked.question_types or training.question_types,
        snapshot=snapshot,
        fingerprints={channel: fingerprint for channel, (*_, fingerprint) in names.items()},
        max_missing_fraction=asked.max_missing_fraction,
        max_length=training.max_length,
        too_long=training.too_long,
    )
    same = asked.model_dump(exclude={"split", "question_types", "metric", "max_missing_fraction"})
    return EvaluateConfig(run=run_folder, data=data, out=run_folder, **same)


def _digest(settings: dict[str, EvaluateConfig]) -> str:
    """Of all that the answers depend on: settings, patches, and the instructions' content."""
    told: list[Any] = [
        [name, asked.model_dump(mode="json"), read_run(asked.run).get("patch")]
        for name, asked in settings.items()
        if asked.run is not None
    ]
    told.append(used_items(read_instructions(settings["challenger"].data)).digest)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def _verdict(config: RetrainConfig, folder: Path, metric: str) -> Verdict:
    challenger, champion = (
        read_predictions(folder / name / PREDICTIONS_FILE) for name in ("challenger", "champion")
    )
    result = compare_predictions(challenger, champion, config.judge.seed)
    found = [
        row
        for row in result["comparisons"]
        if row["metric"] == metric and row["question"] == "all" and row["n"]
    ]
    if not found:
        known = sorted({row["metric"] for row in result["comparisons"] if row["n"]})
        raise PipelineError(
            f"{metric} is no score of single items, which a paired comparison needs; "
            f"set judge.metric to one of: {', '.join(known)}"
        )
    row = found[0]
    return Verdict(
        challenger=row["mean_A"],
        champion=row["mean_B"],
        not_shared=len(result["only_in_A"]) + len(result["only_in_B"]) + row["unscored"],
        **{name: row[name] for name in ("metric", "difference", "low", "high", "n", "won", "lost", "tied")},
    )
