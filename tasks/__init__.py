"""Datasets and benchmarks: one file each, from raw annotations to samples, instructions and scores."""

from importlib import import_module
from typing import Any

from tasks.instruction import TaskError

TASKS = {"sidecue": "tasks.sidecue"}


def task_module(name: str) -> Any:
    """The module of a task; it has ``DATASET`` and ``load(root)``. Raises TaskError, naming the known tasks."""
    if name not in TASKS:
        raise TaskError(f"there is no task {name!r}; choose one of: {', '.join(sorted(TASKS))}")
    return import_module(TASKS[name])
