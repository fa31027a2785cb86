"""The scores of an evaluation as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.plain_table import plain_table
from pipelines.score_rows import PublishedComparison, Score


def metric_table(scores: Sequence[Score], headline: str) -> str:
    """The metrics over all items, a row each."""
    rows = [
        (
            score.metric,
            "headline" if score.metric == headline else "official" if score.official else "corrected",
            number(score.value),
            interval(score.low, score.high),
            score.n,
            chance(score),
        )
        for score in scores
        if score.group is None
    ]
    return plain_table(("metric", "kind", "value", "95% interval", "n", "chance"), rows)


def group_table(scores: Sequence[Score]) -> str:
    """The groups, a row each, with the metrics that they have; empty where there are none."""
    by_group: dict[str, dict[str, Score]] = {}
    for score in scores:
        if score.group is not None:
            by_group.setdefault(score.group, {})[score.metric] = score
    if not by_group:
        return ""
    metrics = list(dict.fromkeys(name for found in by_group.values() for name in found))
    header = ["group"]
    for name in metrics:
        header += [name, "95% interval", "n"]
    rows = []
    for group, found in by_group.items():
        row: list[object] = [group]
        for name in metrics:
            one = found.get(name)
            row += [number(one.value), interval(one.low, one.high), one.n] if one else ["-", "", 0]
        rows.append([*row, chance(next(iter(found.values())))])
    return plain_table([*header, "chance"], rows)


def published_table(comparisons: Sequence[PublishedComparison]) -> str:
    """Our numbers beside the published ones; empty where nothing was published."""
    if not comparisons:
        return ""
    rows = [
        (
            row.metric,
            "-" if row.ours is None else f"{row.ours:.2f}",
            "" if row.low is None or row.high is None else f"{row.low:.2f} to {row.high:.2f}",
            f"{row.published:.2f}",
            "-" if row.ours is None else f"{row.ours - row.published:+.2f}",
            row.source,
        )
        for row in comparisons
    ]
    return plain_table(("in percent", "ours", "95% interval", "published", "difference", "source"), rows)


def number(value: float | None) -> str:
    """Four significant digits or more; what is above 10 with two decimals, as papers print percents."""
    if value is None:
        return "-"
    return f"{value:.2f}" if abs(value) > 10 else f"{value:.4f}"


def interval(low: float | None, high: float | None) -> str:
    """Both ends, or nothing."""
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def chance(score: Score) -> str:
    """As a percent, or nothing."""
    return "" if score.chance is None else f"{score.chance:.0%}"
