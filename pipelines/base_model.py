"""Loading the base: the frozen video LLM and its tokenizer, by folder or hub id."""

from __future__ import annotations

from typing import Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from pipelines.errors import PipelineError

# What transformers raises for names and files that do not fit.
_UNUSABLE = (OSError, ValueError)
_REMEDY = "give a folder or hub id of a LLaVA-OneVision in the transformers layout"


def load_base(
    name: str, dtype: torch.dtype = torch.float32
) -> tuple[LlavaOnevisionForConditionalGeneration, PreTrainedTokenizerBase]:
    """The base and its tokenizer. Raises PipelineError when there is no such checkpoint."""
    base = load_base_model(name, dtype)
    try:
        return base, AutoTokenizer.from_pretrained(name)
    except _UNUSABLE as error:
        raise PipelineError(f"no tokenizer at {name!r} ({_first_line(error)}); {_REMEDY}") from error


def load_base_model(
    name: str, dtype: torch.dtype | Literal["auto"] = torch.float32
) -> LlavaOnevisionForConditionalGeneration:
    """The base without a tokenizer; dtype "auto" is that of its files.

    Raises PipelineError when there is none, or when its files lack weights, which transformers would draw anew.
    """
    hide_weight_bars()
    try:
        base, loading = LlavaOnevisionForConditionalGeneration.from_pretrained(
            name, dtype=dtype, output_loading_info=True
        )
    except _UNUSABLE as error:
        raise PipelineError(f"no base model at {name!r} ({_first_line(error)}); {_REMEDY}") from error
    missing = sorted(loading["missing_keys"])
    if missing:
        raise PipelineError(
            f"the files of base {name!r} lack {len(missing)} weights ({missing[0]}, ...); {_REMEDY}"
        )
    return base


def load_base_config(name: str) -> LlavaOnevisionConfig:
    """The base's configuration alone, without weights or tokenizer.

    Raises PipelineError when there is none, or it is that of another kind of model.
    """
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (*_UNUSABLE, StrictDataclassError) as error:
        raise PipelineError(f"no base's config.json at {name!r} ({_first_line(error)}); {_REMEDY}") from error
    if not isinstance(config, LlavaOnevisionConfig):
        raise PipelineError(
            f"{name!r} is a model of the kind {config.model_type!r}, not llava_onevision; give another base"
        )
    return config


def hide_weight_bars() -> None:
    """Turn off the bars that transformers draws over ours while it reads and writes weights."""
    logging.disable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
