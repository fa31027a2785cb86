"""What all worlds of SideCue share: the palette, the clocks, and what a world and a clip of it are.

A world is a kind of clip with its questions. Each has a file of its own, named after it: `sidecue_tones.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

Level = Literal["easy", "medium", "hard"]
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (200, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 210),
    "yellow": (215, 190, 40),
}
FRAME_SIZE = 96  # pixels, both sides
FPS = 8
SAMPLE_RATE = 16_000  # Hz


@dataclass(frozen=True)
class Question:
    """A question type.

    Attributes:
        wordings: ways to ask it; a clip takes one of them by its number. `{name}` is filled from the clip's `words`.
        channels: the side channels that the answer is in, all of them needed; none: the video alone shows it.
        chance: the accuracy of guessing.
    """

    wordings: tuple[str, ...]
    channels: tuple[str, ...] = ()
    chance: float = 0.25


@dataclass(frozen=True)
class Clip:
    """One drawn sample: plain values, which `truth/` keeps as JSON. A world's own says what else was drawn.

    Attributes:
        number: its place in the split.
        answers: question type to answer, of those that are asked about this clip.
        words: what the wordings are filled with.
    """

    world: ClassVar[str]

    number: int
    split: str
    answers: dict[str, str]
    words: dict[str, str] = field(default_factory=dict, kw_only=True)

    @property
    def sample_id(self) -> str:
        """Unique among the clips of all worlds."""
        return f"{self.world}-{self.split}-{self.number:06d}"

    @property
    def place(self) -> str:
        """Where its media are below the dataset's root, without an ending."""
        return f"{self.world}/{self.split}/{self.number:06d}"

    @property
    def media(self) -> dict[str, str]:
        """Role to path below the dataset's root, as in `tasks.instruction.TaskSample`."""
        return {"video": f"{self.place}.mp4"}


@dataclass(frozen=True)
class World:
    """A kind of clip.

    Attributes:
        questions: by question type; two worlds share one only where it is the same.
        draw: a clip from its number, its split, random numbers and the level of difficulty.
        write: the clip's files below the dataset's root.
    """

    questions: Mapping[str, Question]
    draw: Callable[[int, str, np.random.Generator, Level], Any]
    write: Callable[[Path, Any], None]
    channels: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        needed = {channel: None for question in self.questions.values() for channel in question.channels}
        object.__setattr__(self, "channels", tuple(needed))
