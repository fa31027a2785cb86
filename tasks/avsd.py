"""AVSD: dialogs about a video and its sound (side channel ``audio``; two-channel variant with ``dense``).

Files under the root::

    annotations/avsd_train.json                                             train
    annotations/mock_test_set4DSTC10-AVSD_from_DSTC7_singref.json           test, with one reference
    videos/Charades_v1_480/{video id}.mp4                                   train
    videos/Charades_vu17_test/{video id}.mp4                                test

Training: a dialog is cut into groups of exactly five turns; a rest of one to four turns is dropped, and a group
does not see the one before it. Evaluation: the turns before the last are given with their reference replies, the
last question is answered. Caption, summary and script are never used. The marker of undisclosed answers in the
unlabelled files is a reference like any other: take the ``singref`` file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.annotation_file import Entry, annotation_files, read_entries, read_object
from tasks.caption_scores import score_captions
from tasks.collected import Collected
from tasks.instruction import Instruction, TaskSample, as_json
from tasks.task_scores import TaskScores

DATASET = "avsd"
CHANNELS = ("audio", "dense")
SOURCE = "https://video-dialog.com (avsd_train.json) and the DSTC10 AVSD release (test); videos: Charades, allenai.org"
LICENCE = "MIT (challenge repositories); Charades videos: non-commercial, AI2"
TRAIN_FILE = "avsd_train.json"
TEST_FILE = "mock_test_set4DSTC10-AVSD_from_DSTC7_singref.json"
VIDEO_FOLDERS = {"train": "videos/Charades_v1_480", "test": "videos/Charades_vu17_test"}
TURNS_OF_A_GROUP = 5
EVALUATION_SKIPS_WITHOUT: tuple[str, ...] = ()
"""What the release's evaluation leaves a question out for lacking: "video", "features"."""
HEADLINE = "CIDEr"
TO_PERCENT = 100
EVALUATED_SPLIT = "test"
MAX_NEW_TOKENS = 1024


class Turn(Entry):
    question: str
    answer: str


class TrainDialog(Entry):
    data: list[Turn]


class TestDialog(Entry):
    image_id: str
    dialog: list[Turn]


def load(root: Path) -> tuple[list[TaskSample], list[Instruction]]:
    """Samples and instructions of the files that are there. Raises TaskError, AnnotationError."""
    collected = Collected()
    for path, split in annotation_files(root, {TRAIN_FILE: "train", TEST_FILE: "test"}, SOURCE):
        (_add_train if split == "train" else _add_test)(path, collected)
    return collected.lists()


def score(
    instructions: Sequence[Instruction], replies: Sequence[str | None], allow_missing_metrics: bool = False
) -> TaskScores:
    """Caption scores (`tasks.caption_scores`) against the one reference of each dialog. Raises ScoringError."""
    references = [item.references for item in instructions]
    return score_captions(replies, references, allow_missing_metrics=allow_missing_metrics)


def released_feature(sample: TaskSample) -> str:
    """Path of the release's feature file below its folder."""
    return f"{sample.sample_id.split('.')[0]}.pt"


def _add_train(path: Path, collected: Collected) -> None:
    for video_id, place, entry in read_object(path, TrainDialog):
        name = place.name("the video id", video_id)
        collected.add_sample(place, video_id, "train", {"video": f"{VIDEO_FOLDERS['train']}/{name}.mp4"})
        for group in range(len(entry.data) // TURNS_OF_A_GROUP):
            turns = entry.data[group * TURNS_OF_A_GROUP :][:TURNS_OF_A_GROUP]
            question_id = f"{video_id}_{group}"
            facts = {"question_id": question_id}
            collected.add(place, _instruction(f"train-{question_id}", video_id, "train", turns, facts))


def _add_test(path: Path, collected: Collected) -> None:
    for number, (place, entry) in enumerate(read_entries(path, TestDialog, key="dialogs")):
        name = place.name("image_id", entry.image_id)
        if not entry.dialog:
            raise place.error("dialog: it has no turn")
        collected.add_sample(place, entry.image_id, "test", {"video": f"{VIDEO_FOLDERS['test']}/{name}.mp4"})
        facts = {"image_id": entry.image_id, "id": number}
        collected.add(
            place, _instruction(f"test-{entry.image_id}", entry.image_id, "test", entry.dialog, facts)
        )


def _instruction(
    instruction_id: str, sample_id: str, split: str, turns: list[Turn], facts: Mapping[str, object]
) -> Instruction:
    *earlier, last = turns
    return Instruction(
        instruction_id=instruction_id,
        sample_id=sample_id,
        dataset=DATASET,
        split=split,
        question_type="dialog",
        question=last.question,
        answer=last.answer,
        history=as_json([[turn.question, turn.answer] for turn in earlier]) if earlier else None,
        attributes=as_json(facts),
    )
