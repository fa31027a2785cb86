"""The answered items of an evaluation, one line of predictions.jsonl each; `pave compare` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.config import Settings
from tasks.instruction import Instruction
from tasks.scoring import exact_match
from tasks.task_scores import TaskScores


class Prediction(Settings):
    """One answered item.

    `scores` is what the item adds to each metric, in the metric's unit; a metric that skips the item is not there.
    `correct` is exact match, null where the dataset has a published scorer. `reading` is what that made of the
    prediction, such as a letter.
    """

    instruction_id: str
    sample_id: str
    dataset: str
    split: str
    question_type: str
    question: str
    answer: str
    prediction: str
    reading: str | None
    correct: bool | None
    scores: dict[str, float]


def scored_predictions(
    instructions: Sequence[Instruction],
    replies: Sequence[str | None],
    scores: TaskScores,
    by_exact_match: bool,
) -> list[Prediction]:
    """A prediction for each instruction with a reply, in order."""
    readings = scores.readings or (None,) * len(instructions)
    return [
        Prediction(
            instruction_id=item.instruction_id,
            sample_id=item.sample_id,
            dataset=item.dataset,
            split=item.split,
            question_type=item.question_type,
            question=item.question,
            answer=item.answer,
            prediction=reply,
            reading=readings[position],
            correct=exact_match(reply, item.answer) if by_exact_match else None,
            scores={
                name: value
                for name, metric in scores.metrics.items()
                if (value := metric.items[position]) is not None
            },
        )
        for position, (item, reply) in enumerate(zip(instructions, replies, strict=True))
        if reply is not None
    ]


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write predictions.jsonl."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(item.model_dump_json() + "\n" for item in predictions)
