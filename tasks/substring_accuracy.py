"""Accuracies that ask whether the answer is a substring of the reply: Music-AVQA, AVQA, Ego-Exo4D.

The published rules take `one` for found in `someone`, `A` in `Answer: B`, and a reply that lists every choice for
right whatever the answer. A corrected metric stands beside each:

* Music-AVQA, ``accuracy_whole_words``: the reply has the answer's words as whole words, in any case, an underscore
  being a space.
* AVQA, ``accuracy_single_letter``: the answer is the one option that the reply names (see tasks.option_letters).
* Ego-Exo4D, ``accuracy_single_level``: the answer is the one level that the reply names, in any case and spacing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import repeat

from tasks.option_letters import named_letter
from tasks.task_scores import Metric, ScoringError, TaskScores, check_lengths, group_means, item_mean

# The groups as the evaluation prints them; an item is in that of its kind and in that of its modality.
MUSIC_AVQA_GROUPS: dict[tuple[str, str | None], str] = {
    ("Audio", "Counting"): "Audio Counting",
    ("Audio", "Comparative"): "Audio Cmp",
    ("Audio", None): "Audio",
    ("Visual", "Counting"): "Visual Counting",
    ("Visual", "Location"): "Visual Loc",
    ("Visual", None): "Visual",
    ("Audio-Visual", "Existential"): "AV Ext",
    ("Audio-Visual", "Counting"): "AV counting",
    ("Audio-Visual", "Location"): "AV Loc",
    ("Audio-Visual", "Comparative"): "AV Cmp",
    ("Audio-Visual", "Temporal"): "AV Temporal",
    ("Audio-Visual", None): "AV",
}
EGOEXO4D_LEVELS = ("Novice", "Early Expert", "Intermediate Expert", "Late Expert")
AVQA_LETTERS = "ABCD"


def score_music_avqa(
    replies: Sequence[str | None], answers: Sequence[str], types: Sequence[Sequence[str]]
) -> TaskScores:
    """Percent of the items whose lower-case answer is in the lower-case reply, over all and by type.

    ``types`` are the annotations' pairs, such as ("Audio", "Counting"). The groups are named as the evaluation prints
    them: "Audio Cmp" is `Audio Cmp Accuracy`. Raises ScoringError where the lengths differ or a type is unknown.
    """
    num_items = check_lengths(replies=replies, answers=answers, types=types)
    official = _accuracy(replies, answers, lambda reply, answer: answer.lower() in reply.lower(), right=100.0)
    whole_words = _accuracy(replies, answers, _has_whole_words, right=100.0)
    members: dict[str, list[int]] = {group: [] for group in MUSIC_AVQA_GROUPS.values()}
    for position, pair in enumerate(types):
        for group in _music_avqa_groups(pair):
            members[group].append(position)
    metrics = {"Overall Accuracy": official, "accuracy_whole_words": whole_words}
    return TaskScores(
        official={"Overall Accuracy": official},
        corrected={"accuracy_whole_words": whole_words},
        groups=group_means(members, metrics),
        num_items=num_items,
        num_missing=list(replies).count(None),
    )


def score_avqa(
    replies: Sequence[str | None], answers: Sequence[str], options: Sequence[Sequence[str]] | None = None
) -> TaskScores:
    """Fraction of the items whose answer, a letter, is in the reply, case and all.

    With ``options`` the corrected metric also takes an option's text. Raises ScoringError where the lengths differ.
    """
    num_items = check_lengths(
        replies=replies, answers=answers, options=answers if options is None else options
    )
    named = [
        None if reply is None else named_letter(reply, AVQA_LETTERS, texts)
        for reply, texts in zip(replies, repeat(()) if options is None else options, strict=False)
    ]
    single = [
        None if reply is None else float(letter == answer)
        for reply, letter, answer in zip(replies, named, answers, strict=True)
    ]
    return TaskScores(
        official={"accuracy": _accuracy(replies, answers, _is_substring)},
        corrected={"accuracy_single_letter": item_mean(single)},
        num_items=num_items,
        num_missing=list(replies).count(None),
    )


def score_egoexo4d(replies: Sequence[str | None], answers: Sequence[str]) -> TaskScores:
    """Fraction of the items whose answer, a level, is in the reply, case and all.

    Raises ScoringError where the lengths differ.
    """
    return TaskScores(
        official={"accuracy": _accuracy(replies, answers, _is_substring)},
        corrected={"accuracy_single_level": _accuracy(replies, answers, _is_single_level)},
        num_items=check_lengths(replies=replies, answers=answers),
        num_missing=list(replies).count(None),
    )


def _accuracy(
    replies: Sequence[str | None],
    answers: Sequence[str],
    is_right: Callable[[str, str], bool],
    right: float = 1.0,
) -> Metric:
    check_lengths(replies=replies, answers=answers)
    return item_mean(
        [
            None if reply is None else right * is_right(reply, answer)
            for reply, answer in zip(replies, answers, strict=True)
        ]
    )


def _is_substring(reply: str, answer: str) -> bool:
    return answer in reply


def _has_whole_words(reply: str, answer: str) -> bool:
    words = re.escape(" ".join(answer.lower().replace("_", " ").split()))
    return re.search(rf"(?<!\w){words}(?!\w)", " ".join(reply.lower().replace("_", " ").split())) is not None


def _is_single_level(reply: str, answer: str) -> bool:
    words = " ".join(reply.lower().split())
    return [level for level in EGOEXO4D_LEVELS if re.search(rf"\b{level.lower()}\b", words)] == [answer]


def _music_avqa_groups(pair: Sequence[str]) -> tuple[str, str]:
    """The group of its kind and that of its modality."""
    modality, kind = pair if len(pair) == 2 else ("", "")
    if (modality, kind) not in MUSIC_AVQA_GROUPS:
        known = ", ".join(f"{modality} {kind}" for modality, kind in MUSIC_AVQA_GROUPS if kind)
        raise ScoringError(f"{list(pair)} is no type of Music-AVQA; the types are {known}")
    return MUSIC_AVQA_GROUPS[modality, kind], MUSIC_AVQA_GROUPS[modality, None]
