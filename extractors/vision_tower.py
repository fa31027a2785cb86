"""Public image towers (CLIP, SigLIP) without their last layer: pictures to patch tokens.

The original extractors take `hidden_states[-2]`: the last layer and the last norm are never run, so they are
not loaded either. Checkpoints hold the tower alone or beside a text tower, with or without the leading
"vision_model." in the names.

Letters: F pictures, P patches of a picture (row by row), C width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

from extractors.checkpoint import checkpoint_config, checkpoint_tensors
from extractors.config import random_seed
from extractors.contract import JSON
from extractors.errors import WeightsError
from extractors.random_weights import random_tensors
from extractors.weights import check_fit, tensors_hash

TowerKind = Literal["clip", "siglip"]
TowerConfig: TypeAlias = CLIPVisionConfig | SiglipVisionConfig

_CONFIGS = {"clip": CLIPVisionConfig, "siglip": SiglipVisionConfig}
_PREFIX = "vision_model."


class VisionTower(nn.Module):
    """(F, 3, H, W) normalised pixels to the patch tokens (F, P, C) of the last layer but one."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        used = type(config).from_dict(config.to_dict())
        used.num_hidden_layers = config.num_hidden_layers - 1
        self.has_class_token = isinstance(config, CLIPVisionConfig)
        if isinstance(config, CLIPVisionConfig):
            self.tower = CLIPVisionModel(used)
        else:
            used.vision_use_head = False
            self.tower = SiglipVisionModel(used)
        self.tower.post_layernorm = nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (F, P, C), without the class token."""
        hidden = self.tower.embeddings(pixels)
        if self.has_class_token:
            hidden = self.tower.pre_layrnorm(hidden)  # the published name has this spelling
        tokens: Tensor = self.tower.encoder(inputs_embeds=hidden).last_hidden_state
        return tokens[:, 1:] if self.has_class_token else tokens


def tower_config(kind: TowerKind, values: Mapping[str, Any], source: str) -> TowerConfig:
    """Make the tower's config from that of a checkpoint, which may hold a text tower's too.

    Raises `WeightsError` when it is of another kind of model or makes no tower.
    """
    model_type = values.get("model_type")
    if model_type == kind:
        values = values.get("vision_config", {})
    elif model_type != f"{kind}_vision_model":
        raise WeightsError(f"{source!r} is a {model_type!r} model, not {kind}; give another checkpoint")
    try:
        config = _CONFIGS[kind].from_dict(dict(values))
        _empty(config)
    except (StrictDataclassError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"the config of {source!r} makes no {kind} tower ({reason}); use another"
        ) from error
    if config.num_hidden_layers < 2:
        raise WeightsError(f"the {kind} tower of {source!r} has fewer than two layers; use another")
    return config


def load_tower(tensors: Mapping[str, Tensor], config: TowerConfig) -> VisionTower:
    """Build the tower from its tensors, in float32 and eval mode."""
    module = _empty(config)
    module.tower.load_state_dict(tensors, assign=True)
    return module.float().eval()


def random_tower(seed: int, config: TowerConfig) -> VisionTower:
    """Build a tower with seeded random weights (`random_tensors`), in float32 and eval mode."""
    return load_tower(random_tensors(seed, _empty(config).tower), config)


def _empty(config: TowerConfig) -> VisionTower:
    """Build the module without memory for its weights; raises `ValueError` for impossible sizes."""
    with torch.device("meta"):
        module = VisionTower(config)
    # the one buffer that no checkpoint holds
    embeddings = module.tower.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions)[None]
    return module


@dataclass(frozen=True)
class TowerSource:
    """Where a tower comes from.

    Attributes:
        kind: of tower.
        source: folder or hub id in the transformers layout, or `random:<seed>`.
        small: the config of random towers.
    """

    kind: TowerKind
    source: str
    small: TowerConfig

    @cached_property
    def config(self) -> TowerConfig:
        """The tower's config. Raises `WeightsError`."""
        if random_seed(self.source) is not None:
            return self.small
        return tower_config(self.kind, checkpoint_config(self.source), self.source)

    @property
    def grid(self) -> int:
        """Patches along a side of a picture."""
        return int(self.config.image_size // self.config.patch_size)

    def identity(self) -> dict[str, JSON]:
        """All that changes the tower's numbers; reads the weights once to hash them. Raises `WeightsError`."""
        seed, config = random_seed(self.source), self.config
        return {
            "weights": {"sha256": tensors_hash(self.tensors())} if seed is None else {"random_seed": seed},
            "layers": config.num_hidden_layers - 1,
            "heads": config.num_attention_heads,
            "norm_eps": config.layer_norm_eps,
            "activation": config.hidden_act,
            "patch_size": config.patch_size,
            "image_size": config.image_size,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Read the tower's tensors by the names of the published checkpoints without "vision_model.".

        Raises `WeightsError` when files or tensors are missing, unreadable or of the wrong shape.
        """
        expected = _empty(self.config).tower.state_dict()
        found = checkpoint_tensors(self.source, lambda name: name.removeprefix(_PREFIX) in expected)
        tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in found.items()}
        check_fit(expected, tensors, f"the vision tower of {self.source!r}")
        return tensors

    def build(self) -> VisionTower:
        """The tower, in float32 and eval mode. Raises `WeightsError`."""
        seed = random_seed(self.source)
        return load_tower(self.tensors(), self.config) if seed is None else random_tower(seed, self.config)
