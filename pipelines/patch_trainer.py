"""transformers' Trainer for a patch: checkpoints without the base, and a learning rate for each of its two parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pave_model.checkpoint import read_checkpoint
from pave_model.patched_model import PatchedVideoLLM
from pipelines.metered_trainer import MeteredTrainer

CHECKPOINT_PATCH = "patch"


class PatchTrainer(MeteredTrainer):
    """Trains a `PatchedVideoLLM`; arguments as for `MeteredTrainer`.

    A checkpoint holds the patch in a folder of its own, beside the state of optimizer, schedule and random
    numbers that the Trainer writes; resuming from it goes on bit for bit. `patch_learning_rate` and
    `lora_learning_rate` replace the common one for the fusion modules and for LoRA.
    """

    optimizer: torch.optim.Optimizer | None

    def __init__(
        self,
        *args: Any,
        patch_learning_rate: float | None = None,
        lora_learning_rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._rates = {"patch": patch_learning_rate, "lora": lora_learning_rate}

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The Trainer's optimizer, without weight decay on norms and biases, in groups with their own rates."""
        if self.optimizer is None:
            model = self.model if model is None else model
            decayed = set(self.get_decay_parameter_names(model))
            groups: dict[tuple[str, bool], list[torch.nn.Parameter]] = {}
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    part = "lora" if ".lora_" in name else "patch"
                    groups.setdefault((part, name in decayed), []).append(parameter)
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, model)
            optimizer: torch.optim.Optimizer = optimizer_class(
                [
                    {
                        "params": parameters,
                        "weight_decay": self.args.weight_decay if decay else 0.0,
                        "lr": self._rates[part] or self.args.learning_rate,
                        "part": part,
                    }
                    for (part, decay), parameters in groups.items()
                ],
                **settings,
            )
            self.optimizer = optimizer
        return self.optimizer

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self._patched().save_pretrained(folder / CHECKPOINT_PATCH)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint) / CHECKPOINT_PATCH
        self._patched().load_tensors(folder, read_checkpoint(folder))

    def _patched(self) -> PatchedVideoLLM:
        model = self.accelerator.unwrap_model(self.model)
        assert isinstance(model, PatchedVideoLLM)
        return model
