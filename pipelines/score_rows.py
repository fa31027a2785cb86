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
    """A published number and ours, both in the source's unit; `ours` is null where this evaluation lacks it."""

    metric: str
    group: str | None
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
    published: Iterable[PublishedScore], scores: Sequence[Score], dataset: str
) -> list[PublishedComparison]:
    """Each published number of the dataset (its own, or of none named) with ours."""
    by_name = {(score.metric, score.group): score for score in scores}

    def in_unit(value: float | None, scale: float) -> float | None:
        return None if value is None else scale * value

    result = []
    for number in published:
        if number.dataset not in (None, dataset):
            continue
        ours = by_name.get((number.metric, number.group))
        comparison = PublishedComparison(
            metric=number.metric,
            group=number.group,
            published=number.value,
            source=number.source,
            ours=in_unit(ours.value if ours else None, number.scale),
            low=in_unit(ours.low if ours else None, number.scale),
            high=in_unit(ours.high if ours else None, number.scale),
        )
        result.append(comparison)
    return result


def denominator_rule(skips: Sequence[str] | None, coverage: Coverage) -> str:
    """Which items the published evaluation counts, and whether those counted here are the same.

    Args: skips: the task's EVALUATION_SKIPS_WITHOUT; None where there is no published evaluation.
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
    answer = f"the published evaluation {rule}"
    if differing:
        left_out = coverage.instructions - coverage.with_features
        answer += (
            f"; here {left_out} items do not count for lack of features ({', '.join(differing)}), so the "
            "numbers are not comparable"
        )
    return answer
