"""The patched video LLM: a frozen base, LoRA on its LLM, and one fusion module per side channel.

The base is transformers' own class, unchanged. Visual tokens enter already encoded: the sum of the frozen
visual tokens and every channel's update is handed over as `mm_encoder_outputs`. What differs between families of
bases is in `base_family` and the files that it names.

Shapes: B samples, L positions (with one placeholder per video token), F key frames, S tokens of a key frame,
C_v width of the vision tower, D width of the LLM, N video tokens with newlines; T_pad steps, S_k tokens per
step and C_s width of a side channel.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, Unpack, cast

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from pydantic import JsonValue
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from pave_model.base_family import family_of
from pave_model.base_fingerprint import base_fingerprint
from pave_model.checkpoint import PatchFiles, PatchRecord, read_checkpoint, write_checkpoint
from pave_model.config import PatchConfig, PatchExecution
from pave_model.errors import BaseMismatchError, CheckpointError, PatchInputError
from pave_model.fusion import FusionModule
from pave_model.lora import add_lora
from pave_model.patch_update import add_updates
from pave_model.sequence_assembly import labelled_logits
from pave_model.video_inputs import VideoInputs, check_placeholders, check_video_inputs

# Each channel counts its own graphs: one a structure of batches (ragged, resampled, partly absent, ...).
COMPILE_SETTINGS: dict[str, Any] = {
    "fullgraph": True,
    "dynamic": True,
    "isolate_recompiles": True,
    "recompile_limit": 32,
}


class PatchedVideoLLM(nn.Module):
    """A frozen base with a patch. Only LoRA and the fusion modules are trainable.

    The base given is modified: it is frozen and its LLM's linear layers are wrapped by LoRA, so a base serves
    one patched model at a time; `load_patch` puts another patch on it. The fusion modules are float32 on the
    base's device; fresh weights are drawn from torch's global random state. Trains under `transformers.Trainer`.

    Raises `BaseMismatchError` when LoRA already wraps the base, or the base is of no known family.
    """

    main_input_name = "input_ids"
    accepts_loss_kwargs = True  # the Trainer then passes `num_items_in_batch`

    def __init__(
        self, base: PreTrainedModel, config: PatchConfig, execution: PatchExecution | None = None
    ) -> None:
        super().__init__()
        self.family = family_of(base)
        self.execution = execution or PatchExecution()
        self.base_fingerprint = base_fingerprint(base)
        self.lora_merged = False
        # What the Trainer asks in order to count the label positions of a shifted loss.
        self.loss_type = base.loss_type
        base.requires_grad_(False)
        self._put_patch(base, config)

    def _put_patch(self, base: PreTrainedModel, config: PatchConfig) -> None:
        """Fresh LoRA and fusion modules on a plain base."""
        self.patch_config = config
        self.llm: nn.Module = base
        if config.lora is not None:
            self.llm = add_lora(base, config.lora, self.family.lora_targets)
        attention = self.execution.attention
        self.patch = nn.ModuleDict(
            {
                name: FusionModule(**fusion.model_dump(), attention=attention)
                for name, fusion in config.channels.items()
            }
        ).to(base.device)
        if self.execution.compile:
            for fusion in self.patch.values():
                fusion.compile(**COMPILE_SETTINGS)

    @property
    def base(self) -> PreTrainedModel:
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
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        loss_alone: bool = False,
        **video: Unpack[VideoInputs],
    ) -> ModelOutput:
        """Logits of every position (B, L, V) and, with labels, the next-token loss.

        `input_ids`, `attention_mask`, `labels` (B, L) int64: N placeholder ids per sample, padded on either
        side. Key frames and side channels: see `VideoInputs`. The loss is averaged over the unmasked labels, or
        over `num_items_in_batch`, those of all batches of one optimizer step. With `loss_alone` the logits are
        only those that the loss needs, (unmasked labels, V): most positions of a training example are video.

        Raises `PatchInputError`, which names sample and channel, when the inputs do not fit the model or each
        other.
        """
        inputs = self._base_inputs(input_ids, attention_mask, video)
        if loss_alone:
            assert labels is not None, "a loss needs labels"
            inputs |= labelled_logits(labels)
        return self.base(
            input_ids=input_ids,
            attention_mask=attention_mask,
            labels=labels,
            num_items_in_batch=num_items_in_batch,
            use_cache=False,
            **inputs,
        )

    @torch.no_grad()
    def generate(self, input_ids: Tensor, attention_mask: Tensor, **inputs: Any) -> Tensor:
        """Continue prompts, padded on the left, and return the new tokens only, (B, new) int64.

        Tensors as for `forward`; all other keyword arguments are those of transformers' `generate`. Samples that
        end early are filled with the pad token. Raises `PatchInputError` as `forward`, and for a prompt that is
        padded on the right.
        """
        given = {name: inputs.pop(name) for name in VideoInputs.__annotations__ if name in inputs}
        video = cast(VideoInputs, given)
        if not bool(attention_mask[:, -1].all()):
            raise PatchInputError("a prompt is padded on the right; pad prompts on the left to generate")
        sequences: Tensor = self.base.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            **self._base_inputs(input_ids, attention_mask, video),
            **inputs,
        )
        return sequences[:, input_ids.shape[1] :]

    def _base_inputs(self, input_ids: Tensor, attention_mask: Tensor, video: VideoInputs) -> dict[str, Any]:
        """The arguments of the base that carry the patched video."""
        tokens = self._patched_tokens(video)
        sequence = self.family.video_sequence(self.base, tokens, self.patch_config.newline)
        check_placeholders(
            input_ids,
            attention_mask,
            self.config.video_token_id,
            sequence.shape[1],
            self.config.text_config.max_position_embeddings,
            video.get("sample_ids"),
        )
        num_frames, num_tokens = tokens.shape[1:3]
        times = video.get("frame_times")
        return self.family.inputs(self.base, input_ids, (num_frames, num_tokens), sequence, times)

    def video_tokens(self, **video: Unpack[VideoInputs]) -> Tensor:
        """Patched visual tokens with newlines, (B, N, D), in the dtype of the base's embeddings.

        Errors as for `forward`.
        """
        tokens = self._patched_tokens(video)
        return self.family.video_sequence(self.base, tokens, self.patch_config.newline)

    def _patched_tokens(self, video: VideoInputs) -> Tensor:
        """Visual tokens plus the updates of all channels, (B, F, S, D)."""
        check_video_inputs(video, list(self.patch), self.config.text_config.hidden_size)
        if "pixels" in video:
            with torch.no_grad():
                queries, visual = self.family.key_frame_tokens(self.base, video["pixels"])
        else:
            queries, visual = video["queries"], video["visual"]
        tokens = add_updates(self.patch, queries, visual, video, self.execution.dtype)
        return tokens.to(self.base.get_input_embeddings().weight.dtype)

    def num_video_tokens(self, num_frames: int, tokens_per_frame: int) -> int:
        """How many placeholder ids a prompt needs (N) for F key frames of S tokens."""
        return self.family.num_video_tokens(num_frames, tokens_per_frame, self.patch_config.newline)

    def activation_checkpointing_enable(self, **kwargs: Any) -> None:
        """Recompute the LLM's activations in the backward pass; arguments as for transformers' models."""
        self.base.activation_checkpointing_enable(**kwargs)

    def activation_checkpointing_disable(self) -> None:
        """Undo `activation_checkpointing_enable`."""
        self.base.activation_checkpointing_disable()

    def merge_lora(self) -> None:
        """Add LoRA to the base's weights: the same answers without LoRA's extra products.

        The base is then another one, so the model can neither be saved nor take another patch; keep the folder
        that it was loaded from.
        """
        if isinstance(self.llm, PeftModel):
            self.llm = self.llm.merge_and_unload()
            self.lora_merged = True

    def load_patch(self, folder: str | Path) -> None:
        """Replace the patch by a saved one that was trained on the same base, and leave the base in place.

        Module parameters are new objects: make optimizers afterwards. Train and eval mode stay as they are.
        Raises `BaseMismatchError` when the saved patch belongs to another base, `CheckpointError` when the
        folder is missing, incomplete or damaged, or LoRA was merged. After an error the old patch is in place.
        """
        self._check_not_merged("take another patch")
        files = read_checkpoint(Path(folder))
        _check_base(Path(folder), files.record, self.base_fingerprint)
        current = self._files()
        try:
            self._replace_patch(Path(folder), files)
        except CheckpointError:
            self._replace_patch(Path(folder), current)
            raise

    def load_fusion(self, channel: str, folder: str | Path) -> None:
        """Start the fusion module of `channel` from that of a saved patch, which may have other channels and LoRA.

        Raises `BaseMismatchError` when the saved patch belongs to another base, and `CheckpointError` when the folder
        is missing, incomplete or damaged, or has no such module of the same sizes.
        """
        folder = Path(folder)
        files = read_checkpoint(folder)
        _check_base(folder, files.record, self.base_fingerprint)
        prefix = f"{channel}."
        tensors = {
            name.removeprefix(prefix): tensor
            for name, tensor in files.patch_tensors.items()
            if name.startswith(prefix)
        }
        module = self.patch[channel]
        if {name: tensor.shape for name, tensor in module.state_dict().items()} != {
            name: tensor.shape for name, tensor in tensors.items()
        }:
            raise CheckpointError(
                f"{folder} has no fusion module of channel '{channel}' with the sizes that are trained here; "
                "start from a patch of this channel, and give both the same sizes"
            )
        module.load_state_dict(tensors)

    def _replace_patch(self, folder: Path, files: PatchFiles) -> None:
        base = self.llm.unload() if isinstance(self.llm, PeftModel) else self.llm
        self._put_patch(base, files.record.patch)
        self.load_tensors(folder, files)
        self.train(self.training)

    def save_pretrained(
        self,
        folder: str | Path,
        lineage: Mapping[str, JsonValue] | None = None,
        licences: Mapping[str, str] | None = None,
    ) -> None:
        """Save the patch, without the base, as a folder that appears complete or not at all.

        `lineage` (JSON) and `licences` (of each channel's encoder) go into config.json and the model card. An
        earlier patch in the folder is replaced. Raises `CheckpointError` when the folder holds other files or
        cannot be written, or LoRA was merged.
        """
        self._check_not_merged("be saved")
        adapter_config = self.llm.peft_config["default"] if isinstance(self.llm, PeftModel) else None
        write_checkpoint(Path(folder).resolve(), self._files(lineage, licences), adapter_config)

    def _files(
        self,
        lineage: Mapping[str, JsonValue] | None = None,
        licences: Mapping[str, str] | None = None,
    ) -> PatchFiles:
        """The present patch as files hold it; tensors are not copied."""
        record = PatchRecord(
            patch=self.patch_config,
            base_fingerprint=self.base_fingerprint,
            lineage=lineage or {},
            licences=licences or {},
        )
        adapter = get_peft_model_state_dict(self.llm) if isinstance(self.llm, PeftModel) else {}
        return PatchFiles(record, self.patch.state_dict(), adapter)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        base: PreTrainedModel | None = None,
        execution: PatchExecution | None = None,
    ) -> Self:
        """Load a saved patch, in eval mode, onto `base` or onto the base that its config names.

        Raises `BaseMismatchError` when the base is not the one the patch was trained on, and
        `CheckpointError` when the folder is missing, incomplete or damaged.
        """
        folder = Path(folder)
        files = read_checkpoint(folder)
        config = files.record.patch
        if base is None:
            base = AutoModelForImageTextToText.from_pretrained(config.base)
        _check_base(folder, files.record, base_fingerprint(base))
        model = cls(base, config, execution)
        model.load_tensors(folder, files)
        return model.eval()

    def load_tensors(self, folder: Path, files: PatchFiles) -> None:
        """Copy a checkpoint's tensors in place; `folder` is named in errors.

        Raises `CheckpointError` unless every name and shape fits.
        """
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

    def _check_not_merged(self, action: str) -> None:
        if self.lora_merged:
            raise CheckpointError(
                f"LoRA was merged into the base, so this model cannot {action}; load the patch again"
            )


def _check_base(folder: Path, record: PatchRecord, found: str) -> None:
    """Raise `BaseMismatchError` unless the patch in `folder` was trained on the base with fingerprint `found`."""
    if found != record.base_fingerprint:
        raise BaseMismatchError(
            f"{folder} was trained on base '{record.patch.base}' with fingerprint {record.base_fingerprint}, "
            f"but the given base has {found}; load it with that base"
        )
