"""The log of a training: JSON lines, TensorBoard event files, the progress, and a picture of the curves.

An entry holds the step, the loss (mean of the steps since the last entry, nats per trained token), gradient norm,
learning rates, and the numbers of `StepMeter.read`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipelines.plot_style import drawn
from pipelines.progress import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Entry = dict[str, float]


class TrainingLog(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Writes entries as JSON lines and feeds the progress.

    A resumed training goes on behind the last entry of its checkpoint: later ones are of steps that are done again.
    Only the first process writes; all keep `entries`.
    """

    def __init__(self, path: Path, stage: Progress) -> None:
        self.entries: list[Entry] = []
        self._path = path
        self._stage = stage
        self._note = ""

    @property
    def losses(self) -> list[tuple[int, float]]:
        """Step and loss of each entry."""
        return [(int(entry["step"]), entry["loss"]) for entry in self.entries]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.entries = [entry for entry in read_log(self._path) if entry["step"] <= state.global_step]
        if state.is_world_process_zero:
            temporary = self._path.with_name(f".{self._path.name}.part")
            temporary.write_text("".join(f"{json.dumps(entry)}\n" for entry in self.entries))
            os.replace(temporary, self._path)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._stage.update(state.global_step, state.max_steps, note=self._note)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Entry | None = None,
        **_: Any,
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        entry = {"step": state.global_step, **logs}
        self.entries.append(entry)
        self._note = (
            f"loss {entry['loss']:.3f}, {entry['examples_per_s']:.3g} examples/s, "
            f"{entry['data_wait_share']:.1%} waiting for data"
        )
        self._stage.update(state.global_step, state.max_steps, note=self._note)
        if state.is_world_process_zero:
            with self._path.open("a") as file:
                file.write(f"{json.dumps(entry)}\n")


class EnoughLoss(TrainerCallback):  # type: ignore[misc]
    """Ends the training at the first entry whose loss is below `loss`; all processes see the same loss."""

    def __init__(self, loss: float) -> None:
        self._loss = loss

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Entry | None = None,
        **_: Any,
    ) -> None:
        if logs is not None and logs.get("loss", self._loss) < self._loss:
            control.should_training_stop = True


class EventFiles(TrainerCallback):  # type: ignore[misc]
    """Writes entries as event files, for `tensorboard --logdir FOLDER`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.is_world_process_zero:
            from torch.utils.tensorboard import SummaryWriter

            # where it resumes, TensorBoard hides what an earlier try wrote of these steps
            again = state.global_step + 1 if state.global_step else None
            self._writer = SummaryWriter(str(self._folder), purge_step=again)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Entry | None = None,
        **_: Any,
    ) -> None:
        if self._writer is None or logs is None or "loss" not in logs:
            return
        for name, value in logs.items():
            self._writer.add_scalar(f"train/{name}", value, state.global_step)
        self._writer.flush()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def read_log(path: Path) -> list[Entry]:
    """The entries of `metrics.jsonl`; none without the file. A last line that was cut off is left out."""
    if not path.exists():
        return []
    *whole, _ = path.read_text().split("\n")
    return [json.loads(line) for line in whole]


def write_curves(entries: Sequence[Entry], path: Path, title: str) -> None:
    """Plot loss, learning rates, throughput and data wait over the steps, as PNG."""
    steps = [entry["step"] for entry in entries]
    rates = sorted({name for entry in entries for name in entry if name.endswith("_learning_rate")})
    panels = {
        "loss (nats per trained token)": {"loss": 1.0},
        "learning rate": dict.fromkeys(rates or ["learning_rate"], 1.0),
        "examples per second": {"examples_per_s": 1.0},
        "waiting for data (%)": {"data_wait_share": 100.0},
    }
    with drawn(path, 10, 6) as figure:
        figure.suptitle(f"training, {title}")
        for axes, (label, curves) in zip(
            figure.subplots(2, 2, sharex=True).flat, panels.items(), strict=True
        ):
            for name, scale in curves.items():
                values = [scale * entry.get(name, float("nan")) for entry in entries]
                axes.plot(steps, values, label=name.removesuffix("_learning_rate"))
            axes.set(xlabel="optimizer step", ylabel=label)
            axes.set_ylim(bottom=0)
            if len(curves) > 1:
                axes.legend()
