"""ScanQA: questions about a scanned room (side channel ``depth3d``).

Files under the root::

    annotations/ScanQA_v1.0_train.json      train
    annotations/ScanQA_v1.0_val.json        val: what the release evaluates on
    scenes/{scene_id}                       scenes of ScanNet v2

As released: training learns the first answer only. In evaluation a question's own id is discarded for its number
in the file, from 1, as six digits; the scorer wants the same numbers in the same order. Questions whose scene or
features are missing are left out of the release's predictions; here they stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.annotation_file import Entry, annotation_files, read_entries
from tasks.caption_scores import score_scanqa
from tasks.collected import Collected
from tasks.instruction import Instruction, TaskSample, as_json
from tasks.task_scores import TaskScores

DATASET = "scanqa"
CHANNELS = ("depth3d",)
SOURCE = "https://github.com/ATR-DBI/ScanQA; scenes: ScanNet v2, http://www.scan-net.org"
LICENCE = "CC BY-NC-SA 3.0; ScanNet: its terms of use"
FILES = {"ScanQA_v1.0_train.json": "train", "ScanQA_v1.0_val.json": "val"}
EVALUATION_SKIPS_WITHOUT = ("scene", "features")
"""What the release's evaluation leaves a question out for lacking."""
HEADLINE = "EM1"
TO_PERCENT = 100
EVALUATED_SPLIT = "val"
MAX_NEW_TOKENS = 1024


class Question(Entry):
    scene_id: str
    question_id: str
    question: str
    answers: list[str]


def load(root: Path) -> tuple[list[TaskSample], list[Instruction]]:
    """Samples and instructions of the files that are there. Raises TaskError, AnnotationError."""
    collected = Collected()
    for path, split in annotation_files(root, FILES, SOURCE):
        seen: set[str] = set()
        for number, (place, entry) in enumerate(read_entries(path, Question), start=1):
            if not entry.answers:
                raise place.error("answers: there is none")
            if entry.question_id in seen:
                raise place.error(f"question_id: {entry.question_id!r} was there before")
            seen.add(entry.question_id)
            scene_id = place.name("scene_id", entry.scene_id)
            collected.add_sample(place, scene_id, split, {"scene": f"scenes/{scene_id}"})
            question_id = entry.question_id if split == "train" else f"{number:06d}"
            facts = {"question_id": question_id, "source_question_id": entry.question_id}
            instruction = Instruction(
                instruction_id=f"{split}-{question_id}",
                sample_id=scene_id,
                dataset=DATASET,
                split=split,
                question_type="open",
                question=entry.question,
                answer=entry.answers[0],
                accepted_answers=as_json(entry.answers),
                attributes=as_json(facts),
            )
            collected.add(place, instruction)
    return collected.lists()


def score(
    instructions: Sequence[Instruction], replies: Sequence[str | None], allow_missing_metrics: bool = False
) -> TaskScores:
    """Exact matches and caption scores of the cleaned texts, against every answer. Raises ScoringError."""
    references = [item.references for item in instructions]
    return score_scanqa(replies, references, allow_missing_metrics=allow_missing_metrics)


def released_feature(sample: TaskSample) -> str:
    """Path of the release's feature file below its folder."""
    return f"{sample.sample_id}/video_features.pt"
