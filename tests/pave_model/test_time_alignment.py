"""Alignment by time against its definition, and through the fusion module."""

import pytest
import torch

from pave_model.alignment import align_by_time
from pave_model.errors import PatchInputError
from pave_model.fusion import FusionModule


def steps_seen(lengths, step_times, frame_times, radius):
    """For each sample and key frame the set of packed rows that the alignment gives."""
    found = align_by_time(lengths, step_times, frame_times, radius)
    valid = torch.ones_like(found.lower, dtype=torch.bool) if found.valid is None else found.valid
    return [
        [sorted(row[keep].tolist()) for row, keep in zip(rows, keeps, strict=True)]
        for rows, keeps in zip(found.lower, valid, strict=True)
    ]


def test_each_key_frame_sees_the_steps_within_the_radius_and_at_least_the_nearest() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([7, 1, 5])
    step_times = torch.rand(3, 9, dtype=torch.float64).cumsum(1)
    frame_times = torch.rand(3, 4, dtype=torch.float64).cumsum(1) * 2
    expected = []
    offset = 0
    for sample, length in enumerate(lengths.tolist()):
        rows = []
        for time in frame_times[sample].tolist():
            distances = [abs(time - step) for step in step_times[sample, :length].tolist()]
            near = {i for i, distance in enumerate(distances) if distance <= 0.5} | {
                distances.index(min(distances))
            }
            rows.append(sorted(offset + i for i in near))
        expected.append(rows)
        offset += length
    assert steps_seen(lengths, step_times, frame_times, 0.5) == expected


def test_windows_of_two_seconds_with_radius_one_are_those_that_hold_the_key_frame() -> None:
    step_times = torch.arange(1.0, 6.0, dtype=torch.float64)[None]  # centres of windows [0, 2), [1, 3), ...
    frame_times = torch.tensor([[0.0, 0.5, 2.5, 5.9]], dtype=torch.float64)
    assert steps_seen(torch.tensor([5]), step_times, frame_times, 1.0) == [[[0], [0], [1, 2], [4]]]


def test_a_change_outside_the_radius_changes_nothing() -> None:
    torch.manual_seed(0)
    module = FusionModule(6, 8, 10, embed_dim=16, hidden_dim=16, num_heads=2, num_layers=1, time_radius=1.0)
    torch.nn.init.normal_(module.output_norm.weight)
    side, queries = torch.randn(1, 6, 2, 6), torch.randn(1, 3, 4, 8)
    times = torch.arange(6, dtype=torch.float64)[None]
    frame_times = torch.tensor([[0.0, 2.0, 5.0]], dtype=torch.float64)
    before = module(queries, module.pack(side, torch.tensor([6]), queries, times, frame_times))
    side[:, 4:] = 0
    after = module(queries, module.pack(side, torch.tensor([6]), queries, times, frame_times))
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2], after[:, 2])


def test_unknown_times_are_refused() -> None:
    module = FusionModule(6, 8, 10, embed_dim=16, hidden_dim=16, num_heads=2, num_layers=1, time_radius=1.0)
    side, queries, length = torch.randn(1, 3, 1, 6), torch.randn(1, 2, 4, 8), torch.tensor([3])
    times = torch.tensor([[0.0, float("nan"), 2.0]], dtype=torch.float64)
    frames = torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(PatchInputError, match=r"sample 0 .* no timestamps"):
        module.pack(side, length, queries, times, frames)
    with pytest.raises(PatchInputError, match="needs step_times"):
        module.pack(side, length, queries)
