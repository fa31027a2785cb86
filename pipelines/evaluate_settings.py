"""From what `pave evaluate` is given, a recipe or a run, to the settings of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.config import EvaluateConfig, TrainConfig, checked, read_yaml
from pipelines.errors import PipelineError
from pipelines.run_folder import read_run
from tasks import TASKS, exact_answers, task_module


def evaluation_settings(target: Path | None, run: Path | None, split: str | None) -> dict[str, Any]:
    """The fields of an `EvaluateConfig` that follow from the arguments; options may replace them.

    Args:
        target: a run folder; the YAML file of an evaluation; or that of a training, which stands for its run folder
            and whose published numbers are then taken, not those that the run was trained with.
        run: a run folder, instead of the target or of the one in the recipe.
        split: None for the split that the task's published numbers are of.

    Raises PipelineError for a recipe that cannot be read or two runs, RunError for an unfinished run.
    """
    if target is not None and target.is_dir():
        if run is not None:
            raise PipelineError(f"{target} is a run folder, and --run names {run}; give one of them")
        return _of_run(target, split)
    if target is None:
        return {} if run is None else _of_run(run, split)
    values = read_yaml(target)
    if not _is_training(values):
        return values if run is None else {**values, "run": run}
    recipe = checked(TrainConfig, values, str(target))
    return {**_of_run(run or recipe.out, split), "published": recipe.published}


def _is_training(values: dict[str, Any]) -> bool:
    """Whether a recipe has settings that only a training has."""
    return bool(values.keys() & (TrainConfig.model_fields.keys() - EvaluateConfig.model_fields.keys()))


def _of_run(folder: Path, split: str | None) -> dict[str, Any]:
    """The data of the training, pinned to its snapshot, on the split to evaluate."""
    run = read_run(folder)
    dataset = run["feature_sets"]["frames"]["name"].split("/")[0]
    task = task_module(dataset) if dataset in TASKS else exact_answers
    split = split or task.EVALUATED_SPLIT
    data = {**run["config"]["data"], "snapshot": run["report"]["snapshot"], "split": split}
    return {"run": folder, "data": data, "out": folder / f"scores-{split}"}
