"""Intervals: what they cover, and what groups do to them."""

import numpy as np
import pytest

from stages.scoring import intervals, scores

COUNT = 400
LABELS = np.arange(COUNT) % 4
RIGHT = np.random.default_rng(3).permutation(COUNT) < 0.8 * COUNT


def share(values):
    return lambda weights: {"share": scores.mean(values, weights)}


def test_the_interval_of_a_proportion_is_that_of_the_binomial_distribution():
    low, high = intervals.intervals(share(RIGHT), LABELS, np.arange(COUNT), 2000, 1)["share"]
    half = 1.96 * np.sqrt(0.8 * 0.2 / COUNT)
    assert (low, high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.006)


def test_the_interval_covers_the_true_proportion_about_19_times_in_20():
    rng, covered = np.random.default_rng(5), 0
    for run in range(100):
        low, high = intervals.intervals(share(rng.random(COUNT) < 0.8), LABELS, np.arange(COUNT), 200, run)["share"]
        covered += low <= 0.8 <= high
    assert 88 <= covered <= 99


def test_images_that_belong_together_widen_the_interval():
    """Nine copies of each image: nine times the images, and no more is known."""
    alone = intervals.intervals(share(RIGHT), LABELS, np.arange(COUNT), 1000, 1)["share"]
    copies = np.repeat(RIGHT, 9), np.repeat(LABELS, 9), np.repeat(np.arange(COUNT), 9)
    grouped = intervals.intervals(share(copies[0]), copies[1], copies[2], 1000, 1)["share"]
    naive = intervals.intervals(share(copies[0]), copies[1], np.arange(9 * COUNT), 1000, 1)["share"]
    assert grouped == pytest.approx(alone)
    assert np.subtract(*grouped) / np.subtract(*naive) == pytest.approx(3, rel=0.15)


def test_groups_are_drawn_whole_and_no_class_is_lost():
    labels, groups = np.array([0, 0, 1, 1, 2, 3]), np.array([7, 7, 2, 2, 4, 9])
    drawn = np.concatenate(list(intervals.resamples(labels, groups, 450, 0)))
    assert len(drawn) == 450 and (drawn[:, 0] == drawn[:, 1]).all() and (drawn[:, 2] == drawn[:, 3]).all()
    assert all((drawn[:, labels == label].sum(axis=1) > 0).all() for label in range(4))


def test_the_seed_decides():
    one, same, other = (intervals.intervals(share(RIGHT), LABELS, LABELS * 0 + np.arange(COUNT), 50, seed)
                        for seed in (1, 1, 2))
    assert one == same != other


def test_a_score_without_value_does_not_count():
    assert intervals.intervals(lambda weights: {"none": np.full(len(weights), np.nan)}, LABELS, LABELS, 5, 0) == {
        "none": None}


def test_nothing_but_hits_leave_doubt_by_the_number_of_patients():
    found = intervals.of_shares({"missed": 0.0, "ece": 0.25, "area": 1.0, "none": None},
                                {"missed": (0.0, 0.0), "ece": (0.2, 0.3), "area": (1.0, 1.0), "none": None},
                                {"missed": 3})
    assert found == {"missed": (0.0, pytest.approx(0.7076, abs=1e-4)), "ece": (0.2, 0.3), "area": None, "none": None}
    assert intervals.exact(1 - 1e-16, 75) == (pytest.approx(0.952, abs=1e-3), 1.0)


def test_scores_are_shown_with_their_interval():
    assert intervals.shown({"accuracy": 0.9, "intervals": {"accuracy": [0.8561, 0.9394]}}, "accuracy") == (
        "0.900 (0.856-0.939)")
    assert intervals.shown({"accuracy": 0.9}, "accuracy") == "0.900" and intervals.text(None, None) == "-"
