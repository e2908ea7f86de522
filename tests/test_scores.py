"""Numbers of an evaluation, against values computed by hand."""

import numpy as np
import pytest
from sklearn import metrics

from core import contract
from stages.data import dataset
from stages.data.dataset import Row
from stages.reporting import tables
from stages.scoring import answers, scores

LABELS = np.array([0, 0, 1, 1, 2, 2, 3, 3])
PREDICTED = np.array([0, 1, 1, 1, 2, 2, 3, 0])
PROBABILITIES = np.eye(4)[PREDICTED] * 0.7 + 0.075


def test_scores_by_hand():
    result = scores.scores(LABELS, PROBABILITIES)
    assert result["accuracy"] == pytest.approx(6 / 8)
    assert result["classes"]["glioma"]["precision"] == pytest.approx(1 / 2)
    assert result["classes"]["meningioma"]["precision"] == pytest.approx(2 / 3)
    assert result["classes"]["pituitary"]["recall"] == pytest.approx(1 / 2)
    assert result["balanced_accuracy"] == result["macro_recall"] == pytest.approx((1 / 2 + 1 + 1 + 1 / 2) / 4)
    assert result["classes"]["notumor"] == {"precision": 1, "recall": 1, "specificity": 1, "f1": 1, "roc_auc": 1,
                                            "pr_auc": 1, "images": 2}
    assert result["macro_f1"] == pytest.approx((0.5 + 0.8 + 1 + 2 / 3) / 4)


def test_specificity_is_the_share_of_other_images_that_are_left_alone():
    classes = scores.scores(LABELS, PROBABILITIES)["classes"]
    assert [classes[label]["specificity"] for label in contract.CLASSES] == pytest.approx([5 / 6, 5 / 6, 1, 1])


def test_brier_and_nll_by_hand():
    result = scores.scores(LABELS, PROBABILITIES)
    right, wrong = 0.225**2 + 3 * 0.075**2, 0.775**2 + 0.925**2 + 2 * 0.075**2
    assert result["brier"] == pytest.approx((6 * right + 2 * wrong) / 8)
    assert result["nll"] == pytest.approx(-(6 * np.log(0.775) + 2 * np.log(0.075)) / 8)


def test_brier_ends_at_two_and_nll_stays_finite():
    result = scores.probabilistic(np.array([0]), np.array([[0.0, 1.0, 0.0, 0.0]]), np.ones((1, 1)))
    assert result["brier"] == [2] and result["nll"] == pytest.approx(-np.log(1e-12))


def test_calibration_error_by_hand():
    # Two bins: (5/15, 6/15] holds 0.36 right and 0.40 wrong, (11/15, 12/15] holds 0.75 right and 0.79 right.
    tops, labels = np.array([0.36, 0.40, 0.75, 0.79]), np.array([0, 1, 0, 0])
    probabilities = np.concatenate([tops[:, None], np.repeat((1 - tops[:, None]) / 3, 3, axis=1)], axis=1)
    error = scores.calibration_error(labels, probabilities, np.ones((1, 4)))
    assert error[0] == pytest.approx(2 / 4 * abs(0.5 - 0.38) + 2 / 4 * abs(1 - 0.77))
    bins = scores.reliability(labels, probabilities)
    assert bins["images"][[5, 11]].tolist() == [2, 2] and bins["images"].sum() == 4
    assert bins["accuracy"][5] == 0.5 and bins["confidence"][11] == pytest.approx(0.77)
    assert np.isnan(bins["accuracy"][0])


def test_a_bin_ends_with_its_upper_edge():
    assert scores.bins_of(np.array([0.0, 1 / 15, 1 / 15 + 1e-9, 1.0])).tolist() == [0, 0, 1, 14]


def test_areas_by_hand():
    # Ranks: hit, alarm, hit, alarm: 3 of 4 pairs in order; precision 1/1 and 2/3 at the hits.
    roc, precision = scores.area(np.array([True, False, True, False]), np.array([4.0, 3, 2, 1]), np.ones((1, 4)))
    assert roc[0] == pytest.approx(3 / 4) and precision[0] == pytest.approx((1 + 2 / 3) / 2)


def test_areas_are_scikit_learns_with_ties_and_weights():
    rng = np.random.default_rng(1)
    positive, score = rng.random(60) < 0.4, rng.integers(0, 8, 60) / 8
    weights = rng.integers(0, 4, (3, 60)).astype(float)
    roc, precision = scores.area(positive, score, weights)
    for row, one in enumerate(weights):
        assert roc[row] == pytest.approx(metrics.roc_auc_score(positive, score, sample_weight=one))
        assert precision[row] == pytest.approx(metrics.average_precision_score(positive, score, sample_weight=one))


def test_a_weight_of_two_is_an_image_twice():
    weights = np.array([2.0, 1, 1, 3, 1, 1, 1, 0])
    twice = np.repeat(np.arange(8), weights.astype(int))
    weighted = scores.first(scores.measure(LABELS, PROBABILITIES, weights[None]))
    repeated = scores.first(scores.measure(LABELS[twice], PROBABILITIES[twice], np.ones((1, len(twice)))))
    assert weighted.pop("classes")["glioma"] == pytest.approx(repeated.pop("classes")["glioma"])
    assert weighted == pytest.approx(repeated)


def test_areas_without_a_class_have_no_value():
    roc, precision = scores.area(np.array([True, True]), np.array([0.1, 0.2]), np.ones((1, 2)))
    assert np.isnan(roc[0]) and np.isnan(precision[0])


def test_a_class_that_is_never_predicted_scores_zero():
    result = scores.scores(LABELS, np.tile([0.7, 0.1, 0.1, 0.1], (8, 1)))
    assert result["classes"]["notumor"]["precision"] == 0 and result["classes"]["notumor"]["roc_auc"] == 0.5


def test_confusion_counts_true_classes_in_rows():
    counts = scores.confusion(LABELS, PROBABILITIES)
    assert counts[0].tolist() == [1, 1, 0, 0] and counts[3].tolist() == [1, 0, 0, 1]


def test_roc_curves_rise_from_left_to_right():
    axis, curves = scores.roc_curves(LABELS, PROBABILITIES)
    assert axis[0] == 0 and axis[-1] == 1 and set(curves) == set(contract.CLASSES)
    assert all((np.diff(curve) >= 0).all() and curve[-1] == 1 for curve in curves.values())
    assert curves["notumor"].min() == 1


def test_a_class_without_images_has_no_value_and_is_left_out_of_macro_scores():
    some = LABELS < 2
    result = scores.scores(LABELS[some], PROBABILITIES[some])
    assert result["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2) and result["balanced_accuracy"] == 0.75
    absent = result["classes"]["pituitary"]
    assert absent == dict.fromkeys(("precision", "recall", "f1", "roc_auc", "pr_auc")) | {"specificity": 1, "images": 0}
    _, curves = scores.roc_curves(LABELS[some], PROBABILITIES[some])
    assert np.isnan(curves["pituitary"]).all() and not np.isnan(curves["glioma"]).any()
    alone = scores.scores(LABELS[:2], PROBABILITIES[:2])
    assert alone["accuracy"] == 0.5 and alone["macro_f1"] is None and alone["classes"]["glioma"]["specificity"] is None


def test_tumour_or_not_by_hand():
    """Of four tumours, one of unknown type, one is missed; of three others one is called a tumour."""
    healthy = np.array([0.1, 0.45, 0.2, 0.7, 0.6, 0.8, 0.4])
    rest = (1 - healthy)[:, None] * np.array([0.8, 0.1, 0.1])
    probabilities = np.insert(rest, scores.HEALTHY, healthy, axis=1)
    labels = np.array([0, dataset.UNKNOWN, 1, 3, *[scores.HEALTHY] * 3])
    result = scores.first(scores.tumour(labels, probabilities, np.ones((1, 7)), 0.1))
    assert (result["sensitivity"], result["missed"], result["specificity"]) == pytest.approx((1 / 2, 1 / 2, 2 / 3))
    assert result["balanced_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result["positive_predictive_value"] == pytest.approx(0.05 / (0.05 + 0.3))
    assert result["negative_predictive_value"] == pytest.approx(0.6 / (0.6 + 0.05))
    assert result["roc_auc"] == pytest.approx(9 / 12)


def test_tumour_or_not_has_no_value_where_a_side_is_missing():
    result = scores.first(scores.tumour(LABELS[:2], PROBABILITIES[:2], np.ones((1, 2)), 0.1))
    undefined = {name for name, value in result.items() if value is None}
    assert undefined == {"specificity", "balanced_accuracy", "positive_predictive_value", "negative_predictive_value",
                         "roc_auc"}


def test_a_probability_of_a_tumour_that_comes_true_as_often_has_no_calibration_error():
    probability = np.array([0.25] * 4 + [0.75] * 4)
    outcome = np.array([True, False, False, False, True, True, True, False])
    assert scores.binned_gap(outcome, probability, np.ones((1, 8))) == [0]
    assert scores.binned_gap(~outcome, probability, np.ones((1, 8))) == [0.5]


def test_copies_of_one_picture_have_one_vote():
    rows = [Row("", "glioma", 0, "", "", picture=picture) for picture in (4, 4, 4, 4, 7, -1, -1)]
    given = answers.Answers(rows, LABELS[:7], PROBABILITIES[:7])
    assert given.votes.tolist() == [0.25] * 4 + [1] * 3
    assert answers.counts(rows) == {"images": 7, "pictures": 4, "groups": 1, "patients": 0, "picture_groups": 1}
    copies, alone = LABELS[[0, 1, 1, 2]], scores.scores(LABELS[:3], PROBABILITIES[:3])
    voted = scores.scores(copies, PROBABILITIES[[0, 1, 1, 2]], np.array([1, 0.5, 0.5, 1]))
    assert {key: one for key, one in voted.items() if key != "classes"} == pytest.approx(
        {key: one for key, one in alone.items() if key != "classes"}, nan_ok=True)


def test_patients_are_only_those_that_are_known():
    rows = [Row("", "glioma", group, "", "", patient=patient) for group, patient in
            ((0, "figshare-1"), (0, ""), (1, "figshare-2"), (2, ""), (2, ""))]
    assert tables.people(answers.counts(rows)) == "2 patients and 1 picture group"
    assert tables.people(answers.counts(rows[:3])) == "2 patients"


def test_predictions_name_no_source_file():
    rows = [Row("images/ab/abcd.png", "glioma", 0, "ab" * 32, "glioma/Jane Doe.png", 7)]
    header, line = tables.predictions_csv(rows, PROBABILITIES[:1]).splitlines()
    assert header == "digest,actual,predicted,glioma,meningioma,notumor,pituitary,picture"
    assert line == "abababababababab,glioma,glioma,0.775000,0.075000,0.075000,0.075000,7"
