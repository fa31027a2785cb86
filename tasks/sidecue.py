"""SideCue: a generated dataset whose answers exist only in a side channel.

One clip is a world drawn from the seed: a scene whose background colour changes every second or so, one to
four moving shapes of one kind, and a soundtrack of quiet noise with one short tone. Three kinds of question:

* ``tone_colour`` (side channel ``audio``): which colour was on screen when the tone sounded? Four colours.
* ``shape_count`` and ``shape_kind`` (video only): how many shapes are there, and which kind?
* ``end_colour`` (video only): which colour is on screen at the end?

Why the video alone cannot answer ``tone_colour``: the whole visible world is drawn first, with each of the four
colours present; then the answer is drawn uniformly from the four colours and the tone is put into a segment of
that colour. So P(answer | video) = 1/4 for every video. The length of a clip is drawn with the video, and file
names are running numbers, so neither tells anything.

Files under the root: ``<split>/<number>.mp4`` (H.264 + AAC), ``annotations/<split>.json`` (questions and answers),
``truth/<split>.json`` (segments and the moment of the tone, for tests and for people; no pipeline reads it).
The same seed gives the same bytes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks.exact_answers import EVALUATED_SPLIT as EVALUATED_SPLIT
from tasks.exact_answers import HEADLINE as HEADLINE
from tasks.exact_answers import MAX_NEW_TOKENS as MAX_NEW_TOKENS
from tasks.exact_answers import TO_PERCENT as TO_PERCENT
from tasks.exact_answers import score as score
from tasks.instruction import Instruction, TaskError, TaskSample
from tasks.sidecue_rendering import render_frames, render_sound, write_video
from tasks.sidecue_world import Clip, draw_clip

DATASET = "sidecue"
CHANNELS = ("audio",)
SOURCE = "generated: pave sidecue make"
LICENCE = "Apache-2.0, as PAVE's code"

WORDINGS: dict[str, tuple[str, ...]] = {
    "tone_colour": (
        "Which colour was on screen when the tone sounded?",
        "What was the background colour at the moment of the beep?",
        "When you hear the tone, which colour do you see?",
    ),
    "shape_count": ("How many shapes are there?", "What is the number of moving shapes?"),
    "shape_kind": ("Which shape is moving?", "What kind of shape do you see?"),
    "end_colour": ("Which colour is on screen at the end?", "What is the last background colour?"),
    "border_colour": (
        "Which colour was on screen when the white border appeared?",
        "What was the background colour at the moment of the white border?",
        "When you see the white border, which colour do you see?",
    ),
}
CHANCE: dict[str, float] = dict.fromkeys(WORDINGS, 0.25)
SIDE_CHANNEL: dict[str, str | None] = {
    "tone_colour": "audio",
    "shape_count": None,
    "shape_kind": None,
    "end_colour": None,
    "border_colour": None,
}


class SideCueConfig(BaseModel):
    """What to generate: the number of clips of each split, and the seed of the world."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    splits: dict[str, int] = Field(default={"train": 1200, "test": 240}, description="split name -> clips")
    seed: int = Field(default=0, ge=0)


def draw_clips(config: SideCueConfig, split: str) -> Iterator[Clip]:
    """The clips of one split. Each clip has its own random stream, so a split can grow without changing."""
    split_seed = int.from_bytes(split.encode(), "little") % 2**32
    for number in range(config.splits[split]):
        yield draw_clip(number, split, np.random.default_rng([config.seed, split_seed, number]))


def instructions(clip: Clip) -> list[Instruction]:
    """The clip's questions, each in one of its wordings (chosen by the clip's number)."""
    return [
        Instruction(
            instruction_id=f"{clip.sample_id}/{question_type}",
            sample_id=clip.sample_id,
            dataset=DATASET,
            split=clip.split,
            question_type=question_type,
            question=wordings[clip.number % len(wordings)],
            answer=clip.answers[question_type],
            chance=CHANCE[question_type],
        )
        for question_type, wordings in WORDINGS.items()
    ]


def _write_clip(root: Path, clip: Clip) -> None:
    write_video(root / clip.video, render_frames(clip), render_sound(clip))


def make(
    root: Path,
    config: SideCueConfig,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> None:
    """Write the dataset under ``root`` (see the module's docstring for the layout).

    ``progress(done, total)`` is called after each clip. Annotations are written last, so a folder that has them
    is complete. Raises FileExistsError when ``root`` already holds a SideCue of another configuration.
    """
    marker = root / "sidecue.json"
    wanted = config.model_dump(mode="json")
    if marker.exists():
        if json.loads(marker.read_text()) != wanted:
            raise FileExistsError(f"{root} holds another SideCue world; choose another folder or remove it")
        return
    clips = {split: list(draw_clips(config, split)) for split in config.splits}
    total, done = sum(config.splits.values()), 0
    for split in clips:
        (root / split).mkdir(parents=True, exist_ok=True)
    # Fresh processes: one that has decoded video before does not always encode to the same bytes.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or os.cpu_count(), context) as pool:
        every_clip = [clip for split_clips in clips.values() for clip in split_clips]
        for _ in pool.map(_write_clip, [root] * total, every_clip, chunksize=8):
            done += 1
            if progress is not None:
                progress(done, total)
    for split, split_clips in clips.items():
        annotations = [
            {
                "sample_id": clip.sample_id,
                "video": clip.video,
                "questions": [
                    {
                        "id": item.instruction_id,
                        "type": item.question_type,
                        "question": item.question,
                        "answer": item.answer,
                        "chance": item.chance,
                    }
                    for item in instructions(clip)
                ],
            }
            for clip in split_clips
        ]
        _write_json(root / "annotations" / f"{split}.json", annotations)
        _write_json(root / "truth" / f"{split}.json", [asdict(clip) for clip in split_clips])
    _write_json(marker, wanted)


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(temporary, path)


def load(root: Path) -> tuple[list[TaskSample], list[Instruction]]:
    """Samples and instructions of all splits of a SideCue under ``root``.

    Raises TaskError when there is none, or an annotation lacks a field.
    """
    files = sorted((root / "annotations").glob("*.json"))
    if not files or not (root / "sidecue.json").exists():
        raise TaskError(f"{root} holds no complete SideCue; make one with: pave sidecue make {root}")
    samples, questions = [], []
    for file in files:
        try:
            for entry in json.loads(file.read_text()):
                samples.append(TaskSample(entry["sample_id"], file.stem, {"video": entry["video"]}))
                questions += [
                    Instruction(
                        instruction_id=item["id"],
                        sample_id=entry["sample_id"],
                        dataset=DATASET,
                        split=file.stem,
                        question_type=item["type"],
                        question=item["question"],
                        answer=item["answer"],
                        chance=item["chance"],
                    )
                    for item in entry["questions"]
                ]
        except (KeyError, TypeError, ValueError) as error:
            raise TaskError(f"{file} is damaged ({error!r}); make the dataset again") from error
    return samples, questions
