"""VideoMME: multiple choice about videos of seconds to an hour, evaluation only (side channel ``dense``).

Files under the root::

    annotations/test-00000-of-00001.parquet     as on the hub; or its rows as test.jsonl or test.json
    videos/{videoID}.mp4                        or .MP4, .mkv: whichever is there

As released: the prompt speaks of subtitles although none are given; an empty line stands before its last
sentence. 900 videos, 2,700 questions, a third each short, medium and long.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tasks.annotation_file import Entry, annotation_files, read_entries
from tasks.collected import Collected
from tasks.instruction import Instruction, TaskError, TaskSample, as_json
from tasks.option_letter_scores import score_videomme
from tasks.task_scores import TaskScores

DATASET = "videomme"
CHANNELS = ("dense",)
SOURCE = "https://huggingface.co/datasets/lmms-lab/Video-MME"
LICENCE = "academic research only; copyright of the videos is their owners'"
FILES = {"test-00000-of-00001.parquet": "test", "test.jsonl": "test", "test.json": "test"}
VIDEO_ENDINGS = (".mp4", ".MP4", ".mkv")
EVALUATION_SKIPS_WITHOUT: tuple[str, ...] = ()
"""What the release's evaluation leaves a question out for lacking: "video", "features"."""
HEADLINE = "accuracy"
TO_PERCENT = 1
EVALUATED_SPLIT = "test"
MAX_NEW_TOKENS = 16
LETTERS = "ABCD"
FIRST_LINE = (
    "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
    "Respond with only the letter (A, B, C, or D) of the correct option."
)
LAST_LINE = "Answer with the option's letter from the given choices directly."


class Question(Entry):
    """`options` begin with their letters."""

    videoID: str  # noqa: N815  (the dataset's name)
    duration: Literal["short", "medium", "long"]
    domain: str
    sub_category: str
    question_id: str
    task_type: str
    question: str
    options: list[str]
    answer: Literal["A", "B", "C", "D"]


def load(root: Path) -> tuple[list[TaskSample], list[Instruction]]:
    """Samples and instructions. Raises TaskError, AnnotationError."""
    collected = Collected()
    files = annotation_files(root, FILES, SOURCE)
    if len(files) > 1:
        raise TaskError(f"{', '.join(str(path) for path, _ in files)} are one thing; keep one of them")
    for place, entry in read_entries(files[0][0], Question):
        if len(entry.options) != len(LETTERS):
            raise place.error(f"options: there are {len(entry.options)}, not {len(LETTERS)}")
        video_id = place.name("videoID", entry.videoID)
        collected.add_sample(place, video_id, "test", {"video": _video(root, video_id)})
        facts = {
            "question_id": entry.question_id,
            "duration": entry.duration,
            "domain": entry.domain,
            "sub_category": entry.sub_category,
            "task_type": entry.task_type,
            "options": entry.options,
        }
        instruction = Instruction(
            instruction_id=f"test-{entry.question_id}",
            sample_id=video_id,
            dataset=DATASET,
            split="test",
            question_type=entry.task_type,
            question="\n".join([FIRST_LINE, entry.question, *entry.options, "", LAST_LINE]),
            answer=entry.answer,
            chance=1 / len(LETTERS),
            attributes=as_json(facts),
        )
        collected.add(place, instruction)
    return collected.lists()


def score(
    instructions: Sequence[Instruction], replies: Sequence[str | None], allow_missing_metrics: bool = False
) -> TaskScores:
    """Percent of right letters, and by the four kinds of groups. Raises ScoringError."""
    return score_videomme(
        replies, [item.answer for item in instructions], [item.facts for item in instructions]
    )


def released_feature(sample: TaskSample) -> str:
    """Path of the release's feature file below its folder."""
    return f"{sample.sample_id}.pt"


def _video(root: Path, video_id: str) -> str:
    """The file that is there; of a missing video the usual name."""
    paths = [f"videos/{video_id}{ending}" for ending in VIDEO_ENDINGS]
    return next((path for path in paths if (root / path).exists()), paths[0])
