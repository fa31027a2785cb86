"""The even alignment against a loop that follows the rule word by word."""

import pytest
import torch
from torch.nn.functional import interpolate

from pave_model.alignment import align_evenly, chunk_bounds, packed_rows


def chunks_by_loop(steps: torch.Tensor, num_frames: int) -> list[torch.Tensor]:
    """Chunks of one sample (T, C): resample a short channel, then deal out the steps, longer chunks first."""
    if len(steps) < num_frames:
        # Steps as the one spatial axis of (1, C, T).
        steps = interpolate(steps.T[None], size=num_frames, mode="linear", align_corners=True)[0].T
    chunks, begin = [], 0
    for frame in range(num_frames):
        size = len(steps) // num_frames + (frame < len(steps) % num_frames)
        chunks.append(steps[begin : begin + size])
        begin += size
    return chunks


@pytest.mark.parametrize("num_frames", [1, 2, 5, 8])
def test_every_key_frame_gets_its_chunk(num_frames: int) -> None:
    lengths = torch.arange(1, 20)
    padded = torch.randn(len(lengths), 20, 3)
    steps = padded.flatten(0, 1)[packed_rows(lengths, 20)]
    alignment = align_evenly(lengths, num_frames)
    gathered = alignment.gather(steps)
    valid = torch.ones(gathered.shape[:3], dtype=torch.bool) if alignment.valid is None else alignment.valid
    for sample, length in enumerate(lengths.tolist()):
        expected = chunks_by_loop(padded[sample, :length], num_frames)
        for frame in range(num_frames):
            found = gathered[sample, frame][valid[sample, frame]]
            torch.testing.assert_close(found, expected[frame], rtol=0, atol=1e-6)


def test_longer_chunks_come_first() -> None:
    start, size = chunk_bounds(torch.tensor([11, 12]), 4)
    assert size.tolist() == [[3, 3, 3, 2], [3, 3, 3, 3]]
    assert start.tolist() == [[0, 3, 6, 9], [0, 3, 6, 9]]


def test_nothing_is_masked_or_resampled_without_need() -> None:
    divisible = align_evenly(torch.tensor([8, 8]), 4)
    assert divisible.valid is None
    assert divisible.upper is None
    assert align_evenly(torch.tensor([8, 9]), 4).valid is not None
    resampled = align_evenly(torch.tensor([3, 1]), 4)
    assert resampled.valid is None
    assert resampled.upper is not None


def test_slots_beyond_a_chunk_stay_inside_it() -> None:
    alignment = align_evenly(torch.tensor([9, 4]), 4)
    assert alignment.lower.tolist() == [
        [[0, 1, 2], [3, 4, 3], [5, 6, 5], [7, 8, 7]],
        [[9, 9, 9], [10, 10, 10], [11, 11, 11], [12, 12, 12]],
    ]
