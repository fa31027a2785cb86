"""Substring accuracies: the published numbers, and what the corrected metrics do differently."""

import json
from collections.abc import Callable

import pytest
from metric_goldens import column, metric_cases

from tasks.substring_accuracy import score_avqa, score_egoexo4d, score_music_avqa
from tasks.task_scores import ScoringError, TaskScores


@pytest.mark.golden
def test_music_avqa_is_scored_as_published() -> None:
    for case in metric_cases("music_avqa"):
        items, expected = case["items"], case["expected"]
        scores = score_music_avqa(
            column(items, "pred"),
            column(items, "answer"),
            [json.loads(text) for text in column(items, "type")],
        )
        overall = scores.official["Overall Accuracy"]
        assert overall.value == pytest.approx(expected["overall_percent"], abs=1e-9)
        assert [score == 100 for score in overall.items] == [
            right == 1 for right in expected["per_item_correct"]
        ]
        printed = {
            f"{name} Accuracy": group.values["Overall Accuracy"] for name, group in scores.groups.items()
        }
        printed["Overall Accuracy"] = overall.value or 0.0
        assert {name: round(value, 2) for name, value in printed.items()} == expected["printed_two_decimals"]
        sizes = [len(scores.groups[name].members) for name in ("Audio", "AV", "Visual")]
        assert "total: {} Audio: {} AV: {} V: {}".format(len(items), *sizes) == expected["last_line"]


@pytest.mark.golden
@pytest.mark.parametrize(("name", "score"), [("avqa", score_avqa), ("egoexo4d", score_egoexo4d)])
def test_avqa_and_egoexo4d_are_scored_as_published(
    name: str, score: Callable[[list[str], list[str]], TaskScores]
) -> None:
    for case in metric_cases(name):
        scores = score(column(case["items"], "caption"), column(case["items"], "answer"))
        accuracy = scores.official["accuracy"]
        assert list(accuracy.items) == case["expected"]["per_item_correct"]
        assert accuracy.value == pytest.approx(case["expected"]["accuracy"], abs=1e-9)
        assert scores.num_items == case["expected"]["total"]


@pytest.mark.parametrize(
    ("reply", "answer", "official", "whole_words"),
    [
        ("someone plays it", "one", 100, 0),
        ("I know the piano", "no", 100, 0),
        ("No.", "no", 100, 100),
        ("acoustic guitar", "acoustic_guitar", 0, 100),
        ("The Acoustic_Guitar", "acoustic_guitar", 100, 100),
        ("More  than ten!", "more than ten", 0, 100),
        ("ten", "more than ten", 0, 0),
        ("", "yes", 0, 0),
    ],
)
def test_music_avqa_corrected_wants_whole_words(
    reply: str, answer: str, official: int, whole_words: int
) -> None:
    scores = score_music_avqa([reply], [answer], [("Audio", "Counting")])
    assert scores.official["Overall Accuracy"].value == official
    assert scores.corrected["accuracy_whole_words"].value == whole_words


@pytest.mark.parametrize(
    ("reply", "official", "single"),
    [
        ("Answer: B", 1, 0),
        ("A, B, C, D", 1, 0),
        ("a", 0, 1),
        ("(A)", 1, 1),
        ("red car", 0, 1),
        ("", 0, 0),
    ],
)
def test_avqa_corrected_wants_one_letter(reply: str, official: int, single: int) -> None:
    scores = score_avqa([reply], ["A"], [["Red car.", "dog", "cat", "bird"]])
    assert scores.official["accuracy"].value == official
    assert scores.corrected["accuracy_single_letter"].value == single


@pytest.mark.parametrize(
    ("reply", "official", "single"),
    [
        ("Novice, Early Expert, Intermediate Expert, Late Expert", 1, 0),
        ("late  expert.", 0, 1),
        ("Late Expert", 1, 1),
        ("Expert", 0, 0),
    ],
)
def test_egoexo4d_corrected_wants_one_level(reply: str, official: int, single: int) -> None:
    scores = score_egoexo4d([reply], ["Late Expert"])
    assert scores.official["accuracy"].value == official
    assert scores.corrected["accuracy_single_level"].value == single


def test_types_without_an_answered_item_are_missing_and_unknown_ones_refused() -> None:
    scores = score_music_avqa(
        ["yes", None], ["yes", "no"], [("Audio", "Comparative"), ("Visual", "Location")]
    )
    assert "Visual Loc" in scores.missing_groups
    assert "AV" in scores.missing_groups
    assert scores.groups["Audio"].values["Overall Accuracy"] == 100
    assert not {"Audio", "Audio Cmp"} & set(scores.missing_groups)
    for unknown in (["Audio", "Smell"], ["Audio"]):
        with pytest.raises(ScoringError, match="no type of Music-AVQA"):
            score_music_avqa(["a"], ["a"], [unknown])
