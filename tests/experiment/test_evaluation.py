import torch

from convbench.experiment.evaluation import Predictions, confusion_matrix


def test_the_confusion_matrix_has_true_classes_in_rows_and_predicted_ones_in_columns() -> None:
    labels, predicted = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 1, 0, 2])
    assert confusion_matrix(labels, predicted, 3).tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 1]]


def test_classes_without_images_keep_their_row_and_column() -> None:
    assert confusion_matrix(torch.tensor([1]), torch.tensor([1]), 3).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_the_confusion_matrix_matches_counting_the_predictions_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    labels, predicted = (torch.randint(0, 7, (500,), generator=generator) for _ in range(2))
    counted = torch.zeros(7, 7, dtype=torch.int64)
    for label, guess in zip(labels.tolist(), predicted.tolist(), strict=True):
        counted[label, guess] += 1
    matrix = confusion_matrix(labels, predicted, 7)
    assert torch.equal(matrix, counted)
    assert matrix.sum() == 500


def test_the_most_probable_class_is_predicted() -> None:
    predictions = Predictions(["a", "b"], torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]), None, None)
    assert predictions.predicted.tolist() == [1, 2]
