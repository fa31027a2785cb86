"""Every task scores replies to its own instructions: facts and references reach the right scorer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dataset_goldens import fixture_cases, of_split, write_annotations

from tasks import TASKS, task_module
from tasks.instruction import Instruction
from tasks.task_scores import ScoringError

# the published evaluation's split and longest reply, and the headline's value where every reply is right
PUBLISHED = {
    "avqa": ("val", 1024, 1.0),
    "avsd": ("test", 1024, None),
    "egoexo4d": ("val", 1024, 1.0),
    "mlvu": ("test", 16, 100.0),
    "music_avqa": ("test", 1024, 100.0),
    "mvbench": ("test", 16, 100.0),
    "scanqa": ("val", 1024, 1.0),
    "sqa3d": ("test", 1024, 1.0),
    "videomme": ("test", 16, 100.0),
}


def instructions(name: str, root: Path) -> list[Instruction]:
    """Those of the golden annotations that the published evaluation asks."""
    if name in ("mlvu", "mvbench", "videomme"):
        content = fixture_cases("benchmarks")[0]["inputs"][name]
        files: dict[str, Any] = {"test.json": content}
        if name == "mvbench":
            files = {}
            for entry in content:
                files.setdefault(f"{entry['task']}.json", []).append(entry["doc"])
    else:
        files = fixture_cases(name)[0]["inputs"]
    task = task_module(name)
    found = of_split(task.load(write_annotations(root, files)), task.EVALUATED_SPLIT)
    assert len(found) > 1
    return found


@pytest.mark.golden
@pytest.mark.parametrize("name", PUBLISHED)
def test_right_replies_are_right_and_a_missing_one_counts_nowhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_module(name)
    split, max_new_tokens, best = PUBLISHED[name]
    assert (split, max_new_tokens) == (task.EVALUATED_SPLIT, task.MAX_NEW_TOKENS)
    monkeypatch.setenv("PATH", "/nowhere")  # Java has its own tests
    items = instructions(name, tmp_path)
    if name == "music_avqa":
        items = [replace(item, answer=item.answer or "-") for item in items]
    replies: list[str | None] = [item.references[-1] for item in items]
    replies[0] = None
    scores = task.score(items, replies, allow_missing_metrics=True)
    assert (scores.num_items, scores.num_missing) == (len(items), 1)
    if name in ("avsd", "scanqa"):
        assert {"CIDEr", "METEOR", "Bleu_4"} <= scores.absent_metrics.keys()
        with pytest.raises(ScoringError, match="captions cannot be scored"):
            task.score(items, replies)
    if task.HEADLINE in scores.absent_metrics:
        return
    headline = scores.official[task.HEADLINE]
    assert headline.value == best
    assert headline.items[0] is None
    wrong = task.score(items, [None, *["~"] * (len(items) - 1)], allow_missing_metrics=True)
    assert wrong.official[task.HEADLINE].value == 0


def test_every_task_can_be_evaluated() -> None:
    assert TASKS.keys() - PUBLISHED.keys() == {"llava_video_178k", "sidecue"}
    for name in TASKS.keys() - PUBLISHED.keys():
        item = Instruction("a", "clip", name, "test", "kind", "Which?", "Red")
        other = replace(item, question_type="colour")
        scores = task_module(name).score([item, other, item], ["red", "blue", None])
        assert scores.official[task_module(name).HEADLINE].value == 0.5
        assert {group: found.values for group, found in scores.groups.items()} == {
            "colour": {"accuracy": 0.0},
            "kind": {"accuracy": 1.0},
        }


def test_instructions_of_an_older_table_are_named() -> None:
    item = Instruction("a", "clip", "avqa", "val", "kind", "Which?", "A")
    with pytest.raises(ScoringError, match=r"^a of avqa has no 'options' among its attributes; make"):
        task_module("avqa").score([item], ["A"])
