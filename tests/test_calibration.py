"""Temperature and review threshold: planted values come back, and what is promised on validation holds there."""

import numpy as np
import pytest
import tensorflow as tf

from stages.layers import answer
from stages.scoring import calibration, scores


def planted(temperature: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Return labels drawn from honest probabilities, and those probabilities made dishonest by a temperature."""
    rng = np.random.default_rng(2)
    honest = rng.dirichlet([0.7] * 4, count)
    labels = (honest.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return labels, calibration.with_temperature(honest, 1 / temperature)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_planted_temperature_is_found(temperature):
    labels, probabilities = planted(temperature)
    assert calibration.fit_temperature(labels, probabilities) == pytest.approx(temperature, rel=0.03)


def test_the_right_temperature_removes_the_calibration_error():
    labels, probabilities = planted(2.5)
    once = np.ones((1, len(labels)))
    cooled = calibration.with_temperature(probabilities, calibration.fit_temperature(labels, probabilities))
    before, after = (scores.calibration_error(labels, one, once)[0] for one in (probabilities, cooled))
    assert before > 0.1 and after < 0.02


def test_copies_change_neither_temperature_nor_threshold_when_they_share_a_vote():
    labels, probabilities = planted(1.7, 500)
    times = np.where(np.arange(500) % 2, 1, 5)
    copies = np.repeat(np.arange(500), times)
    alone = calibration.decide(labels, probabilities, 0.1)
    voted = calibration.decide(labels[copies], probabilities[copies], 0.1, np.repeat(1 / times, times))
    assert voted == pytest.approx(alone, rel=1e-4)
    assert calibration.decide(labels[copies], probabilities[copies], 0.1)["temperature"] != alone["temperature"]


def test_a_useless_network_gets_the_highest_temperature():
    sure_and_wrong = np.tile([0.97, 0.01, 0.01, 0.01], (40, 1))
    assert calibration.fit_temperature(np.full(40, 1), sure_and_wrong) == pytest.approx(calibration.HIGHEST, rel=1e-3)


def test_temperature_by_hand():
    """At temperature 2 the square roots, scaled to sum to 1; a zero gives no infinity."""
    result = calibration.with_temperature(np.array([[0.64, 0.36, 0.0, 0.0]], np.float32), 2.0)
    assert result.dtype == np.float64 and result[0, :2] == pytest.approx([0.8 / 1.4, 0.6 / 1.4], abs=1e-5)
    assert np.isfinite(result).all()


def test_the_scored_probabilities_are_the_served_ones():
    raw = np.random.default_rng(0).dirichlet([0.3] * 4, 50).astype(np.float32)
    served = answer.answer(lambda pixels, training: tf.constant(raw), False, 1.7)(tf.zeros([50, 2, 2, 3])).numpy()
    assert np.abs(served - calibration.with_temperature(raw, 1.7)).max() < 1e-5


def test_the_threshold_meets_the_error_and_is_the_lowest_that_does():
    labels, probabilities = planted(1.0, 600)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    threshold, reached = calibration.review_threshold(confidence, correct, 0.1)
    errors = {one: (~correct[confidence >= one]).mean() for one in confidence}
    assert reached and (~correct[confidence >= threshold]).mean() <= 0.1
    assert all(error > 0.1 for one, error in errors.items() if one < threshold)
    assert threshold == round(threshold, calibration.DIGITS)


def test_equal_confidences_are_accepted_together():
    """0.9 holds one right and one wrong answer: 1 in 3 from there on, 1 in 5 from 0.6 on, none at 0.95."""
    confidence = np.array([0.95, 0.9, 0.9, 0.6, 0.6])
    correct = np.array([True, False, True, True, True])
    assert calibration.review_threshold(confidence, correct, 0.1) == (0.95, True)
    assert calibration.review_threshold(confidence, correct, 0.2) == (0.6, True)


def test_a_threshold_that_cannot_be_reached_is_recorded():
    labels, probabilities = np.zeros(4, int), np.tile([0.2, 0.6, 0.1, 0.1], (4, 1))
    decision = calibration.decide(labels, probabilities, 0.02)
    assert decision["review_threshold"] == 1.0 and decision["reached"] is False
    assert decision["validation_coverage"] == 0 and decision["validation_error_of_accepted"] is None


def test_risk_and_coverage_by_hand():
    curve = calibration.risk_coverage(np.array([0.5, 0.9, 0.7, 0.5]), np.array([False, True, False, True]),
                                      np.ones((1, 4)))
    assert curve["threshold"].tolist() == [0.9, 0.7, 0.5]
    assert curve["coverage"][0].tolist() == [0.25, 0.5, 1] and curve["risk"][0].tolist() == [0, 0.5, 0.5]
    assert calibration.area_under_risk(curve)[0] == pytest.approx((0 + 0.5 + 0.5 + 0.5) / 4)


def test_what_a_threshold_does_by_hand():
    probabilities = np.array([[0.7, 0.1, 0.1, 0.1], [0.8, 0.2, 0, 0], [0.4, 0.3, 0.3, 0], [0.2, 0.2, 0.5, 0.1]])
    found = scores.first(calibration.review(np.array([0, 1, 0, 0]), probabilities, 0.7, np.ones((1, 4))))
    assert found == {"coverage": 0.5, "error_of_accepted": 0.5, "error_of_all": 0.5}
