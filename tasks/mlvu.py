"""MLVU, dev set: seven kinds of multiple choice about long videos, evaluation only (side channel ``dense``).

Files under the root, either of the copy on the hub that the release evaluates on::

    annotations/test-00000-of-00001.parquet     or its rows as test.jsonl or test.json
    videos/{video_name}

or of the official release, where those are not there::

    annotations/{folder}.json                   1_plotQA ... 7_topic_reasoning, see `OFFICIAL_FOLDERS`
    videos/{folder}/{video}

The options stand in the question of the hub's copy already; those of the official files are written below it as
``(A) text`` lines, which is assumed to be what the copy has. The generation tasks (8_sub_scene, 9_summary) have no
options and are not read. Questions have no id of their own: they are named by type and number, from 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from tasks.annotation_file import Entry, Place, annotation_files, read_entries
from tasks.collected import Collected
from tasks.instruction import Instruction, TaskError, TaskSample, as_json
from tasks.option_letter_scores import MLVU_TASKS, score_mlvu
from tasks.task_scores import TaskScores, fact_column

DATASET = "mlvu"
CHANNELS = ("dense",)
SOURCE = "https://huggingface.co/datasets/sy1998/MLVU_dev or https://huggingface.co/datasets/MLVU/MVLU"
LICENCE = "CC BY-NC-SA 4.0"
HUB_FILES = {"test-00000-of-00001.parquet": "", "test.jsonl": "", "test.json": ""}
EVALUATION_SKIPS_WITHOUT: tuple[str, ...] = ()
"""What the release's evaluation leaves a question out for lacking: "video", "features"."""
HEADLINE = "M-Avg"
TO_PERCENT = 1
EVALUATED_SPLIT = "test"
MAX_NEW_TOKENS = 16
LETTERS = "ABCDEFGH"
OFFICIAL_FOLDERS = {
    "1_plotQA": "plotQA",
    "2_needle": "findNeedle",
    "3_ego": "ego",
    "4_count": "count",
    "5_order": "order",
    "6_anomaly_reco": "anomaly_reco",
    "7_topic_reasoning": "topic_reasoning",
}


class HubQuestion(Entry):
    """`question` holds the options, `answer` is the letter."""

    video_name: str
    question: str
    answer: str
    task_type: str
    candidates: list[str] | None = None


class OfficialQuestion(Entry):
    """`answer` is the text of one of the candidates."""

    video: str
    question: str
    candidates: list[str] = Field(min_length=2, max_length=len(LETTERS))
    answer: str
    question_type: str


def load(root: Path) -> tuple[list[TaskSample], list[Instruction]]:
    """Samples and instructions of the files that are there. Raises TaskError, AnnotationError."""
    collected = Collected()
    counts: Counter[str] = Counter()
    official = {f"{folder}.json": folder for folder in OFFICIAL_FOLDERS}
    files = annotation_files(root, HUB_FILES | official, SOURCE)
    of_the_hub = [path for path, folder in files if not folder]
    if len(of_the_hub) > 1:
        raise TaskError(f"{', '.join(map(str, of_the_hub))} are one thing; keep one of them")
    for path, folder in [(path, "") for path in of_the_hub] or files:
        if folder:
            for place, entry in read_entries(path, OfficialQuestion):
                _add_official(place, entry, folder, collected, counts)
        else:
            for place, row in read_entries(path, HubQuestion):
                _add(place, row, collected, counts)
    return collected.lists()


def prompt(question: str) -> str:
    """The text of evaluation; `question` holds the options."""
    return f"\n{question}\nOnly give the best option.\n\nBest option: ("


def with_options(question: str, candidates: Sequence[str]) -> str:
    """The question with its options, a line each."""
    options = [f"({letter}) {text}" for letter, text in zip(LETTERS, candidates, strict=False)]
    return "\n".join([question, *options])


def score(
    instructions: Sequence[Instruction], replies: Sequence[str | None], allow_missing_metrics: bool = False
) -> TaskScores:
    """Percent over all items, of each type, and the mean of the types (M-Avg). Raises ScoringError."""
    num_letters = [4, *(len(options) for options in fact_column(instructions, "options") if options)]
    return score_mlvu(
        replies,
        [item.answer for item in instructions],
        [item.question_type for item in instructions],
        LETTERS[: max(num_letters)],
    )


def released_feature(sample: TaskSample) -> str:
    """Path of the release's feature file below its folder: the name of the video up to its first dot."""
    return f"{sample.sample_id.split('.')[0]}.pt"


def _add_official(
    place: Place, entry: OfficialQuestion, folder: str, collected: Collected, counts: Counter[str]
) -> None:
    if entry.question_type != OFFICIAL_FOLDERS[folder]:
        raise place.error(
            f"question_type: {entry.question_type!r} in the file of {OFFICIAL_FOLDERS[folder]!r}"
        )
    if entry.answer not in entry.candidates:
        raise place.error(f"answer: {entry.answer!r} is not among the candidates")
    row = HubQuestion(
        video_name=f"{folder}/{place.path('video', entry.video)}",
        question=with_options(entry.question, entry.candidates),
        answer=LETTERS[entry.candidates.index(entry.answer)],
        task_type=entry.question_type,
        candidates=entry.candidates,
    )
    _add(place, row, collected, counts)


def _add(place: Place, row: HubQuestion, collected: Collected, counts: Counter[str]) -> None:
    question_type = MLVU_TASKS.get(row.task_type, row.task_type)
    if question_type not in MLVU_TASKS.values():
        known = ", ".join([*MLVU_TASKS.values(), *MLVU_TASKS])
        raise place.error(f"task_type: {row.task_type!r} is none of the multiple-choice types {known}")
    letters = LETTERS if row.candidates is None else LETTERS[: len(row.candidates)]
    if len(row.answer) != 1 or row.answer not in letters:
        raise place.error(f"answer: {row.answer!r} is none of the letters {letters}")
    video = place.path("video_name", row.video_name)
    collected.add_sample(place, video, "test", {"video": f"videos/{video}"})
    counts[question_type] += 1
    instruction = Instruction(
        instruction_id=f"test-{question_type}-{counts[question_type]:04d}",
        sample_id=video,
        dataset=DATASET,
        split="test",
        question_type=question_type,
        question=prompt(row.question),
        answer=row.answer,
        chance=None if row.candidates is None else 1 / len(letters),
        attributes=as_json({"task_type": row.task_type, "options": row.candidates}),
    )
    collected.add(place, instruction)
