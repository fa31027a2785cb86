"""Newline placement against the original release, and the token counts that prompts are built with."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_patch import golden_folder

from pave_model.config import NewlinePosition
from pave_model.errors import PatchInputError
from pave_model.video_tokens import num_video_tokens, place_newlines

POSITIONS: list[NewlinePosition] = ["grid", "frame", "one_token", "no_token"]


CASES = sorted(golden_folder().glob("assembly_newline*.safetensors"))


@pytest.mark.golden
def test_there_are_cases() -> None:
    assert CASES, f"no assembly_newline*.safetensors in {golden_folder()}"


@pytest.mark.golden
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_newlines_are_where_the_original_puts_them(path: Path) -> None:
    tensors = load_file(path)
    expected_names = [name for name in tensors if ".expected." in name]
    assert expected_names
    for name in expected_names:
        size, position = name.split(".expected.")
        tokens = tensors[f"{size}.input"]  # (F, n n, D)
        placed = place_newlines(tokens[None], tensors[f"{size}.newline"], position)
        assert torch.equal(placed[0], tensors[name])
        assert num_video_tokens(*tokens.shape[:2], position) == len(tensors[name])


def test_the_released_setting_has_6720_tokens() -> None:
    assert [num_video_tokens(32, 196, position) for position in POSITIONS] == [6720, 6304, 6273, 6272]


def test_samples_of_a_batch_stay_apart() -> None:
    tokens = torch.randn(3, 2, 4, 5)
    newline = torch.randn(5)
    for position in POSITIONS:
        together = place_newlines(tokens, newline, position)
        for i in range(3):
            assert torch.equal(together[i], place_newlines(tokens[i : i + 1], newline, position)[0])


def test_a_grid_needs_a_square() -> None:
    with pytest.raises(PatchInputError, match="5 tokens, which is no square"):
        place_newlines(torch.randn(1, 2, 5, 3), torch.randn(3), "grid")
    with pytest.raises(PatchInputError, match="5 tokens"):
        num_video_tokens(2, 5, "grid")
    assert num_video_tokens(2, 5, "frame") == 12
