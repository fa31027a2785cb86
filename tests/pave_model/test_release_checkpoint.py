"""Released checkpoints that are not as they should be: every key, shape and setting is accounted for."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_patch import BASE_CONFIG
from torch import Tensor

from pave_model.config import FusionConfig
from pave_model.errors import BaseMismatchError, CheckpointError
from pave_model.release_checkpoint import (
    published_channel,
    published_rotary,
    read_released_checkpoint,
)
from pave_model.release_import import import_release
from pave_model.small_base import SmallBaseConfig, build_small_base

# r 8, alpha 2; C_s 6, C_v 8, D 24, E 10, d 16, 2 layers; LLM of 2 layers
SOURCE = Path(__file__).parents[1] / "golden/pave_patch/checkpoint_case/checkpoint"
PATCH = "base_model.model.model.temporal_aggregator."
LAYERS = "base_model.model.model.layers."
Q_PROJ = f"{LAYERS}1.self_attn.q_proj"
BASE = SmallBaseConfig(
    **{
        **BASE_CONFIG.model_dump(),
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_heads": 4,
        "num_kv_heads": 2,
    }
)
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A good copy to be damaged."""
    folder = tmp_path / "pave_small_lora"
    shutil.copytree(SOURCE, folder)
    return folder


def json_file(name: str, **changes: object) -> Callable[[Path], None]:
    """Damage: other settings; None removes one."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | changes
        kept = {key: value for key, value in content.items() if value is not None}
        (folder / name).write_text(json.dumps(kept))

    return damage


def patch_file(change: Change) -> Callable[[Path], None]:
    """Damage: other content of non_lora_trainables.bin."""

    def damage(folder: Path) -> None:
        path = folder / "non_lora_trainables.bin"
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return damage


def adapter_file(change: Change) -> Callable[[Path], None]:
    """Damage: other content of adapter_model.safetensors."""

    def damage(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        content = load_file(path)
        change(content)
        save_file(content, path)

    return damage


def put(name: str, tensor: Tensor | object) -> Change:
    return lambda content: content.update({name: tensor})


def drop(*parts: str) -> Change:
    """Remove every key that has one of the parts in it."""

    def change(content: dict[str, Any]) -> None:
        for name in [name for name in content if any(part in name for part in parts)]:
            del content[name]

    return change


class TouchesAFile:
    """What unpickling would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def pickled_code(folder: Path) -> None:
    torch.save({"code": TouchesAFile(folder / "was_here")}, folder / "non_lora_trainables.bin")


def cut(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:-200])

    return damage


def second_adapter(folder: Path) -> None:
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


WITHOUT_LAYER_1 = [f"model.layers.0.self_attn.{p}_proj" for p in "qkvo"] + [
    f"model.layers.0.mlp.{p}_proj" for p in ("gate", "up", "down")
]
VISION_LORA = "base_model.model.model.vision_tower.layers.0.q_proj.lora_A.weight"

# What is wrong, and what the one line must say.
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "foreign tensor": (
        patch_file(put("base_model.model.model.mm_projector.0.bias", torch.ones(2))),
        r"trainables.bin has unknown tensors 'base_model.model.model.mm_projector.0.bias'; download",
    ),
    "unknown parameter": (
        patch_file(put(f"{PATCH}query_tokens", torch.ones(2))),
        f"has unknown tensors '{PATCH}query_tokens'; download",
    ),
    "missing parameter": (patch_file(drop("1.ffn.3")), f"lacks '{PATCH}cross_attn_layers.1.ffn.3.weight'; d"),
    "missing size": (patch_file(drop("query_input")), f"lacks '{PATCH}query_input_mapping.weight'; download"),
    "gap in the layers": (
        patch_file(
            lambda content: [content.update({k.replace("s.1.", "s.2."): content.pop(k)}) for k in [*content]]
        ),
        f"'{PATCH}cross_attn_layers.2.attn.q_linear.weight', .*layers.2.ffn.3.weight' and lacks .* and 2 more;",
    ),
    "no layers": (patch_file(drop("cross_attn_layers")), "has no layer of cross-attention; download"),
    "wrong shape": (
        patch_file(put(f"{PATCH}output_norm.bias", torch.ones(23))),
        rf"shapes that contradict the others: '{PATCH}output_norm.bias' \(23,\) instead of \(24,\)",
    ),
    "wrong dimensions": (
        patch_file(put(f"{PATCH}input_mapping.weight", torch.ones(10))),
        r"input_mapping.weight' has shape \(10,\), but should be a matrix",
    ),
    "whole numbers": (
        patch_file(put(f"{PATCH}output_norm.bias", torch.ones(24, dtype=torch.int64))),
        f"entry '{PATCH}output_norm.bias' is torch.int64",
    ),
    "not a number": (
        patch_file(put(f"{PATCH}output_norm.bias", torch.full((24,), torch.nan))),
        "output_norm.bias' holds NaN or infinite values",
    ),
    "huge claim": (
        patch_file(put(f"{PATCH}output_norm.bias", torch.ones(1).expand(10**12))),
        r"output_norm.bias' claims shape \(1000000000000,\), more than the file holds",
    ),
    "no tensor": (
        patch_file(put(f"{PATCH}heads", 4)),
        f"entry '{PATCH}heads' is of type int, not a named tensor",
    ),
    "nameless tensor": (
        patch_file(lambda content: content.update({7: torch.ones(1)})),
        "entry 7 is of type Tensor",
    ),
    "a list": (
        lambda folder: torch.save([torch.ones(1)], folder / "non_lora_trainables.bin"),
        "trainables.bin holds a list, not named tensors",
    ),
    "pickled code": (
        pickled_code,
        "trainables.bin is no readable file .* code or other .* nothing in it was run",
    ),
    "cut patch": (cut("non_lora_trainables.bin"), "trainables.bin is no readable file of plain tensors"),
    "cut adapter": (cut("adapter_model.safetensors"), "adapter_model.safetensors is no readable file"),
    "foreign LoRA": (adapter_file(put(VISION_LORA, torch.ones(8, 8))), f"unknown tensors '{VISION_LORA}'"),
    "missing projection": (
        adapter_file(drop("1.self_attn.q_proj")),
        f"lacks '{Q_PROJ}.lora_A.weight', '{Q_PROJ}.lora_B.weight'; download",
    ),
    "name of memory": (
        adapter_file(lambda content: content.update({f"{Q_PROJ}.lora_A.default.weight": torch.ones(8, 24)})),
        f"unknown tensors '{Q_PROJ}.lora_A.default.weight'",
    ),
    "other rank": (json_file("adapter_config.json", r=4), "has LoRA of rank 8, but r is 4 in adapter_config"),
    "LoRA shape": (
        adapter_file(put(f"{Q_PROJ}.lora_B.weight", torch.ones(20, 8))),
        rf"'{Q_PROJ}.lora_B.weight' \(20, 8\) instead of \(24, 8\)",
    ),
    "missing layer": (
        adapter_file(drop("layers.1.")),
        "target_modules of adapter_config.json differ in model.layers.1.mlp.down_proj, ",
    ),
    "fewer layers than the config": (
        lambda folder: (
            adapter_file(drop("layers.1."))(folder),
            json_file("adapter_config.json", target_modules=WITHOUT_LAYER_1)(folder),
        ),
        "config.json: num_hidden_layers is 2, but the tensors beside it are for 1",
    ),
    "other targets": (
        json_file("adapter_config.json", target_modules=[*WITHOUT_LAYER_1, "lm_head"]),
        "differ in lm_head, model.layers.1.mlp.down_proj, ",
    ),
    "a pattern": (json_file("adapter_config.json", target_modules=".*proj"), r"target_modules is '\.\*proj'"),
    "bias": (json_file("adapter_config.json", bias="lora_only"), r"bias is 'lora_only' \(must be 'none'\)"),
    "dora": (json_file("adapter_config.json", use_dora=True), r"use_dora is True \(must be off\); only"),
    "two settings": (
        json_file("adapter_config.json", use_rslora=True, modules_to_save=["lm_head"]),
        r"use_rslora is True \(must be off\)",
    ),
    "unknown setting": (json_file("adapter_config.json", use_later_idea=2), "use_later_idea is 2"),
    "other start": (
        json_file("adapter_config.json", init_lora_weights="pissa"),
        "init_lora_weights is 'pissa'",
    ),
    "no rank": (
        json_file("adapter_config.json", r=None),
        "adapter_config.json: r: Input should be a valid int",
    ),
    "odd alpha": (
        json_file("adapter_config.json", lora_alpha=0),
        "lora_alpha: Input should be greater than 0",
    ),
    "other sum": (
        json_file("config.json", feat_combine_method="concat"),
        r"feat_combine_method is 'concat' \(mu",
    ),
    "extra tokens": (
        json_file("config.json", train_addition_start_end_tokens=True, temporal_aggregator_type="pmv6"),
        "temporal_aggregator_type is 'pmv6' .* train_addition_start_end_tokens is True",
    ),
    "other newline": (json_file("config.json", mm_newline_position="row"), "mm_newline_position is 'row'"),
    "no newline": (json_file("config.json", mm_newline_position=None), r"is None.* \(grid in all releases\)"),
    "other model": (json_file("config.json", model_type="llava_qwen"), "model_type is 'llava_qwen', not"),
    "other width": (json_file("config.json", hidden_size=896), "hidden_size is 896, but .* for 24"),
    "other vision": (json_file("config.json", mm_hidden_size=1152), "mm_hidden_size is 1152, but .* for 8"),
    "no config": (remove("config.json"), "has no config.json; give the unzipped folder"),
    "no adapter config": (remove("adapter_config.json"), "has no adapter_config.json"),
    "broken config": (lambda folder: (folder / "config.json").write_text("{"), "cannot read .*config.json"),
    "config list": (
        lambda folder: (folder / "config.json").write_text("[]"),
        "holds a list, not a JSON object",
    ),
    "no adapter": (
        remove("adapter_model.safetensors"),
        "holds non_lora_trainables.bin; a released checkpoint is",
    ),
    "no patch": (
        remove("non_lora_trainables.bin"),
        "holds adapter_model.safetensors; a released checkpoint is",
    ),
    "two adapters": (
        second_adapter,
        "holds adapter_model.bin, adapter_model.safetensors, non_lora_trainables.bin;",
    ),
    "more weights": (
        lambda folder: (folder / "mm_projector_2.bin").touch(),
        "holds other weights too: mm_projector_2.bin",
    ),
    "no folder": (shutil.rmtree, "is no folder; give the unzipped folder"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_wrong_is_said_in_one_line(released: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(released)
    with pytest.raises(CheckpointError, match=message) as refused:
        read_released_checkpoint(released)
    assert "\n" not in str(refused.value)
    assert re.search(r"; \w|: complete", str(refused.value)), "says what to do"
    assert not (released / "was_here").exists()


def test_a_good_copy_reads_whatever_lies_beside_the_weights(released: Path) -> None:
    for name in ("README.md", "trainer_state.json", "training_args.bin"):
        (released / name).write_text("not read")
    release = read_released_checkpoint(released, num_heads=2)
    sizes = {"side_dim": 6, "query_dim": 8, "output_dim": 24, "embed_dim": 10, "hidden_dim": 16}
    assert release.fusion == FusionConfig(**sizes, num_heads=2, num_layers=2)
    assert (release.newline, release.fusion.rotary) == ("grid", False)
    assert release.lora is not None
    assert (release.lora.r, release.lora.alpha, release.lora.dropout) == (8, 2, 0.05)
    assert sorted(release.file_hashes) == sorted(path.name for path in SOURCE.iterdir())
    assert {t.dtype for t in (*release.patch_tensors.values(), *release.lora_tensors.values())} == {
        torch.float32
    }
    with pytest.raises(
        CheckpointError, match=r"hidden_dim 16 must be a multiple of num_heads 3; give --heads"
    ):
        read_released_checkpoint(released, num_heads=3)


def test_a_patch_without_lora(released: Path) -> None:
    whole = read_released_checkpoint(released)
    tensors = torch.load(released / "non_lora_trainables.bin", weights_only=True)
    renamed = {name.removeprefix("base_model.model."): tensor for name, tensor in tensors.items()}
    torch.save(renamed, released / "mm_projector.bin")
    for name in ("non_lora_trainables.bin", "adapter_model.safetensors", "adapter_config.json"):
        (released / name).unlink()
    alone = read_released_checkpoint(released)
    assert (alone.lora, alone.lora_tensors, alone.fusion) == (None, {}, whole.fusion)
    assert alone.base_name == "lmms-lab/llava-onevision-qwen2-0.5b-ov"
    assert alone.patch_tensors.keys() == whole.patch_tensors.keys()
    model = import_release(alone, build_small_base(BASE), "small", "dense")
    assert model.patch_config.channels["dense"].first_token == 1, "the release leaves out the class token"
    for name, tensor in model.patch["dense"].state_dict().items():
        assert torch.equal(tensor, whole.patch_tensors[name])


@pytest.mark.parametrize(
    ("name", "channel", "rotary"),
    [
        ("pave_v5_1_3_lora_7B", "dense", False),
        ("pave_v5_1_3_lora_7B_2", None, False),
        ("pave_scanqa_v5_1_3_3d_lora", "depth3d", False),
        ("pave_5_1_3_lora_avsd_7B_imagebind", "audio", False),
        ("pave_v5_1_2_lora", None, True),
        ("pave_3d_imagebind_lora", None, False),
    ],
)
def test_published_names(name: str, channel: str | None, rotary: bool) -> None:
    assert published_channel(Path("here") / name) == channel
    assert published_rotary(Path("here") / name) == rotary


def test_rotary_positions_follow_from_the_published_name_and_need_their_heads(released: Path) -> None:
    renamed = released.rename(released.with_name("pave_v5_1_2_lora"))
    with pytest.raises(
        CheckpointError, match=r"rotary needs heads of 128 channels.*give --heads and --rotary"
    ):
        read_released_checkpoint(renamed)
    assert not read_released_checkpoint(renamed, rotary=False).fusion.rotary


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 16}, "width of the LLM is 16, the checkpoint's 24"),
        ({"vision_hidden_size": 12}, "width of the vision tower is 12, the checkpoint's 8"),
        ({"num_layers": 3}, "number of LLM layers is 3, the checkpoint's 2"),
        ({"num_kv_heads": 4}, "output width of model.language_model.layers.0.self_attn.k_proj is 24, .* 12"),
        (
            {"intermediate_size": 44},
            "input width of model.language_model.layers.0.mlp.down_proj is 44, .* 40",
        ),
    ],
)
def test_a_base_of_other_sizes_is_refused_untouched(
    released: Path, change: dict[str, int], message: str
) -> None:
    base = build_small_base(BASE.model_copy(update=change))
    release = read_released_checkpoint(released)
    with pytest.raises(BaseMismatchError, match=rf"'small' is not its twin: {message}"):
        import_release(release, base, "small", "audio")
    assert not any("lora" in name for name, _ in base.named_parameters())


def test_a_channel_needs_a_usable_name(released: Path) -> None:
    with pytest.raises(CheckpointError, match=r"channel 'Audio 2' .* name the channel in lower case"):
        read_released_checkpoint(released).patch_config("small", "Audio 2")
