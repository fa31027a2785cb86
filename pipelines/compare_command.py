"""`pave compare`: two sets of predictions on the same items, paired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

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
    from pipelines.paired_comparison import compare_predictions
    from pipelines.prediction_file import read_predictions

    result = compare_predictions(read_predictions(first), read_predictions(second), seed)
    click.echo(json.dumps(result, indent=1) if as_json else _as_text(result))


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
