"""What every scorer returns: metrics over all items, values per group, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tasks.instruction import Instruction, TaskError
from tasks.scoring import NUM_RESAMPLES, bootstrap_interval, percentile_interval


class ScoringError(TaskError):
    """Replies cannot be scored: they do not fit the annotations, or a tool is absent. One line with the remedy."""


@dataclass(frozen=True)
class Metric:
    """One number over all items, and what each item adds to it, in the same unit (fraction or percent).

    ``value`` is None where no item counts. ``items`` has one score per item, None where the item does not count.
    ``average`` tells how the value comes from the items: their mean, the mean of the groups' means, or in a way of
    the metric's own over the whole corpus (BLEU, METEOR).
    """

    value: float | None
    items: tuple[float | None, ...]
    average: Literal["items", "groups", "corpus"] = "items"
    corpus_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Group:
    """Items of one type. ``members`` are their positions; ``values`` holds the metrics that some member counts for."""

    members: tuple[int, ...]
    values: Mapping[str, float]


@dataclass(frozen=True)
class TaskScores:
    """The scores of one task.

    ``official`` metrics follow the published evaluation, quirks included; ``corrected`` ones stand beside them
    under names of their own. Groups may overlap. ``num_missing`` items had no reply (None) and count nowhere.
    ``readings`` is what the official rule made of each reply (a letter, a cleaned text), where it makes something.
    ``absent_metrics`` maps a metric that could not be computed to the reason.
    """

    official: Mapping[str, Metric]
    num_items: int
    num_missing: int
    corrected: Mapping[str, Metric] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    readings: tuple[str | None, ...] | None = None
    absent_metrics: Mapping[str, str] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, Metric]:
        """Official and corrected metrics by name."""
        return {**self.official, **self.corrected}

    @property
    def missing_groups(self) -> tuple[str, ...]:
        """The groups that the official metrics have no item for."""
        return tuple(
            name for name, group in self.groups.items() if not group.values.keys() & self.official.keys()
        )

    def interval(
        self, name: str, group: str | None = None, num_samples: int = NUM_RESAMPLES, seed: int = 0
    ) -> tuple[float, float] | None:
        """Bootstrap 95% interval of a metric, over all items or those of a group.

        None where no item counts, and for a group of a corpus metric. A mean over groups is resampled within each.
        """
        metric = self.metrics[name]
        if metric.average == "corpus":
            return metric.corpus_interval if group is None else None
        members = range(self.num_items) if group is None else self.groups[group].members
        scores = counted([metric.items[position] for position in members])
        if not scores:
            return None
        if metric.average == "items" or group is not None:
            return bootstrap_interval(scores, num_samples, seed)
        rng = np.random.default_rng(seed)
        means = [
            rng.choice(of_group, (num_samples, len(of_group))).mean(axis=1)
            for some in self.groups.values()
            if (of_group := counted([metric.items[position] for position in some.members]))
        ]
        return percentile_interval(np.mean(means, axis=0))


def check_lengths(**columns: Sequence[object]) -> int:
    """The common length of the columns. Raises ScoringError, naming the lengths, where they differ."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ScoringError(
            f"{told} do not belong together; give one of each per item, None for a reply not made"
        )
    return next(iter(lengths.values()))


def fact_column(instructions: Sequence[Instruction], name: str) -> list[Any]:
    """One fact of each instruction. Raises ScoringError, naming the first instruction that lacks it."""
    facts = [(item, item.facts) for item in instructions]
    for item, found in facts:
        if name not in found:
            raise ScoringError(
                f"{item.instruction_id} of {item.dataset} has no {name!r} among its attributes; "
                "make the instructions with `pave prepare`"
            )
    return [found[name] for _, found in facts]


def counted(items: Sequence[float | None]) -> list[float]:
    """The scores of the items that count."""
    return [score for score in items if score is not None]


def mean_or_none(items: Sequence[float | None]) -> float | None:
    """Mean of the items that count; None where none does."""
    scores = counted(items)
    return sum(scores) / len(scores) if scores else None


def item_mean(items: Sequence[float | None]) -> Metric:
    """The metric that is the mean of its items."""
    return Metric(mean_or_none(items), tuple(items))


def positions_by_label(labels: Sequence[str], known: Sequence[str] = ()) -> dict[str, list[int]]:
    """Positions of each label: the known ones first, in their order, also those that do not occur."""
    positions: dict[str, list[int]] = {name: [] for name in known}
    for position, label in enumerate(labels):
        positions.setdefault(label, []).append(position)
    return positions


def group_means(members: Mapping[str, Sequence[int]], metrics: Mapping[str, Metric]) -> dict[str, Group]:
    """Each group with the means of those metrics that some member counts for."""
    groups = {}
    for group, positions in members.items():
        means = {
            name: mean_or_none([metric.items[position] for position in positions])
            for name, metric in metrics.items()
        }
        values = {name: mean for name, mean in means.items() if mean is not None}
        groups[group] = Group(tuple(positions), values)
    return groups


def mean_of_groups(members: Mapping[str, Sequence[int]], items: Sequence[float | None]) -> Metric:
    """The metric that is the plain mean of the groups' means; groups without a counted item are left out."""
    means = [mean_or_none([items[position] for position in positions]) for positions in members.values()]
    return Metric(mean_or_none(means), tuple(items), "groups")
