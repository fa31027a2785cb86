"""Multiple choice: replies are read and scored as published, and the corrected rule mends what they misread."""

import pytest
from metric_goldens import column, metric_cases

from tasks.option_letter_scores import MLVU_TASKS, score_mlvu, score_mvbench, score_videomme
from tasks.option_letters import mlvu_choice, mvbench_letter, named_letter, videomme_letter
from tasks.task_scores import ScoringError


@pytest.mark.golden
def test_replies_are_read_as_published() -> None:
    for case in metric_cases("choice_extraction"):
        for item in case["items"]:
            text = item["text"]
            assert videomme_letter(text) == item["videomme"], text
            assert mlvu_choice(text) == item["mlvu"], text
            assert [letter for letter in "ABCDE" if mvbench_letter(text) == letter] == item[
                "mvbench_letters_scored"
            ], text


@pytest.mark.golden
def test_videomme_is_scored_as_published() -> None:
    for case in metric_cases("videomme"):
        items, expected = case["items"], case["expected"]
        scores = score_videomme(column(items, "prediction"), column(items, "answer"), items)
        accuracy = scores.official["accuracy"]
        assert accuracy.value == pytest.approx(expected["overall"], abs=1e-9)
        assert [score == 100 for score in accuracy.items] == [
            item["correct"] == 1 for item in expected["per_item"]
        ]
        assert list(scores.readings or ()) == column(expected["per_item"], "extracted")
        for duration, value in expected["by_duration"].items():
            assert scores.groups[f"duration: {duration}"].values["accuracy"] == pytest.approx(value, abs=1e-9)
        kinds = {
            "video Type": "duration",
            "Categories": "domain",
            "Video Sub Categories": "sub_category",
            "Task Categories": "task_type",
        }
        logged = {"Overall Performance": accuracy.value or 0.0}
        for words, kind in kinds.items():
            for name, group in scores.groups.items():
                of_kind, _, value = name.partition(": ")
                if of_kind == kind:
                    logged[f"Evaluation on {words}: {value}"] = group.values.get("accuracy", 0.0)
        assert {name: round(value, 1) for name, value in logged.items()} == expected["logged_one_decimal"]
        assert "sub_category: Law" in scores.missing_groups


@pytest.mark.golden
def test_mvbench_is_scored_as_published() -> None:
    for case in metric_cases("mvbench"):
        items, expected = case["items"], case["expected"]
        scores = score_mvbench(
            column(items, "prediction"),
            column(items, "answer"),
            column(items, "candidates"),
            column(items, "task"),
        )
        metric = scores.official["mean_of_tasks"]
        assert metric.value == pytest.approx(expected["mean_of_20_tasks"], abs=1e-9)
        assert scores.official["accuracy"].value == pytest.approx(
            expected["all_items_as_one_group"], abs=1e-9
        )
        assert list(metric.items) == [
            100 * item["correct"] if item["counted"] else None for item in expected["per_item"]
        ]
        by_task = {name: group.values["accuracy"] for name, group in scores.groups.items()}
        assert by_task == pytest.approx(expected["by_task"], abs=1e-9)


@pytest.mark.golden
@pytest.mark.parametrize("long_names", [False, True])
def test_mlvu_is_scored_as_published_by_short_and_long_task_names(long_names: bool) -> None:
    long = {short: name for name, short in MLVU_TASKS.items()}
    for case in metric_cases("mlvu"):
        items, expected = case["items"], case["expected"]
        tasks = [long[item["task_type"]] if long_names else item["task_type"] for item in items]
        scores = score_mlvu(column(items, "prediction"), column(items, "answer"), tasks)
        assert scores.official["accuracy"].value == pytest.approx(expected["overall_over_items"], abs=1e-9)
        assert scores.official["M-Avg"].value == pytest.approx(expected["M_Avg_mean_of_tasks"], abs=1e-9)
        assert list(scores.readings or ()) == column(expected["per_item"], "extracted")
        by_task = {name: group.values["accuracy"] for name, group in scores.groups.items()}
        assert by_task == pytest.approx(expected["by_task"], abs=1e-9)


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("c", "C"),
        ("(d) lower", "D"),
        ("**A**", "A"),
        ("Answer: C", "C"),
        ("I am sure: b", "B"),
        ("the answer is b.", "B"),
        ("option (a)", "A"),
        ("choice=c", "C"),
        ("d. apple", "D"),
        ("B. Vitamin C", "B"),
        ("B) the red one", "B"),
        ("The final choice would be B) since", "B"),
        ("A is right", "A"),
        ("Option A is right", "A"),
        ("Because of the Cat", None),
        ("A man is walking", None),
        ("It rains. A man is walking", None),
        ("it is a dog", None),
        ("the answer is a dog", None),
        ("The Band plays", None),
        ("A, B, C, D", None),
        ("(A) and (B)", None),
        ("A. dog\nB. cat", None),
        ("Between A and D, D", None),
        ("E", None),
        ("E. coli", None),
        ("made in U.S.A", None),
        ("", None),
        ("A red car!", "C"),
    ],
)
def test_the_corrected_rule_wants_exactly_one_option(reply: str, letter: str | None) -> None:
    assert named_letter(reply, "ABCD", ["dog", "cat", "a red car", "bird"]) == letter


def test_mvbench_corrected_takes_texts_and_counts_empty_replies() -> None:
    scores = score_mvbench(
        ["the dog", "", "it is a cat"], ["dog", "dog", "dog"], [["dog", "the dog"]] * 3, ["action_count"] * 3
    )
    assert scores.official["mean_of_tasks"].items == (0, None, 100)
    assert scores.official["mean_of_tasks"].value == 50
    assert scores.corrected["mean_of_tasks_single_letter"].items == (0, 0, 0)
    right = score_mvbench(["Dog."], ["dog"], [["cat", "dog"]], ["action_count"])
    assert right.official["mean_of_tasks"].value == 0
    assert right.corrected["mean_of_tasks_single_letter"].value == 100


def test_a_mean_over_tasks_weighs_tasks_alike_and_its_interval_holds_it() -> None:
    tasks = ["PQA"] * 30 + ["TR"] * 10
    scores = score_mlvu(["A"] * 20 + ["B"] * 20, ["A"] * 40, tasks)
    assert scores.official["accuracy"].value == 50
    assert scores.official["M-Avg"].value == pytest.approx(100 / 3)
    interval = scores.interval("M-Avg")
    assert interval is not None
    # only PQA varies: half of the standard error of a share of 2/3 over 30 items
    assert interval[0] == pytest.approx(100 / 3 - 8.4, abs=1.7)
    assert interval[1] == pytest.approx(100 / 3 + 8.4, abs=1.7)
    assert set(scores.missing_groups) == set(MLVU_TASKS.values()) - {"PQA", "TR"}


def test_annotations_that_do_not_fit_the_benchmark_are_refused() -> None:
    with pytest.raises(ScoringError, match="has no task 'juggling'"):
        score_mvbench(["A"], ["a"], [["a", "b"]], ["juggling"])
    with pytest.raises(ScoringError, match="none of its candidates"):
        score_mvbench(["A"], ["c"], [["a", "b"]], ["action_count"])
    with pytest.raises(ScoringError, match="has no 'duration'"):
        score_videomme(["A"], ["A"], [{}])
