"""LLaVA-OneVision as a base: SigLIP tower, projector, Qwen2. The family of the published patches.

As in the release, queries are the tower's tokens pooled without the projector, visual tokens are projected and
then pooled, and newline tokens stand between rows or frames (SPEC of the goldens, sections 4 and 5).
"""

from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pave_model.config import NewlinePosition
from pave_model.errors import PatchInputError
from pave_model.video_tokens import num_video_tokens, place_newlines

_SETTINGS = (
    "image_token_id",
    "video_token_id",
    "vision_feature_layer",
    "vision_feature_select_strategy",
    "projector_hidden_act",
)
_TEXT_SETTINGS = (
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "rms_norm_eps",
    "rope_parameters",
)
_VISION_SETTINGS = ("num_attention_heads", "image_size", "patch_size", "hidden_act", "layer_norm_eps")


class LlavaOnevisionFamily:
    """`LlavaOnevisionForConditionalGeneration`, unchanged; see `BaseFamily`."""

    lora_targets = r"model\.language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"

    def identity(self, config: PreTrainedConfig) -> list[list[Any]]:
        """See `BaseFamily`."""
        return [
            [getattr(config, name) for name in _SETTINGS],
            [getattr(config.text_config, name) for name in _TEXT_SETTINGS],
            [getattr(config.vision_config, name) for name in _VISION_SETTINGS],
        ]

    def key_frame_tokens(self, base: PreTrainedModel, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See `BaseFamily`. Raises `PatchInputError` for pixels of another shape than the tower takes."""
        side = base.config.vision_config.image_size
        if pixels.dim() != 5 or pixels.shape[2:] != (3, side, side):
            raise PatchInputError(
                f"pixels have shape {tuple(pixels.shape)}, but the base takes (B, F, 3, {side}, {side}); "
                "resize the key frames as its image processor does"
            )
        model = base.model
        batch = pixels.shape[:2]
        frames = pixels.flatten(0, 1).to(base.dtype)  # (B F, 3, H, W)
        states = model.vision_tower(frames, output_hidden_states=True).hidden_states
        # The tower's own last state is normalised once more; the projector was trained on the plain one.
        features = states[base.config.vision_feature_layer]  # (B F, P, C_v)
        queries = model.apply_pooling(features)
        visual = model.apply_pooling(model.multi_modal_projector(features))
        return queries.unflatten(0, batch), visual.unflatten(0, batch)

    def num_video_tokens(self, num_frames: int, tokens_per_frame: int, newline: NewlinePosition) -> int:
        """See `BaseFamily`."""
        return num_video_tokens(num_frames, tokens_per_frame, newline)

    def video_sequence(self, base: PreTrainedModel, tokens: Tensor, newline: NewlinePosition) -> Tensor:
        """See `BaseFamily`."""
        return place_newlines(tokens, base.model.image_newline, newline)

    def inputs(
        self,
        base: PreTrainedModel,
        input_ids: Tensor,
        frames: tuple[int, int],
        video: Tensor,
        times: Tensor | None,
    ) -> dict[str, Any]:
        """See `BaseFamily`. Positions are plain, so neither the grid nor the times matter."""
        return {"mm_encoder_outputs": {"video": BaseModelOutputWithPooling(pooler_output=video)}}
