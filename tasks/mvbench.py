"""MVBench: twenty kinds of multiple choice about short clips, evaluation only (side channel ``dense``).

Files under the root::

    annotations/{task}.json                     as on the hub; the tasks are those of `VIDEO_FOLDERS`
    videos/{VIDEO_FOLDERS[task]}/{video}        the hub's archives, unpacked

As released: `start` and `end` are ignored, the whole file is sampled. 200 questions a task. Questions have no id
of their own: they are named by task and number, from 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from tasks.annotation_file import Entry, annotation_files, read_entries
from tasks.collected import Collected
from tasks.instruction import Instruction, TaskSample, as_json
from tasks.option_letter_scores import score_mvbench
from tasks.task_scores import TaskScores, fact_column

DATASET = "mvbench"
CHANNELS = ("dense",)
SOURCE = "https://huggingface.co/datasets/OpenGVLab/MVBench"
LICENCE = "MIT; videos: the licences of their datasets"
EVALUATION_SKIPS_WITHOUT: tuple[str, ...] = ()
"""What the release's evaluation leaves a question out for lacking: "video", "features"."""
HEADLINE = "mean_of_tasks"
TO_PERCENT = 1
EVALUATED_SPLIT = "test"
MAX_NEW_TOKENS = 16
LETTERS = "ABCDE"
LAST_LINE = "Only give the best option.\n"
_CLEVRER, _PERCEPTION, _STAR = "clevrer/video_validation", "perception/videos", "star/Charades_segment"
VIDEO_FOLDERS = {
    "action_sequence": _STAR,
    "action_prediction": _STAR,
    "action_antonym": "ssv2_video_mp4",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": _CLEVRER,
    "object_interaction": _STAR,
    "object_shuffle": _PERCEPTION,
    "moving_direction": _CLEVRER,
    "action_localization": "sta/sta_video_segment",
    "scene_transition": "scene_qa/video",
    "action_count": _PERCEPTION,
    "moving_count": _CLEVRER,
    "moving_attribute": _CLEVRER,
    "state_change": _PERCEPTION,
    "fine_grained_pose": "nturgbd_convert",
    "character_order": _PERCEPTION,
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/video_fps3_hq_segment",
    "counterfactual_inference": _CLEVRER,
}


class Question(Entry):
    video: str
    question: str
    candidates: list[str] = Field(min_length=2, max_length=len(LETTERS))
    answer: str


def load(root: Path) -> tuple[list[TaskSample], list[Instruction]]:
    """Samples and instructions of the tasks that are there. Raises TaskError, AnnotationError."""
    collected = Collected()
    for path, task in annotation_files(root, {f"{task}.json": task for task in VIDEO_FOLDERS}, SOURCE):
        for number, (place, entry) in enumerate(read_entries(path, Question), start=1):
            if entry.answer not in entry.candidates:
                raise place.error(f"answer: {entry.answer!r} is not among the candidates")
            video = f"{VIDEO_FOLDERS[task]}/{place.path('video', entry.video)}"
            collected.add_sample(place, video, "test", {"video": f"videos/{video}"})
            instruction = Instruction(
                instruction_id=f"test-{task}-{number:04d}",
                sample_id=video,
                dataset=DATASET,
                split="test",
                question_type=task,
                question=prompt(entry.question, entry.candidates),
                answer=LETTERS[entry.candidates.index(entry.answer)],
                chance=1 / len(entry.candidates),
                attributes=as_json({"options": entry.candidates, "answer_text": entry.answer}),
            )
            collected.add(place, instruction)
    return collected.lists()


def prompt(question: str, candidates: list[str]) -> str:
    """The text of evaluation."""
    options = [f"({letter}) {text}\n" for letter, text in zip(LETTERS, candidates, strict=False)]
    return f"Question:{question}\nOption:\n{''.join(options)}{LAST_LINE}"


def score(
    instructions: Sequence[Instruction], replies: Sequence[str | None], allow_missing_metrics: bool = False
) -> TaskScores:
    """Mean over the tasks, and percent over all items and of each task. Raises ScoringError."""
    return score_mvbench(
        replies,
        fact_column(instructions, "answer_text"),
        fact_column(instructions, "options"),
        [item.question_type for item in instructions],
    )


def released_feature(sample: TaskSample) -> str:
    """Path of the release's feature file below its folder: the name of the video up to its first dot."""
    folder, _, name = sample.sample_id.rpartition("/")
    return f"{folder}/{name.split('.')[0]}.pt"
