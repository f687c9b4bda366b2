"""Maps, labels and pictures from embeddings; each function loads with its first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xr_rsembed.explore.clusters import Clusters, cluster, fit_clusters
    from xr_rsembed.explore.components import Components, fit_pca, pca
    from xr_rsembed.explore.cosine import change, nearest, similarity
    from xr_rsembed.explore.cubes import sample, zonal
    from xr_rsembed.explore.learn import (
        Classifier,
        Regressor,
        classify,
        fit_classifier,
        fit_regressor,
        regress,
    )
    from xr_rsembed.explore.tables import to_geoparquet

_HOME = {
    "Classifier": "learn",
    "Clusters": "clusters",
    "Components": "components",
    "Regressor": "learn",
    "change": "cosine",
    "classify": "learn",
    "cluster": "clusters",
    "fit_classifier": "learn",
    "fit_clusters": "clusters",
    "fit_pca": "components",
    "fit_regressor": "learn",
    "nearest": "cosine",
    "pca": "components",
    "regress": "learn",
    "sample": "cubes",
    "similarity": "cosine",
    "to_geoparquet": "tables",
    "zonal": "cubes",
}

__all__ = [
    "Classifier",
    "Clusters",
    "Components",
    "Regressor",
    "change",
    "classify",
    "cluster",
    "fit_classifier",
    "fit_clusters",
    "fit_pca",
    "fit_regressor",
    "nearest",
    "pca",
    "regress",
    "sample",
    "similarity",
    "to_geoparquet",
    "zonal",
]


def __getattr__(name: str) -> Any:
    """A public function, from the module that owns it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
