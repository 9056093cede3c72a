"""The floor that any language model should beat: weighted counts of words, and logistic regression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STRENGTH = 10.0
"""Inverse strength of the penalty."""
TOLERANCE = 1e-3
"""Largest gradient at which the fit ends. A tenth of it takes twice as long and is right on as many sentences."""


def predicted_by_words(texts: Sequence[str], labels: np.ndarray, unseen: Sequence[str]) -> np.ndarray:
    """Return the classes, int64 [unseen], that TF-IDF and logistic regression find for `unseen`.

    They learn from `texts` and their `labels`. The features are single words and pairs of neighbours, weighted by
    1 + log of their count in the text and by their rarity.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    weighted = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")
    model = LogisticRegression(C=STRENGTH, tol=TOLERANCE, max_iter=1000)
    model.fit(weighted.fit_transform(texts), labels)
    return np.asarray(model.predict(weighted.transform(unseen)), np.int64)
