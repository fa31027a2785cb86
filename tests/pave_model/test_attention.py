"""The attention kernels: the same numbers, the choice between them, and one graph for the compiler."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_patch import disturb
from torch.testing import assert_close

from pave_model.alignment import Alignment
from pave_model.attention import AttentionBackend, backend_obstacle, resolve_backend
from pave_model.errors import PatchInputError
from pave_model.fusion import FusionModule
from pave_model.patched_model import COMPILE_SETTINGS

SIZES: dict[str, Any] = {
    "side_dim": 6,
    "query_dim": 8,
    "output_dim": 14,
    "embed_dim": 10,
    "hidden_dim": 12,
    "num_heads": 3,
}


def build(**settings: Any) -> FusionModule:
    torch.manual_seed(0)
    module = FusionModule(**{**SIZES, **settings})
    disturb(module)
    return module


def run(module: FusionModule, lengths: list[int], seed: int = 1) -> dict[str, torch.Tensor]:
    """Output and every gradient of one batch."""
    generator = torch.Generator().manual_seed(seed)
    dtype = module.output_norm.weight.dtype
    sizes = ((len(lengths), max(lengths), 4, 6), (len(lengths), 4, 9, 8))
    side, queries = (torch.randn(s, generator=generator, dtype=dtype, requires_grad=True) for s in sizes)
    output = module(queries, module.pack(side, torch.tensor(lengths), queries))
    module.zero_grad()
    output.square().sum().backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    assert side.grad is not None
    assert queries.grad is not None
    return {"output": output, "side": side.grad, "queries": queries.grad, **gradients}


@pytest.mark.parametrize("value_projection", ["tied", "untied"])
@pytest.mark.parametrize("lengths", [[4, 4], [9, 4, 12], [1, 7]])
def test_all_kernels_give_the_same_outputs_and_gradients(value_projection: str, lengths: list[int]) -> None:
    module = build(value_projection=value_projection).double()
    results = {}
    for attention in ("sdpa", "folded", "auto"):
        module.attention = attention  # type: ignore[assignment]
        results[attention] = run(module, lengths)
    for other in ("folded", "auto"):
        assert set(results[other]) == set(results["sdpa"])
        for name, expected in results["sdpa"].items():
            assert_close(
                results[other][name], expected, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_untied_values_have_a_projection_that_learns() -> None:
    tied, untied = build(), build(value_projection="untied")
    assert list(tied.state_dict()) == list(untied.state_dict())
    untied.load_state_dict(tied.state_dict())
    unused = "cross_attn_layers.0.attn.v_linear.weight"
    assert unused not in run(tied, [5, 9])
    learning = run(untied, [5, 9])
    assert learning[unused].any()
    assert not torch.allclose(learning["output"], run(tied, [5, 9])["output"])
    # With the keys' projection as its own it is the tied module again.
    for layer in untied.cross_attn_layers:
        layer.attn.v_linear.load_state_dict(layer.attn.k_linear.state_dict())
    for layer in tied.cross_attn_layers:
        layer.attn.v_linear.load_state_dict(layer.attn.k_linear.state_dict())
    assert_close(run(untied, [5, 9])["output"], run(tied, [5, 9])["output"])


@pytest.mark.parametrize(
    ("sizes", "padded", "rotary", "chosen"),
    [
        ((196, 2, 512, 4), True, False, "folded"),  # audio
        ((196, 16, 512, 4), True, False, "folded"),  # dense frames
        ((196, 576, 512, 4), False, False, "sdpa"),  # depth
        ((196, 2, 512, 4), True, True, "sdpa"),  # rotated queries must be projected
    ],
)
def test_auto_takes_the_least_work(
    sizes: tuple[int, int, int, int], padded: bool, rotary: bool, chosen: str
) -> None:
    assert resolve_backend("auto", sizes, "cpu", torch.float32, padded, rotary) == chosen


def test_auto_takes_unpadded_chunks_where_their_kernel_runs() -> None:
    ragged = ((196, 784, 512, 4), "cuda", torch.bfloat16)
    assert resolve_backend("auto", *ragged, padded=True, rotary=False) == "varlen"
    assert resolve_backend("auto", *ragged, padded=False, rotary=False) == "sdpa"
    exact = ((196, 784, 512, 4), "cuda", torch.float32)
    assert resolve_backend("auto", *exact, padded=True, rotary=False) == "sdpa"


@pytest.mark.parametrize("wanted", ["varlen", "flash_attention_2"])
def test_a_kernel_that_cannot_run_is_refused_not_replaced(wanted: AttentionBackend) -> None:
    module = build(attention=wanted)
    with pytest.raises(
        PatchInputError, match=rf"'{wanted}' cannot run here: it needs a CUDA device, not 'cpu'"
    ):
        run(module, [5])
    assert "needs float16 or bfloat16, not float32" in str(
        backend_obstacle(wanted, "cuda", torch.float32, 128)
    )
    assert "needs heads of 8, 16, ... 256 channels, not 12" in str(
        backend_obstacle(wanted, "cuda", torch.bfloat16, 12)
    )
    module = build(attention="folded", hidden_dim=128, num_heads=1, rotary=True)
    with pytest.raises(PatchInputError, match="'folded' cannot run here: it knows no rotary positions"):
        run(module, [5])


def test_the_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pave_model.attention"):
        for _ in range(3):
            # A dtype that no other test uses: each choice is logged once a process.
            resolve_backend("auto", (9, 2, 12, 3), "cpu", torch.float16, True, False)
    assert [record.getMessage() for record in caplog.records] == [
        "attention of the patch: folded (asked for: auto; cpu, torch.float16)"
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"attention": "folded"},
        {"attention": "sdpa", "value_projection": "untied"},
        {"rotary": True, "hidden_dim": 128, "num_heads": 1},
    ],
)
def test_the_module_compiles_as_one_graph(settings: dict[str, Any]) -> None:
    module = build(**settings)
    graphs: list[Any] = []

    def count(graph: Any, _: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward  # type: ignore[no-any-return]

    compiled = torch.compile(module, backend=count, **COMPILE_SETTINGS)
    # Ragged, resampled, divisible: three structures of a batch.
    for lengths in ([9, 6], [2, 11], [8, 4]):
        side, queries = torch.randn(2, max(lengths), 4, 6), torch.randn(2, 4, 9, 8)
        packed = module.pack(side, torch.tensor(lengths), queries)
        assert_close(compiled(queries, packed), module(queries, packed))
    before = len(graphs)
    side, queries = torch.randn(2, 13, 4, 6), torch.randn(2, 4, 9, 8)
    packed = module.pack(side, torch.tensor([13, 6]), queries)
    assert_close(compiled(queries, packed), module(queries, packed))
    assert before <= 4
    assert len(graphs) <= before + 1  # other lengths do not compile for each batch


def test_chunks_in_order_are_not_copied() -> None:
    packed = build().pack(torch.randn(2, 8, 4, 6), torch.tensor([8, 8]), torch.randn(2, 4, 9, 8))
    steps = torch.randn(16, 4, 12)
    assert packed.alignment.gather(steps).data_ptr() == steps.data_ptr()
    assert isinstance(packed.alignment, Alignment)
