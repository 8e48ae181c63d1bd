"""Figures of a classifier against scikit-learn."""

import numpy as np
import pytest

from train.names.evaluate import report, table

sklearn = pytest.importorskip("sklearn.metrics")


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((50, 5)).astype(np.float32)
    logits[:, 3] -= 9 * (seed % 2)  # a class that is never the answer
    labels = rng.integers(4, size=50)  # and one that is never the label
    losses = rng.random(50)
    figures = report(losses, logits, labels)
    answers = logits.argmax(axis=1)
    matrix = sklearn.confusion_matrix(labels, answers, labels=range(5))
    np.testing.assert_array_equal(figures.confusion, matrix)
    assert figures.accuracy == pytest.approx(sklearn.accuracy_score(labels, answers))
    assert figures.loss == pytest.approx(losses.mean())
    expected = sklearn.f1_score(labels, answers, average="macro", zero_division=0)
    assert figures.macro_f1 == pytest.approx(expected)
    for name in ("precision", "recall"):
        score = getattr(sklearn, f"{name}_score")
        expected = score(
            labels, answers, labels=range(5), average=None, zero_division=0
        )
        np.testing.assert_allclose(getattr(figures, name), expected)


def test_table_has_a_line_for_every_language():
    figures = report(np.zeros(2), np.eye(2), np.array([0, 0]))
    lines = table(figures, ("Old Norse", "Manx")).splitlines()
    assert lines[1].split() == ["Old", "Norse", "2", "1.000", "0.500", "0.667"]
    assert lines[2].split() == ["Manx", "0", "0.000", "0.000", "0.000"]
