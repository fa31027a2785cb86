"""Music-AVQA: questions about who plays what in videos of music (side channel ``audio``).

Files under the root, of either version of the release (``json``, ``json_update``)::

    annotations/avqa-train.json, avqa-val.json, avqa-test.json
    videos/MUSIC-AVQA-videos-Real/{video_id}.mp4             ids that begin with a digit
    videos/MUCIS-AVQA-videos-Synthetic/{video_id}.mp4        all others; the folder is spelt so

As released: ``<...>`` in a question is replaced by the entry's values. In training a question whose raw ``type``
holds the text ``Audio`` is there twice, so Audio and Audio-Visual questions are and Visual ones are not.
``question_deleted`` is not read. 55 question ids come twice in the test file of ``json``: official ids repeat, so
the later ones get ``#2`` in their instruction id; results are paired by position.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tasks.annotation_file import Entry, Place, annotation_files, read_entries
from tasks.collected import Collected
from tasks.instruction import Instruction, TaskSample, as_json
from tasks.substring_accuracy import score_music_avqa
from tasks.task_scores import TaskScores, fact_column

DATASET = "music_avqa"
CHANNELS = ("audio",)
SOURCE = "https://github.com/GeWu-Lab/MUSIC-AVQA"
LICENCE = "MIT (repository); videos: YouTube"
FILES = {"avqa-train.json": "train", "avqa-val.json": "val", "avqa-test.json": "test"}
EVALUATION_SKIPS_WITHOUT: tuple[str, ...] = ()
"""What the release's evaluation leaves a question out for lacking: "video", "features"."""
HEADLINE = "Overall Accuracy"
TO_PERCENT = 1
EVALUATED_SPLIT = "test"
MAX_NEW_TOKENS = 1024
QUESTION_TYPES = {
    "Audio": ("Counting", "Comparative"),
    "Visual": ("Counting", "Location"),
    "Audio-Visual": ("Existential", "Counting", "Location", "Comparative", "Temporal"),
}
REAL, SYNTHETIC = "MUSIC-AVQA-videos-Real", "MUCIS-AVQA-videos-Synthetic"
Encoder = Literal["imagebind", "languagebind"]


class Question(Entry):
    video_id: str
    question_id: int
    type: str
    question_content: str
    templ_values: str
    anser: str


def load(root: Path) -> tuple[list[TaskSample], list[Instruction]]:
    """Samples and instructions of the files that are there. Raises TaskError, AnnotationError."""
    collected = Collected()
    for path, split in annotation_files(root, FILES, SOURCE):
        times_seen: Counter[int] = Counter()
        for place, entry in read_entries(path, Question):
            video_id = place.name("video_id", entry.video_id)
            media = {"video": f"videos/{subset(video_id)}/{video_id}.mp4"}
            collected.add_sample(place, video_id, split, media)
            modality, kind = _question_type(entry, place)
            question = filled_question(entry, place)
            twice = split == "train" and "Audio" in entry.type
            for _ in range(1 + twice):
                times_seen[entry.question_id] += 1
                count = times_seen[entry.question_id]
                instruction = Instruction(
                    instruction_id=f"{split}-{entry.question_id}" + (f"#{count}" if count > 1 else ""),
                    sample_id=video_id,
                    dataset=DATASET,
                    split=split,
                    question_type=f"{modality} {kind}",
                    question=question,
                    answer=entry.anser,
                    attributes=as_json({"question_id": entry.question_id, "type": [modality, kind]}),
                )
                collected.add(place, instruction)
    return collected.lists()


def filled_question(entry: Question, place: Place) -> str:
    """The question with its values in place of ``<...>``. Raises AnnotationError where their numbers differ."""
    values = _texts(entry.templ_values, "templ_values", place)
    question = entry.question_content
    blanks = re.findall("<.*?>", question)
    if len(blanks) != len(values):
        raise place.error(f"question_content: {len(blanks)} blanks for {len(values)} templ_values")
    for blank, value in zip(blanks, values, strict=True):
        question = question.replace(blank, value, 1)
    return question


def subset(video_id: str) -> str:
    """The folder of a video."""
    return REAL if video_id[0].isdigit() else SYNTHETIC


def score(
    instructions: Sequence[Instruction], replies: Sequence[str | None], allow_missing_metrics: bool = False
) -> TaskScores:
    """Percent with the answer in the reply, and by type (`tasks.substring_accuracy`). Raises ScoringError."""
    return score_music_avqa(
        replies, [item.answer for item in instructions], fact_column(instructions, "type")
    )


def released_feature(sample: TaskSample, encoder: Encoder = "imagebind") -> str:
    """Path of the release's feature file below its folder."""
    return f"{subset(sample.sample_id)}_audio_{encoder}_feat/{sample.sample_id}.pt"


def _question_type(entry: Question, place: Place) -> tuple[str, str]:
    names = _texts(entry.type, "type", place)
    if len(names) != 2 or names[1] not in QUESTION_TYPES.get(names[0], ()):
        raise place.error(f"type: {entry.type!r} is no type of question of Music-AVQA")
    return names[0], names[1]


def _texts(field: str, name: str, place: Place) -> list[str]:
    """A list of texts that is itself kept as text."""
    try:
        found = json.loads(field)
    except (ValueError, RecursionError) as error:
        raise place.error(f"{name}: {field!r} holds no JSON") from error
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise place.error(f"{name}: {field!r} holds no list of texts")
    return found
