"""Two sets of predictions on the same items, compared item by item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipelines.errors import PipelineError
from pipelines.prediction_file import PredictionFile
from tasks.scoring import paired_difference


def compare_predictions(first: PredictionFile, second: PredictionFile, seed: int = 0) -> dict[str, Any]:
    """Every metric that both files have, over all shared items and by question type; and what is not shared.

    Raises PipelineError for different datasets, splits, questions or answers, and where nothing is shared.
    """
    _check_origins(first, second)
    shared = [name for name in first.items if name in second.items]
    if not shared:
        raise PipelineError(
            f"{first.path} and {second.path} have no item in common; give two evaluations of one split"
        )
    for name in shared:
        one, other = first.items[name], second.items[name]
        if (one.question, one.answer) != (other.question, other.answer):
            raise PipelineError(
                f"{name} has another question or answer in {second.path} than in {first.path}; "
                "evaluate both on the same instructions"
            )
    first_metrics, second_metrics = (
        list(dict.fromkeys(metric for name in shared for metric in file.items[name].scores))
        for file in (first, second)
    )
    types = sorted({first.items[name].question_type for name in shared})
    groups = {"all": shared} | {
        kind: [name for name in shared if first.items[name].question_type == kind]
        for kind in types
        if len(types) > 1
    }
    return {
        "A": str(first.path),
        "B": str(second.path),
        "dataset": first.dataset or second.dataset,
        "split": first.split or second.split,
        "origin_unknown": [str(file.path) for file in (first, second) if file.dataset is None],
        "comparisons": [
            _comparison(first, second, metric, group, members, seed)
            for metric in first_metrics
            if metric in second_metrics
            for group, names in groups.items()
            if (members := [name for name in names if _counts(first, second, name, metric)])
        ],
        "metrics_only_in_A": [metric for metric in first_metrics if metric not in second_metrics],
        "metrics_only_in_B": [metric for metric in second_metrics if metric not in first_metrics],
        "only_in_A": [name for name in first.items if name not in second.items],
        "only_in_B": [name for name in second.items if name not in first.items],
    }


def _check_origins(first: PredictionFile, second: PredictionFile) -> None:
    if first.dataset is None or second.dataset is None:
        return  # told in the result
    if (first.dataset, first.split) != (second.dataset, second.split):
        raise PipelineError(
            f"{first.path} is of {first.dataset}, split {first.split}, but {second.path} of {second.dataset}, "
            f"split {second.split}; give two evaluations of one split"
        )


def _counts(first: PredictionFile, second: PredictionFile, name: str, metric: str) -> bool:
    """Whether a file has a score of the item; a metric of one question type skips all others in both."""
    return any(file.items[name].scores.get(metric) is not None for file in (first, second))


def _comparison(
    first: PredictionFile,
    second: PredictionFile,
    metric: str,
    group: str,
    members: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """One metric on some items; those that one of the files has no score for are counted as `unscored`."""
    pairs = [
        (first.items[name].scores.get(metric), second.items[name].scores.get(metric)) for name in members
    ]
    scored = [(one, other) for one, other in pairs if one is not None and other is not None]
    content = {"metric": metric, "question": group, "n": len(scored), "unscored": len(pairs) - len(scored)}
    if not scored:
        return content
    ours, theirs = [one for one, _ in scored], [other for _, other in scored]
    found = asdict(paired_difference(ours, theirs, seed=seed))
    return {**content, "mean_A": sum(ours) / len(ours), "mean_B": sum(theirs) / len(theirs), **found}
