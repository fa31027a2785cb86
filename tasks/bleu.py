"""BLEU-1 to 4 of tokenized texts by pycocoevalcap, with bootstrap intervals of the corpus values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.scoring import percentile_interval, resampled_totals
from tasks.task_scores import Metric

_ORDERS = 4
# pycocoevalcap's, in place of smoothing: nothing right of nothing said is 1e-15 / 1e-9
_TINY, _SMALL = 1e-15, 1e-9


def bleu_metrics(replies: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Metric]:
    """Bleu_1 ... Bleu_4 as fractions; no mean of the items' values."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=_ORDERS)
    for reply, of_item in zip(replies, references, strict=True):
        scorer += (reply, list(of_item))
    values, items = scorer.compute_score(option="closest")
    statistics = [
        [
            item["testlen"],
            min((abs(length - item["testlen"]), length) for length in item["reflen"])[1],
            *item["correct"],
            *item["guess"],
        ]
        for item in scorer.ctest
    ]
    resampled = corpus_bleu(resampled_totals(np.asarray(statistics, dtype=np.float64)))
    return {
        f"Bleu_{order + 1}": Metric(
            float(values[order]),
            tuple(map(float, items[order])),
            "corpus",
            percentile_interval(resampled[:, order]),
        )
        for order in range(_ORDERS)
    }


def corpus_bleu(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(N, 4)`` BLEU-1 to 4 of N corpora, from ``(N, 10)`` sums over each one's items.

    The columns are the length of the replies, that of the closest references, then for each order the n-grams that
    are right, and for each order those of the replies.
    """
    replies, references = totals[:, 0], totals[:, 1]
    correct, guessed = totals[:, 2 : 2 + _ORDERS], totals[:, 2 + _ORDERS :]
    precisions = (correct + _TINY) / (guessed + _SMALL)
    means = np.exp(np.cumsum(np.log(precisions), axis=1) / np.arange(1, _ORDERS + 1))
    shortness = (references + _SMALL) / (replies + _TINY)
    penalty: NDArray[np.float64] = np.exp(np.minimum(0.0, 1 - shortness))[:, None]
    return means * penalty
