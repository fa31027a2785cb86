"""Exact match by question type: the score of datasets that have no published evaluation.

Task modules without a scorer of their own take these names from here, and so do datasets that PAVE does not know.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.instruction import Instruction
from tasks.scoring import exact_match
from tasks.task_scores import TaskScores, check_lengths, group_means, item_mean, positions_by_label

HEADLINE = "accuracy"
TO_PERCENT = 100
EVALUATED_SPLIT = "test"
MAX_NEW_TOKENS = 16


def score(
    instructions: Sequence[Instruction], replies: Sequence[str | None], allow_missing_metrics: bool = False
) -> TaskScores:
    """Fraction of the replies that are the answer, over all items and by question type in alphabetical order.

    Raises ScoringError where the lengths differ.
    """
    num_items = check_lengths(instructions=instructions, replies=replies)
    accuracy = item_mean(
        [
            None if reply is None else float(exact_match(reply, item.answer))
            for item, reply in zip(instructions, replies, strict=True)
        ]
    )
    types = [item.question_type for item in instructions]
    members = positions_by_label(types, sorted(set(types)))
    return TaskScores(
        official={HEADLINE: accuracy},
        groups=group_means(members, {HEADLINE: accuracy}),
        num_items=num_items,
        num_missing=list(replies).count(None),
    )
