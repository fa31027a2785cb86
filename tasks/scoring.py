"""Exact match, bootstrap intervals of one set of scores, and the paired comparison of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 2000


def exact_match(prediction: str, answer: str) -> bool:
    """Whether the prediction is the answer, apart from white space around it and upper and lower case."""
    return prediction.strip().casefold() == answer.strip().casefold()


def bootstrap_interval(
    scores: Sequence[float], num_samples: int = NUM_RESAMPLES, seed: int = 0, coverage: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``scores`` (Efron 1979). Raises ValueError without scores."""
    if not scores:
        raise ValueError("no interval without scores")
    values = np.asarray(scores, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = np.array([rng.choice(values, len(values)).mean() for _ in range(num_samples)])
    return percentile_interval(means, coverage)


def percentile_interval(values: NDArray[np.float64], coverage: float = 0.95) -> tuple[float, float]:
    """The middle share ``coverage`` of the values of many resamples."""
    tail = (1 - coverage) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def resampled_totals(
    statistics: NDArray[np.float64], num_samples: int = NUM_RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """``(num_samples, K)`` sums over items drawn with replacement, of ``(N, K)`` statistics of N items.

    For corpus metrics, which are computed from such sums.
    """
    num_items = len(statistics)
    rng = np.random.default_rng(seed)
    return np.stack(
        [
            np.bincount(rng.integers(num_items, size=num_items), minlength=num_items) @ statistics
            for _ in range(num_samples)
        ]
    )


@dataclass(frozen=True)
class PairedDifference:
    """How the scores of one set of predictions differ from those of another on the same items.

    ``difference`` is the first mean minus the second, ``low`` and ``high`` its bootstrap 95% interval over items;
    the first ``won``, ``lost`` or ``tied`` so many of them.
    """

    difference: float
    low: float
    high: float
    won: int
    lost: int
    tied: int


def paired_difference(
    first: Sequence[float], second: Sequence[float], num_samples: int = NUM_RESAMPLES, seed: int = 0
) -> PairedDifference:
    """Compare two sets of scores item by item; resamples draw items, and so keep the pairs.

    Raises ValueError without scores or where the lengths differ.
    """
    differences = [one - other for one, other in zip(first, second, strict=True)]
    low, high = bootstrap_interval(differences, num_samples, seed)
    won, lost = sum(value > 0 for value in differences), sum(value < 0 for value in differences)
    return PairedDifference(
        difference=sum(differences) / len(differences),
        low=low,
        high=high,
        won=won,
        lost=lost,
        tied=len(differences) - won - lost,
    )
