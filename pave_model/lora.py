"""LoRA on the language model's linear layers, with the original release's choice of targets."""

import warnings

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from pave_model.config import LoraSettings


def add_lora(base: PreTrainedModel, settings: LoraSettings, targets: str) -> PeftModel:
    """Wrap the base's layers whose full names match the pattern `targets` in place; the peft model around it.

    Fresh LoRA changes no output: B starts at zero, A is drawn from torch's global random state. Afterwards
    only the LoRA tensors require gradients; they are float32 whatever the base's dtype.
    """
    lora_config = LoraConfig(
        target_modules=targets,
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property under its old name; no caller can change that.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        return get_peft_model(base, lora_config)
