"""What the patch needs to know of a family of video LLMs, and which family a base belongs to.

The patch itself knows no architecture: it turns key-frame tokens into an update of the visual tokens. A family
says where these two come from and how the sum gets back into the model. A further family is one file with a
class like `LlavaOnevisionFamily`, and one line in `FAMILIES`.

Shapes: B samples, F key frames, S tokens of a key frame, C_v width of the vision tower, D width of the LLM,
N video tokens of a sample, L positions.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from pave_model.config import NewlinePosition
from pave_model.errors import BaseMismatchError


class BaseFamily(Protocol):
    """Functions of a family; `base` is the conditional-generation model of transformers."""

    # The seven projections of every decoder layer. Full names, because bare suffixes such as `q_proj` would
    # match the vision tower as well.
    lora_targets: str

    def identity(self, config: PreTrainedConfig) -> list[list[Any]]:
        """Settings that change what the model computes and that no tensor shape shows (JSON values)."""

    def key_frame_tokens(self, base: PreTrainedModel, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Preprocessed key frames (B, F, 3, H, W) to query tokens (B, F, S, C_v) and visual tokens (B, F, S, D).

        Queries are the vision tower's tokens before the projector, visual tokens those that the LLM reads. A tower
        that joins frames gives fewer steps than frames; then F of all that follows, times too, counts the steps.
        """

    def num_video_tokens(self, num_frames: int, tokens_per_frame: int, newline: NewlinePosition) -> int:
        """How many placeholder ids stand for F key frames of S tokens."""

    def video_sequence(self, base: PreTrainedModel, tokens: Tensor, newline: NewlinePosition) -> Tensor:
        """Frame tokens (B, F, S, D) to the video's token sequence (B, N, D)."""

    def inputs(
        self,
        base: PreTrainedModel,
        input_ids: Tensor,
        frames: tuple[int, int],
        video: Tensor,
        times: Tensor | None,
    ) -> dict[str, Any]:
        """Arguments of the base's `forward` and `generate` that put `video` (B, N, D) at its placeholders.

        `input_ids` (B, L); `frames` is (F, S); `times` (B, F) seconds of the key frames, where known.
        """


# model_type of the config -> module and class; imported when such a base comes.
FAMILIES = {
    "llava_onevision": ("pave_model.llava_onevision_base", "LlavaOnevisionFamily"),
    "qwen2_5_vl": ("pave_model.qwen2_5_vl_base", "Qwen25VLFamily"),
}


def family_of(base: PreTrainedModel) -> BaseFamily:
    """The family of a base. Raises `BaseMismatchError` for one that the patch does not know."""
    kind = base.config.model_type
    if kind not in FAMILIES:
        raise BaseMismatchError(
            f"a base of type '{kind}' cannot be patched; use one of {', '.join(FAMILIES)}, "
            "or add its family (pave_model/base_family.py)"
        )
    module, name = FAMILIES[kind]
    family: BaseFamily = getattr(importlib.import_module(module), name)()
    return family
