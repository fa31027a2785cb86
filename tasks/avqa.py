"""AVQA: multiple choice about what is seen and heard (side channel ``audio``).

Files under the root::

    annotations/train_qa.json       train
    annotations/val_qa.json         val: what the release evaluates on
    videos/{video_name}.mp4         clips of VGGSound

As released: the prompt speaks of subtitles although none are given, and no space follows ``A.``. The evaluation
leaves out questions whose video or features are missing, before it counts; here they stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.annotation_file import Entry, annotation_files, read_entries
from tasks.collected import Collected
from tasks.instruction import Instruction, TaskSample, as_json
from tasks.substring_accuracy import score_avqa
from tasks.task_scores import TaskScores, fact_column

DATASET = "avqa"
CHANNELS = ("audio",)
SOURCE = "https://mn.cs.tsinghua.edu.cn/avqa (train_qa.json, val_qa.json); videos: VGGSound"
LICENCE = "none stated; VGGSound: CC BY 4.0"
FILES = {"train_qa.json": "train", "val_qa.json": "val"}
EVALUATION_SKIPS_WITHOUT = ("video", "features")
"""What the release's evaluation leaves a question out for lacking."""
HEADLINE = "accuracy"
TO_PERCENT = 100
EVALUATED_SPLIT = "val"
MAX_NEW_TOKENS = 1024
LETTERS = "ABCD"
FIRST_LINE = (
    "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
    "Respond with only the letter (A, B, C, or D) of the correct option."
)
LAST_LINE = "Answer with the option's letter from the given choices directly."


class Question(Entry):
    id: int
    video_name: str
    question_text: str
    multi_choice: list[str]
    answer: int
    question_relation: str
    question_type: str


def load(root: Path) -> tuple[list[TaskSample], list[Instruction]]:
    """Samples and instructions of the files that are there. Raises TaskError, AnnotationError."""
    collected = Collected()
    for path, split in annotation_files(root, FILES, SOURCE):
        for place, entry in read_entries(path, Question):
            if len(entry.multi_choice) != len(LETTERS):
                raise place.error(f"multi_choice: {len(entry.multi_choice)} options, not {len(LETTERS)}")
            if not 0 <= entry.answer < len(LETTERS):
                raise place.error(f"answer: {entry.answer} is no option; options are counted from 0")
            name = place.name("video_name", entry.video_name)
            collected.add_sample(place, name, split, {"video": f"videos/{name}.mp4"})
            facts = {
                "id": entry.id,
                "image_id": name,
                "question_relation": entry.question_relation,
                "options": entry.multi_choice,
            }
            instruction = Instruction(
                instruction_id=f"{split}-{entry.id}",
                sample_id=name,
                dataset=DATASET,
                split=split,
                question_type=entry.question_type,
                question=prompt(entry.question_text, entry.multi_choice),
                answer=LETTERS[entry.answer],
                chance=1 / len(LETTERS),
                attributes=as_json(facts),
            )
            collected.add(place, instruction)
    return collected.lists()


def prompt(question: str, options: list[str]) -> str:
    """The text of training and evaluation."""
    choices = [f"{letter}.{option}" for letter, option in zip(LETTERS, options, strict=True)]
    return "\n".join([FIRST_LINE, question, *choices, LAST_LINE])


def score(
    instructions: Sequence[Instruction], replies: Sequence[str | None], allow_missing_metrics: bool = False
) -> TaskScores:
    """Fraction with the letter in the reply (`tasks.substring_accuracy`). Raises ScoringError."""
    return score_avqa(replies, [item.answer for item in instructions], fact_column(instructions, "options"))


def released_feature(sample: TaskSample) -> str:
    """Path of the release's feature file below its folder."""
    return f"{sample.sample_id}.pt"
