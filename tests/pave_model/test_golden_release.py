"""Reading checkpoints of the original release: the tensors and names that it gives."""

import json
from pathlib import Path

import pytest
import torch
from released_case import CASES, CHANNEL, FORMS, ReleasedCase
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_patch import golden_folder
from torch.testing import assert_close

from pave_model.config import FusionConfig
from pave_model.fusion import FusionModule
from pave_model.patched_model import PatchedVideoLLM
from pave_model.release_checkpoint import (
    published_channel,
    published_rotary,
    read_released_checkpoint,
)
from pave_model.release_import import import_release

pytestmark = pytest.mark.golden
LISTING = golden_folder() / "state_dict_listing.json"
ORIGINAL_LAYERS = "base_model.model.model.layers."
ORIGINAL_PATCH = "base_model.model.model.temporal_aggregator."


def test_there_are_golden_cases() -> None:
    assert CASES, f"no checkpoint_case* in {golden_folder()}"
    assert {form.parent for form in FORMS} == set(CASES)


def imported(form: Path) -> tuple[ReleasedCase, PatchedVideoLLM]:
    case = ReleasedCase.read(form.parent)
    release = read_released_checkpoint(form, case.num_heads, case.rotary)
    return case, import_release(release, case.load_base(), "base_hf", CHANNEL)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.parent.name}/{form.name}")
@torch.no_grad()
def test_the_import_gives_the_tensors_of_the_release(form: Path) -> None:
    case, model = imported(form)
    expected = load_file(case.folder / "expected_import.safetensors")
    names = case.json("name_map.json")["map"]
    patch = {f"patch.{name}": tensor for name, tensor in model.patch[CHANNEL].state_dict().items()}
    assert patch.keys() == {name for name in expected if name.startswith("patch.")}
    for name, tensor in patch.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name]), name

    deltas = [name.removeprefix("delta.") for name in expected if name.startswith("delta.")]
    ours = {
        name.removesuffix(".lora_A.default.weight")
        for name, _ in model.base.named_parameters()
        if ".lora_A." in name
    }
    assert {names[name]["in_memory"].removesuffix(".weight") for name in deltas} == ours
    for name in deltas:
        module = model.base.get_submodule(names[name]["in_memory"].removesuffix(".weight"))
        delta = module.get_delta_weight("default")
        assert_close(delta, expected[f"delta.{name}"], rtol=1e-5, atol=1e-5)
        if f"merged.{name}" in expected:
            merged = module.base_layer.weight + delta
            assert_close(merged, expected[f"merged.{name}"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.parent.name}/{form.name}")
def test_what_the_release_trains_is_what_we_train(form: Path) -> None:
    case, model = imported(form)
    renamed = {
        name.replace(
            ORIGINAL_LAYERS, f"llm.{ORIGINAL_LAYERS}".replace(".layers.", ".language_model.layers.")
        ).replace(ORIGINAL_PATCH, f"patch.{CHANNEL}.")
        for name in case.json("info.json")["trainable_parameter_names"]
    }
    assert len(renamed) == len(case.json("info.json")["trainable_parameter_names"])
    ours = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    trained = {name for name, requires_grad in ours.items() if requires_grad}
    # the release gives v_linear to its optimizer too, where it never gets a gradient
    untouched = {name for name in ours if ".v_linear." in name}
    assert trained | untouched == renamed


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_the_names_of_the_base_are_those_of_the_map(folder: Path) -> None:
    case = ReleasedCase.read(folder)
    names = case.json("name_map.json")["map"].values()
    in_memory = [name["in_memory"] for name in names]
    assert len(set(in_memory)) == len(in_memory)
    assert set(in_memory) <= case.load_base().state_dict().keys()
    with safe_open(case.base_folder / "model.safetensors", "pt") as file:
        assert {name["on_disk"] for name in names} <= set(file.keys())


def test_every_configuration_of_the_release_is_a_fusion_module() -> None:
    if not LISTING.exists():
        pytest.skip(f"{LISTING} is not there; it describes the real models, not a case")
    listing = json.loads(LISTING.read_text())
    for name, entry in listing["configurations"].items():
        config = entry["config"]
        fusion = FusionConfig(
            side_dim=config["input_dim"],
            query_dim=config["query_input_dim"],
            output_dim=config["output_dim"],
            embed_dim=config["embed_dim"],
            hidden_dim=config["cross_attn_hidden_dim"],
            num_heads=config["num_cross_attn_head"],
            num_layers=config["num_cross_attn_layer"],
        )
        with torch.device("meta"):
            module = FusionModule(**fusion.model_dump())
        tensors = module.state_dict()
        assert {key: list(tensor.shape) for key, tensor in tensors.items()} == entry["state_dict"], name
        assert sum(tensor.numel() for tensor in tensors.values()) == entry["total_parameters"], name
        unused = sum(tensor.numel() for key, tensor in tensors.items() if ".v_linear." in key)
        assert unused == entry["unused_parameters"], name

    channels = {}
    for name, configuration in listing["released_checkpoints"].items():
        channels[name] = published_channel(Path("downloads") / name)
        config = listing["configurations"][configuration]["config"]
        assert published_rotary(Path(name)) == config.get("use_3d_rope", True), name
    assert channels == {
        "pave_scanqa_v5_1_3_3d_lora": "depth3d",
        "pave_scanqa_v5_1_3_3d_lora_7B": "depth3d",
        "pave_sqa3d_v5_1_3_3d_lora_7B_2epoch": "depth3d",
        "pave_5_1_3_lora_avsd_7B_imagebind": "audio",
        "pave_v5_1_3_lora_music_avqa7B_2epoch_imagebind_3layers": "audio",
        "pave_v5_1_3_lora_7B": "dense",
    }
