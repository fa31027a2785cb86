"""A scores.json, read with what belongs to it: its predictions, and the run.json of its run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import PipelineError, RunError
from pipelines.prediction_file import PREDICTIONS_FILE, SCORES_FILE
from pipelines.run_folder import read_run

_FIELDS = {"config", "report", "base", "snapshot", "feature_sets", "code"}


@dataclass(frozen=True)
class ScoreFile:
    """A scores.json: its path and content, and the run.json of its run, where it has one that can be read."""

    path: Path
    content: Mapping[str, Any]
    run: Mapping[str, Any] | None

    @property
    def predictions(self) -> Path:
        """The answered items, which are beside it."""
        return self.path.with_name(PREDICTIONS_FILE)


def read_score(path: Path) -> ScoreFile:
    """A scores.json of `pave evaluate`, or the folder that holds it. Raises PipelineError where it is none."""
    path = path / SCORES_FILE if path.is_dir() else path
    try:
        content = json.loads(path.read_text())
        lacking = _FIELDS - content.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise PipelineError(
            f"{path} cannot be read ({error}); give a scores.json of `pave evaluate`"
        ) from error
    if lacking:
        raise PipelineError(
            f"{path} is no score file, it lacks {', '.join(sorted(lacking))}; give a scores.json of `pave evaluate`"
        )
    run = None
    if content.get("run") is not None:
        try:
            run = read_run(Path(content["run"]))
        except RunError:
            run = None  # told as a broken link
    return ScoreFile(path, content, run)


def answered_samples(score: ScoreFile) -> set[str]:
    """The samples of the answered items. Raises PipelineError where the predictions are gone or damaged."""
    try:
        return {json.loads(line)["sample_id"] for line in score.predictions.read_text().splitlines()}
    except (OSError, ValueError, KeyError) as error:
        raise PipelineError(f"{score.predictions} cannot be read ({error!r}); restore it") from error
