"""Which samples of a known dataset the original release's feature files belong to."""

from __future__ import annotations

from pathlib import Path

from pipelines.errors import PipelineError
from tasks import task_module


def released_ids(task: str, root: Path) -> dict[str, tuple[str, ...]]:
    """Path of each feature file, or of a take's folder, below the release's folder -> the samples that use it.

    Args: root: where the official files of the task are.

    Raises TaskError, as the task's `load`, and PipelineError for a task whose features the release does not name.
    """
    module = task_module(task)
    if not hasattr(module, "released_feature"):
        raise PipelineError(f"the release has no file names for {task}; give --dataset and --id-pattern")
    found: dict[str, tuple[str, ...]] = {}
    for sample in module.load(root)[0]:
        path = module.released_feature(sample)
        found[path] = (*found.get(path, ()), sample.sample_id)
    return found
