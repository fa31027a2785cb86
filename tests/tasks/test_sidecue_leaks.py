"""No leak: models that are trained on the questions alone, or on questions and key frames, do not beat chance.

The same models learn questions whose answer can be seen, so that a leak would be found.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from extractors.key_frames import read_key_frames
from extractors.key_pictures import decode_key_pictures
from tasks import sidecue
from tasks.instruction import Instruction
from tasks.sidecue_flashes import NUM_KEY_FRAMES

TRAIN, TEST = 600, 400
SIDE = 16  # pixels of a key frame as the video model sees it
STEPS = 150
MARGIN = 0.1
# A question of each world that its key frames answer.
VISIBLE = {
    "tones": "end_colour",
    "melodies": "melody_colour",
    "flashes": "blink_first",
    "takes": "box_colour",
    "rooms": "knob_ball",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def small(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX))


def key_frames(root: Path, media: dict[str, str], sample_id: str) -> np.ndarray:
    """(F, SIDE, SIDE, 3) uint8, from the files as they are decoded."""
    if "scene" in media:
        found = decode_key_pictures("scene", root / media["scene"], sample_id, NUM_KEY_FRAMES, "views", small)
        return found.tensors["pixels"]
    return np.stack(read_key_frames(root / media["video"], sample_id, NUM_KEY_FRAMES, small).frames)


class Guesser(nn.Module):
    """Answers from a bag of the question's words and, for the video model, the key frames."""

    def __init__(self, words: int, pixels: int, answers: int) -> None:
        super().__init__()
        self.text = nn.Linear(words, 64)
        self.video = nn.Linear(pixels, 256)
        self.head = nn.Sequential(
            nn.ReLU(), nn.Dropout(0.2), nn.Linear(320, 128), nn.ReLU(), nn.Linear(128, answers)
        )

    def forward(self, words: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.text(words), self.video(pixels)], dim=1))


def accuracies(items: list[Instruction], videos: dict[str, np.ndarray], sees: bool) -> dict[str, float]:
    """Held-out accuracy by question type of one model for all questions."""
    torch.manual_seed(0)
    vocabulary = sorted({word for item in items for word in item.question.lower().split()})
    options = sorted({item.answer for item in items})
    words = torch.zeros(len(items), len(vocabulary))
    for row, item in enumerate(items):
        words[row, [vocabulary.index(word) for word in item.question.lower().split()]] = 1
    pixels = (
        torch.from_numpy(np.stack([videos[item.sample_id] for item in items])).flatten(1).float() / 128 - 1
    )
    if not sees:
        pixels = torch.zeros(len(items), 1)
    answers = torch.tensor([options.index(item.answer) for item in items])
    train = torch.tensor([item.split == "train" for item in items])
    model = Guesser(len(vocabulary), pixels.shape[1], len(options))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    rng = np.random.default_rng(0)
    rows = train.nonzero().squeeze(1)
    for _ in range(STEPS):
        for chosen in np.array_split(rng.permutation(len(rows)), max(1, len(rows) // 256)):
            batch = rows[torch.from_numpy(chosen)]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(words[batch], pixels[batch]), answers[batch]).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        right = model(words, pixels).argmax(dim=1) == answers
    found = defaultdict(list)
    for row, item in enumerate(items):
        if item.split == "test":
            found[item.question_type].append(bool(right[row]))
    return {question: float(np.mean(values)) for question, values in found.items()}


@pytest.mark.parametrize("world", sidecue.WORLDS)
def test_neither_text_nor_key_frames_tell_the_answer(world: sidecue.WorldName, tmp_path: Path) -> None:
    config = sidecue.SideCueConfig(splits={"train": TRAIN, "test": TEST}, worlds=(world,), seed=11)
    sidecue.make(tmp_path, config, workers=2)
    samples, items = sidecue.load(tmp_path)
    videos = {
        sample.sample_id: key_frames(tmp_path, dict(sample.media), sample.sample_id) for sample in samples
    }
    hidden = [item for item in items if sidecue.QUESTIONS[item.question_type].channels]
    for sees in (False, True):
        found = accuracies(hidden, videos, sees)
        print(world, "video" if sees else "text", found)
        for question, accuracy in found.items():
            chance = sidecue.QUESTIONS[question].chance
            assert abs(accuracy - chance) <= MARGIN, (question, "video" if sees else "text")
    visible = [item for item in items if item.question_type == VISIBLE[world]]
    chance = sidecue.QUESTIONS[VISIBLE[world]].chance
    assert accuracies(visible, videos, True)[VISIBLE[world]] > chance + 2 * MARGIN
