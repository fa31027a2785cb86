"""What an evaluation reports: a row for every metric, over all items and by group, and what it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipelines.config import PublishedScore, Settings
from pipelines.feature_dataset import Coverage
from tasks.instruction import Instruction
from tasks.task_scores import TaskScores, counted


class Score(Settings):
    """A metric over the `n` items that it counts, of a group or (null) of all, with its bootstrap 95% interval.

    Values have the metric's own unit, `chance` is a fraction. `value` is null where no item counts, the interval where
    there is none: BLEU and METEOR of a group, for example. What is not `official` is a corrected metric.
    """

    metric: str
    group: str | None
    official: bool
    value: float | None
    low: float | None
    high: float | None
    n: int
    chance: float | None


class PublishedComparison(Settings):
    """A published number and ours, in percent; `ours` is null where this evaluation lacks it."""

    metric: str
    published: float
    source: str
    ours: float | None
    low: float | None
    high: float | None


def score_rows(
    scores: TaskScores, instructions: Sequence[Instruction], headline: str, num_samples: int, seed: int
) -> list[Score]:
    """The metrics over all items, the headline first, corrected ones last; then those of each group."""
    names = sorted(scores.metrics, key=lambda name: (name not in scores.official, name != headline))
    everyone = tuple(range(scores.num_items))
    rows: list[tuple[str, str | None, float | None, tuple[int, ...]]] = [
        (name, None, scores.metrics[name].value, everyone) for name in names
    ]
    rows += [
        (name, group, found.values[name], found.members)
        for group, found in scores.groups.items()
        for name in names
        if name in found.values
    ]
    result = []
    for name, group, value, members in rows:
        low, high = scores.interval(name, group, num_samples, seed) or (None, None)
        items = scores.metrics[name].items
        score = Score(
            metric=name,
            group=group,
            official=name in scores.official,
            value=value,
            low=low,
            high=high,
            n=len(counted([items[position] for position in members])),
            chance=_chance([instructions[position] for position in members]),
        )
        result.append(score)
    return result


def _chance(items: Sequence[Instruction]) -> float | None:
    """The expected share of right guesses; None where an item is open."""
    chances = [item.chance for item in items if item.chance is not None]
    return sum(chances) / len(chances) if chances and len(chances) == len(items) else None


def beside_published(
    published: Iterable[PublishedScore], scores: Sequence[Score], dataset: str, to_percent: float
) -> list[PublishedComparison]:
    """Each published number of the dataset (its own, or of none named) with ours times `to_percent`."""
    by_name = {
        score.metric if score.group is None else f"{score.metric}, {score.group}": score for score in scores
    }

    def percent(value: float | None) -> float | None:
        return None if value is None else to_percent * value

    result = []
    for number in published:
        if number.dataset not in (None, dataset):
            continue
        ours = by_name.get(number.metric)
        comparison = PublishedComparison(
            metric=number.metric,
            published=number.value,
            source=number.source,
            ours=percent(ours.value if ours else None),
            low=percent(ours.low if ours else None),
            high=percent(ours.high if ours else None),
        )
        result.append(comparison)
    return result


def denominator_rule(
    skips: Sequence[str] | None, coverage: Coverage, question_types: Sequence[str] | None = None
) -> str:
    """Which items the published evaluation counts, and why those counted here are others, if they are.

    Args:
        skips: the task's EVALUATION_SKIPS_WITHOUT; None where there is no published evaluation.
        question_types: the only ones that were asked; None: all.
    """
    if skips is None:
        return "there is no published evaluation: every answered item counts"
    rule = f"leaves out items without {' or '.join(skips)}" if skips else "counts every item"
    media_skipped, features_skipped = {"video", "scene"} & {*skips}, "features" in skips
    differing = [
        channel
        for channel, count in coverage.missing.items()
        if count and not (media_skipped if channel == "frames" else features_skipped)
    ]
    others = []
    if differing:
        left_out = coverage.instructions - coverage.with_features
        others.append(f"{left_out} items do not count for lack of features ({', '.join(differing)})")
    if question_types is not None:
        others.append(f"only the question types {', '.join(question_types)} were asked")
    told = f"the published evaluation {rule}"
    return f"{told}; here {' and '.join(others)}, so the numbers are not comparable" if others else told
