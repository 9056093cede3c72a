"""torchmetrics' values that claims use, against scikit-learn and SciPy, at degenerate inputs too."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from sklearn import metrics as scikit
from torch import Tensor
from torchmetrics.functional import classification
from torchmetrics.functional.text import squad

from reprise.parts.metrics import frechet_distance
from reprise.parts.scores import matthews_correlation, pearson_correlation, spearman_correlation


def drawn(count: int, share: float = 0.5, seed: int = 0) -> Tensor:
    """Labels of two classes, of which the second has the `share`."""
    return (torch.rand(count, generator=torch.Generator().manual_seed(seed)) < share).long()


LABELS = {
    "by chance": (drawn(100), drawn(100, seed=1)),
    "all right": (drawn(50), drawn(50)),
    "all wrong": (1 - drawn(50), drawn(50)),
    "one class said": (torch.zeros(1043, dtype=torch.long), drawn(1043, 0.69)),
    "the other said": (torch.ones(1043, dtype=torch.long), drawn(1043, 0.69)),
    "one class true": (drawn(100), torch.ones(100, dtype=torch.long)),
    "one class, both": (torch.ones(10, dtype=torch.long), torch.ones(10, dtype=torch.long)),
    "no positives": (torch.zeros(10, dtype=torch.long), torch.zeros(10, dtype=torch.long)),
    "always the other": (torch.ones(10, dtype=torch.long), torch.zeros(10, dtype=torch.long)),
    "a single example": (torch.ones(1, dtype=torch.long), torch.zeros(1, dtype=torch.long)),
}


@pytest.mark.parametrize("case", LABELS)
@pytest.mark.filterwarnings("ignore:.*[sS]ingle label")
def test_classification_is_that_of_scikit_learn(case: str) -> None:
    predicted, truth = LABELS[case]
    said, true = predicted.tolist(), truth.tolist()
    assert matthews_correlation(predicted, truth) == pytest.approx(scikit.matthews_corrcoef(true, said), abs=1e-12)
    f1 = float(classification.binary_f1_score(predicted, truth))
    assert f1 == pytest.approx(scikit.f1_score(true, said, zero_division=0), abs=1e-6)
    accuracy = float(classification.multiclass_accuracy(predicted, truth, 2, average="micro"))
    assert accuracy == pytest.approx(scikit.accuracy_score(true, said), abs=1e-6)


def test_matthews_correlation_of_three_classes() -> None:
    predicted, truth = torch.tensor([0, 1, 2, 2, 1, 0, 0]), torch.tensor([0, 1, 2, 1, 1, 2, 0])
    expected = scikit.matthews_corrcoef(truth.tolist(), predicted.tolist())
    assert matthews_correlation(predicted, truth) == pytest.approx(expected, abs=1e-12)


NUMBERS = torch.rand(50, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "predicted",
    [NUMBERS.flip(0), -NUMBERS, (NUMBERS * 3).floor(), 1e-6 * NUMBERS + 3, 1e4 * NUMBERS + 1e6],
    ids=["any", "opposite", "ties", "nearly constant", "large"],
)
def test_correlations_are_those_of_scipy(predicted: Tensor) -> None:
    exact, true = predicted.double().numpy(), NUMBERS.double().numpy()
    assert pearson_correlation(predicted, NUMBERS) == pytest.approx(stats.pearsonr(exact, true)[0], abs=1e-6)
    assert spearman_correlation(predicted, NUMBERS) == pytest.approx(stats.spearmanr(exact, true)[0], abs=1e-6)


@pytest.mark.parametrize("measure", [pearson_correlation, spearman_correlation])
def test_a_constant_correlates_with_nothing(measure) -> None:
    constant = torch.full((50,), 0.3)
    assert measure(constant, NUMBERS) == measure(NUMBERS, constant) == measure(constant, constant) == 0.0


def test_spans_without_a_word_in_common_score_nothing() -> None:
    for said in ("", "the", "London"):
        scores = squad(
            [{"id": "1", "prediction_text": said}], [{"id": "1", "answers": {"text": ["Paris"], "answer_start": [0]}}]
        )
        assert (float(scores["exact_match"]), float(scores["f1"])) == (0.0, 0.0)


def test_the_frechet_distance_of_points_without_spread_is_that_of_their_means() -> None:
    here, there = torch.zeros(20, 4), torch.zeros(30, 4)
    assert frechet_distance(here, there) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(here, there + torch.tensor([3.0, 4.0, 0.0, 0.0])) == pytest.approx(25.0)
    wide = torch.tensor([[-1.0], [1.0]]).repeat(50, 4)  # variance 100/99 in each of 4 directions, all of them as one
    assert frechet_distance(here, wide) == pytest.approx(4 * 100 / 99)
