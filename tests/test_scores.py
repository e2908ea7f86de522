"""Numbers of an evaluation, against values computed by hand."""

import numpy as np
import pytest

from imaging import contract
from stages import evaluate, scores
from stages.dataset import Row

LABELS = np.array([0, 0, 1, 1, 2, 2, 3, 3])
PREDICTED = np.array([0, 1, 1, 1, 2, 2, 3, 0])
PROBABILITIES = np.eye(4)[PREDICTED] * 0.7 + 0.075


def test_scores_by_hand():
    result = scores.scores(LABELS, PROBABILITIES)
    assert result["accuracy"] == pytest.approx(6 / 8)
    assert result["classes"]["glioma"]["precision"] == pytest.approx(1 / 2)
    assert result["classes"]["meningioma"]["precision"] == pytest.approx(2 / 3)
    assert result["classes"]["pituitary"]["recall"] == pytest.approx(1 / 2)
    assert result["classes"]["notumor"] == {"precision": 1, "recall": 1, "f1": 1, "roc_auc": 1, "images": 2}
    assert result["macro_f1"] == pytest.approx((0.5 + 0.8 + 1 + 2 / 3) / 4)


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


def test_predictions_name_no_source_file():
    rows = [Row("images/ab/abcd.png", "glioma", 0, "ab" * 32, "glioma/Jane Doe.png")]
    header, line = evaluate.predictions_csv(rows, PROBABILITIES[:1]).splitlines()
    assert header == "digest,actual,predicted,glioma,meningioma,notumor,pituitary"
    assert line == "abababababababab,glioma,glioma,0.775000,0.075000,0.075000,0.075000"
