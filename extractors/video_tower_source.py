"""Where the dense channel's tower comes from: published checkpoints, or a random one.

Checkpoints name the tower's tensors in several ways (LanguageBind, Video-LLaVA in both its layouts, CLIP with
and without "vision_model."); here the names start at the tower.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from extractors.checkpoint import checkpoint_config, checkpoint_tensors
from extractors.config import VideoTowerKind, VideoTowerSize, random_seed
from extractors.contract import JSON
from extractors.errors import WeightsError
from extractors.languagebind_video import VideoTower, random_video_tower
from extractors.weights import check_fit, tensors_hash

_NAME = re.compile(
    r"(?:model\.)?(?:video_tower\.){0,2}(?:vision_model\.)?((?:embeddings|pre_layrnorm|encoder)\..+)"
)
_POSITION_IDS = "embeddings.position_ids"  # a constant
_TIME = "temporal_"


def size_of_config(kind: VideoTowerKind, config: Mapping[str, Any], source: str) -> VideoTowerSize:
    """The size that a checkpoint's config gives to its vision tower; ViT-L/14's where it says nothing.

    The config of Video-LLaVA says nothing. CLIP's own default is the activation quick-GELU.
    Raises `WeightsError` for a size that makes no tower.
    """
    vision = config.get("vision_config")
    if not isinstance(vision, Mapping):
        vision = config if str(config.get("model_type")).endswith("vision_model") else {}
    values = {name: value for name, value in vision.items() if name in VideoTowerSize.model_fields}
    if kind == "clip":
        values = {"hidden_act": "quick_gelu", **values, "num_frames": 8}
    values["add_time_attn"] = kind == "languagebind"
    try:
        return VideoTowerSize.model_validate(values)
    except ValidationError as error:
        reasons = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])} {item['msg']}".strip() for item in error.errors()
        )
        raise WeightsError(
            f"the config of {source!r} makes no video tower ({reasons}); use another"
        ) from error


@dataclass(frozen=True)
class VideoTowerSource:
    """A tower of a kind from somewhere.

    Attributes:
        kind: "languagebind" mixes frames in time, "clip" does not.
        source: folder or hub id with a config.json and weights, or `random:<seed>`.
        random_size: the size of random towers.
    """

    kind: VideoTowerKind
    source: str
    random_size: VideoTowerSize

    @cached_property
    def size(self) -> VideoTowerSize:
        """The tower's size. Raises `WeightsError`."""
        if random_seed(self.source) is not None:
            return self.random_size.model_copy(update={"add_time_attn": self.kind == "languagebind"})
        return size_of_config(self.kind, checkpoint_config(self.source), self.source)

    def identity(self) -> dict[str, JSON]:
        """All that changes the tower's numbers; reads the weights once to hash them. Raises `WeightsError`."""
        seed = random_seed(self.source)
        weights: JSON
        weights = {"sha256": tensors_hash(self.tensors())} if seed is None else {"random_seed": seed}
        return {"weights": weights, "tower": self.size.model_dump()}

    def tensors(self) -> dict[str, Tensor]:
        """Read the tower's tensors, without those that are never used.

        Raises `WeightsError` when files or tensors are missing, unreadable or of the wrong shape, or the
        checkpoint is of the other kind.
        """
        size = self.size
        tensors = tower_tensors(checkpoint_tensors(self.source, _NAME.fullmatch), size)
        has_time = any(_TIME in name for name in tensors)
        if tensors and has_time != size.add_time_attn:
            found, other = ("temporal", "languagebind") if has_time else ("no temporal", "clip")
            raise WeightsError(
                f"the video tower of {self.source!r} has {found} attention, so it is not of the kind "
                f"{self.kind!r}; give another checkpoint, or set tower={other} (other features)"
            )
        check_fit(_empty(size).state_dict(), tensors, f"the video tower of {self.source!r}")
        return tensors

    def build(self) -> VideoTower:
        """The tower, in float32 and eval mode. Raises `WeightsError`."""
        seed = random_seed(self.source)
        if seed is not None:
            return random_video_tower(seed, self.size)
        return load_video_tower(self.tensors(), self.size)


def tower_tensors(tensors: Mapping[str, Tensor], size: VideoTowerSize) -> dict[str, Tensor]:
    """The tensors of a checkpoint's video tower that are used, by their names from the tower on."""
    unused = (_POSITION_IDS, f"encoder.layers.{size.num_hidden_layers - 1}.")
    matches = {name: _NAME.fullmatch(name) for name in tensors}
    named = {match[1]: tensors[name] for name, match in matches.items() if match}
    return {name: tensor for name, tensor in named.items() if not name.startswith(unused)}


def load_video_tower(tensors: Mapping[str, Tensor], size: VideoTowerSize) -> VideoTower:
    """Build a tower from exactly its tensors, in float32 and eval mode."""
    tower = _empty(size)
    tower.load_state_dict(tensors, assign=True)
    return tower.float().eval()


def _empty(size: VideoTowerSize) -> VideoTower:
    """A tower without memory for its weights."""
    with torch.device("meta"):
        return VideoTower(size)
