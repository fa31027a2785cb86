"""Evaluation on datasets with a published scorer: their metrics, groups and rules, and what is missing."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pave_process import invoke
from tiny_base import write_tiny_base
from tiny_features import write_features

from pipelines.config import DataConfig, EvaluateConfig
from pipelines.errors import PipelineError
from pipelines.evaluate import evaluate
from pipelines.feature_dataset import Coverage
from pipelines.prediction_file import read_predictions
from pipelines.score_rows import denominator_rule
from tasks.instruction import Instruction, as_json
from tasks.task_scores import ScoringError

TYPES = [("Audio", "Counting"), ("Visual", "Location"), ("Visual", "Location"), ("Audio", "Counting")]
SHORT = {"max_new_tokens": 3}


def write_instructions(path: Path, items: list[Instruction]) -> None:
    pq.write_table(pa.Table.from_pylist([asdict(item) for item in items]), path)


def config(world: Path, out: Path, **more: Any) -> EvaluateConfig:
    settings = {"base": str(world / "base"), "max_missing_fraction": 0.25, **SHORT, **more}
    data = DataConfig(
        store=str(world / "store"),
        instructions=world / "instructions.parquet",
        split="test",
        max_missing_fraction=settings.pop("max_missing_fraction"),
    )
    return EvaluateConfig(data=data, out=out, **settings)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four Music-AVQA questions, the last without features; what the base says is right for the first alone."""
    root = tmp_path_factory.mktemp("music")
    write_tiny_base(root / "base")
    write_features(root / "store", "music_avqa", "frames", [(f"clip {number}", 2) for number in range(3)])
    items = [
        Instruction(
            instruction_id=f"test-{number}",
            sample_id=f"clip {number}",
            dataset="music_avqa",
            split="test",
            question_type=" ".join(pair),
            question="How many shapes are there?",
            answer="saxophone",
            attributes=as_json({"question_id": number, "type": pair}),
        )
        for number, pair in enumerate(TYPES)
    ]
    write_instructions(root / "instructions.parquet", items)
    evaluate(config(root, root / "replies"))
    said = json.loads((root / "replies" / "predictions.jsonl").read_text().splitlines()[0])["prediction"]
    assert said
    items[0] = replace(items[0], answer=said.upper())
    write_instructions(root / "instructions.parquet", items)
    return root


def test_a_published_scorer_gives_metrics_groups_and_predictions(world: Path, tmp_path: Path) -> None:
    report = evaluate(config(world, tmp_path / "scores"))
    found = {(score.metric, score.group): (score.value, score.n) for score in report.scores if score.official}
    assert found == {
        ("Overall Accuracy", None): (pytest.approx(100 / 3), 3),
        ("Overall Accuracy", "Audio Counting"): (100.0, 1),
        ("Overall Accuracy", "Audio"): (100.0, 1),
        ("Overall Accuracy", "Visual Loc"): (0.0, 2),
        ("Overall Accuracy", "Visual"): (0.0, 2),
    }
    assert {"AV", "AV Temporal", "Audio Cmp", "Visual Counting"} <= set(report.missing_groups)
    assert any(score.metric == "accuracy_whole_words" and not score.official for score in report.scores)
    overall = report.scores[0]
    assert overall.low is not None
    assert overall.high is not None
    assert overall.low <= 100 / 3 <= overall.high
    assert report.not_answered == ("test-3",)

    written = json.loads((tmp_path / "scores" / "scores.json").read_text())["report"]
    assert written == report.model_dump(mode="json")
    predictions = read_predictions(tmp_path / "scores" / "predictions.jsonl")
    assert (predictions.dataset, predictions.split) == ("music_avqa", "test")
    scores = [item.scores["Overall Accuracy"] for item in predictions.items.values()]
    assert scores == [100.0, 0.0, 0.0]
    assert "correct" not in predictions.items["test-0"].scores, "exact match is not this task's rule"


def test_the_table_names_what_the_numbers_rest_on(world: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    published = [{"metric": "Overall Accuracy, Audio", "value": 79.5, "source": "Table 4"}]
    values = config(world, tmp_path / "scores").model_dump(mode="json")
    recipe.write_text(json.dumps({**values, "published": published}))
    result = invoke("eval", recipe)
    assert result.exit_code == 0, result.stderr
    for pattern in (
        r"^music_avqa, split test: base, scored by the published evaluation of music_avqa$",
        r"^Overall Accuracy +headline +33.33 +0.0000 to 100.00 +3$",
        r"^accuracy_whole_words +corrected ",
        r"^Visual Loc +0.0000 ",
        r"^Overall Accuracy, Audio +100.00 .* 79.50 +\+20.50 +Table 4$",
        r"^no items of: .*AV Temporal",
        r"^3 of 4 instructions and 3 of 4 samples had features",
        r"^not answered, and in no score: 1, listed in scores.json$",
        r"^the published evaluation counts every item; here 1 items do not .*\(frames\).*not comparable$",
    ):
        assert re.search(pattern, result.stdout, re.MULTILINE), (pattern, result.stdout)


def test_a_renamed_dataset_is_scored_as_the_task_that_is_named(world: Path, tmp_path: Path) -> None:
    items = [Instruction(**row) for row in pq.read_table(world / "instructions.parquet").to_pylist()]
    renamed = [replace(item, dataset="mine") for item in items[:3]]
    write_instructions(tmp_path / "instructions.parquet", renamed)
    write_features(tmp_path / "store", "mine", "frames", [(item.sample_id, 2) for item in renamed])
    (tmp_path / "base").symlink_to(world / "base")
    as_task = evaluate(config(tmp_path, tmp_path / "as task", task="music_avqa"))
    assert (as_task.task, as_task.headline) == ("music_avqa", "Overall Accuracy")


def test_what_cannot_be_scored_is_told_before_the_model_is_loaded(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = str(tmp_path / "absent")
    with pytest.raises(ScoringError, match=r"^test-0 of music_avqa has no 'options'.*pave prepare"):
        evaluate(config(world, tmp_path / "scores", base=absent, task="avqa"))
    monkeypatch.setenv("PATH", "/nowhere")  # no Java
    with pytest.raises(ScoringError, match=r"^captions cannot be scored: .*install"):
        evaluate(config(world, tmp_path / "scores", base=absent, task="avsd"))
    allowed = {"task": "avsd", "allow_missing_metrics": True}
    with pytest.raises(PipelineError, match=r"no base model at .*absent"):
        evaluate(config(world, tmp_path / "scores", base=absent, **allowed))
    assert not (tmp_path / "scores").exists()
    report = evaluate(config(world, tmp_path / "scores", **allowed))
    assert report.scores == ()
    assert re.search(r"^absent: Bleu_1, .*METEOR, ROUGE_L, CIDEr: .*install", report.summary(), re.MULTILINE)


@pytest.mark.parametrize(
    ("skips", "missing", "types", "told"),
    [
        (
            ("video", "features"),
            {"frames": 1, "audio": 1},
            None,
            "leaves out items without video or features",
        ),
        (("video",), {"frames": 1, "exo": 0}, None, "leaves out items without video"),
        (
            ("video",),
            {"frames": 0, "exo": 1},
            None,
            "here 1 items do not count for lack of features (exo), so",
        ),
        ((), {"frames": 0}, None, "counts every item"),
        ((), {"frames": 0}, ["What"], "counts every item; here only the question types What were asked, so"),
    ],
)
def test_numbers_are_comparable_where_the_same_items_count(
    skips: tuple[str, ...], missing: dict[str, int], types: list[str] | None, told: str
) -> None:
    coverage = Coverage(instructions=4, with_features=3, samples=4, samples_with_features=3, missing=missing)
    rule = denominator_rule(skips, coverage, types)
    assert told in rule
    assert rule.endswith("so the numbers are not comparable" if told.endswith("so") else told)
