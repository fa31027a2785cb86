"""The golden cases of the datasets, and their official files written out as a dataset's root.

The folder is that of the variable PAVE_GOLDEN, or tests/golden.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.instruction import Instruction, TaskSample

GOLDEN = Path(os.environ.get("PAVE_GOLDEN", Path(__file__).parents[1] / "golden"))
Loaded = tuple[list[TaskSample], list[Instruction]]


def fixture_cases(name: str) -> list[dict[str, Any]]:
    """The cases whose file names begin so; there must be some, so that no check is lost unseen."""
    pattern = f"datasets/fixtures/{name}*.json"
    found = [json.loads(path.read_text()) for path in sorted(GOLDEN.glob(pattern))]
    assert found, f"no golden case {pattern} in {GOLDEN}"
    return found


def write_annotations(root: Path, files: dict[str, Any]) -> Path:
    """Write official files, file name -> content, under the root; returns the root."""
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False))
    return root


def of_split(loaded: Loaded, split: str) -> list[Instruction]:
    return [item for item in loaded[1] if item.split == split]


def conversation(item: Instruction) -> list[dict[str, str]]:
    """An instruction in the training form of the release."""
    messages = []
    for index, (question, answer) in enumerate(item.turns):
        assert answer is not None
        messages.append({"from": "human", "value": ("" if index else "<image>\n") + question})
        messages.append({"from": "gpt", "value": answer})
    return messages


def video_name(loaded: Loaded, item: Instruction) -> str:
    """The name of the clip's file, of a scene its folder."""
    media = next(sample.media for sample in loaded[0] if sample.sample_id == item.sample_id)
    return media.get("video", media.get("scene", "")).rsplit("/", 1)[-1]


def existing(case: dict[str, Any], root: str) -> set[str]:
    """Paths below the literal root that exist in a case."""
    prefix = f"{root}/"
    return {
        path.removeprefix(prefix).rstrip("/") for path in case["existing_paths"] if path.startswith(prefix)
    }


def kept_by_the_release(
    case: dict[str, Any],
    items: Iterable[Instruction],
    files: dict[str, tuple[str, str]],
    without: Iterable[str],
) -> list[Instruction]:
    """The items that the release's evaluation counts.

    Args:
        files: sample id -> (video or scene below VIDEO_ROOT, feature below FEATURE_ROOT).
        without: the task's EVALUATION_SKIPS_WITHOUT.
    """
    videos, features = existing(case, "VIDEO_ROOT"), existing(case, "FEATURE_ROOT")
    kept = []
    for item in items:
        video, feature = files[item.sample_id]
        there = {"video": video in videos, "scene": video in videos, "features": feature in features}
        if all(there[name] for name in without):
            kept.append(item)
    return kept
