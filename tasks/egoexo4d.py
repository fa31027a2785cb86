"""Ego-Exo4D demonstrator proficiency: how skilled is the person? (side channel ``exo``)

Files under the root, which has the layout of the official download::

    annotations/proficiency_demonstrator_train.json     train
    annotations/proficiency_demonstrator_val.json       val: what the release evaluates on
    takes/{take}/frame_aligned_videos/downscaled/448/{camera}.mp4

The ego camera is the "video" of a take, the others are "exo/{camera}"; a take has one to five. As released: every
take gets the same question; evaluation can also name the activity, or ask briefly (`PROMPTS`). The evaluation
leaves out takes whose ego video is missing, whether or not there are features; here they stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from tasks.annotation_file import Entry, Place, annotation_files, read_entries
from tasks.collected import Collected
from tasks.instruction import Instruction, TaskSample, as_json
from tasks.substring_accuracy import score_egoexo4d
from tasks.task_scores import TaskScores

DATASET = "egoexo4d"
CHANNELS = ("exo",)
SOURCE = "https://ego-exo4d-data.org (annotations, and downscaled takes of 448 pixels)"
LICENCE = "Ego-Exo4D licence agreement (signed); no redistribution"
FILES = {"proficiency_demonstrator_train.json": "train", "proficiency_demonstrator_val.json": "val"}
EVALUATION_SKIPS_WITHOUT = ("video",)
"""What the release's evaluation leaves a take out for lacking."""
HEADLINE = "accuracy"
TO_PERCENT = 100
EVALUATED_SPLIT = "val"
MAX_NEW_TOKENS = 1024
Level = Literal["Novice", "Early Expert", "Intermediate Expert", "Late Expert"]
PromptStyle = Literal["default", "activity", "short"]

_GOAL = (
    "Your goal is to evaluate the human's skill level based on their technique, consistency, and overall execution "
    "of the activity. You will classify the performance into one of the following levels: "
)
_LEVELS = (
    "1. Novice: Beginner-level performance with noticeable gaps in basic skills, understanding, or execution. "
    "2. Early Expert: Competent performance showing solid foundational skills, but with room for refinement. "
    "3. Intermediate Expert: Advanced performance demonstrating strong technical abilities and strategic "
    "understanding, but not yet at mastery. "
    "4. Late Expert: Near-masterful or masterful performance, showcasing exceptional skill, precision, and expertise."
)
_SHORT_LEVELS = "1. Novice 2. Early Expert. 3. Intermediate Expert 4. Late Expert."
_EXAMPLE = " Example Output: Early Expert"
_ACTIVITY = "In this video, a human is performing an activity"
PROMPTS: dict[PromptStyle, str] = {
    "default": f"{_ACTIVITY}. {_GOAL}{_LEVELS}{_EXAMPLE}",
    "activity": f"{_ACTIVITY}: SCENARIO, and the task name is: TASK. {_GOAL}{_LEVELS}{_EXAMPLE}",
    "short": f"{_ACTIVITY}. {_GOAL}{_SHORT_LEVELS}{_EXAMPLE}",
}
"""SCENARIO and TASK stand for the take's `scenario_name` and `task_name`."""


class Take(Entry):
    take_uid: str
    task_name: str
    scenario_name: str
    video_paths: dict[str, str]
    proficiency_score: Level


def load(root: Path, prompt: PromptStyle = "default") -> tuple[list[TaskSample], list[Instruction]]:
    """Samples and instructions of the files that are there. Raises TaskError, AnnotationError.

    Args: prompt: the question of evaluation; training always has the default.
    """
    collected = Collected()
    for path, split in annotation_files(root, FILES, SOURCE):
        style = "default" if split == "train" else prompt
        for place, entry in read_entries(path, Take, key="annotations"):
            collected.add_sample(place, entry.take_uid, split, _media(entry, place))
            facts = {
                "image_id": entry.take_uid,
                "scenario_name": entry.scenario_name,
                "task_name": entry.task_name,
            }
            instruction = Instruction(
                instruction_id=f"{split}-{entry.take_uid}",
                sample_id=entry.take_uid,
                dataset=DATASET,
                split=split,
                question_type="proficiency",
                question=question(style, entry.scenario_name, entry.task_name),
                answer=entry.proficiency_score,
                chance=1 / len(get_args(Level)),
                attributes=as_json(facts),
            )
            collected.add(place, instruction)
    return collected.lists()


def question(style: PromptStyle, scenario_name: str, task_name: str) -> str:
    """The text that the model sees."""
    before, scenario, rest = PROMPTS[style].partition("SCENARIO")
    if not scenario:
        return before
    between, _, after = rest.partition("TASK")
    return f"{before}{scenario_name}{between}{task_name}{after}"


def score(
    instructions: Sequence[Instruction], replies: Sequence[str | None], allow_missing_metrics: bool = False
) -> TaskScores:
    """Fraction with the level in the reply (`tasks.substring_accuracy`). Raises ScoringError."""
    return score_egoexo4d(replies, [item.answer for item in instructions])


def released_feature(sample: TaskSample) -> str:
    """Folder of the release's feature files, one for each exo camera, below its folder."""
    return str(PurePosixPath(sample.media["video"]).parent)


def _media(entry: Take, place: Place) -> dict[str, str]:
    if "ego" not in entry.video_paths or len(entry.video_paths) < 2:
        raise place.error("video_paths: it needs 'ego' and at least one exo camera")
    media: dict[str, str] = {}
    for view, path in entry.video_paths.items():
        full = PurePosixPath(place.path(f"video_paths.{view}", path))
        role = "video" if view == "ego" else f"exo/{full.stem}"
        if role in media:
            raise place.error(f"video_paths: two cameras are named {full.stem!r}")
        media[role] = str(full.parent / "downscaled" / "448" / full.name)
    return media
