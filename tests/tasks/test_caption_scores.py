"""Caption scores: the published numbers, with and without Java, and captions that no separator can shift."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from metric_goldens import column, metric_cases

from tasks.caption_scores import (
    CAPTION_METRICS,
    score_captions,
    score_scanqa,
    token_metrics,
)
from tasks.caption_tokens import require_caption_tools, tokenize
from tasks.task_scores import ScoringError, TaskScores

pytest.importorskip("pycocoevalcap", reason="needs the extra `eval`")
needs_java = pytest.mark.skipif(
    shutil.which("java") is None, reason="the tokenizer and METEOR need Java (Debian: default-jre-headless)"
)
WITHOUT_JAVA = tuple(name for name in CAPTION_METRICS if name != "METEOR")
AVSD_TOKENS = ("avsd_caption", "reference_tokens")
SCANQA_TOKENS = ("scanqa", "answer_tokens")


def references_of(rows: list[dict[str, Any]], key: str) -> list[list[str]]:
    return [row[key] if isinstance(row[key], list) else [row[key]] for row in rows]


@pytest.mark.golden
@pytest.mark.parametrize(("name", "key"), [AVSD_TOKENS, SCANQA_TOKENS])
def test_tokens_are_scored_as_published_without_java(
    name: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for case in metric_cases(name):
        rows = case["expected"]["per_item"]
        metrics = token_metrics(column(rows, "prediction_tokens"), references_of(rows, key), WITHOUT_JAVA)
        for metric_name, metric in metrics.items():
            assert metric.value == pytest.approx(case["expected"]["corpus"][metric_name], abs=1e-9)
            assert metric.items == pytest.approx(column(rows, metric_name), abs=1e-9)


@needs_java
@pytest.mark.golden
def test_captions_are_tokenized_as_published() -> None:
    for case in metric_cases("avsd_caption"):
        captions = column(case["items"], "prediction") + column(case["items"], "reference")
        rows = case["expected"]["per_item"]
        assert tokenize(captions) == column(rows, "prediction_tokens") + column(rows, "reference_tokens")


@pytest.fixture(scope="module")
def scored() -> list[tuple[dict[str, Any], TaskScores]]:
    """Every golden case with what we make of it from the raw texts."""
    found = []
    for case in metric_cases("avsd_caption"):
        references = [[reference] for reference in column(case["items"], "reference")]
        found.append((case, score_captions(column(case["items"], "prediction"), references)))
    for case in metric_cases("scanqa"):
        found.append(
            (case, score_scanqa(column(case["items"], "prediction"), column(case["items"], "answers")))
        )
    return found


@needs_java
@pytest.mark.golden
@pytest.mark.slow  # METEOR reads its paraphrases for half a minute each time
def test_raw_captions_are_scored_as_published(scored: list[tuple[dict[str, Any], TaskScores]]) -> None:
    for case, scores in scored:
        corpus, rows = case["expected"]["corpus"], case["expected"]["per_item"]
        assert scores.official.keys() == corpus.keys()
        for name, value in corpus.items():
            assert scores.official[name].value == pytest.approx(value, abs=1e-6), name
        for name in CAPTION_METRICS:
            low, high = scores.interval(name) or (1, 0)
            assert low < (scores.official[name].value or 0) < high, name
            assert scores.official[name].items == pytest.approx(column(rows, name), abs=1e-6), name


@needs_java
def test_no_separator_shifts_the_captions_and_the_package_folder_is_not_written() -> None:
    import pycocoevalcap.tokenizer.ptbtokenizer as package

    folder = Path(package.__file__).parent
    before = os.stat(folder).st_mtime_ns
    separators = ["\n", "\r", "\r\n", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"]
    captions = [f"left{separator}Right." for separator in separators]
    assert tokenize(["", *captions, "The end", "", ""]) == [
        "",
        *["left right"] * len(captions),
        "the end",
        "",
        "",
    ]
    assert os.stat(folder).st_mtime_ns == before


def test_without_java_a_run_stops_or_says_what_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ScoringError, match=r"no java command; install .*default-jre-headless"):
        require_caption_tools()
    with pytest.raises(ScoringError, match="no java command"):
        score_captions(["a"], [["a"]])
    scores = score_scanqa(["2 chairs"], [["two chairs"]], allow_missing_metrics=True)
    assert scores.official.keys() == {"EM1", "EM1_refined"}
    assert scores.official["EM1"].value == 1
    assert scores.absent_metrics.keys() == set(CAPTION_METRICS)
    assert "default-jre-headless" in scores.absent_metrics["METEOR"]


def test_a_java_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java"
    java.write_text('#!/bin/sh\n[ "$1" = -version ] && exit 0\necho "out of memory" >&2\nexit 3\n')
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ScoringError, match=r"0 lines of 1 captions, exit code 3 \(out of memory\)"):
        tokenize(["a"])
    with pytest.raises(ScoringError, match="METEOR's Java program ended with exit code 3"):
        token_metrics(["a"], [["a"]])


def test_intervals_of_corpus_metrics_resample_the_corpus() -> None:
    alike = token_metrics(["a b c d e x"] * 3, [["a b c d e f g h", "k"]] * 3, WITHOUT_JAVA)
    for name in ("Bleu_1", "Bleu_4"):
        value = alike[name].value
        assert value is not None
        assert alike[name].corpus_interval == pytest.approx((value, value), abs=1e-12)
    mixed = token_metrics(["a b c d", "x y z"] * 20, [["a b c d"], ["y x q"]] * 20, ["Bleu_1"])["Bleu_1"]
    low, high = mixed.corpus_interval or (1, 1)
    assert 0.6 < low < (mixed.value or 0) < high < 1


@needs_java
@pytest.mark.slow  # METEOR again
def test_meteor_resamples_as_it_scores_a_corpus() -> None:
    same = "he does n't speak at all"
    metric = token_metrics([same, same, same], [[same]] * 3, ["METEOR"])["METEOR"]
    assert metric.value == pytest.approx(1)
    assert metric.corpus_interval == pytest.approx((1, 1))


def test_what_cannot_be_compared_scores_nothing_or_is_refused() -> None:
    metric = token_metrics(["a b c d"], [["a b c d"]], ["Bleu_4", "CIDEr"])
    assert metric["Bleu_4"].value == pytest.approx(1)
    assert metric["CIDEr"].value == 0  # one item alone: every n-gram is in all references
    assert token_metrics(["a"], [[""]], WITHOUT_JAVA)["CIDEr"].value == 0
    with pytest.raises(ScoringError, match="item 1 has no reference"):
        score_captions(["a", "b"], [["a"], []])
