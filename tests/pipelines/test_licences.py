"""Licences of the encoders: what the command lists is what the store keeps with the features."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import torch
from pave_process import ROOT, invoke
from safetensors.torch import save_file

from extractors.config import SMALL_VIDEO_TOWER
from extractors.depth3d import SMALL_CLIP
from extractors.exo import SMALL_SIGLIP
from extractors.imagebind_audio import TowerSize
from extractors.imagebind_audio import random_tower as audio_tower
from extractors.languagebind_video import random_video_tower
from extractors.position_embedding_3d import random_embedding
from extractors.vision_tower import TowerConfig
from extractors.vision_tower import random_tower as vision_tower
from pipelines.cli import CHANNEL_TABLE
from pipelines.extract import _feature_set, extractor_of
from pipelines.extract_settings import extract_settings
from store import FeatureStore

GOLDEN_BASE = ROOT / "tests" / "golden" / "pave_patch" / "checkpoint_case" / "base_hf"
RANDOM = "none (random weights)"


def audio(folder: Path) -> dict[str, object]:
    save_file(audio_tower(0, TowerSize(32, 1, 4, 16)).state_dict(), folder / "audio.safetensors")
    sizes = {"embed_dim": 32, "num_blocks": 1, "num_heads": 4, "out_dim": 16}
    return {"weights": str(folder / "audio.safetensors"), **sizes}


def dense(folder: Path) -> dict[str, object]:
    size = SMALL_VIDEO_TOWER
    (folder / "config.json").write_text('{"vision_config": ' + size.model_dump_json() + "}")
    tensors = random_video_tower(0, size).state_dict()
    save_file(
        {f"vision_model.{name}": tensor for name, tensor in tensors.items()}, folder / "model.safetensors"
    )
    return {"weights": str(folder)}


def _vision(folder: Path, config: TowerConfig) -> str:
    config.save_pretrained(folder)
    tensors = vision_tower(0, config).tower.state_dict()
    kept = {f"vision_model.{name}": tensor for name, tensor in tensors.items() if tensor.dtype != torch.int64}
    save_file(kept, folder / "model.safetensors")
    return str(folder)


def depth3d(folder: Path) -> dict[str, object]:
    tensors = random_embedding(0, SMALL_CLIP.hidden_size).state_dict()
    file = folder / "llava-3d.safetensors"
    save_file({f"model.positional_embedding.{name}": tensor for name, tensor in tensors.items()}, file)
    return {"weights": _vision(folder / "clip", SMALL_CLIP), "embedding": str(file)}


def exo(folder: Path) -> dict[str, object]:
    return {"weights": _vision(folder / "siglip", SMALL_SIGLIP)}


def frames(folder: Path) -> dict[str, object]:
    return {"base": str(GOLDEN_BASE)}


def kept_licence(channel: str, encoder: dict[str, object]) -> str:
    """What the table `feature_sets` says after an extraction has registered its features."""
    store = FeatureStore.open(f"memory://licences-{uuid4()}")
    source = {"manifest": Path("m"), **({"base": "replaced"} if channel == "frames" else {})}
    sets = [f"encoder={json.dumps(encoder)}"] if encoder else []
    config = extract_settings(channel, None, source, sets)
    store.register(_feature_set("d", extractor_of(channel, config)))
    (row,) = store.query("SELECT licence FROM feature_sets").to_pylist()
    return str(row["licence"])


@pytest.mark.parametrize(
    ("channel", "write", "licence"),
    [
        ("audio", audio, "CC-BY-NC-SA 4.0"),
        ("dense", dense, "MIT"),
        ("depth3d", depth3d, "MIT (CLIP), CC-BY-NC-SA 4.0 (LLaVA-3D position embedding)"),
        ("exo", exo, "Apache-2.0 (SigLIP)"),
        ("frames", frames, "unknown"),  # a copy on disk does not say which base it is
    ],
)
def test_the_store_keeps_the_licence_of_the_weights(
    tmp_path: Path, channel: str, write: Callable[[Path], dict[str, object]], licence: str
) -> None:
    assert kept_licence(channel, write(tmp_path)) == licence
    listed = CHANNEL_TABLE[channel][2]
    if channel == "frames":
        assert listed == "that of the base"
    else:
        assert listed == re.sub(r" \([^)]*\)", "", licence)
        assert kept_licence(channel, {}) == RANDOM


def test_the_command_lists_every_licence() -> None:
    lines = invoke("extractors").stdout.splitlines()[1:]
    assert [(line.split()[0], line.endswith(CHANNEL_TABLE[line.split()[0]][2])) for line in lines] == [
        (channel, True) for channel in CHANNEL_TABLE
    ]
