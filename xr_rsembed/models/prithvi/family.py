"""Prithvi's keys, statistics and options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xr_rsembed.models.encoder import load_from
from xr_rsembed.models.spec import HubFile, Modality, ModelFamily, ModelOption, ModelSpec
from xr_rsembed.normalize import Normalization

_BANDS = ("B2", "B3", "B4", "B8A", "B11", "B12")
# terratorch's PRITHVI_V1_MEAN and so on; a test holds them equal.
_STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "v1": ((775.0, 1081.0, 1229.0, 2497.0, 2204.0, 1611.0), (1282.0, 1270.0, 1399.0, 1368.0, 1292.0, 1155.0)),
    "v2": (
        (1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0),
        (2248.0, 2179.0, 2178.0, 1850.0, 1242.0, 1049.0),
    ),
}
_CONTEXT = {
    "use_time": ModelOption(False, "tell the model the year and the day of the scene's time", (True, False)),
    "use_place": ModelOption(False, "tell the model latitude and longitude of each tile", (True, False)),
}


def _needs(options: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in ("time", "place") if options.get(f"use_{name}"))


def _spec(key: str, embed_dim: int, depth: int, repo: str, patch: int = 16) -> ModelSpec:
    version = key.split("_")[2]
    mean, std = _STATISTICS[version]
    source = f"terratorch PRITHVI_{version.upper()}_MEAN / _STD"
    size = repo.split("-", 3)[-1].replace("-", "_")
    return ModelSpec(
        key=key,
        family="prithvi",
        embed_dim=embed_dim,
        depth=depth,
        patch_size=patch,
        modalities=(
            Modality("S2L2A", _BANDS, "DN", Normalization("zscore", mean=mean, std=std, source=source)),
        ),
        load=load_from("xr_rsembed.models.prithvi.encoder"),
        weights=HubFile(f"ibm-nasa-geospatial/{repo}", f"Prithvi_EO_{version.upper()}_{size}.pt"),
        resolution=30.0,
        declared=_CONTEXT if key.endswith("_tl") else {},
        needs=_needs,
        summary=f"{repo}, a masked autoencoder of Harmonized Landsat and Sentinel-2, run on single dates",
        licence="Apache-2.0",
        url=f"https://huggingface.co/ibm-nasa-geospatial/{repo}",
    )


FAMILY = ModelFamily(
    name="prithvi",
    specs=(
        _spec("prithvi_eo_v1_100", 768, 12, "Prithvi-EO-1.0-100M"),
        _spec("prithvi_eo_v2_tiny_tl", 192, 12, "Prithvi-EO-2.0-tiny-TL"),
        _spec("prithvi_eo_v2_100_tl", 768, 12, "Prithvi-EO-2.0-100M-TL"),
        _spec("prithvi_eo_v2_300", 1024, 24, "Prithvi-EO-2.0-300M"),
        _spec("prithvi_eo_v2_300_tl", 1024, 24, "Prithvi-EO-2.0-300M-TL"),
        _spec("prithvi_eo_v2_600", 1280, 32, "Prithvi-EO-2.0-600M", patch=14),
        _spec("prithvi_eo_v2_600_tl", 1280, 32, "Prithvi-EO-2.0-600M-TL", patch=14),
    ),
    aliases={"prithvi": "prithvi_eo_v2_300"},
)
