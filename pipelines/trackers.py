"""Trackers of training by the names that transformers' Trainer knows them by: tensorboard, wandb, mlflow and others."""

from __future__ import annotations

from collections.abc import Sequence

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from pipelines.errors import RunError

EVENT_FILES = "tensorboard"  # written by `training_log.EventFiles`, into the run folder


def check_trackers(names: Sequence[str]) -> None:
    """Raises RunError for a name that is not known, and for a tracker whose package is not installed."""
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
            raise RunError(f"there is no tracker {name!r}; give some of {known}")
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except (ImportError, RuntimeError) as error:
            raise RunError(
                f"tracker {name!r} cannot be used ({' '.join(str(error).split())}); "
                "install its package, or leave it out of `trackers`"
            ) from error
