"""`pave compare`: two sets of predictions on the same items, paired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.prediction_file import PredictionFile

_FILE = click.Path(path_type=Path)
_HEADER = ("metric", "question", "n", "A", "B", "A - B", "95% interval", "A better", "B better", "tied")
_NUM_LISTED = 5


@click.command()
@click.argument("first", metavar="A.jsonl", type=_FILE)
@click.argument("second", metavar="B.jsonl", type=_FILE)
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="JSON, with every item that only one file has.")
def compare(first: Path, second: Path, seed: int, as_json: bool) -> None:
    """Compare the predictions.jsonl of two evaluations of one split, item by item.

    Tells how much better A is than B, the bootstrap 95% interval of that over items, and on how many items each is
    the better one.
    """
    from pipelines.prediction_file import read_predictions

    result = compare_predictions(read_predictions(first), read_predictions(second), seed)
    click.echo(json.dumps(result, indent=1) if as_json else _as_text(result))


def compare_predictions(first: PredictionFile, second: PredictionFile, seed: int = 0) -> dict[str, Any]:
    """Every metric that both files have, over all shared items and by question type; and what is not shared.

    Raises PipelineError for different datasets, splits, questions or answers, and where nothing is shared.
    """
    from pipelines.errors import PipelineError

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
    from pipelines.errors import PipelineError

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
    from dataclasses import asdict

    from tasks.scoring import paired_difference

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


def _as_text(result: dict[str, Any]) -> str:
    from pipelines.plain_table import plain_table

    where = (
        f"{result['dataset']}, split {result['split']}" if result["dataset"] else "dataset and split unknown"
    )
    lines = [f"A: {result['A']}", f"B: {result['B']}", where]
    lines += [
        f"{path}: no scores.json beside it, so its dataset and split are not checked"
        for path in result["origin_unknown"]
    ]
    lines += ["", plain_table(_HEADER, [_row(found) for found in result["comparisons"]]), ""]
    for found in result["comparisons"]:
        if found["unscored"]:
            lines.append(
                f"{found['metric']}, {found['question']}: {found['unscored']} items have no score in a file"
            )
    for side in "AB":
        items, metrics = result[f"only_in_{side}"], result[f"metrics_only_in_{side}"]
        listed = ", ".join(items[:_NUM_LISTED]) + (", ..." if len(items) > _NUM_LISTED else "")
        lines.append(f"only in {side}, not compared: {len(items)} items{': ' if items else ''}{listed}")
        if metrics:
            lines.append(f"only in {side}, not compared: the metrics {', '.join(metrics)}")
    return "\n".join(lines)


def _row(found: dict[str, Any]) -> tuple[object, ...]:
    if not found["n"]:
        return (found["metric"], found["question"], 0, *["-"] * 7)
    return (
        found["metric"],
        found["question"],
        found["n"],
        f"{found['mean_A']:.4f}",
        f"{found['mean_B']:.4f}",
        f"{found['difference']:+.4f}",
        f"{found['low']:+.4f} to {found['high']:+.4f}",
        found["won"],
        found["lost"],
        found["tied"],
    )
