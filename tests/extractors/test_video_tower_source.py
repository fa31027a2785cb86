"""Where the dense channel's tower comes from: the layouts of published checkpoints, and what does not fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_cache import FakeHub
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from extractors.config import DenseConfig, VideoTowerKind, VideoTowerSize
from extractors.dense import DenseExtractor
from extractors.errors import WeightsError
from extractors.languagebind_video import VideoTower, random_video_tower
from extractors.video_tower_source import VideoTowerSource, size_of_config

SMALL = VideoTowerSize(
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=3,
    num_attention_heads=2,
    image_size=32,
    patch_size=8,
)
VISION = SMALL.model_dump() | {"dropout": 0.0, "lora_r": 2, "model_type": "clip_vision_model"}
OTHERS = {
    "text_model.encoder.layers.0.layer_norm1.bias": torch.ones(3),
    "visual_projection.weight": torch.ones(2, 2),
    "model.image_tower.image_tower.vision_model.pre_layrnorm.bias": torch.ones(3),
    "image_tower.vision_model.embeddings.class_embedding": torch.ones(3),
    "model.mm_projector.0.bias": torch.ones(3),
    "lm_head.weight": torch.ones(2, 3),
}
Folder = Callable[..., Path]


def tower_weights(kind: VideoTowerKind) -> dict[str, Tensor]:
    """All of a tower as checkpoints hold it: with the last layer and norm and the constant positions."""
    one_more = {"num_hidden_layers": SMALL.num_hidden_layers + 1, "add_time_attn": kind == "languagebind"}
    whole = dict(random_video_tower(5, SMALL.model_copy(update=one_more)).state_dict())
    norm = {f"post_layernorm.{name}": torch.full((16,), 7.0) for name in ("weight", "bias")}
    return whole | norm | {"embeddings.position_ids": torch.arange(17)[None]}


def source_of(path: Path | str, kind: VideoTowerKind = "languagebind") -> VideoTowerSource:
    """The tower in a checkpoint."""
    return VideoTowerSource(kind, str(path), VideoTowerSize())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Write a checkpoint: tensors with a prefix beside others, in one file or in two shards."""

    def write(
        kind: VideoTowerKind,
        prefix: str = "vision_model.",
        config: dict[str, Any] | None = None,
        file: str = "pytorch_model.bin",
        sharded: bool = False,
        changes: dict[str, Tensor | None] | None = None,
    ) -> Path:
        made = tmp_path / f"checkpoint{len(list(tmp_path.iterdir()))}"
        made.mkdir()
        config = {"model_type": "LanguageBindVideo", "vision_config": VISION} if config is None else config
        (made / "config.json").write_text(json.dumps(config))
        changed = tower_weights(kind) | (changes or {})
        tensors = {f"{prefix}{name}": tensor for name, tensor in changed.items() if tensor is not None}
        names = list(OTHERS | tensors)
        shards = {file: names}
        if sharded:
            stem, _, ending = file.rpartition(".")
            shards = {f"{stem}-{part + 1}-of-2.{ending}": names[part::2] for part in range(2)}
            index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
            (made / f"{file}.index.json").write_text(json.dumps(index))
        for shard, held in shards.items():
            part = {name: (OTHERS | tensors)[name] for name in held}
            torch.save(part, made / shard) if shard.endswith(".bin") else save_file(part, made / shard)
        return made

    return write


def same_weights(one: VideoTower, other: VideoTower) -> bool:
    """Say whether two towers have the same names and numbers."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


LAYOUTS = {
    "LanguageBind_Video_merge": {},
    "Video-LLaVA-7B": {
        "prefix": "model.video_tower.video_tower.",
        "sharded": True,
        "config": {"model_type": "llava", "hidden_size": 4096, "vision_config": VISION},
    },
    "tower alone": {"prefix": "", "file": "model.safetensors", "config": VISION},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts(folder: Folder, layout: str) -> None:
    made = folder("languagebind", **LAYOUTS[layout])
    expected = source_of(folder("languagebind"))
    assert same_weights(source_of(made).build(), expected.build())
    assert source_of(made).identity() == expected.identity()
    names = expected.tensors()
    assert not any(name.startswith(("encoder.layers.2.", "post_layernorm")) for name in names)


@pytest.mark.parametrize("prefix", ["video_tower.vision_model.", "model.video_tower.", "vision_model."])
def test_layouts_without_temporal_attention(folder: Folder, prefix: str) -> None:
    vision = {name: value for name, value in VISION.items() if name not in ("hidden_act", "add_time_attn")}
    config = {"model_type": "video_llava", "vision_config": vision}
    made = folder("clip", prefix, config, "model.safetensors", sharded=True)
    source = source_of(made, "clip")
    assert source.size.hidden_act == "quick_gelu"
    assert same_weights(source.build(), source_of(folder("clip"), "clip").build())


def test_a_plain_tower_is_clip_in_transformers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = CLIPVisionModel(CLIPVisionConfig(**{**VISION, "hidden_act": "quick_gelu"})).eval()
    model.save_pretrained(tmp_path)
    pixels = torch.randn(5, 3, 32, 32)
    with torch.inference_mode():
        expected = model(pixels, output_hidden_states=True).hidden_states[-2]
        torch.testing.assert_close(source_of(tmp_path, "clip").build()(pixels), expected)


def test_what_a_config_does_not_say_is_the_published_model_s() -> None:
    llava = {"model_type": "llava", "hidden_size": 4096, "num_hidden_layers": 32}
    assert size_of_config("languagebind", llava, "x") == VideoTowerSize()
    plain = {"add_time_attn": False, "hidden_act": "quick_gelu"}
    assert size_of_config("clip", llava, "x") == VideoTowerSize(**plain)
    assert VideoTowerSize().hidden_act == "gelu"


def test_half_precision_weights_run_in_float32(folder: Folder) -> None:
    halves = {name: tensor.half() for name, tensor in tower_weights("languagebind").items()}
    tower = source_of(folder("languagebind", changes=halves)).build()
    assert {tensor.dtype for tensor in tower.state_dict().values()} == {torch.float32}


def test_weights_that_do_not_fit_are_named(folder: Folder, tmp_path: Path) -> None:
    class_token, name = "embeddings.class_embedding", "encoder.layers.1.layer_norm1.bias"
    deep = {"vision_config": VISION | {"num_hidden_layers": 2}}
    relu = {"vision_config": VISION | {"hidden_act": "relu"}}
    heads = {"vision_config": VISION | {"num_attention_heads": 5}}
    empty = tmp_path / "empty"
    empty.mkdir()
    cases: list[tuple[Path, VideoTowerKind, str]] = [
        (folder("languagebind", changes={class_token: None}), "languagebind", f"missing: {class_token}"),
        (folder("languagebind", changes={name: torch.ones(3)}), "languagebind", f"wrong shape: {name}"),
        (folder("languagebind", config=deep), "languagebind", r"unexpected: encoder\.layers\.2\."),
        (
            folder("languagebind", config=relu),
            "languagebind",
            "makes no video tower .hidden_act Input should be 'gelu' or 'quick_gelu'",
        ),
        (folder("languagebind", config=heads), "languagebind", "makes no video tower .*no multiple"),
        (folder("languagebind"), "clip", "has temporal attention.*tower=languagebind"),
        (folder("clip"), "languagebind", "has no temporal attention.*tower=clip"),
        (folder("clip", "other."), "clip", "missing: embeddings"),
        (empty, "languagebind", r"no config\.json in"),
    ]
    for path, kind, reason in cases:
        with pytest.raises(WeightsError, match=reason) as caught:
            source_of(path, kind).build()
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_tower_comes_from_the_hub(hub: FakeHub, folder: Folder) -> None:
    made = folder("languagebind")
    hub.publish("LanguageBind/LanguageBind_Video_merge", list(made.iterdir()))
    extractor = DenseExtractor(DenseConfig(weights="LanguageBind/LanguageBind_Video_merge"))
    extractor.load("cpu")
    local = DenseExtractor(DenseConfig(weights=str(made)))
    assert extractor.spec == local.spec
    assert (extractor.spec.licence, extractor.spec.rate_hz) == ("MIT", 2.0)
    tensor = extractor.spec.tensors[0]
    assert (tensor.tokens, tensor.dim, tensor.dtype) == (5, 16, "float16")
    with pytest.raises(WeightsError, match="'org/nothing'"):
        DenseExtractor(DenseConfig(weights="org/nothing")).load("cpu")


def test_random_towers_are_seeded_and_leave_torch_s_seed_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = (random_video_tower(seed, SMALL) for seed in (1, 1, 2))
    assert same_weights(one, two)
    assert not same_weights(one, other)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
