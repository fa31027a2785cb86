"""The fusion module against outputs and gradients of the original release."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny_patch import golden_folder
from torch.testing import assert_close

from pave_model.attention import AttentionBackend
from pave_model.errors import PatchInputError
from pave_model.fusion import FusionModule

pytestmark = pytest.mark.golden
CASES = sorted(golden_folder().glob("patch_*.safetensors"))


def test_there_are_golden_cases() -> None:
    assert CASES, f"no patch_*.safetensors in {golden_folder()}"


@pytest.mark.parametrize("attention", ["auto", "sdpa", "folded"])
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_outputs_and_gradients_are_those_of_the_original(path: Path, attention: AttentionBackend) -> None:
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    fusion = FusionModule(
        side_dim=config["input_dim"],
        query_dim=config["query_input_dim"],
        output_dim=config["output_dim"],
        embed_dim=config["embed_dim"],
        hidden_dim=config["cross_attn_hidden_dim"],
        num_heads=config["num_cross_attn_head"],
        num_layers=config["num_cross_attn_layer"],
        rotary=config["use_3d_rope"],
        attention=attention,
    )
    prefix = "param."
    fusion.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    side = tensors["input.side"].requires_grad_()  # (B, T_pad, H, W, C_s)
    queries = tensors["input.query"].requires_grad_()

    if attention == "folded" and config["use_3d_rope"]:
        with pytest.raises(PatchInputError, match="knows no rotary positions"):
            fusion.pack(side.flatten(2, 3), tensors["input.frame_num"], queries)
        return
    packed = fusion.pack(side.flatten(2, 3), tensors["input.frame_num"], queries)
    output = fusion(queries, packed).flatten(1, 2)
    assert_close(output, tensors["expected.output"], rtol=1e-5, atol=1e-5)

    (output * tensors["input.output_weight"]).sum().backward()
    gradients = {"grad.input.side": side.grad, "grad.input.query": queries.grad}
    gradients |= {f"grad.param.{name}": parameter.grad for name, parameter in fusion.named_parameters()}
    for name in (name for name in tensors if name.startswith("grad.")):
        assert_close(gradients[name], tensors[name], rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    for name in json.loads(path_metadata(path)["params_without_gradient"]):
        assert gradients[f"grad.param.{name}"] is None


def path_metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        metadata: dict[str, str] = file.metadata()
    return metadata


def test_a_fresh_module_has_the_parameters_of_the_release() -> None:
    # Totals of SPEC section 2, for the 0.5B audio patch and the 7B Music-AVQA patch.
    small = FusionModule(side_dim=1024, query_dim=1152, output_dim=896)
    large = FusionModule(side_dim=1024, query_dim=1152, output_dim=3584, num_layers=3)
    assert [sum(p.numel() for p in m.parameters()) for m in (small, large)] == [6_235_776, 10_833_920]
    linear_biases = [m.bias for m in small.modules() if isinstance(m, torch.nn.Linear) and m.bias is not None]
    assert len(linear_biases) == 10
    assert not any(bias.any() for bias in linear_biases)
