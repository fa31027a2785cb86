"""What a patch costs beside its base: parameters and FLOPs, counted on the real modules without any weights.

Modules are built and run on the meta device, where tensors have shapes and no values, while torch's own counter
looks at every operation; so no formula can go stale. A multiply-add counts 2. Matrix products and convolutions
count, norms, activations, softmax and interpolation do not. Attention counts all pairs of positions, also those
that a causal mask hides, as eager attention computes them.

Shapes: F key frames, S tokens of a key frame, C_v width of the vision tower, T steps of the side channel, S_k
tokens per step, C_s width of the side channel, D width of the LLM.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

from pave_model.attention import AttentionBackend
from pave_model.config import FusionConfig, LoraSettings
from pave_model.errors import BaseConfigError
from pave_model.fusion import FusionModule
from pave_model.llava_onevision_base import LlavaOnevisionFamily
from pave_model.lora import add_lora
from pave_model.published_sizes import NUM_KEY_FRAMES, ChannelSize
from pave_model.video_tokens import num_video_tokens

META = torch.device("meta")
NUM_TEXT_TOKENS = 60  # a system turn, a question and the header of the answer


@dataclass(frozen=True)
class Cost:
    """Parameters, and FLOPs of one forward pass of one sample."""

    parameters: int
    flops: int

    def __add__(self, other: "Cost") -> "Cost":
        """Both parts together."""
        return Cost(self.parameters + other.parameters, self.flops + other.flops)


@dataclass(frozen=True)
class PatchCosts:
    """What the parts of a patched model cost.

    `vision`: tower, projector and newline vector, for all key frames. `language_model`: embeddings and head
    included; its FLOPs are those of the prefill of `num_visual_tokens` and `num_text_tokens`, with the head on
    the last position. `patches`: the fusion module of each channel. `lora`: the adapters as they are trained;
    merged into the base's weights they cost nothing.
    """

    num_key_frames: int
    num_visual_tokens: int
    num_text_tokens: int
    vision: Cost
    language_model: Cost
    patches: Mapping[str, Cost]
    lora: Cost

    @property
    def base(self) -> Cost:
        """The whole base: vision tower, projector and prefill."""
        return self.vision + self.language_model


def patch_costs(
    config: LlavaOnevisionConfig,
    channels: Mapping[str, ChannelSize],
    lora: LoraSettings | None = None,
) -> PatchCosts:
    """Costs of the base that `config` describes, of a patch for each channel, and of LoRA (None: as published).

    Raises `BaseConfigError` for a config that no patch can be put on.
    """
    base = _meta_base(config)
    tokens_per_frame = math.ceil(config.vision_config.image_size // config.vision_config.patch_size / 2) ** 2
    num_visual_tokens = num_video_tokens(NUM_KEY_FRAMES, tokens_per_frame, "grid")
    num_tokens = num_visual_tokens + NUM_TEXT_TOKENS

    language_model = Cost(
        # one list, so that an embedding that is the head as well counts once
        _num_parameters(nn.ModuleList([base.model.language_model, base.lm_head])),
        _prefill_flops(base, num_tokens),
    )
    vision = Cost(_num_parameters(base) - language_model.parameters, _vision_flops(base))
    patches = {
        name: fusion_cost(
            FusionConfig(
                side_dim=channel.side_dim,
                query_dim=config.vision_config.hidden_size,
                output_dim=config.text_config.hidden_size,
            ),
            channel,
            tokens_per_frame,
        )
        for name, channel in channels.items()
    }
    return PatchCosts(
        NUM_KEY_FRAMES,
        num_visual_tokens,
        NUM_TEXT_TOKENS,
        vision,
        language_model,
        patches,
        _lora_cost(base, lora or LoraSettings(), num_tokens, language_model),  # changes the base, so last
    )


def fusion_cost(
    config: FusionConfig, channel: ChannelSize, tokens_per_frame: int, attention: AttentionBackend = "auto"
) -> Cost:
    """Cost of one channel's fusion module for one sample of `NUM_KEY_FRAMES` key frames."""
    with META:
        fusion = FusionModule(**config.model_dump(), attention=attention)
        side = torch.empty(1, channel.num_steps, channel.tokens_per_step, channel.side_dim)
        queries = torch.empty(1, NUM_KEY_FRAMES, tokens_per_frame, config.query_dim)
    return Cost(_num_parameters(fusion), _flops(lambda: _run_fusion(fusion, side, queries)))


def _run_fusion(fusion: FusionModule, side: Tensor, queries: Tensor) -> None:
    """One sample without padding: side (1, T, S_k, C_s), queries (1, F, S, C_v), both on the meta device."""
    fusion(queries, fusion.pack(side, torch.tensor([side.shape[1]]), queries))


def _meta_base(config: LlavaOnevisionConfig) -> LlavaOnevisionForConditionalGeneration:
    """The base without weights. Raises `BaseConfigError` as `patch_costs` does."""
    if config.vision_config.model_type != "siglip_vision_model":
        raise BaseConfigError(
            f"the base has the vision tower {config.vision_config.model_type!r}, but a patch takes the tokens of "
            "SigLIP; give another base"
        )
    if config.vision_feature_select_strategy != "full" or not isinstance(config.vision_feature_layer, int):
        raise BaseConfigError(
            "the base does not use all tokens of one layer of its vision tower; give another base"
        )
    try:
        with META:
            base = LlavaOnevisionForConditionalGeneration(copy.deepcopy(config)).eval()
    except ValueError as error:  # sizes that contradict each other
        reason = " ".join(str(error).split())
        raise BaseConfigError(f"the base's config makes no model ({reason}); give another base") from error
    # Plain matrix products: a fused attention that the counter does not know would count nothing.
    base.set_attn_implementation("eager")
    return base


def _vision_flops(base: LlavaOnevisionForConditionalGeneration) -> int:
    """FLOPs of pixels to visual tokens: tower and projector, for all key frames."""
    size = base.config.vision_config.image_size
    pixels = torch.empty(1, NUM_KEY_FRAMES, 3, size, size, device=META)
    return _flops(lambda: base.model.get_video_features(pixels))


def _prefill_flops(base: LlavaOnevisionForConditionalGeneration, num_tokens: int) -> int:
    """FLOPs of the LLM over one sequence, visual tokens already in place; LoRA's too where it wraps the base."""
    embeddings = torch.empty(1, num_tokens, base.config.text_config.hidden_size, device=META)
    # Without a mask transformers looks into the positions, which have no values here.
    mask = torch.ones(1, num_tokens, device=META)
    return _flops(
        lambda: base(inputs_embeds=embeddings, attention_mask=mask, logits_to_keep=1, use_cache=False)
    )


def _lora_cost(
    base: LlavaOnevisionForConditionalGeneration, settings: LoraSettings, num_tokens: int, without: Cost
) -> Cost:
    """Cost of the adapters beside the LLM's own, `without`. Wraps the base's layers in place."""
    with META:
        wrapped = add_lora(base, settings, LlavaOnevisionFamily.lora_targets).eval()
    parameters = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    return Cost(parameters, _prefill_flops(base, num_tokens) - without.flops)


def _flops(forward: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward()
    return int(counter.get_total_flops())


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
