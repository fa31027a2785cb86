"""Datasets and benchmarks: one file each, from raw annotations to samples, instructions and scores."""

from importlib import import_module
from typing import Any

from tasks.instruction import TaskError

TASKS = {
    "avqa": "tasks.avqa",
    "avsd": "tasks.avsd",
    "egoexo4d": "tasks.egoexo4d",
    "llava_video_178k": "tasks.llava_video_178k",
    "mlvu": "tasks.mlvu",
    "music_avqa": "tasks.music_avqa",
    "mvbench": "tasks.mvbench",
    "scanqa": "tasks.scanqa",
    "sidecue": "tasks.sidecue",
    "sqa3d": "tasks.sqa3d",
    "videomme": "tasks.videomme",
}


def task_module(name: str) -> Any:
    """The module of a task.

    It has ``DATASET`` and ``load(root)``; those of published datasets also ``CHANNELS``, ``SOURCE`` and
    ``LICENCE``. For evaluation it has

    - ``score(instructions, replies, allow_missing_metrics=False) -> TaskScores``, by the published rule, where None is
      a reply not made
    - ``HEADLINE``, the metric that stands for all; metrics times ``TO_PERCENT`` are percents, as papers print them
    - ``EVALUATED_SPLIT`` and ``MAX_NEW_TOKENS``, what the published numbers were made with
    - ``EVALUATION_SKIPS_WITHOUT``, what the published evaluation leaves an item out for lacking, where there is one

    Raises TaskError, naming the known tasks.
    """
    if name not in TASKS:
        raise TaskError(f"there is no task {name!r}; choose one of: {', '.join(sorted(TASKS))}")
    return import_module(TASKS[name])
