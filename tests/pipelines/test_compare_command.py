"""`pave compare`: paired by item, and nothing left out unsaid."""

import json
import re
from pathlib import Path
from typing import Any

from pave_process import invoke

from pipelines.predictions import Prediction


def write(folder: Path, right: dict[str, bool], split: str | None = "test", **changes: Any) -> Path:
    """A predictions.jsonl, with the scores.json that tells its split."""
    folder.mkdir()
    if split is not None:
        origin = {
            "config": {"data": {"split": split}},
            "feature_sets": {"frames": {"name": "world/frames/f00"}},
        }
        (folder / "scores.json").write_text(json.dumps(origin))
    rows = []
    for name, correct in right.items():
        prediction = Prediction(
            instruction_id=name,
            sample_id=name,
            dataset="world",
            split="test",
            question_type="colour" if name < "n" else "shape",
            question="Which?",
            answer="red",
            prediction="red" if correct else "blue",
            reading=None,
            correct=correct,
            scores={},
        )
        # a file of an older version, which has these in scores.json alone
        rows.append({**prediction.model_dump(exclude={"dataset", "split", "scores"}), **changes})
    path = folder / "predictions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_items_are_paired_by_id_and_what_only_one_file_has_is_told(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"a": True, "b": True, "c": False, "y": True, "z": True})
    second = write(tmp_path / "b", {"z": False, "c": True, "b": False, "a": True, "x": True})
    result = invoke("compare", first, second)
    assert result.exit_code == 0, result.stderr
    assert "world, split test" in result.stdout
    (row,) = (line.split() for line in result.stdout.splitlines() if line.startswith("correct  all"))
    assert row[2:6] == ["4", "0.7500", "0.5000", "+0.2500"]
    assert row[-3:] == ["2", "1", "1"]
    assert "only in A, not compared: 1 items: y" in result.stdout
    assert "only in B, not compared: 1 items: x" in result.stdout
    content = json.loads(invoke("compare", first, second, "--json").stdout)
    assert content["only_in_A"] == ["y"]
    by_type = {found["question"]: found for found in content["comparisons"]}
    assert (by_type["shape"]["won"], by_type["shape"]["n"]) == (1, 1)
    assert by_type["all"]["low"] <= 0.25 <= by_type["all"]["high"]


def test_every_shared_metric_is_compared_and_skipped_items_are_counted(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"a": True, "b": True}, scores={"CIDEr": 2.5, "EM1": None})
    second = write(tmp_path / "b", {"a": True, "b": True}, scores={"CIDEr": 1.0, "EM1": 1.0, "METEOR": 0.5})
    result = invoke("compare", first, second)
    (row,) = (line.split() for line in result.stdout.splitlines() if line.startswith("CIDEr"))
    assert row[:6] == ["CIDEr", "all", "2", "2.5000", "1.0000", "+1.5000"]
    assert "EM1, all: 2 items have no score in a file" in result.stdout
    assert "only in B, not compared: the metrics METEOR" in result.stdout


def test_a_metric_of_one_question_type_is_not_asked_of_the_others(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, {"a": True, "z": False}, correct=None) for name in "ab"]
    for path in paths:
        colour, shape = map(json.loads, path.read_text().splitlines())
        colour["scores"], shape["scores"] = {"EM1": 1.0, "EM_colour": 1.0}, {"EM1": 0.0}
        path.write_text(f"{json.dumps(colour)}\n{json.dumps(shape)}\n")
    content = json.loads(invoke("compare", *paths, "--json").stdout)
    assert [(found["metric"], found["question"], found["unscored"]) for found in content["comparisons"]] == [
        ("EM1", "all", 0),
        ("EM1", "colour", 0),
        ("EM1", "shape", 0),
        ("EM_colour", "all", 0),
        ("EM_colour", "colour", 0),
    ]


def test_a_file_without_scores_json_is_compared_and_that_is_told(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"a": True}, split=None)
    result = invoke("compare", first, write(tmp_path / "b", {"a": True}))
    assert result.exit_code == 0
    assert f"{first}: no scores.json beside it" in result.stdout


def test_what_cannot_be_compared_is_one_line(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"a": True})
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"instruction_id": "a"}\n')
    twice = tmp_path / "twice.jsonl"
    twice.write_text(first.read_text() * 2)
    other = tmp_path / "other.jsonl"
    other.write_text(
        json.dumps({**json.loads(first.read_text()), "dataset": "other", "split": "test"}) + "\n"
    )
    cases = {
        write(tmp_path / "split", {"a": True}, split="val"): "split test, but .*split val",
        write(tmp_path / "question", {"a": True}, question="Who?"): "a has another question or answer",
        write(tmp_path / "none", {"b": True}): "no item in common",
        other: "of other, split test",
        broken: "line 1 is no prediction .KeyError: 'correct'",
        twice: "line 2: a is there already",
        tmp_path / "absent.jsonl": "absent.jsonl cannot be read",
    }
    for path, words in cases.items():
        result = invoke("compare", first, path)
        assert result.exit_code == 1, words
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        assert re.search(words, line), line
