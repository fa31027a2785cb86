"""The common types of every task: one media item, and one question about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class TaskError(Exception):
    """Annotations are missing or not laid out as the dataset's own; one line with the file and the remedy."""


@dataclass(frozen=True)
class TaskSample:
    """One media item. ``media`` maps a role to a path relative to the dataset's root; "video" is the clip."""

    sample_id: str
    split: str
    media: Mapping[str, str]


@dataclass(frozen=True)
class Instruction:
    """One question and its answer.

    ``instruction_id`` is unique in a dataset. ``chance`` is the accuracy of guessing, None for open answers.
    """

    instruction_id: str
    sample_id: str
    dataset: str
    split: str
    question_type: str
    question: str
    answer: str
    chance: float | None = None
