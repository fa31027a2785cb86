"""EM@1 and refined EM: the published numbers, and what the corrected metric does differently."""

import pytest
from metric_goldens import column, metric_cases

from tasks.answer_cleaning import clean_answer
from tasks.exact_match import SQA3D_TYPES, score_exact_match, score_sqa3d, sqa3d_type
from tasks.task_scores import ScoringError


@pytest.mark.golden
def test_answers_are_cleaned_as_published() -> None:
    for case in metric_cases("answer_cleaning"):
        for item in case["items"]:
            assert clean_answer(item["raw"]) == item["clean"], item["raw"]


@pytest.mark.golden
def test_scanqa_matches_as_published() -> None:
    for case in metric_cases("scanqa"):
        scores = score_exact_match(column(case["items"], "prediction"), column(case["items"], "answers"))
        per_item = case["expected"]["per_item"]
        assert list(scores.readings or ()) == column(per_item, "clean_prediction")
        for name, key in (("EM1", "em"), ("EM1_refined", "em_refined")):
            assert list(scores.official[name].items) == column(per_item, key)
            assert scores.official[name].value == pytest.approx(case["expected"]["corpus"][name], abs=1e-9)


@pytest.mark.golden
@pytest.mark.parametrize("left_out", [None, "Can"])
def test_sqa3d_matches_as_published_also_without_a_type(left_out: str | None) -> None:
    for case in metric_cases("sqa3d"):
        items = [item for item in case["items"] if SQA3D_TYPES[item["type"]] != left_out]
        types = [sqa3d_type(item["question"]) for item in items]
        assert types == [SQA3D_TYPES[item["type"]] for item in items]
        scores = score_sqa3d(column(items, "prediction"), column(items, "answer"), types)
        expected = case["expected"]["overall" if left_out is None else "overall_without_type_3_items"]
        assert scores.official.keys() == expected.keys()
        for name, value in expected.items():
            assert scores.official[name].value == pytest.approx(value, abs=1e-9), name
        if left_out is None:
            assert list(scores.official["EM1"].items) == column(case["expected"]["per_item"], "em")
            counts = {str(i): len(scores.groups[name].members) for i, name in enumerate(SQA3D_TYPES)}
            assert counts == case["expected"]["type_counts"]
        assert scores.missing_groups == (() if left_out is None else (left_out,))


@pytest.mark.parametrize(
    ("reply", "answer", "refined", "whole_words"),
    [
        ("", "nothing", 1, 0),
        ("the", "door", 0, 0),
        ("...", "table", 1, 0),
        ("no", "nothing", 1, 0),
        ("it is nothing", "nothing", 1, 1),
        ("TV", "tv monitor", 1, 1),
        ("roundtable", "round table", 1, 1),
        ("table round", "round table", 0, 0),
        ("yes, it is", "yes it is", 0, 1),
    ],
)
def test_the_corrected_metric_wants_whole_words(
    reply: str, answer: str, refined: int, whole_words: int
) -> None:
    scores = score_exact_match([reply], [[answer]])
    assert scores.official["EM1_refined"].value == refined
    assert scores.corrected["EM1_refined_whole_words"].value == whole_words


def test_an_item_without_a_reply_counts_nowhere_and_is_told() -> None:
    scores = score_sqa3d(["left", None], ["left", "right"], ["Which", "Can"])
    assert (scores.num_items, scores.num_missing) == (2, 1)
    assert scores.official["EM1"].items == (1, None)
    assert scores.official["EM1"].value == 1
    assert "Can" in scores.missing_groups
    assert score_exact_match([None], [["a"]]).official["EM1"].value is None


def test_replies_that_do_not_fit_the_answers_are_refused() -> None:
    with pytest.raises(ScoringError, match="2 replies, 1 answers"):
        score_exact_match(["a", "b"], [["a"]])
