"""Intervals and paired comparisons of scores."""

import numpy as np
import pytest

from tasks.scoring import bootstrap_interval, paired_difference, resampled_totals


def test_a_paired_comparison_sees_what_two_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(400) < 0.5
    second = np.where(hard, 0.0, 1.0)
    first = second.copy()
    first[:24] = 1.0
    first[-4:] = 0.0
    found = paired_difference(first.tolist(), second.tolist())
    assert found.won == int(hard[:24].sum())
    assert found.lost == int((~hard[-4:]).sum())
    assert found.tied == 400 - found.won - found.lost
    assert found.difference == pytest.approx((found.won - found.lost) / 400)
    assert 0 < found.low < found.difference < found.high
    # apart, the two intervals overlap
    assert bootstrap_interval(first.tolist())[0] < bootstrap_interval(second.tolist())[1]
    turned = paired_difference(second.tolist(), first.tolist())
    assert (turned.won, turned.lost) == (found.lost, found.won)
    assert turned.difference == pytest.approx(-found.difference)


def test_unequal_or_no_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="without scores"):
        paired_difference([], [])


def test_resampled_totals_are_sums_of_as_many_items() -> None:
    statistics = np.stack([np.ones(50), np.arange(50.0)], axis=1)
    totals = resampled_totals(statistics, num_samples=500)
    assert totals.shape == (500, 2)
    assert (totals[:, 0] == 50).all()
    assert totals[:, 1].mean() == pytest.approx(statistics[:, 1].sum(), rel=0.02)
    assert totals[:, 1].std() == pytest.approx(np.sqrt(50) * np.arange(50).std(), rel=0.15)
