"""Cross-validation that leaves out whole blocks of a scene.

Neighbouring cells resemble each other, and the cells of one tile have seen each other through the model. A score from
cells left out one by one would only tell how well neighbours are copied.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from xr_rsembed.errors import warn
from xr_rsembed.explore.labels import LabelledCells

_FOLDS = 5

Make = Callable[[int], Any]  # an estimator for so many vectors


def class_scores(cells: LabelledCells, make: Make) -> dict[str, Any]:
    """Accuracy of classes predicted for blocks that were left out, as :func:`classify` lists it in attrs.

    A class whose labels lie in one block can never be both learned and tested. An accuracy of the others would be that
    of an easier map, so there is none then, and ``cv_untested`` names the classes.
    """
    from sklearn.metrics import accuracy_score, balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold

    spread = {name: len(np.unique(cells.blocks[cells.targets == name])) for name in np.unique(cells.targets)}
    untested = sorted(str(name) for name, blocks in spread.items() if blocks < 2)
    counts: dict[str, Any] = {
        "cv_n": len(cells.targets),
        "cv_classes": len(spread),
        "cv_untested": untested,
        "cv_blocks": len(np.unique(cells.blocks)),
        "cv_block_cells": cells.side,
    }
    if untested:
        warn(
            f"There is no score of this map: all labels of {', '.join(untested)} ({len(untested)} of {len(spread)} "
            f"classes) lie in one block of {cells.side} x {cells.side} cells, and cannot be both learned and tested. "
            "Label more places of each class, further apart, or take smaller blocks (block=4)."
        )
        return counts
    folds = min(_FOLDS, *spread.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer cells than folds
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
        splits = list(splitter.split(cells.vectors, cells.targets, cells.blocks))
        predicted, tested = _predicted(cells.vectors, cells.targets, make, splits)
        truth, predicted = cells.targets[tested], predicted[tested]
        accuracy = float(accuracy_score(truth, predicted))
        low, high = _interval(accuracy, counts["cv_blocks"])
        return {
            "cv_accuracy": accuracy,
            "cv_accuracy_low": low,
            "cv_accuracy_high": high,
            "cv_balanced_accuracy": float(balanced_accuracy_score(truth, predicted)),
            "cv_folds": folds,
            **counts,
        }


def value_scores(cells: LabelledCells, make: Make) -> dict[str, Any]:
    """R2 and root mean square error of values predicted for blocks left out, as :func:`regress` lists them in attrs."""
    from sklearn.metrics import r2_score
    from sklearn.model_selection import GroupKFold

    names, block = np.unique(cells.blocks, return_inverse=True)
    counts: dict[str, Any] = {
        "cv_n": len(cells.targets),
        "cv_blocks": len(names),
        "cv_block_cells": cells.side,
    }
    if len(names) < 2:
        warn(
            f"There is no score of this map: all labels lie in one block of {cells.side} x {cells.side} cells. Spread "
            "them out, or take smaller blocks (block=4)."
        )
        return counts
    folds = min(_FOLDS, len(names))
    splits = list(GroupKFold(folds).split(cells.vectors, cells.targets, cells.blocks))
    predicted, _ = _predicted(cells.vectors, cells.targets, make, splits)
    squares = (predicted - cells.targets) ** 2
    # Blocks are drawn with replacement, not cells: those of one block are wrong together.
    draws = np.random.default_rng(0).integers(0, len(names), (1000, len(names)))
    sums, sizes = np.bincount(block, squares), np.bincount(block)
    low, high = np.percentile(np.sqrt(sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)), (2.5, 97.5))
    return {
        "cv_r2": float(r2_score(cells.targets, predicted)),
        "cv_rmse": float(squares.mean() ** 0.5),
        "cv_rmse_low": float(low),
        "cv_rmse_high": float(high),
        "cv_folds": folds,
        **counts,
    }


def _interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, with blocks for the independent trials that cells are not.

    Examples
    --------
    >>> [round(end, 2) for end in _interval(1.0, 10)]
    [0.72, 1.0]
    """
    z = 1.96
    middle, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return float(max(low, 0.0)), float(min(high, 1.0))


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
