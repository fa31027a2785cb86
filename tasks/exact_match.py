"""Exact match at one (EM@1) and refined exact match of ScanQA and SQA3D, on cleaned answers.

``EM1_refined`` removes all white space and then asks whether one text contains the other. So an empty reply, which
every text contains, is right, and ``no`` is right for ``nothing``. ``EM1_refined_whole_words`` is the corrected
metric: the words of the one stand, next to each other and in order, in the other, or both are the same apart from
white space; no words at all match nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tasks.answer_cleaning import clean_answer
from tasks.task_scores import (
    Metric,
    TaskScores,
    check_lengths,
    counted,
    group_means,
    item_mean,
    positions_by_label,
)

SQA3D_TYPES = ("What", "Is", "How", "Can", "Which", "Other")  # a type's number is its position

Matcher = Callable[[str, Sequence[str]], bool]


def is_exact_match(reply: str, answers: Sequence[str]) -> bool:
    """Whether a cleaned reply is one of the cleaned answers."""
    return reply in answers


def is_refined_match(reply: str, answers: Sequence[str]) -> bool:
    """Whether a cleaned reply and one of the cleaned answers contain one the other, without their white space."""
    short_reply = "".join(reply.split())
    short_answers = ["".join(answer.split()) for answer in answers]
    return is_exact_match(reply, answers) or any(
        short_reply in answer or answer in short_reply for answer in short_answers
    )


def is_whole_word_match(reply: str, answers: Sequence[str]) -> bool:
    """The corrected refined match: see the module's docstring."""
    words = _words(reply)
    return any(
        _contains(words, _words(answer)) or _contains(_words(answer), words) for answer in answers
    ) or (bool(words) and "".join(reply.split()) in ("".join(answer.split()) for answer in answers))


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def _contains(words: list[str], part: list[str]) -> bool:
    return bool(part) and any(
        words[start : start + len(part)] == part for start in range(len(words) - len(part) + 1)
    )


def score_exact_match(replies: Sequence[str | None], answers: Sequence[Sequence[str]]) -> TaskScores:
    """EM@1 and refined EM as fractions, as ScanQA counts them; a reply counts if it matches any of its answers.

    Raises ScoringError where the lengths differ.
    """
    num_items = check_lengths(replies=replies, answers=answers)
    cleaned = [None if reply is None else clean_answer(reply) for reply in replies]
    cleaned_answers = [[clean_answer(answer) for answer in of_item] for of_item in answers]

    def metric(matches: Matcher) -> Metric:
        return item_mean(
            [
                None if reply is None else float(matches(reply, of_item))
                for reply, of_item in zip(cleaned, cleaned_answers, strict=True)
            ]
        )

    return TaskScores(
        official={"EM1": metric(is_exact_match), "EM1_refined": metric(is_refined_match)},
        corrected={"EM1_refined_whole_words": metric(is_whole_word_match)},
        num_items=num_items,
        num_missing=cleaned.count(None),
        readings=tuple(cleaned),
    )


def sqa3d_type(question: str) -> str:
    """The type of an SQA3D question (without its situation): its first word, case and apostrophe and all."""
    first = question.split(" ")[0]
    return first if first in SQA3D_TYPES[:-1] else "Other"


def score_sqa3d(replies: Sequence[str | None], answers: Sequence[str], types: Sequence[str]) -> TaskScores:
    """Exact matches as fractions, over all and by type, a name of SQA3D_TYPES.

    ``EM_type0`` ... ``EM_refined_type5`` divide by the number of items + 1e-10, as published: all right is a little
    less than 1, and a type without items is 0. Such a type is one of ``missing_groups``, and has no values there.
    Raises ScoringError where the lengths differ.
    """
    check_lengths(replies=replies, answers=answers, types=types)
    scores = score_exact_match(replies, [[answer] for answer in answers])
    members = positions_by_label(types, SQA3D_TYPES)
    by_type = {
        f"{short}_type{number}": _type_metric(scores.official[name], members[of_type])
        for number, of_type in enumerate(SQA3D_TYPES)
        for short, name in (("EM", "EM1"), ("EM_refined", "EM1_refined"))
    }
    return TaskScores(
        official={**scores.official, **by_type},
        corrected=scores.corrected,
        groups=group_means(members, {**scores.official, **scores.corrected}),
        num_items=scores.num_items,
        num_missing=scores.num_missing,
        readings=scores.readings,
    )


def _type_metric(metric: Metric, members: Sequence[int]) -> Metric:
    of_type = set(members)
    items = tuple(score if position in of_type else None for position, score in enumerate(metric.items))
    right = counted(items)
    return Metric(sum(right) / (len(right) + 1e-10), items)
