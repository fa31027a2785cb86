"""LoRA on the language model's linear layers, with the original release's choice of targets."""

import warnings

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlavaOnevisionForConditionalGeneration

from pave_model.config import LoraSettings

# The seven projections of every decoder layer. Full names, because bare suffixes such as `q_proj` would match
# the vision tower as well.
TARGET_PATTERN = r"model\.language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"


def add_lora(base: LlavaOnevisionForConditionalGeneration, settings: LoraSettings) -> PeftModel:
    """Wrap the base's target layers in place and return the peft model around it.

    Fresh LoRA changes no output: B starts at zero, A is drawn from torch's global random state. Afterwards
    only the LoRA tensors require gradients; they are float32 whatever the base's dtype.
    """
    lora_config = LoraConfig(
        target_modules=TARGET_PATTERN,
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
