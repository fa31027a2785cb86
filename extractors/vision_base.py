"""The part of a LLaVA-OneVision base that makes key-frame tokens: SigLIP vision tower and projector.

Only these tensors are read, from a local folder or a hub repository in the transformers layout; the language
model's are never touched. Files name them in three ways (hub, transformers 4, transformers 5); `_in_memory`
maps all of them to one.

Letters: F frames, P patches of a frame (a square grid), S tokens of a frame after pooling, C_v vision width,
D width of the language model.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import LlavaOnevisionConfig, SiglipVisionModel
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionMultiModalProjector

from extractors.checkpoint import CONFIG, checkpoint_file, read_json
from extractors.errors import WeightsError
from extractors.weights import check_fit, open_tensors

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


def _no_model(base: str, error: Exception) -> WeightsError:
    """The error for a config that transformers refuses."""
    reason = " ".join(str(error).split())
    return WeightsError(f"the config of the base {base!r} makes no model ({reason}); use another base")


def read_config(base: str) -> LlavaOnevisionConfig:
    """Read and check the base's config.

    Raises `WeightsError` when there is none, or it is no LLaVA-OneVision with a SigLIP tower of which one
    whole layer's tokens are used.
    """
    path = checkpoint_file(base, CONFIG)
    if path is None:
        raise WeightsError(
            f"no {CONFIG} in the base {base!r}; give the folder or hub id of a LLaVA-OneVision checkpoint"
        )
    values = read_json(path)
    if values.get("model_type") != "llava_onevision":
        kind = values.get("model_type")
        raise WeightsError(f"{path} is the config of {kind!r}, not llava_onevision; use another base")
    try:
        config = LlavaOnevisionConfig.from_dict(values)
    except StrictDataclassError as error:
        raise _no_model(base, error) from error
    if config.vision_config.model_type != "siglip_vision_model":
        raise WeightsError(f"{path}: the vision tower must be SigLIP, not {config.vision_config.model_type}")
    if config.vision_feature_select_strategy != "full" or not isinstance(config.vision_feature_layer, int):
        raise WeightsError(f"{path}: only one whole vision feature layer is supported; use another base")
    return config


def num_layers_used(config: LlavaOnevisionConfig) -> int:
    """Return how many encoder layers make the features: `hidden_states[vision_feature_layer]` of a model
    whose state 0 is the embedding. Raises `WeightsError` for a layer that the tower does not have."""
    states = config.vision_config.num_hidden_layers + 1
    layer = config.vision_feature_layer
    if not -states <= layer < states:
        raise WeightsError(f"the base's vision_feature_layer {layer} is not among its {states} states")
    return int(layer % states)


def num_tokens(config: LlavaOnevisionConfig) -> int:
    """Return S, the tokens of a frame after pooling."""
    return int(math.ceil(config.vision_config.image_size // config.vision_config.patch_size / 2) ** 2)


def pool(tokens: Tensor) -> Tensor:
    """Halve the square grid of (F, P, C) bilinearly, rounding up, no anti-aliasing: (F, S, C), row by row."""
    frames, patches, dim = tokens.shape
    side = math.isqrt(patches)
    grid = tokens.transpose(1, 2).reshape(frames, dim, side, side)
    half = math.ceil(side / 2)
    pooled = F.interpolate(grid, size=(half, half), mode="bilinear", align_corners=False)
    return pooled.flatten(2).transpose(1, 2)  # (F, C, half, half) -> (F, S, C)


class VisionBase(nn.Module):
    """Pixels to query tokens (before the projector) and visual tokens (projected, then pooled)."""

    def __init__(self, config: LlavaOnevisionConfig) -> None:
        super().__init__()
        vision = type(config.vision_config).from_dict(config.vision_config.to_dict())
        # the features come out of this layer: later ones, the last norm and the head are not needed
        vision.num_hidden_layers = num_layers_used(config)
        vision.vision_use_head = False
        self.vision_tower = SiglipVisionModel(vision)
        self.vision_tower.post_layernorm = nn.Identity()
        self.multi_modal_projector = LlavaOnevisionMultiModalProjector(config)

    def features(self, pixels: Tensor) -> Tensor:
        """(F, 3, H, W) normalised pixels to the tower's tokens (F, P, C_v), before `post_layernorm`."""
        hidden = self.vision_tower.embeddings(pixels)
        tokens: Tensor = self.vision_tower.encoder(inputs_embeds=hidden).last_hidden_state
        return tokens

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(F, 3, H, W) to query tokens (F, S, C_v) and visual tokens (F, S, D)."""
        tokens = self.features(pixels)
        return pool(tokens), pool(self.multi_modal_projector(tokens))


def _in_memory(name: str) -> str:
    """Map a file's tensor name to the name in `VisionBase`."""
    return name.removeprefix("model.").replace("vision_tower.vision_model.", "vision_tower.", 1)


def _build(config: LlavaOnevisionConfig) -> VisionBase:
    """Build the module without memory for its weights; raises `ValueError` for impossible sizes."""
    with torch.device("meta"):
        module = VisionBase(config)
    # the one buffer that no checkpoint holds
    embeddings = module.vision_tower.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions)[None]
    return module


def read_tensors(base: str, config: LlavaOnevisionConfig) -> dict[str, Tensor]:
    """Read the tensors of `VisionBase` by its names, opening only the shards that hold them.

    Raises `WeightsError` when files or tensors are missing, unreadable or of the wrong shape.
    """
    try:
        expected = _build(config).state_dict()
    except ValueError as error:
        raise _no_model(base, error) from error
    index = checkpoint_file(base, INDEX)
    names: set[str]
    if index is not None:
        shards: dict[str, str] = read_json(index)["weight_map"]
        names = {shard for name, shard in shards.items() if _in_memory(name) in expected}
    else:
        names = {SINGLE}
    tensors = {}
    for name in sorted(names):
        path = checkpoint_file(base, name)
        if path is None:
            raise WeightsError(f"there is no {name} in the base {base!r}; download it again")
        found = open_tensors(path, lambda key: _in_memory(key) in expected)
        tensors.update({_in_memory(key): tensor for key, tensor in found.items()})
    check_fit(expected, tensors, f"the vision tower and projector of {base!r}")
    return tensors


def load_vision_base(tensors: Mapping[str, Tensor], config: LlavaOnevisionConfig) -> VisionBase:
    """Build the module from `read_tensors`, in float32 and eval mode."""
    module = _build(config)
    module.load_state_dict(tensors, assign=True)
    return module.float().eval()
