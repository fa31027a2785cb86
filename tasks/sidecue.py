"""SideCue: a generated dataset of real files whose answers exist only in a side channel.

It has several worlds, each a kind of clip with questions whose answers a video model cannot see, and with video-only
questions for control. `QUESTIONS` lists them all; the file of a world says why its video does not tell the answer.

Files under the root: the clips where their world puts them (``media`` in the annotations), ``annotations/<split>.json``
(questions and answers), ``truth/<split>.json`` (all that was drawn, for tests and for people; no pipeline reads it).
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
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.exact_answers import EVALUATED_SPLIT as EVALUATED_SPLIT
from tasks.exact_answers import HEADLINE as HEADLINE
from tasks.exact_answers import MAX_NEW_TOKENS as MAX_NEW_TOKENS
from tasks.exact_answers import TO_PERCENT as TO_PERCENT
from tasks.exact_answers import score as score
from tasks.instruction import Instruction, TaskError, TaskSample
from tasks.sidecue_flashes import FLASHES
from tasks.sidecue_melodies import MELODIES
from tasks.sidecue_rooms import ROOMS
from tasks.sidecue_takes import TAKES
from tasks.sidecue_tones import TONES
from tasks.sidecue_world import Clip, Level, Question, World

DATASET = "sidecue"
SOURCE = "generated: pave sidecue make"
LICENCE = "Apache-2.0, as PAVE's code"

WorldName = Literal["tones", "melodies", "flashes", "takes", "rooms"]
WORLDS: dict[WorldName, World] = {
    "tones": TONES,
    "melodies": MELODIES,
    "flashes": FLASHES,
    "takes": TAKES,
    "rooms": ROOMS,
}
QUESTIONS: dict[str, Question] = {
    question_type: question
    for world in WORLDS.values()
    for question_type, question in world.questions.items()
}
CHANNELS = tuple({channel: None for world in WORLDS.values() for channel in world.channels})


class SideCueConfig(BaseModel):
    """What to generate: the worlds, the number of clips of each world in each split, the seed and the difficulty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    splits: dict[str, int] = Field(
        default={"train": 1200, "test": 240}, description="split name -> clips of each world"
    )
    seed: int = Field(default=0, ge=0)
    worlds: tuple[WorldName, ...] = Field(default=("tones",), description="at least one, each once")
    level: Level = Field(default="easy", description="how faint the cues are")

    @field_validator("worlds")
    @classmethod
    def _each_once(cls, worlds: tuple[WorldName, ...]) -> tuple[WorldName, ...]:
        if not worlds or len(set(worlds)) < len(worlds):
            raise ValueError("name at least one world, and each once")
        return worlds


def draw_clips(config: SideCueConfig, world: WorldName, split: str) -> Iterator[Clip]:
    """The clips of one world in one split. Each has its own random stream, so a split can grow without changing."""
    stream = [config.seed, int.from_bytes(split.encode(), "little") % 2**32]
    if world != "tones":  # the first world had no name in its stream
        stream.append(int.from_bytes(world.encode(), "little") % 2**32)
    for number in range(config.splits[split]):
        clip: Clip = WORLDS[world].draw(number, split, np.random.default_rng([*stream, number]), config.level)
        yield clip


def instructions(clip: Clip) -> list[Instruction]:
    """The clip's questions, each in one of its wordings (chosen by the clip's number)."""
    asked = []
    for question_type, answer in clip.answers.items():
        question = QUESTIONS[question_type]
        wording = question.wordings[clip.number % len(question.wordings)]
        asked.append(
            Instruction(
                instruction_id=f"{clip.sample_id}/{question_type}",
                sample_id=clip.sample_id,
                dataset=DATASET,
                split=clip.split,
                question_type=question_type,
                question=wording.format_map(clip.words),
                answer=answer,
                chance=question.chance,
            )
        )
    return asked


def _write_clip(root: Path, world: WorldName, clip: Clip) -> None:
    WORLDS[world].write(root, clip)


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
    drawn = [
        (world, clip)
        for split in config.splits
        for world in config.worlds
        for clip in draw_clips(config, world, split)
    ]
    total, done = len(drawn), 0
    # Fresh processes: one that has decoded video before does not always encode to the same bytes.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or os.cpu_count(), context) as pool:
        for _ in pool.map(_write_clip, [root] * total, *zip(*drawn, strict=True), chunksize=8):
            done += 1
            if progress is not None:
                progress(done, total)
    for split in config.splits:
        split_clips = [(world, clip) for world, clip in drawn if clip.split == split]
        annotations = [
            {
                "sample_id": clip.sample_id,
                "media": clip.media,
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
            for _, clip in split_clips
        ]
        truth = [{"sample_id": clip.sample_id, "world": world, **asdict(clip)} for world, clip in split_clips]
        _write_json(root / "annotations" / f"{split}.json", annotations)
        _write_json(root / "truth" / f"{split}.json", truth)
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
                samples.append(TaskSample(entry["sample_id"], file.stem, dict(entry["media"])))
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
