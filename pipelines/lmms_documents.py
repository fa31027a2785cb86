"""Which sample a document of lmms-eval is about: the ids that `pave prepare` gives to the same benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pipelines.errors import PipelineError
from tasks.mvbench import VIDEO_FOLDERS

Benchmark: TypeAlias = Literal["videomme", "mvbench", "mlvu"]

_FIELDS: dict[Benchmark, str] = {"videomme": "videoID", "mvbench": "video", "mlvu": "video_name"}


def sample_id(benchmark: Benchmark, document: Mapping[str, Any], task: str) -> str:
    """The sample of `document`, a row of the lmms-eval task named `task`.

    An MVBench id begins with the folder of its kind of question, which only the task's name tells.
    Raises PipelineError for a document of another benchmark, and for a task of no or of several kinds.
    """
    field = _FIELDS[benchmark]
    value = document.get(field)
    if not isinstance(value, str) or not value:
        raise PipelineError(
            f"a document of task {task!r} has no {field!r}, as those of {benchmark} have; "
            f"it has {sorted(document)}; give the dataset that fits the task"
        )
    return f"{_mvbench_folder(task)}/{value}" if benchmark == "mvbench" else value


def _mvbench_folder(task: str) -> str:
    kinds = [kind for kind in VIDEO_FOLDERS if kind in task]
    if len(kinds) != 1:
        raise PipelineError(
            f"the name of task {task!r} must hold one kind of MVBench, such as mvbench_action_sequence; "
            f"the kinds: {', '.join(VIDEO_FOLDERS)}"
        )
    return VIDEO_FOLDERS[kinds[0]]
