"""SQA3D: questions that are asked from a place in a scanned room (side channel ``depth3d``).

Files under the root, for each split that is there (train, val, test); either the official ones::

    annotations/v1_balanced_questions_{split}_scannetv2.json
    annotations/v1_balanced_sqa_annotations_{split}_scannetv2.json
    annotations/answer_dict.json
    scenes/{scene_id}                       scenes of ScanNet v2

or, where those of a split are not there, ``annotations/SQA_{split}.json`` of the ready ``ScanQA_format`` archive.

As released: an answer that ``answer_dict.json`` does not know becomes ``unknown``. The question is the situation,
a space, and the question; alternative situations are not used. The type of a question is its first word with its
capital letter: ``What's``, ``what`` and a leading space are ``Other``. Evaluation is on test, and leaves out
questions whose scene or features are missing; here they stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field, RootModel

from tasks.annotation_file import Entry, Place, read_entries
from tasks.collected import Collected
from tasks.exact_match import score_sqa3d, sqa3d_type
from tasks.instruction import AnnotationError, Instruction, TaskError, TaskSample, as_json
from tasks.task_scores import TaskScores

DATASET = "sqa3d"
CHANNELS = ("depth3d",)
SOURCE = "https://zenodo.org/records/7792397 (repository SilongYong/SQA3D); scenes: ScanNet v2"
LICENCE = "CC BY 4.0 (data), Apache-2.0 (code); ScanNet: its terms of use"
SPLITS = ("train", "val", "test")
EVALUATION_SKIPS_WITHOUT = ("scene", "features")
"""What the release's evaluation leaves a question out for lacking."""
HEADLINE = "EM1"
TO_PERCENT = 100
EVALUATED_SPLIT = "test"
MAX_NEW_TOKENS = 1024
UNKNOWN = "unknown"


class FlatQuestion(Entry):
    """An entry of ``SQA_{split}.json``; `position` holds x, y, z and the rotation's x, y, z, w."""

    answers: list[str] = Field(min_length=1)
    question: str
    situation: str
    question_id: int
    scene_id: str
    position: list[float]


class Question(Entry):
    scene_id: str
    situation: str
    question: str
    question_id: int


class Answer(Entry):
    answer: str


class Annotation(Entry):
    question_id: int
    answers: list[Answer] = Field(min_length=1)
    position: dict[str, float]
    rotation: dict[str, float]


class Vocabulary(RootModel[dict[str, int | str]]):
    """An object of ``answer_dict.json``; the first of the two leads from answer to class."""


def load(root: Path) -> tuple[list[TaskSample], list[Instruction]]:
    """Samples and instructions of the splits that are there. Raises TaskError, AnnotationError."""
    folder = root / "annotations"
    collected = Collected()
    found = False
    for split in SPLITS:
        if _questions_file(folder, split).is_file():
            entries = flat_questions(folder, split)
        elif (folder / f"SQA_{split}.json").is_file():
            entries = read_entries(folder / f"SQA_{split}.json", FlatQuestion)
        else:
            continue
        found = True
        for place, entry in entries:
            scene_id = place.name("scene_id", entry.scene_id)
            collected.add_sample(place, scene_id, split, {"scene": f"scenes/{scene_id}"})
            collected.add(place, _instruction(entry, split))
    if not found:
        names = [_questions_file(folder, split).name for split in SPLITS]
        raise TaskError(f"{folder} has none of: {', '.join(names)}; get them from {SOURCE}")
    return collected.lists()


def flat_questions(folder: Path, split: str) -> Iterator[tuple[Place, FlatQuestion]]:
    """The official files of a split, joined by question id, in the order of the questions.

    Raises TaskError, and AnnotationError where an id has no annotation, no question, or more than one.
    """
    annotations_file = folder / f"v1_balanced_sqa_annotations_{split}_scannetv2.json"
    known = _known_answers(folder / "answer_dict.json")
    annotations: dict[int, tuple[Place, Annotation]] = {}
    for place, annotation in read_entries(annotations_file, Annotation, key="annotations"):
        if annotation.question_id in annotations:
            raise place.error(f"question_id: {annotation.question_id} was there before")
        annotations[annotation.question_id] = (place, annotation)
    for place, question in read_entries(_questions_file(folder, split), Question, key="questions"):
        if question.question_id not in annotations:
            raise place.error(
                f"question_id: {question.question_id} comes twice or has no annotation in {annotations_file.name}"
            )
        _, annotation = annotations.pop(question.question_id)
        answer = annotation.answers[0].answer
        flat = FlatQuestion(
            answers=[answer if answer in known else UNKNOWN],
            question=question.question,
            situation=question.situation,
            question_id=question.question_id,
            scene_id=question.scene_id,
            position=[*annotation.position.values(), *annotation.rotation.values()],
        )
        yield place, flat
    for place, annotation in annotations.values():
        raise place.error(f"question_id: {annotation.question_id} has no question")


def score(
    instructions: Sequence[Instruction], replies: Sequence[str | None], allow_missing_metrics: bool = False
) -> TaskScores:
    """Exact matches over all and by type of question (`tasks.exact_match`). Raises ScoringError."""
    answers = [item.answer for item in instructions]
    return score_sqa3d(replies, answers, [item.question_type for item in instructions])


def released_feature(sample: TaskSample) -> str:
    """Path of the release's feature file below its folder."""
    return f"{sample.sample_id}/video_features.pt"


def _questions_file(folder: Path, split: str) -> Path:
    return folder / f"v1_balanced_questions_{split}_scannetv2.json"


def _known_answers(path: Path) -> set[str]:
    for _, vocabulary in read_entries(path, Vocabulary):
        return set(vocabulary.root)
    raise AnnotationError(path, "the whole file", "it is an empty list")


def _instruction(entry: FlatQuestion, split: str) -> Instruction:
    facts = {"question_id": str(entry.question_id), "situation": entry.situation}
    return Instruction(
        instruction_id=f"{split}-{entry.question_id}",
        sample_id=entry.scene_id,
        dataset=DATASET,
        split=split,
        question_type=sqa3d_type(entry.question),
        question=f"{entry.situation} {entry.question}",
        answer=entry.answers[0],
        accepted_answers=as_json(entry.answers),
        attributes=as_json(facts),
    )
