"""The patched video LLM: a frozen LLaVA-OneVision, LoRA on its LLM, and one fusion module per side channel.

The base is transformers' own class, unchanged. Visual tokens enter already encoded: the sum of the frozen
visual tokens and every channel's update is handed over as `mm_encoder_outputs`.

Shapes: B samples, L positions (with one placeholder per video token), F key frames, S tokens of a key frame,
C_v width of the vision tower, D width of the LLM, N video tokens with newlines; T_pad steps, S_k tokens per
step and C_s width of a side channel.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from pydantic import JsonValue
from torch import Tensor, nn
from transformers import LlavaOnevisionForConditionalGeneration, PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from pave_model.base_fingerprint import base_fingerprint
from pave_model.checkpoint import PatchFiles, PatchRecord, read_checkpoint, write_checkpoint
from pave_model.config import PatchConfig
from pave_model.errors import BaseMismatchError, CheckpointError, PatchInputError
from pave_model.fusion import FusionModule
from pave_model.lora import add_lora
from pave_model.video_tokens import num_video_tokens, place_newlines


class PatchedVideoLLM(nn.Module):
    """A frozen base with a patch. Only LoRA and the fusion modules are trainable.

    The base given is modified: it is frozen and its LLM's linear layers are wrapped by LoRA, so a base serves
    one patched model. The fusion modules are float32 on the base's device; fresh weights are drawn from
    torch's global random state. Trains under `transformers.Trainer`.

    Raises `BaseMismatchError` when LoRA already wraps the base.
    """

    main_input_name = "input_ids"
    accepts_loss_kwargs = True  # the Trainer then passes `num_items_in_batch`

    def __init__(self, base: LlavaOnevisionForConditionalGeneration, config: PatchConfig) -> None:
        super().__init__()
        self.patch_config = config
        self.base_fingerprint = base_fingerprint(base)
        # What the Trainer asks in order to count the label positions of a shifted loss.
        self.loss_type = base.loss_type
        base.requires_grad_(False)
        self.llm: nn.Module = base if config.lora is None else add_lora(base, config.lora)
        self.patch = nn.ModuleDict(
            {name: FusionModule(**fusion.model_dump()) for name, fusion in config.channels.items()}
        ).to(base.device)

    @property
    def base(self) -> LlavaOnevisionForConditionalGeneration:
        """The base model itself, LoRA layers in place."""
        return self.llm.get_base_model() if isinstance(self.llm, PeftModel) else self.llm

    @property
    def config(self) -> PreTrainedConfig:
        """The base's configuration, which the Trainer and its integrations ask for."""
        return self.base.config

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        queries: Tensor,
        visual: Tensor,
        side: Mapping[str, Tensor],
        side_lengths: Mapping[str, Tensor],
        side_times: Mapping[str, Tensor] | None = None,
        frame_times: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> ModelOutput:
        """Logits of every position and, with labels, the next-token loss.

        `input_ids`, `attention_mask`, `labels` (B, L) int64: N placeholder ids per sample, padded on either
        side. `queries` (B, F, S, C_v): key-frame tokens before the projector. `visual` (B, F, S, D): the same
        after projector and pooling. `side[channel]` (B, T_pad, S_k, C_s), of which `side_lengths[channel]`
        (B,) steps are valid; exactly the configured channels. The loss is averaged over the unmasked labels,
        or over `num_items_in_batch`, those of all batches of one optimizer step.

        Raises `PatchInputError` when the tensors do not fit the model or each other.
        """
        tokens = self.video_tokens(queries, visual, side, side_lengths, side_times, frame_times)
        self._check_placeholders(input_ids, tokens.shape[1])
        return self.base(
            input_ids=input_ids,
            attention_mask=attention_mask,
            labels=labels,
            mm_encoder_outputs={"video": BaseModelOutputWithPooling(pooler_output=tokens)},
            num_items_in_batch=num_items_in_batch,
            use_cache=False,
        )

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        queries: Tensor,
        visual: Tensor,
        side: Mapping[str, Tensor],
        side_lengths: Mapping[str, Tensor],
        side_times: Mapping[str, Tensor] | None = None,
        frame_times: Tensor | None = None,
        **generation_kwargs: Any,
    ) -> Tensor:
        """Continue prompts, padded on the left, and return the new tokens only, (B, new) int64.

        Tensors as for `forward`; `generation_kwargs` are those of transformers' `generate`. Samples that end
        early are filled with the pad token.
        """
        tokens = self.video_tokens(queries, visual, side, side_lengths, side_times, frame_times)
        self._check_placeholders(input_ids, tokens.shape[1])
        if not bool(attention_mask[:, -1].all()):
            raise PatchInputError("a prompt is padded on the right; pad prompts on the left to generate")
        sequences: Tensor = self.base.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            mm_encoder_outputs={"video": BaseModelOutputWithPooling(pooler_output=tokens)},
            **generation_kwargs,
        )
        return sequences[:, input_ids.shape[1] :]

    def video_tokens(
        self,
        queries: Tensor,
        visual: Tensor,
        side: Mapping[str, Tensor],
        side_lengths: Mapping[str, Tensor],
        side_times: Mapping[str, Tensor] | None = None,
        frame_times: Tensor | None = None,
    ) -> Tensor:
        """Patched visual tokens with newlines, (B, N, D), in the dtype of the base's embeddings.

        The patch and its sum with the visual tokens are computed in float32, under autocast too.
        """
        self._check_channels(queries, visual, side, side_lengths)
        tokens = visual.float()
        queries = queries.float()
        with torch.autocast(device_type=visual.device.type, enabled=False):
            for channel, fusion in self.patch.items():
                try:
                    step_times = None if side_times is None else side_times.get(channel)
                    tokens = tokens + fusion(
                        side[channel].float(), side_lengths[channel], queries, step_times, frame_times
                    )
                except PatchInputError as error:
                    raise PatchInputError(f"channel '{channel}': {error}") from error
        tokens = tokens.to(self.base.get_input_embeddings().weight.dtype)
        return place_newlines(tokens, self.base.model.image_newline, self.patch_config.newline)

    def num_video_tokens(self, num_frames: int, tokens_per_frame: int) -> int:
        """How many placeholder ids a prompt needs (N) for F key frames of S tokens."""
        return num_video_tokens(num_frames, tokens_per_frame, self.patch_config.newline)

    def activation_checkpointing_enable(self, **kwargs: Any) -> None:
        """Recompute the LLM's activations in the backward pass; arguments as for transformers' models."""
        self.base.activation_checkpointing_enable(**kwargs)

    def activation_checkpointing_disable(self) -> None:
        """Undo `activation_checkpointing_enable`."""
        self.base.activation_checkpointing_disable()

    def save_pretrained(self, folder: str | Path, lineage: Mapping[str, JsonValue] | None = None) -> None:
        """Save the patch, without the base, as a folder that appears complete or not at all.

        `lineage` (JSON) goes into config.json and the model card. An earlier patch in the folder is replaced.
        Raises `CheckpointError` when the folder holds other files or cannot be written.
        """
        files = PatchFiles(
            PatchRecord(
                patch=self.patch_config,
                base_fingerprint=self.base_fingerprint,
                lineage=lineage or {},
            ),
            self.patch.state_dict(),
            get_peft_model_state_dict(self.llm) if isinstance(self.llm, PeftModel) else {},
        )
        adapter_config = self.llm.peft_config["default"] if isinstance(self.llm, PeftModel) else None
        write_checkpoint(Path(folder).resolve(), files, adapter_config)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, base: LlavaOnevisionForConditionalGeneration | None = None
    ) -> Self:
        """Load a saved patch, in eval mode, onto `base` or onto the base that its config names.

        Raises `BaseMismatchError` when the base is not the one the patch was trained on, and
        `CheckpointError` when the folder is missing, incomplete or damaged.
        """
        folder = Path(folder)
        files = read_checkpoint(folder)
        config = files.record.patch
        if base is None:
            base = LlavaOnevisionForConditionalGeneration.from_pretrained(config.base)
        found = base_fingerprint(base)
        if found != files.record.base_fingerprint:
            raise BaseMismatchError(
                f"{folder} was trained on base '{config.base}' with fingerprint "
                f"{files.record.base_fingerprint}, but the given base has {found}; load it with that base"
            )
        model = cls(base, config)
        model._load_tensors(folder, files)
        return model.eval()

    def _load_tensors(self, folder: Path, files: PatchFiles) -> None:
        """Copy a checkpoint's tensors in place. Raises `CheckpointError` unless every name and shape fits."""
        expected = [(self.patch.state_dict(), files.patch_tensors)]
        if isinstance(self.llm, PeftModel):
            expected.append((get_peft_model_state_dict(self.llm), files.adapter_tensors))
        for ours, theirs in expected:
            for name in sorted(ours.keys() | theirs.keys()):
                if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape:
                    raise CheckpointError(
                        f"tensor '{name}' of {folder} does not fit its config.json; "
                        "save or copy the patch again"
                    )
        self.patch.load_state_dict(files.patch_tensors)
        if isinstance(self.llm, PeftModel):
            set_peft_model_state_dict(self.llm, dict(files.adapter_tensors))

    def _check_channels(
        self, queries: Tensor, visual: Tensor, side: Mapping[str, Tensor], side_lengths: Mapping[str, Tensor]
    ) -> None:
        configured = sorted(self.patch)
        if sorted(side) != configured or sorted(side_lengths) != configured:
            raise PatchInputError(
                f"side has channels {sorted(side)} and side_lengths {sorted(side_lengths)}, "
                f"but the patch has {configured}; pass exactly these"
            )
        hidden_size = self.config.text_config.hidden_size
        if visual.dim() != 4 or visual.shape != (*queries.shape[:3], hidden_size):
            raise PatchInputError(
                f"visual tokens have shape {tuple(visual.shape)} for queries {tuple(queries.shape)}; "
                f"pass both tensors of the same key frames, visual tokens as (B, F, S, {hidden_size})"
            )

    def _check_placeholders(self, input_ids: Tensor, num_tokens: int) -> None:
        found = (input_ids == self.config.video_token_id).sum(dim=1).tolist()
        for sample, count in enumerate(found):
            if count != num_tokens:
                raise PatchInputError(
                    f"sample {sample} of the batch has {count} video placeholder ids for {num_tokens} video "
                    "tokens; build its ids with num_video_tokens of this model, and do not truncate the video"
                )
