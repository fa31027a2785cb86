"""Scores of predictions: exact match, and bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def exact_match(prediction: str, answer: str) -> bool:
    """Whether the prediction is the answer, apart from white space around it and upper and lower case."""
    return prediction.strip().casefold() == answer.strip().casefold()


def bootstrap_interval(
    scores: Sequence[float], num_samples: int = 2000, seed: int = 0, coverage: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``scores`` (Efron 1979). Raises ValueError without scores."""
    if not scores:
        raise ValueError("no interval without scores")
    values = np.asarray(scores, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = np.array([rng.choice(values, len(values)).mean() for _ in range(num_samples)])
    tail = (1 - coverage) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
