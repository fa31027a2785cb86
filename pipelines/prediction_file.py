"""Reading predictions.jsonl, as `pave evaluate` writes it: one item a line, with its scores by metric."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import PipelineError

SCORES_FILE = "scores.json"
PREDICTIONS_FILE = "predictions.jsonl"


@dataclass(frozen=True)
class PredictedItem:
    """One line. ``scores`` has what the line's `scores` holds, and `correct` where the line tells it.

    None where a metric skips the item.
    """

    instruction_id: str
    question_type: str
    question: str
    answer: str
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class PredictionFile:
    """The items by id, in the file's order; ``dataset`` and ``split`` are None where nothing tells them."""

    path: Path
    dataset: str | None
    split: str | None
    items: Mapping[str, PredictedItem]


def read_predictions(path: Path) -> PredictionFile:
    """A predictions.jsonl, and the dataset and split from its lines, or else from the scores.json beside it.

    Raises PipelineError where the file or a line cannot be read, or an item occurs twice.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"{path} cannot be read ({error}); give a predictions.jsonl of `pave evaluate`"
        ) from error
    items: dict[str, PredictedItem] = {}
    origins: set[tuple[str | None, str | None]] = set()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            item = _item(row)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PipelineError(
                f"{path}, line {number} is no prediction ({type(error).__name__}: {error}); "
                "give a predictions.jsonl of `pave evaluate`"
            ) from error
        if item.instruction_id in items:
            raise PipelineError(
                f"{path}, line {number}: {item.instruction_id} is there already; keep one of the two"
            )
        items[item.instruction_id] = item
        origins.add((row.get("dataset"), row.get("split")))
    if not items:
        raise PipelineError(f"{path} is empty; give a predictions.jsonl of `pave evaluate`")
    if len(origins) > 1:
        raise PipelineError(
            f"{path} mixes datasets or splits ({sorted(map(str, origins))}); compare one at a time"
        )
    dataset, split = origins.pop()
    if dataset is None or split is None:
        dataset, split = _origin(path.with_name(SCORES_FILE))
    return PredictionFile(path, dataset, split, items)


def _item(row: dict[str, Any]) -> PredictedItem:
    correct = row["correct"]  # null where the dataset's own scorer decides
    scores = {**({} if correct is None else {"correct": correct}), **row.get("scores", {})}
    return PredictedItem(
        instruction_id=row["instruction_id"],
        question_type=row["question_type"],
        question=row["question"],
        answer=row["answer"],
        scores={name: None if value is None else float(value) for name, value in scores.items()},
    )


def _origin(scores: Path) -> tuple[str | None, str | None]:
    """The dataset and split that a scores.json names."""
    if not scores.exists():
        return None, None
    try:
        content = json.loads(scores.read_text())
        dataset = content["feature_sets"]["frames"]["name"].split("/")[0]
        return dataset, content["config"]["data"]["split"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise PipelineError(
            f"{scores} is no score file ({type(error).__name__}: {error}); restore it, or remove it"
        ) from error
