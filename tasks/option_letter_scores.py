"""Scores of the multiple-choice benchmarks VideoMME, MVBench and MLVU, in percent.

The corrected metrics, whose names end in ``_single_letter``, read replies with ``named_letter`` of
tasks.option_letters, and count an empty reply as wrong where MVBench leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.option_letters import mlvu_choice, mvbench_letter, named_letter, videomme_letter
from tasks.task_scores import (
    Metric,
    ScoringError,
    TaskScores,
    check_lengths,
    group_means,
    item_mean,
    mean_of_groups,
    positions_by_label,
)

VIDEOMME_GROUPS: dict[str, tuple[str, ...]] = {
    "duration": ("short", "medium", "long"),
    "domain": (
        "Knowledge",
        "Film & Television",
        "Sports Competition",
        "Artistic Performance",
        "Life Record",
        "Multilingual",
    ),
    "sub_category": (
        *("Humanity & History", "Literature & Art", "Biology & Medicine", "Finance & Commerce", "Astronomy"),
        *("Geography", "Law", "Life Tip", "Technology", "Animation", "Movie & TV Show", "Documentary"),
        *("News Report", "Esports", "Basketball", "Football", "Athletics", "Other Sports", "Stage Play"),
        *(
            "Magic Show",
            "Variety Show",
            "Acrobatics",
            "Handicraft",
            "Food",
            "Fashion",
            "Daily Life",
            "Travel",
        ),
        *("Pet & Animal", "Exercise", "Multilingual"),
    ),
    "task_type": (
        *("Temporal Perception", "Spatial Perception", "Attribute Perception", "Action Recognition"),
        *(
            "Object Recognition",
            "OCR Problems",
            "Counting Problem",
            "Temporal Reasoning",
            "Spatial Reasoning",
        ),
        *("Action Reasoning", "Object Reasoning", "Information Synopsis"),
    ),
}
MVBENCH_TASKS = (
    *("action_sequence", "moving_count", "action_prediction", "episodic_reasoning", "action_antonym"),
    *("action_count", "scene_transition", "object_shuffle", "object_existence", "fine_grained_pose"),
    *("unexpected_action", "moving_direction", "state_change", "object_interaction", "character_order"),
    *("action_localization", "counterfactual_inference", "fine_grained_action", "moving_attribute"),
    "egocentric_navigation",
)
MLVU_TASKS = {  # the names of newer copies of the dataset -> the benchmark's own
    "plotQA": "PQA",
    "findNeedle": "NQA",
    "ego": "ER",
    "count": "AC",
    "order": "AO",
    "anomaly_reco": "AR",
    "topic_reasoning": "TR",
}
_MAX_OPTIONS = "ABCDE"


def score_videomme(
    replies: Sequence[str | None], answers: Sequence[str], facts: Sequence[Mapping[str, str]]
) -> TaskScores:
    """Percent of the items whose letter is the answer, over all and by the four kinds of groups.

    ``facts`` has each item's `duration`, `domain`, `sub_category` and `task_type`; the group "domain: Knowledge" is
    that of one of them. Groups without items, which the published evaluation logs as 0, are missing. Raises
    ScoringError where the lengths differ or a fact is absent.
    """
    num_items = check_lengths(replies=replies, answers=answers, facts=facts)
    readings = [None if reply is None else videomme_letter(reply) for reply in replies]
    overall = _percent_equal(readings, replies, answers)
    single = _percent_equal(_named(replies, ["ABCD"] * num_items), replies, answers)
    members = {
        f"{kind}: {name}": positions
        for kind, known in VIDEOMME_GROUPS.items()
        for name, positions in positions_by_label([_fact(item, kind) for item in facts], known).items()
    }
    return TaskScores(
        official={"accuracy": overall},
        corrected={"accuracy_single_letter": single},
        groups=group_means(members, {"accuracy": overall, "accuracy_single_letter": single}),
        num_items=num_items,
        num_missing=readings.count(None),
        readings=tuple(readings),
    )


def score_mvbench(
    replies: Sequence[str | None],
    answers: Sequence[str],
    candidates: Sequence[Sequence[str]],
    tasks: Sequence[str],
) -> TaskScores:
    """Percent over all items (``accuracy``), and ``mean_of_tasks``, the plain mean of those of the 20 tasks with items.

    The mean is the benchmark's number. ``answers`` are texts, each one of its item's two to five ``candidates``. An
    empty reply is left out of the official numbers. Raises ScoringError where the lengths differ, an answer is no
    candidate or a task is unknown.
    """
    num_items = check_lengths(replies=replies, answers=answers, candidates=candidates, tasks=tasks)
    gold = [_gold_letter(answer, texts) for answer, texts in zip(answers, candidates, strict=True)]
    readings = [None if reply is None else mvbench_letter(reply) for reply in replies]
    letters = [_MAX_OPTIONS[: len(texts)] for texts in candidates]
    # the published evaluation skips a reply that is exactly empty
    overall = _percent_equal(readings, [reply or None for reply in replies], gold)
    single = _percent_equal(_named(replies, letters, candidates), replies, gold)
    members = _known_tasks(tasks, MVBENCH_TASKS, "MVBench")
    return TaskScores(
        official={"mean_of_tasks": mean_of_groups(members, overall.items), "accuracy": overall},
        corrected={
            "mean_of_tasks_single_letter": mean_of_groups(members, single.items),
            "accuracy_single_letter": single,
        },
        groups=group_means(members, {"accuracy": overall, "accuracy_single_letter": single}),
        num_items=num_items,
        num_missing=readings.count(None),
        readings=tuple(readings),
    )


def score_mlvu(
    replies: Sequence[str | None], answers: Sequence[str], tasks: Sequence[str], letters: str = "ABCD"
) -> TaskScores:
    """Percent over all items (``accuracy``), and ``M-Avg``, the plain mean of those of the seven tasks with items.

    ``tasks`` are short (PQA) or long (plotQA) names; groups have the short ones. Raises ScoringError where the
    lengths differ or a task is unknown.
    """
    num_items = check_lengths(replies=replies, answers=answers, tasks=tasks)
    readings = [None if reply is None else mlvu_choice(reply) for reply in replies]
    overall = _percent_equal(readings, replies, answers)
    single = _percent_equal(_named(replies, [letters] * num_items), replies, answers)
    short = [MLVU_TASKS.get(task, task) for task in tasks]
    members = _known_tasks(short, tuple(MLVU_TASKS.values()), "MLVU")
    return TaskScores(
        official={"accuracy": overall, "M-Avg": mean_of_groups(members, overall.items)},
        corrected={
            "accuracy_single_letter": single,
            "M-Avg_single_letter": mean_of_groups(members, single.items),
        },
        groups=group_means(members, {"accuracy": overall, "accuracy_single_letter": single}),
        num_items=num_items,
        num_missing=readings.count(None),
        readings=tuple(readings),
    )


def _percent_equal(
    read: Sequence[str | None], replies: Sequence[str | None], answers: Sequence[str]
) -> Metric:
    """100 where what was read is the answer; items whose reply is None do not count."""
    return item_mean(
        [
            None if reply is None else 100.0 * (choice == answer)
            for choice, reply, answer in zip(read, replies, answers, strict=True)
        ]
    )


def _named(
    replies: Sequence[str | None], letters: Sequence[str], options: Sequence[Sequence[str]] | None = None
) -> list[str | None]:
    texts: Sequence[Sequence[str]] = [()] * len(replies) if options is None else options
    return [
        None if reply is None else named_letter(reply, of_item, option_texts)
        for reply, of_item, option_texts in zip(replies, letters, texts, strict=True)
    ]


def _fact(item: Mapping[str, str], kind: str) -> str:
    if kind not in item:
        raise ScoringError(f"an item of VideoMME has no {kind!r}; give the fields of the official file")
    return item[kind]


def _gold_letter(answer: str, candidates: Sequence[str]) -> str:
    if answer not in candidates or len(candidates) > len(_MAX_OPTIONS):
        raise ScoringError(
            f"the answer {answer!r} is none of its candidates {list(candidates)}, or these are more than "
            f"{len(_MAX_OPTIONS)}; give the fields of the official file"
        )
    return _MAX_OPTIONS[candidates.index(answer)]


def _known_tasks(tasks: Sequence[str], known: tuple[str, ...], benchmark: str) -> dict[str, list[int]]:
    for task in tasks:
        if task not in known:
            raise ScoringError(f"{benchmark} has no task {task!r}; its tasks are {', '.join(known)}")
    return positions_by_label(tasks, known)
