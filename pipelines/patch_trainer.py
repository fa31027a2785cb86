"""transformers' Trainer for a patch: checkpoints without the base, and a learning rate for each of its two parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pave_model.checkpoint import read_checkpoint
from pave_model.patched_model import PatchedVideoLLM
from pipelines.errors import RunError
from pipelines.masked_repeats import FilledOrder
from pipelines.metered_trainer import MeteredTrainer
from pipelines.training_checkpoints import complete_checkpoint

CHECKPOINT_PATCH = "patch"


class PatchTrainer(MeteredTrainer):
    """Trains a `PatchedVideoLLM`; arguments as for `MeteredTrainer`.

    A checkpoint holds the patch in a folder of its own, beside the state of optimizer, schedule and random
    numbers that the Trainer writes; resuming from it goes on bit for bit. It is complete once it is marked so
    (`training_checkpoints`); older ones are then removed. `patch_learning_rate` and `lora_learning_rate` replace the
    common one for the fusion modules and for LoRA.

    Several processes step on the same examples as one with the same global batch; their dataset must mask repeats
    (`masked_repeats`).
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
        self.add_callback(_LogWithCheckpoint())
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

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The loss of a batch, without the logits of unlabelled positions."""
        return super().compute_loss(model, {**inputs, "loss_alone": True}, *args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        if self.args.world_size == 1:
            return super()._get_train_sampler(train_dataset)
        return FilledOrder(self._order, self.get_total_train_batch_size(self.args))

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        # The Trainer's state is there before the random numbers of the other processes may be.
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            complete_checkpoint(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self._patched().save_pretrained(folder / CHECKPOINT_PATCH)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint) / CHECKPOINT_PATCH
        files, model = read_checkpoint(folder), self._patched()
        if files.record.base_fingerprint != model.base_fingerprint:
            raise RunError(
                f"the base {model.patch_config.base!r} is not the one that {resume_from_checkpoint} was trained on; "
                f"bring that back, or remove the folder {Path(resume_from_checkpoint).parent.parent}"
            )
        model.load_tensors(folder, files)

    def _patched(self) -> PatchedVideoLLM:
        model = self.accelerator.unwrap_model(self.model)
        assert isinstance(model, PatchedVideoLLM)
        return model


class _LogWithCheckpoint(TrainerCallback):  # type: ignore[misc]
    """Logs at each checkpoint, so that a resumed run's next entry averages over the same steps."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        control.should_log = control.should_log or control.should_save
