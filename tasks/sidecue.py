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

import itertools
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.exact_answers import score as score
from tasks.instruction import Instruction, TaskError, TaskSample

DATASET = "sidecue"
CHANNELS = ("audio",)
SOURCE = "generated: pave sidecue make"
LICENCE = "Apache-2.0, as PAVE's code"
HEADLINE = "accuracy"
TO_PERCENT = 100
EVALUATED_SPLIT = "test"
MAX_NEW_TOKENS = 16
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (200, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 210),
    "yellow": (215, 190, 40),
}
SHAPE_KINDS = ("circle", "square", "triangle", "cross")
SHAPE_COUNTS = (1, 2, 3, 4)
FRAME_SIZE = 96  # pixels, both sides
BORDER_WIDTH = 8  # pixels
FPS = 8
SAMPLE_RATE = 16_000  # Hz
SWING = 0.05  # how far a shape moves from its start, in frame widths
TONE_SECONDS = 0.4
TONE_HARMONICS = 12
TONE_MARGIN_SECONDS = 0.1  # the tone keeps this distance from a change of colour
CLIP_SECONDS = (6, 7, 8)

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


@dataclass(frozen=True)
class Clip:
    """One drawn world. Times are seconds from the clip's start; positions are in frame widths.

    ``segment_ends`` are rising, the last equals ``seconds``; ``segment_colours`` has one colour for each.
    ``shapes`` has one row a shape: start x, start y, velocity x, velocity y, radius, grey level (0-255).
    """

    number: int
    split: str
    seconds: int
    segment_ends: tuple[float, ...]
    segment_colours: tuple[str, ...]
    shape_kind: str
    shapes: tuple[tuple[float, float, float, float, float, int], ...]
    border_second: int
    tone_time: float
    tone_hertz: float
    sound_seed: int
    answers: dict[str, str]

    @property
    def sample_id(self) -> str:
        return f"{self.split}-{self.number:06d}"

    @property
    def video(self) -> str:
        """Path relative to the root."""
        return f"{self.split}/{self.number:06d}.mp4"


def draw_clips(config: SideCueConfig, split: str) -> Iterator[Clip]:
    """The clips of one split. Each clip has its own random stream, so a split can grow without changing."""
    split_seed = int.from_bytes(split.encode(), "little") % 2**32
    for number in range(config.splits[split]):
        yield _draw_clip(number, split, np.random.default_rng([config.seed, split_seed, number]))


def _draw_clip(number: int, split: str, rng: np.random.Generator) -> Clip:
    seconds = int(rng.choice(CLIP_SECONDS))
    num_segments = int(rng.integers(len(COLOURS) + 1, seconds))
    # Colours change on whole seconds: an audio encoder with a hop of one second cannot tell finer moments apart.
    starts = np.concatenate([[0], 1 + np.sort(rng.choice(seconds - 1, num_segments - 1, replace=False))])
    ends = np.concatenate([starts[1:], [seconds]])
    colours = _draw_colours(num_segments, rng)
    kind = str(rng.choice(SHAPE_KINDS))
    shapes = _draw_shapes(int(rng.choice(SHAPE_COUNTS)), rng)

    border_colour, border_second = _draw_moment(colours, starts, ends, rng)

    # The video is complete here. The tone's colour is drawn without looking at it (see the module's docstring).
    tone_colour, tone_second = _draw_moment(colours, starts, ends, rng)
    tone_time = tone_second + float(rng.uniform(TONE_MARGIN_SECONDS, 1 - TONE_MARGIN_SECONDS - TONE_SECONDS))
    return Clip(
        number=number,
        split=split,
        seconds=seconds,
        segment_ends=tuple(float(end) for end in ends),
        segment_colours=tuple(colours),
        shape_kind=kind,
        shapes=shapes,
        border_second=border_second,
        tone_time=round(tone_time, 4),
        tone_hertz=round(float(rng.uniform(200, 600)), 1),
        sound_seed=int(rng.integers(2**31)),
        answers={
            "tone_colour": tone_colour,
            "shape_count": str(len(shapes)),
            "shape_kind": kind,
            "end_colour": colours[-1],
            "border_colour": border_colour,
        },
    )


def _draw_colours(num_segments: int, rng: np.random.Generator) -> list[str]:
    """Every colour at least once, no two neighbours equal."""
    names = list(COLOURS)
    while True:
        colours = [str(name) for name in rng.permutation(names)]
        colours += [str(rng.choice(names)) for _ in range(num_segments - len(names))]
        rng.shuffle(colours)
        if all(left != right for left, right in itertools.pairwise(colours)):
            return colours


def _draw_moment(
    colours: list[str], starts: NDArray[np.int64], ends: NDArray[np.int64], rng: np.random.Generator
) -> tuple[str, int]:
    """A colour, each equally likely, and a whole second at which it is on screen."""
    colour = str(rng.choice(list(COLOURS)))
    segment = int(rng.choice([i for i, shown in enumerate(colours) if shown == colour]))
    return colour, int(rng.integers(starts[segment], ends[segment]))


def _draw_shapes(
    count: int, rng: np.random.Generator
) -> tuple[tuple[float, float, float, float, float, int], ...]:
    """Shapes of one size start in different quarters of the frame and drift slowly, so that each stays visible."""
    radius = float(rng.uniform(0.15, 0.18))
    grey = int(rng.choice([20, 235]))
    shapes = []
    for quarter in rng.permutation(4)[:count]:
        x = 0.25 + 0.5 * (int(quarter) % 2) + float(rng.uniform(-0.02, 0.02))
        y = 0.25 + 0.5 * (int(quarter) // 2) + float(rng.uniform(-0.02, 0.02))
        angle = float(rng.uniform(0, 2 * math.pi))
        speed = float(rng.uniform(0.05, 0.15))  # frame widths a second
        shapes.append(
            (
                round(x, 4),
                round(y, 4),
                round(speed * math.cos(angle), 4),
                round(speed * math.sin(angle), 4),
                round(radius, 4),
                grey,
            )
        )
    return tuple(shapes)


def render_frames(clip: Clip) -> NDArray[np.uint8]:
    """The clip's pictures, ``(seconds * FPS, FRAME_SIZE, FRAME_SIZE, 3)`` uint8 RGB."""
    num_frames = clip.seconds * FPS
    times = np.arange(num_frames) / FPS
    segment_of_frame = np.searchsorted(np.array(clip.segment_ends), times, side="right")
    palette = np.array([COLOURS[colour] for colour in clip.segment_colours], dtype=np.uint8)
    frames = np.empty((num_frames, FRAME_SIZE, FRAME_SIZE, 3), dtype=np.uint8)
    frames[:] = palette[segment_of_frame.clip(max=len(palette) - 1)][:, None, None, :]
    # A shape swings around its start and is drawn within the window that it never leaves: x in columns, y in rows.
    grid = np.arange(FRAME_SIZE, dtype=np.float32) / FRAME_SIZE
    for x, y, velocity_x, velocity_y, radius, grey in clip.shapes:
        reach = radius + SWING
        columns = slice(*np.searchsorted(grid, [x - reach, x + reach]))
        rows = slice(*np.searchsorted(grid, [y - reach, y + reach]))
        centre_x = (x + SWING * np.sin(12 * velocity_x * times)).astype(np.float32)
        centre_y = (y + SWING * np.sin(12 * velocity_y * times)).astype(np.float32)
        dx = grid[None, None, columns] - centre_x[:, None, None]  # (N, 1, columns)
        dy = grid[None, rows, None] - centre_y[:, None, None]  # (N, rows, 1)
        frames[:, rows, columns][_inside(clip.shape_kind, dx, dy, radius)] = grey
    in_border = np.ones((FRAME_SIZE, FRAME_SIZE), dtype=np.bool_)
    in_border[BORDER_WIDTH:-BORDER_WIDTH, BORDER_WIDTH:-BORDER_WIDTH] = False
    shows_border = times.astype(int) == clip.border_second
    frames[shows_border[:, None, None] & in_border] = 255
    return frames


def _inside(
    kind: str, dx: NDArray[np.floating[Any]], dy: NDArray[np.floating[Any]], radius: float
) -> NDArray[np.bool_]:
    """Which points at offset (dx, dy) from the centre lie inside a shape."""
    inside: NDArray[np.bool_]
    if kind == "circle":
        inside = dx**2 + dy**2 < radius**2
    elif kind == "square":
        inside = np.maximum(abs(dx), abs(dy)) < 0.9 * radius
    elif kind == "triangle":
        inside = (abs(dx) < (dy + radius) / 2) & (dy < radius)
    else:  # cross
        arm = 0.35 * radius
        inside = ((abs(dx) < arm) & (abs(dy) < radius)) | ((abs(dy) < arm) & (abs(dx) < radius))
    return inside


def render_sound(clip: Clip) -> NDArray[np.float32]:
    """The soundtrack, ``(seconds * SAMPLE_RATE,)`` float32 in [-1, 1]: quiet noise and one faded tone.

    The tone is a buzz (a fundamental and its harmonics), so that it stands out in many mel bins.
    """
    rng = np.random.default_rng(clip.sound_seed)
    sound = rng.normal(0, 0.001, clip.seconds * SAMPLE_RATE)
    start, length = int(clip.tone_time * SAMPLE_RATE), int(TONE_SECONDS * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    fade = np.minimum(1, np.minimum(time, TONE_SECONDS - time) / 0.02)
    order = np.arange(1, TONE_HARMONICS + 1)[:, None]
    tone = (np.sin(2 * math.pi * clip.tone_hertz * order * time + order) / np.sqrt(order)).sum(axis=0)
    sound[start : start + length] += 0.4 * fade * tone / np.abs(tone).max()
    return sound.astype(np.float32)


def write_video(path: Path, frames: NDArray[np.uint8], sound: NDArray[np.float32]) -> None:
    """Write an mp4 with H.264 video and mono AAC sound. One encoder thread, so that the bytes are repeatable.

    ``frames``: (N, H, W, 3) uint8 at `FPS`; ``sound``: (n,) float32 at `SAMPLE_RATE`.
    """
    import av

    temporary = path.with_name(f".{path.name}.part")
    with av.open(str(temporary), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream(
            "libx264", rate=FPS, options={"preset": "ultrafast", "crf": "20", "threads": "1"}
        )
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        audio = container.add_stream(
            "aac", rate=SAMPLE_RATE, layout="mono", options={"b": "64k", "aac_coder": "fast"}
        )
        for picture in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        block = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        block.sample_rate = SAMPLE_RATE
        container.mux(audio.encode(block))
        container.mux(audio.encode())
    os.replace(temporary, path)


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
