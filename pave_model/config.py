"""Settings of a patch: what is trained beside the frozen base. Saved as JSON with every checkpoint.

`PatchConfig` is the patch's identity. `PatchExecution` says how it is computed here, and is never saved.
Configuration stops at the builder: the modules themselves take plain arguments.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

NewlinePosition = Literal["grid", "frame", "one_token", "no_token"]
TooLong = Literal["error", "truncate"]  # what becomes of a text longer than the LLM takes
ChannelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class FusionConfig(BaseModel):
    """Sizes of one channel's `FusionModule`; the defaults are those of the published patches.

    `side_dim` is the width of the side-channel tokens, `query_dim` that of the key-frame tokens before the
    projector, `output_dim` that of the LLM. `hidden_dim` must be a multiple of `num_heads`. `value_projection`
    "tied" uses the keys as values, "untied" gives values a projection of their own. `rotary` rotates queries and
    keys by their place in time and space; it needs heads of 128 channels and square grids of tokens.
    `time_radius` in seconds aligns the channel by time; None splits it evenly over the key frames. `first_token`
    leaves out the tokens of a time step before it: 1 is the class token of `dense`, which published patches skip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    side_dim: PositiveInt
    query_dim: PositiveInt
    output_dim: PositiveInt
    embed_dim: PositiveInt = 512
    hidden_dim: PositiveInt = 512
    num_heads: PositiveInt = 4
    num_layers: PositiveInt = 2
    value_projection: Literal["tied", "untied"] = "tied"
    rotary: bool = False
    time_radius: float | None = Field(default=None, ge=0)
    first_token: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _heads_divide_hidden_dim(self) -> "FusionConfig":
        if self.hidden_dim % self.num_heads:
            raise ValueError(f"hidden_dim {self.hidden_dim} must be a multiple of num_heads {self.num_heads}")
        if self.rotary and self.hidden_dim != 128 * self.num_heads:
            raise ValueError(f"rotary needs heads of 128 channels, not {self.hidden_dim} / {self.num_heads}")
        return self


class LoraSettings(BaseModel):
    """LoRA on the LLM's linear layers: W' = W + (alpha / r) B A. The defaults are the published ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    r: PositiveInt = 64
    alpha: PositiveInt = 16
    dropout: float = Field(default=0.05, ge=0, lt=1)


class PatchConfig(BaseModel):
    """Everything that is trained on top of one base.

    `base` is the base model's folder or hub id. An empty `channels` is the LoRA-only twin: the same training
    without any side channel. `lora=None` trains the fusion modules alone; with neither it is the bare base.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str = Field(min_length=1)
    channels: Mapping[ChannelName, FusionConfig] = Field(default_factory=dict)
    lora: LoraSettings | None = LoraSettings()
    newline: NewlinePosition = "grid"


class PatchExecution(BaseModel):
    """How a patch is computed, not what: the same numbers up to rounding.

    `attention` is one of the kernels of `pave_model.attention`, or "auto". `dtype` "bfloat16" computes the patch
    in mixed precision, its weights and the sum with the visual tokens stay float32; the published patches were
    evaluated in float32. `compile` compiles the fusion modules with torch.compile, each as one graph.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    attention: Literal["auto", "sdpa", "varlen", "flash_attention_2", "folded"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
