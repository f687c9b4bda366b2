"""Cross-validation that leaves out whole blocks of a scene.

Neighbouring cells resemble each other, and the cells of one tile have seen each other through the model. A score from
cells left out one by one would only tell how well neighbours are copied.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from xr_rsembed.errors import RsEmbedWarning
from xr_rsembed.explore.labels import LabelledCells

__all__ = ["class_scores", "value_scores"]

_FOLDS = 5

Make = Callable[[int], Any]  # an estimator for so many vectors


def class_scores(cells: LabelledCells, make: Make) -> dict[str, Any]:
    """Accuracy and balanced accuracy of classes predicted for blocks that were left out.

    A class that lies in one block only can never be both learned and tested: it is left out, with a warning.

    Returns
    -------
    dict
        ``cv_accuracy``, ``cv_balanced_accuracy``, ``cv_folds``, ``cv_block_cells``; empty where fewer than two classes
        lie in two blocks.
    """
    from sklearn.metrics import accuracy_score, balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold

    spread = {name: len(np.unique(cells.blocks[cells.targets == name])) for name in np.unique(cells.targets)}
    testable = [name for name, blocks in spread.items() if blocks > 1]
    if len(testable) < 2:
        return _unknown(cells.side)
    if len(testable) < len(spread):
        alone = ", ".join(sorted(set(spread) - set(testable)))
        _warn(f"The cross-validation leaves out {alone}: all labels lie in one block of {cells.side} cells.")
    chosen = np.isin(cells.targets, testable)
    vectors, targets, blocks = cells.vectors[chosen], cells.targets[chosen], cells.blocks[chosen]
    folds = min(_FOLDS, *(spread[name] for name in testable))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer cells than folds
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
        predicted, tested = _predicted(vectors, targets, make, list(splitter.split(vectors, targets, blocks)))
        return {
            "cv_accuracy": float(accuracy_score(targets[tested], predicted[tested])),
            "cv_balanced_accuracy": float(balanced_accuracy_score(targets[tested], predicted[tested])),
            "cv_folds": folds,
            "cv_block_cells": cells.side,
        }


def value_scores(cells: LabelledCells, make: Make) -> dict[str, Any]:
    """R2 and root mean square error of values predicted for blocks that were left out.

    Returns
    -------
    dict
        ``cv_r2``, ``cv_rmse``, ``cv_folds``, ``cv_block_cells``; empty where all labels lie in one block.
    """
    from sklearn.metrics import mean_squared_error, r2_score
    from sklearn.model_selection import GroupKFold

    folds = min(_FOLDS, len(np.unique(cells.blocks)))
    if folds < 2:
        return _unknown(cells.side)
    splits = list(GroupKFold(folds).split(cells.vectors, cells.targets, cells.blocks))
    predicted, _ = _predicted(cells.vectors, cells.targets, make, splits)
    return {
        "cv_r2": float(r2_score(cells.targets, predicted)),
        "cv_rmse": float(mean_squared_error(cells.targets, predicted) ** 0.5),
        "cv_folds": folds,
        "cv_block_cells": cells.side,
    }


def _predicted(
    vectors: np.ndarray, targets: np.ndarray, make: Make, splits: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """For every vector what is predicted from the other folds, and which vectors were in any."""
    predicted, tested = targets.copy(), np.zeros(len(targets), dtype=bool)
    for train, test in splits:
        if not len(train) or not len(test):
            continue
        tested[test] = True
        if (targets[train] == targets[train[0]]).all():  # nothing to tell apart: no estimator takes that
            predicted[test] = targets[train[0]]
        else:
            predicted[test] = make(len(train)).fit(vectors[train], targets[train]).predict(vectors[test])
    return predicted, tested


def _unknown(side: int) -> dict[str, Any]:
    _warn(
        f"The labels lie in too few blocks of {side} cells for a cross-validation, so how good the map is stays "
        "unknown. Spread them out, or take smaller blocks (block=4)."
    )
    return {}


def _warn(text: str) -> None:
    warnings.warn(text, RsEmbedWarning, stacklevel=5)
