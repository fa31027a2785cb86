"""The fusion module: identity at the start, independence of padding and batch mates, and its errors."""

import pytest
import torch
from tiny_patch import disturb

from pave_model.errors import PatchInputError
from pave_model.fusion import FusionModule

SIZES = {"side_dim": 6, "query_dim": 8, "output_dim": 14, "embed_dim": 10, "hidden_dim": 12, "num_heads": 3}


def fuse(
    module: FusionModule, side: torch.Tensor, lengths: torch.Tensor, queries: torch.Tensor
) -> torch.Tensor:
    update: torch.Tensor = module(queries, module.pack(side, lengths, queries))
    return update


@pytest.fixture
def fusion() -> FusionModule:
    torch.manual_seed(0)
    module = FusionModule(**SIZES)
    disturb(module)
    return module


def test_a_fresh_module_returns_exact_zeros_and_learns_from_its_last_norm() -> None:
    fusion = FusionModule(**SIZES)
    output = fuse(fusion, torch.randn(2, 5, 3, 6), torch.tensor([5, 2]), torch.randn(2, 4, 9, 8))
    assert output.shape == (2, 4, 9, 14)
    assert not output.any()
    (output * torch.randn_like(output)).sum().backward()
    learning = {name for name, p in fusion.named_parameters() if p.grad is not None and p.grad.any()}
    assert learning == {"output_norm.weight", "output_norm.bias"}


@pytest.mark.parametrize("num_frames", [1, 4])
def test_a_batch_of_different_lengths_equals_its_samples_alone(fusion: FusionModule, num_frames: int) -> None:
    lengths = torch.tensor([1, 3, 4, 9, 12])
    side = torch.randn(5, 12, 2, 6)
    queries = torch.randn(5, num_frames, 4, 8)
    together = fuse(fusion, side, lengths, queries)
    for i, length in enumerate(lengths.tolist()):
        alone = fuse(fusion, side[i : i + 1, :length], lengths[i : i + 1], queries[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)


def test_tokens_before_the_first_are_left_out(fusion: FusionModule) -> None:
    side, lengths, queries = torch.randn(2, 5, 5, 6), torch.tensor([5, 3]), torch.randn(2, 4, 9, 8)
    without = FusionModule(**SIZES, first_token=1)
    without.load_state_dict(fusion.state_dict())
    output = fuse(without, side, lengths, queries)
    assert torch.equal(output, fuse(fusion, side[:, :, 1:], lengths, queries))
    assert not torch.allclose(output, fuse(fusion, side, lengths, queries))
    with pytest.raises(PatchInputError, match=r"side features have shape \(2, 5, 0, 6\)"):
        fuse(without, side[:, :, :1], lengths, queries)


def test_padding_is_never_read(fusion: FusionModule) -> None:
    side = torch.randn(2, 6, 1, 6)
    queries = torch.randn(2, 4, 3, 8)
    lengths = torch.tensor([6, 5])
    expected = fuse(fusion, side, lengths, queries)
    side[1, 5] = float("nan")
    side.requires_grad_()
    output = fuse(fusion, side, lengths, queries)
    assert torch.equal(output, expected)
    output.square().sum().backward()
    gradients = [side.grad, *(p.grad for p in fusion.parameters() if p.requires_grad)]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_the_value_projection_exists_but_does_not_count(fusion: FusionModule) -> None:
    inputs = (torch.randn(1, 5, 1, 6), torch.tensor([5]), torch.randn(1, 2, 4, 8))
    before = fuse(fusion, *inputs)
    state = fusion.state_dict()
    unused = [name for name in state if "v_linear" in name]
    assert len(unused) == 4
    fusion.load_state_dict({**state, **{name: torch.full_like(state[name], 9.0) for name in unused}})
    assert torch.equal(fuse(fusion, *inputs), before)
    assert fusion.state_dict()[unused[0]].eq(9).all()


@pytest.mark.parametrize(
    ("side", "lengths", "queries", "message"),
    [
        ((2, 5, 1, 6), [5, 0], (2, 4, 3, 8), "sample 1 of the batch has 0 valid steps"),
        ((2, 5, 1, 6), [6, 5], (2, 4, 3, 8), "sample 0 of the batch has 6 valid steps"),
        ((2, 5, 1, 7), [5, 5], (2, 4, 3, 8), r"side features have shape \(2, 5, 1, 7\)"),
        ((2, 5, 6), [5, 5], (2, 4, 3, 8), "side features have shape"),
        ((2, 5, 1, 6), [5, 5], (2, 4, 3, 9), "key-frame queries have shape"),
        ((2, 5, 1, 6), [5, 5], (2, 0, 3, 8), "key-frame queries have shape"),
        ((2, 5, 1, 6), [5], (2, 4, 3, 8), "one length and one set of key frames per sample"),
        ((2, 5, 1, 6), [5, 5], (1, 4, 3, 8), "one length and one set of key frames per sample"),
    ],
)
def test_inputs_that_do_not_fit_are_named(
    fusion: FusionModule, side: tuple[int, ...], lengths: list[int], queries: tuple[int, ...], message: str
) -> None:
    with pytest.raises(PatchInputError, match=message):
        fusion.pack(torch.randn(side), torch.tensor(lengths), torch.randn(queries))
