"""Loading the base: the frozen video LLM and its tokenizer, by folder or hub id."""

from __future__ import annotations

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


def load_base(
    name: str, dtype: torch.dtype = torch.float32
) -> tuple[LlavaOnevisionForConditionalGeneration, PreTrainedTokenizerBase]:
    """The base and its tokenizer. Raises PipelineError when there is no such checkpoint."""
    hide_weight_bars()
    try:
        base = LlavaOnevisionForConditionalGeneration.from_pretrained(name, dtype=dtype)
        return base, AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:  # what transformers raises for names and files that do not fit
        reason = str(error).strip().split("\n")[0]
        raise PipelineError(
            f"no base model and tokenizer at {name!r} ({reason}); give a folder or hub id of a LLaVA-OneVision in the "
            "transformers layout"
        ) from error


def load_base_config(name: str) -> LlavaOnevisionConfig:
    """The base's configuration alone, without weights or tokenizer.

    Raises PipelineError when there is none, or it is that of another kind of model.
    """
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, StrictDataclassError) as error:  # no file or JSON; unknown kind; wrong types
        reason = str(error).strip().split("\n")[0]
        raise PipelineError(
            f"no base's config.json at {name!r} ({reason}); give a folder or hub id of a LLaVA-OneVision in the "
            "transformers layout"
        ) from error
    if not isinstance(config, LlavaOnevisionConfig):
        raise PipelineError(
            f"{name!r} is a model of the kind {config.model_type!r}, not llava_onevision; give another base"
        )
    return config


def hide_weight_bars() -> None:
    """Turn off the bars that transformers draws over ours while it reads and writes weights."""
    logging.disable_progress_bar()
