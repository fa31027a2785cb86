"""The common types of every task: one media item, and one question about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class TaskError(Exception):
    """Annotations are missing or not laid out as the dataset's own; one line with the file and the remedy."""


class AnnotationError(TaskError):
    """One entry of an annotation file is not what it should be: `file`, and its `position` there."""

    def __init__(self, file: Path, position: str, reason: str) -> None:
        self.file = file
        self.position = position
        self.reason = reason
        super().__init__(f"{file}, {position}: {reason}; mend it, or get the official file again")

    def __reduce__(self) -> tuple[Any, ...]:
        return AnnotationError, (self.file, self.position, self.reason)


@dataclass(frozen=True, slots=True)
class TaskSample:
    """One media item. ``media`` maps a role to a path relative to the dataset's root.

    The role "video" is the clip, "scene" an RGB-D scene, "exo/<camera>" the video of an outside camera.
    """

    sample_id: str
    split: str
    media: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One question and its answer, or the last turn of a dialog with the turns before it.

    Texts are what the model sees, without the placeholder of the video, and as the release has them: not
    stripped. The optional columns hold JSON, so that an instruction is one row of a table.

    Attributes:
        instruction_id: unique in a dataset.
        question_type: what scores are grouped by.
        answer: the reference; of multiple choice its letter.
        chance: the accuracy of guessing, None for open answers.
        history: list of [question, answer], the earlier turns of a dialog. Training learns their answers too,
            evaluation gives them as they are. None: there are none.
        accepted_answers: list of every reference, `answer` among them. None: `answer` alone.
        attributes: object of what else scores and official result files need, by the dataset's own names.
    """

    instruction_id: str
    sample_id: str
    dataset: str
    split: str
    question_type: str
    question: str
    answer: str
    chance: float | None = None
    history: str | None = None
    accepted_answers: str | None = None
    attributes: str | None = None

    @property
    def turns(self) -> list[tuple[str, str | None]]:
        """Every (question, answer), the earliest first; the last is this instruction's own."""
        earlier = [] if self.history is None else json.loads(self.history)
        return [*((question, answer) for question, answer in earlier), (self.question, self.answer)]

    @property
    def references(self) -> list[str]:
        """Every accepted answer."""
        return [self.answer] if self.accepted_answers is None else list(json.loads(self.accepted_answers))

    @property
    def facts(self) -> dict[str, Any]:
        """The object in `attributes`."""
        return {} if self.attributes is None else dict(json.loads(self.attributes))


def as_json(value: object) -> str:
    """The JSON text of a column, on one line."""
    return json.dumps(value, ensure_ascii=False)
