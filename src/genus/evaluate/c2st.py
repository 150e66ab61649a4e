"""Can a classifier tell samples from real rows? At an accuracy of ½ it cannot."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.exceptions import ConvergenceWarning

from genus.evaluate.view import check_same_count


@dataclass(frozen=True)
class ClassifierTest:
    """Accuracy of a classifier between real rows and samples, its error and p-value.

    0.5: indistinguishable.
    """

    accuracy: float
    stderr: float
    p_value: float
    n: int


def classifier_test(
    real: np.ndarray, fake: np.ndarray, *, folds: int = 5, random_state: int = 0
) -> ClassifierTest:
    """Classifier two-sample test: cross-validated accuracy of boosted trees, real against fake.

    Under the hypothesis that both come from one distribution the number right among n is
    Binomial(n, ½); ``p_value`` is the chance of as many or more (one-sided).

    The error is that of n independent rows, times √(1 + 1/(folds − 1)), for folds share training
    rows (Nadeau & Bengio, 2003).

    Source: Lopez-Paz & Oquab (2017).

    Parameters
    ----------
    real, fake : array
        Numeric views of rows, (m, p) each, with the same m.
    folds : int, default=5
        Of stratified cross-validation.
    random_state : int, default=0
        Seed of the folds and the trees.

    Raises
    ------
    ValueError
        When the counts differ or m < 10.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # slow to import
    from sklearn.model_selection import StratifiedKFold

    check_same_count(real, fake)
    x = np.concatenate([real, fake])
    y = np.repeat([1, 0], len(real))
    n = len(y)
    right = 0
    # a stream of its own: with the seed that chose the rows, folds would be blocks of the file
    seed = int(np.random.SeedSequence([random_state, folds]).generate_state(1)[0])
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y):
        trees = HistGradientBoostingClassifier(
            max_iter=60,
            learning_rate=0.2,
            max_leaf_nodes=8,
            max_features=min(1.0, 256 / x.shape[1]),  # a split looks at a part of an image
            random_state=random_state,
        )
        trees.fit(x[train], y[train])
        right += int((trees.predict(x[test]) == y[test]).sum())
    accuracy = right / n
    # rows of different folds share most of their training rows, and so their errors
    together = 1 + 1 / (folds - 1)
    stderr = math.sqrt(together * max(accuracy * (1 - accuracy), 1 / (4 * n)) / n)
    p_value = float(stats.binom.sf(right - 1, n, 0.5))
    return ClassifierTest(accuracy, stderr, p_value, n)


def network_test(
    train: np.ndarray,
    drawn: np.ndarray,
    real: np.ndarray,
    fake: np.ndarray,
    *,
    random_state: int = 0,
) -> ClassifierTest:
    """Classifier two-sample test by a network that has more rows to learn from than it judges.

    It learns on training rows against as many draws, stops by a tenth of both, and is judged on
    held-out rows and other draws. Cross-validated on a few hundred rows alone, a network cannot
    tell a mixture from the data.

    Source: Lopez-Paz & Oquab (2017).

    Parameters
    ----------
    train, drawn : array
        Numeric views of training rows and of draws, (m, p) each, with the same m.
    real, fake : array
        Those of held-out rows and of other draws, (n, p) each, with the same n.
    random_state : int, default=0
        Seed of the network.

    Raises
    ------
    ValueError
        When the counts differ or one of them is below 10.
    """
    from sklearn.neural_network import MLPClassifier  # slow to import

    check_same_count(train, drawn)
    check_same_count(real, fake)
    network = MLPClassifier(
        (128, 128),
        batch_size=64,
        alpha=1e-3,
        early_stopping=True,
        n_iter_no_change=10,
        max_iter=60,
        random_state=random_state,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(np.concatenate([train, drawn]), np.repeat([1, 0], len(train)))
    guess = network.predict(np.concatenate([real, fake]))
    n = len(guess)
    right = int((guess == np.repeat([1, 0], len(real))).sum())
    accuracy = right / n
    stderr = math.sqrt(max(accuracy * (1 - accuracy), 1 / (4 * n)) / n)
    p_value = float(stats.binom.sf(right - 1, n, 0.5))
    return ClassifierTest(accuracy, stderr, p_value, n)
